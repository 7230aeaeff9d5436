"""Pictures of the page and of a report, as docs show them, taken in Chromium: `make shots`.

python docs/shots.py        # needs Chromium, Playwright and the extra serve
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

DOCS = Path(__file__).parent
PHOTOS, OUT = DOCS / "photos", DOCS / "pictures"


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of a service of its own."""
    command = [sys.executable, "-m", "torchbcos.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            found = re.search(r"http://\S+", process.stdout.readline() if process.stdout else "")
            if found is None:
                raise SystemExit("The service did not start: torchbcos serve says why.")
            for _ in range(600):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{found[0]}readyz", timeout=10):
                    break
                time.sleep(0.1)
            yield found[0]
        finally:
            process.kill()


def answered(page: Any) -> None:
    page.locator("#classes button").first.wait_for(timeout=60_000)
    expect(page.locator("#status")).to_be_empty(timeout=60_000)
    page.wait_for_timeout(600)


def chosen(page: Any, address: str, names: list[str], show: str) -> None:
    page.goto(address)
    page.set_input_files("#file", [PHOTOS / f"{name}.jpg" for name in names])
    answered(page)
    page.check(f"input[value={show}]")


def kept(page: Any, name: str, width: int, *, height: int | None = None) -> None:
    """The page from its top as a JPEG of this width."""
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(200)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "a.png")
        page.screenshot(path=place)
        image = Image.open(place).convert("RGB")
        if height is not None:
            image = image.crop((0, 0, image.width, min(height, image.height)))
        image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS).save(
            OUT / f"{name}.jpg", quality=85, optimize=True, progressive=True
        )


def brushed(page: Any, path: list[tuple[float, float]]) -> None:
    page.locator("#size").evaluate("(e) => { e.value = 50; e.dispatchEvent(new Event('input')); }")
    box = page.locator("#view").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in path]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 1000})
        chosen(page, address, ["guitar", "monarch", "bus"], "overlay")
        kept(page, "page-why", 1000)
        chosen(page, address, ["football"], "contributions")
        brushed(page, [(0.5, 0.25), (0.75, 0.3), (0.95, 0.45), (0.6, 0.45)])
        page.click("#remove")
        page.locator("#steps tbody tr").wait_for()
        answered(page)
        page.set_viewport_size({"width": 1180, "height": 1320})
        kept(page, "page-what-if", 1000)
        phone = browser.new_page(viewport={"width": 390, "height": 844}, device_scale_factor=2, color_scheme="dark")
        chosen(phone, address, ["llama"], "overlay")
        phone.set_viewport_size({"width": 390, "height": 1500})
        kept(phone, "page-phone", 420)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, "report.html")
            command = [sys.executable, "-m", "torchbcos.cli", "report", *map(str, sorted(PHOTOS.glob("*.jpg"))), "-o", str(made)]
            subprocess.run(command, check=True)
            report = browser.new_page(viewport={"width": 1180, "height": 1900})
            report.goto(made.as_uri())
            report.wait_for_timeout(1500)
            kept(report, "report", 1000)
        browser.close()


if __name__ == "__main__":
    main()
