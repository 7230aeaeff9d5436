"""Draw the pictures of docs/see.md, and the marks of docs/how-to/read-a-picture.md: `make gallery`.

Every photo of the list gets one picture: what the network saw, its own explanation and contributions, and beside them what
Grad-CAM and Integrated Gradients say of the same network, photo and class. All of it is computed anew, with the weights that come
along.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import torchbcos
from torchbcos.rendering import heatmap, over, overlay

HERE = Path(__file__).parent
PHOTOS = ("bus", "panda", "umbrella", "monarch", "guitar", "rooster")
SIDE, LABEL, GAP = 280, 34, 14
PAPER, INK, QUIET = (255, 255, 255), (32, 33, 36), (95, 99, 104)
# the marks: where each stands on a panel of four tiles, in its pixels
PANEL = (1424, 634)
MARKS = ((358, 50), (505, 85), (340, 125), (684, 125), (1028, 125), (1372, 125), (246, 481), (896, 500), (490, 582), (1300, 582))


def letters(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The letters that come with Pillow."""
    return ImageFont.load_default(size)


def as_tile(picture: np.ndarray) -> Image.Image:
    """A picture (H, W, 3) in [0, 1], as large as a tile."""
    return Image.fromarray((picture * 255).round().astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def words(e: torchbcos.Explanation) -> Image.Image:
    """The answer in words and numbers, as a tile."""
    told = e.to_dict()["explanations"][0][0]
    probability = float(e.probabilities()[0, int(e.targets[0, 0])])
    tile = Image.new("RGB", (SIDE, SIDE), PAPER)
    pen = ImageDraw.Draw(tile)
    pen.text((0, 20), e.label(int(e.targets[0, 0])), INK, letters(30))
    pen.text((0, 66), "over 99 % sure" if probability > 0.99 else f"{100 * probability:.0f} % sure", QUIET, letters(22))
    rows = (("logit", told["value"]), ("= pixels", told["contribution"]), ("+ constants", sum(told["constants"].values())))
    for i, (name, number) in enumerate((*rows, ("+ residual", told["residual"]))):
        written = f"{number:.0e}" if 0 < abs(number) < 5e-3 else f"{number:.2f}"
        pen.text((0, 128 + 34 * i), name, QUIET, letters(22))
        pen.text((SIDE - 20, 128 + 34 * i), written, INK, letters(22), anchor="ra")
    return tile


def compared(clf: torchbcos.Classifier, photo: Path) -> Image.Image:
    """Six tiles: the network's own above, the other methods and the sum below."""
    e = clf.explain(photo)
    seen, target = e.photos[0], int(e.targets[0, 0])

    def laid(method: str) -> np.ndarray:
        found = clf.attribute(photo, target, method=method)
        return overlay(seen, heatmap(found.maps[0, 0]), strength=0.15)

    tiles = (
        ("What it saw", as_tile(seen.permute(1, 2, 0).numpy())),
        ("Its explanation: W(x)", as_tile(over(e.rgba()))),
        ("Its contributions: add up", as_tile(overlay(seen, e.heatmap(), strength=0.15))),
        ("Its answer", words(e)),
        ("Grad-CAM", as_tile(laid("grad_cam"))),
        ("Integrated Gradients", as_tile(laid("integrated_gradients"))),
    )
    page = Image.new("RGB", (3 * SIDE + 4 * GAP, 2 * (SIDE + LABEL + GAP)), PAPER)
    pen = ImageDraw.Draw(page)
    for i, (label, tile) in enumerate(tiles):
        left, top = GAP + i % 3 * (SIDE + GAP), i // 3 * (SIDE + LABEL + GAP)
        pen.text((left, top + 6), label, INK, letters(21))
        page.paste(tile, (left, top + LABEL))
    return page


def marked(panel: Image.Image, marks: tuple[tuple[int, int], ...]) -> Image.Image:
    """A panel with numbered marks, which stand where a panel of this size has its parts."""
    if panel.size != PANEL:
        raise SystemExit(f"Panels are {panel.size} now, not {PANEL}: set MARKS anew.")
    pen = ImageDraw.Draw(panel)
    for number, (x, y) in enumerate(marks, 1):
        pen.ellipse((x - 15, y - 15, x + 15, y + 15), fill=(20, 20, 20), outline=PAPER, width=2)
        pen.text((x, y), str(number), PAPER, letters(20), anchor="mm")
    return panel


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "pictures", help="the folder to write to")
    out: Path = parser.parse_args().out
    (out / "see").mkdir(parents=True, exist_ok=True)
    clf = torchbcos.load()
    for name in PHOTOS:
        compared(clf, HERE / "photos" / f"{name}.jpg").save(out / "see" / f"{name}.jpg", quality=78, optimize=True)
    panel = torchbcos.load("imagenette").explain(HERE / "photos" / "dalmatian.jpg").panel()
    marked(panel, MARKS).save(out / "panel-marks.jpg", quality=85, optimize=True)


if __name__ == "__main__":
    main()
