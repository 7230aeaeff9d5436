"""The report in real Chromium, from disk: it sorts, filters, opens panels and prints, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHOTS = os.environ.get("TORCHBCOS_SHOTS", "")  # a folder for screenshots
PHOTOS = Path(__file__).parents[2] / "docs" / "photos"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for name, label in (("bus", "school bus"), ("llama", "llama"), ("football", "tench")):
        (folder / "photos" / label).mkdir(parents=True)
        shutil.copy(PHOTOS / f"{name}.jpg", folder / "photos" / label)
    for path in PHOTOS.glob("*.jpg"):
        if not list((folder / "photos").rglob(path.name)):
            shutil.copy(path, folder / "photos")
    command = [sys.executable, "-m", "torchbcos.cli", "report", "photos", "-o", "why.html", "--device", "cpu"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    return folder / "why.html"


@pytest.fixture
def page(report: Path) -> Iterator[Any]:
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        found = browser.new_page(viewport={"width": 1280, "height": 900})
        found.on("console", lambda message: said.append(message.text))
        found.on("pageerror", lambda error: said.append(str(error)))
        found.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        found.goto(report.as_uri())
        yield found
        browser.close()
    assert said == []


def names(page: Any) -> list[str]:
    return [name for name in page.locator("tbody a").all_inner_texts() if page.get_by_role("link", name=name).is_visible()]


def shown(page: Any) -> list[str]:
    return [text.split(":")[0] for text in page.locator(".strip li:not([hidden]) > p").all_inner_texts()]


def test_it_sorts_filters_and_opens(page: Any) -> None:
    count = len(list(PHOTOS.glob("*.jpg")))
    assert len(names(page)) == len(shown(page)) == count and names(page) == shown(page)
    page.get_by_role("button", name="logit").click()
    assert names(page) == shown(page)
    logits = [float(text) for text in page.locator("tbody tr td:nth-child(6)").all_inner_texts()]
    assert logits == sorted(logits, reverse=True)
    page.get_by_label("named").select_option("wrongly")
    assert names(page) == shown(page) == ["football.jpg"]
    page.get_by_role("link", name="football.jpg").click()
    assert page.locator("dialog[open] h3").inner_text().startswith("football.jpg: soccer ball")
    assert page.locator("dialog[open] img").count() == 3 and "tench" in page.locator("dialog[open] .about").inner_text()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Filter by words").fill("llama")
    assert names(page) == shown(page) == ["llama.jpg"]
    page.get_by_role("button", name="Reset").click()
    assert len(names(page)) == count and names(page) == shown(page)


def test_it_prints(page: Any, tmp_path: Path) -> None:
    data = page.pdf(format="A4")  # at once: pictures that nobody has seen yet are printed, too
    assert len(re.findall(rb"/Subtype\s*/Image\b", data)) >= 3 * len(list(PHOTOS.glob("*.jpg")))
    assert data.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", data)) >= 2
    if SHOTS:
        Path(SHOTS, "report.pdf").write_bytes(data)
        page.screenshot(path=Path(SHOTS) / "report.png", full_page=True)
