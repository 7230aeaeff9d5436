"""The page in real Chromium, as a person uses it: each thing that it can do, once.

`make test-page` runs all of it; of `make test` the short path is a part, where Chromium is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import torchbcos

sync_api = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(os.environ.get("TORCHBCOS_AXE", "axe.min.js"))  # of the package axe-core
SHOTS = os.environ.get("TORCHBCOS_SHOTS", "")  # a folder for screenshots
PHOTOS = Path(__file__).parents[2] / "docs" / "photos"
SIZES = {"desktop": {"width": 1280, "height": 1000}, "phone": {"width": 390, "height": 844}}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a service that was started as a person starts it."""
    command = [sys.executable, "-m", "torchbcos.cli", "serve", "--port", "0", "--model", "imagenet", "--model", "ten=imagenette"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            for _ in range(600):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{found[0]}readyz", timeout=10):
                    break
                time.sleep(0.1)
            yield found[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield found
        found.close()


CAMERA = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]


class Visit:
    """A page that is open, and what it said and asked for."""

    def __init__(self, browser: Any, address: str, size: str, **options: Any) -> None:
        self.context = browser.new_context(viewport=SIZES[size], accept_downloads=True, permissions=["camera"], **options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = address
        self.page.goto(address)

    def ready(self) -> None:
        """An answer is there, or the sentence that says why there is none."""
        self.page.locator("#classes button, #error:not(:empty)").first.wait_for(timeout=60_000)
        assert self.page.inner_text("#error") == ""
        sync_api.expect(self.page.locator("#status")).to_be_empty(timeout=60_000)
        assert self.page.inner_text("#error") == ""

    def choose(self, *names: str) -> None:
        self.page.set_input_files("#file", [PHOTOS / name for name in names])
        self.ready()

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A place in the picture, in fractions of it."""
        self.page.locator("#view").scroll_into_view_if_needed()
        box = self.page.locator("#view").bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def brush(self) -> None:
        self.page.locator("#size").evaluate("(e) => { e.value = 60; e.dispatchEvent(new Event('input')); }")
        self.page.mouse.move(*self.place(0.45, 0.4))
        self.page.mouse.down()
        for i in range(10):
            self.page.mouse.move(*self.place(0.45 + 0.05 * i, 0.4 + 0.03 * i))
        self.page.mouse.up()
        assert "it adds" in self.page.inner_text("#brushed")

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)

    def steps(self) -> list[list[str]]:
        return [row.locator("td").all_inner_texts() for row in self.page.locator("#steps tbody tr").all()]

    def close(self) -> None:
        """Nothing was complained about, and nothing was asked of anybody else."""
        self.context.close()
        assert [words for words in self.said if words.startswith(("error", "warning"))] == []
        assert [url for url in self.asked if not url.startswith((self.address, "data:", "blob:"))] == []


def number(text: str) -> float:
    found = re.search(r"[+\u2212-]?\d+(\.\d+)?", text)
    assert found, text
    return float(found[0].replace("\u2212", "-"))


@pytest.mark.parametrize("size", SIZES)
def test_short_path(browser: Any, address: str, size: str) -> None:
    visit = Visit(browser, address, size)
    visit.choose("football.jpg")
    assert visit.page.locator("#classes button").first.inner_text().startswith("soccer ball")
    logit = number(visit.page.locator("#parts dd").first.inner_text())
    visit.brush()
    visit.page.click("#remove")
    visit.page.locator("#steps tbody tr").wait_for()
    visit.ready()
    ((_, predicted, real, after, _),) = visit.steps()
    assert number(predicted) < 0 and abs(logit + number(real) - number(after)) < 0.02
    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.close()


# -- each verb of the page, and the step that does it ----------------------------------------------------------------------


def hand_over(visit: Visit, name: str, event: str) -> None:
    """A photo in an event that JavaScript makes of `given`, which holds it."""
    visit.page.evaluate(
        f"""([hex, name]) => {{
          const bytes = Uint8Array.from(hex.match(/../g), (h) => parseInt(h, 16));
          const given = new DataTransfer();
          given.items.add(new File([bytes], name, {{ type: "image/jpeg" }}));
          document.body.dispatchEvent({event});
        }}""",
        [(PHOTOS / name).read_bytes().hex(), name],
    )
    visit.ready()


def drop(visit: Visit) -> None:
    hand_over(visit, "football.jpg", 'new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true })')


def paste(visit: Visit) -> None:
    hand_over(visit, "llama.jpg", 'new ClipboardEvent("paste", { clipboardData: given, bubbles: true })')
    sync_api.expect(visit.page.locator("#asked")).to_have_text("llama", timeout=30_000)


def camera(visit: Visit) -> None:
    visit.page.click("#camera")
    visit.page.wait_for_timeout(1500)
    visit.page.click("#shoot")
    sync_api.expect(visit.page.locator("#strip img[alt='camera.jpg']")).to_have_count(1, timeout=30_000)
    visit.ready()


def filmstrip(visit: Visit) -> None:
    visit.choose("dalmatian.jpg", "football.jpg")
    visit.page.locator("#strip button[title='football.jpg']").last.click()
    sync_api.expect(visit.page.locator("#asked")).to_have_text("soccer ball", timeout=30_000)
    visit.ready()


def a_class(visit: Visit) -> None:
    visit.page.locator("#classes button").nth(1).click()
    visit.ready()
    second = visit.page.locator("#classes button").nth(1)
    assert second.get_attribute("aria-pressed") == "true"
    assert visit.page.inner_text("#asked") in second.inner_text()


def any_class(visit: Visit) -> None:
    visit.page.fill("#class", "golf ball")
    visit.page.press("#class", "Enter")
    sync_api.expect(visit.page.locator("#asked")).to_have_text("golf ball", timeout=30_000)
    visit.ready()


def contrast(visit: Visit) -> None:
    visit.page.fill("#class", "soccer ball")
    visit.page.fill("#contrast", "golf ball")
    visit.page.click("#ask")
    sync_api.expect(visit.page.locator("#asked")).to_have_text("soccer ball rather than golf ball", timeout=30_000)
    visit.page.fill("#contrast", "")
    visit.page.click("#ask")
    sync_api.expect(visit.page.locator("#asked")).to_have_text("soccer ball", timeout=30_000)
    visit.ready()


def views(visit: Visit) -> None:
    seen = set()
    for name in ("contributions", "explanation", "overlay", "photo"):
        visit.page.check(f"input[value={name}]")
        seen.add(visit.page.locator("#view").evaluate("(c) => c.toDataURL()"))
    assert len(seen) == 4
    visit.page.check("input[value=contributions]")


def sliders(visit: Visit) -> None:
    before = visit.page.locator("#view").evaluate("(c) => c.toDataURL()")
    for name, value in (("smooth", 21), ("opacity", 50)):
        visit.page.locator(f"#{name}").focus()
        visit.page.locator(f"#{name}").evaluate(f"(e) => {{ e.value = {value}; e.dispatchEvent(new Event('input')); }}")
        after = visit.page.locator("#view").evaluate("(c) => c.toDataURL()")
        assert after != before
        before = after
    assert visit.page.inner_text("#smooth-said") == "21 pixels"


def point(visit: Visit) -> None:
    visit.page.mouse.move(*visit.place(0.7, 0.5))
    said = visit.page.inner_text("#spot")
    assert re.match(r"Place \d+, \d+: [+\u2212]?\d\.\d{4} of the logit", said), said
    visit.page.mouse.move(*visit.place(0.2, 0.2))
    assert visit.page.inner_text("#spot") != said


def by_keys(visit: Visit) -> None:
    visit.page.locator("#view").focus()
    visit.page.keyboard.press("ArrowRight")
    first = visit.page.inner_text("#spot")
    visit.page.keyboard.press("Shift+ArrowDown")
    assert visit.page.inner_text("#spot") != first
    visit.page.keyboard.press("Space")
    assert "Brushed" in visit.page.inner_text("#brushed")
    visit.page.click("#clear")
    assert visit.page.inner_text("#brushed") == ""


def remove(visit: Visit) -> None:
    visit.brush()
    visit.page.select_option("#way", "grey")
    visit.page.click("#remove")
    sync_api.expect(visit.page.locator("#steps tbody tr")).to_have_count(1, timeout=30_000)
    visit.ready()


def second_step(visit: Visit) -> None:
    visit.page.select_option("#way", "blur")
    visit.page.mouse.click(*visit.place(0.3, 0.8))
    visit.page.click("#remove")
    sync_api.expect(visit.page.locator("#steps tbody tr")).to_have_count(2, timeout=30_000)
    visit.ready()
    (first, second) = visit.steps()
    assert abs(number(first[3]) + number(second[2]) - number(second[3])) < 0.02


def undo(visit: Visit) -> None:
    visit.page.click("#undo")
    sync_api.expect(visit.page.locator("#steps tbody tr")).to_have_count(1)
    visit.page.click("#undo")
    sync_api.expect(visit.page.locator("#steps tbody tr")).to_have_count(0)


def keep(visit: Visit) -> None:
    visit.brush()
    visit.page.select_option("#way", "mean")
    visit.page.click("#keep")
    sync_api.expect(visit.page.locator("#steps tbody tr")).to_have_count(1, timeout=30_000)
    visit.ready()
    visit.page.click("#undo")


def the_sum(visit: Visit) -> None:
    names = visit.page.locator("#parts dt").all_inner_texts()
    values = [number(text.replace("e", " ")) for text in visit.page.locator("#parts dd").all_inner_texts()]
    assert names[:2] == ["logit", "the pixels"] and "residual" in names
    assert abs(values[0] - values[1]) < 0.02  # no constants in this network
    assert visit.page.get_attribute("#sum", "aria-label").startswith("logit")


def other_methods(visit: Visit) -> None:
    visit.page.click("[data-method=grad_cam]")
    sync_api.expect(visit.page.locator("#others figure")).to_have_count(1, timeout=30_000)
    visit.page.click("[data-method=integrated_gradients]")
    sync_api.expect(visit.page.locator("#others figure")).to_have_count(2, timeout=60_000)
    visit.ready()


def inner_feature(visit: Visit) -> None:
    visit.page.locator("#layer").select_option(index=12)
    visit.page.fill("#channel", "3")
    visit.page.click("#feature")
    sync_api.expect(visit.page.locator("#asked")).to_contain_text("[3", timeout=30_000)
    visit.page.fill("#class", "")
    visit.page.click("#ask")
    sync_api.expect(visit.page.locator("#asked")).to_have_text("soccer ball", timeout=30_000)
    visit.ready()


def downloads(visit: Visit) -> None:
    for kind, magic in (("png", b"\x89PNG"), ("json", b"{"), ("npz", b"PK")):
        with visit.page.expect_download() as found:
            visit.page.click(f"[data-save={kind}]")
        assert Path(found.value.path()).read_bytes().startswith(magic)
        assert found.value.suggested_filename == f"football-why.{kind}"


def proof(visit: Visit) -> None:
    with visit.page.expect_download() as found:
        visit.page.click("[data-save='proof.json']")
    assert found.value.suggested_filename == "football-why.proof.json"
    verdict = torchbcos.verify(found.value.path(), picture=PHOTOS / "football.jpg")
    assert verdict.agrees and verdict.recomputed and "sees soccer ball" in verdict.claim


def report(visit: Visit) -> None:
    visit.brush()
    visit.page.click("#remove")
    sync_api.expect(visit.page.locator("#steps tbody tr")).to_have_count(1, timeout=30_000)
    visit.ready()
    with visit.page.expect_download() as found:
        visit.page.click("#report")
    page = Path(found.value.path()).read_text("utf-8")
    assert page.count("<section>") >= 2 and "football.jpg: why soccer ball" in page and "What was tried" in page
    assert not re.search(r"<script|https?://", page)
    visit.page.click("#undo")
    sync_api.expect(visit.page.locator("#steps tbody tr")).to_have_count(0)


def another_model(visit: Visit) -> None:
    visit.page.select_option("#model", "ten")
    sync_api.expect(visit.page.locator("#classes")).to_contain_text("golf ball", timeout=60_000)
    visit.ready()
    visit.page.select_option("#model", "imagenet")
    sync_api.expect(visit.page.locator("#asked")).to_have_text("soccer ball", timeout=60_000)
    visit.ready()


VERBS: dict[str, Callable[[Visit], None]] = {
    "drop": drop, "paste": paste, "camera": camera, "choose several, filmstrip": filmstrip, "top classes; pick one": a_class,
    "pick any class": any_class, "contrast": contrast, "picture, map, overlay, photo": views, "smoothing and opacity": sliders,
    "point": point, "keyboard": by_keys, "brush and remove": remove, "step by step": second_step, "undo": undo,
    "keep only": keep, "the sum": the_sum, "other methods": other_methods, "inner feature": inner_feature,
    "downloads": downloads, "proof": proof, "report": report, "several models": another_model,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_every_verb(browser: Any, address: str, size: str) -> None:
    visit = Visit(browser, address, size)
    for name, step in VERBS.items():
        try:
            step(visit)
        except Exception as error:
            visit.shot(f"failed-{size}")
            raise AssertionError(f"{name}: {error}") from error
    visit.brush()
    visit.page.click("#remove")
    visit.page.locator("#steps tbody tr").wait_for()
    visit.ready()
    visit.shot(size)
    visit.close()


@pytest.mark.slow
@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: make test-page brings it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_barrier(browser: Any, address: str, size: str, scheme: str) -> None:
    visit = Visit(browser, address, size, color_scheme=scheme)
    for filled in (False, True):
        if filled:
            visit.choose("football.jpg")
            visit.page.click("[data-method=grad_cam]")
            sync_api.expect(visit.page.locator("#others figure")).to_have_count(1, timeout=30_000)
            visit.brush()
            visit.page.click("#remove")
            visit.page.locator("#steps tbody tr").wait_for()
            visit.ready()
        visit.page.evaluate(AXE.read_text("utf-8") + "; 0")
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found = visit.page.evaluate("(tags) => axe.run(document, { runOnly: tags })", tags)
        assert [(one["id"], [node["html"][:100] for node in one["nodes"]]) for one in found["violations"]] == []
        assert found["passes"]
    visit.shot(f"{size}-{scheme}")
    visit.close()


@pytest.mark.slow
def test_refusals_are_said(browser: Any, address: str, tmp_path: Path) -> None:
    visit = Visit(browser, address, "desktop")
    broken = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    broken.write_bytes(b"nothing")
    visit.page.set_input_files("#file", broken)
    sync_api.expect(visit.page.locator("#error")).to_contain_text("no picture that can be read", timeout=30_000)
    visit.page.set_input_files("#file", PHOTOS / "football.jpg")
    visit.ready()
    visit.page.fill("#class", "<b>nothing</b>")
    visit.page.click("#ask")
    sync_api.expect(visit.page.locator("#error")).to_contain_text("nothing", timeout=30_000)
    assert visit.page.locator("b:has-text('nothing')").count() == 0
    visit.context.close()
