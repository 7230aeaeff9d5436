"""Photos beside what networks say of them, many on one sheet: to look at before anybody else does.

    python recipes/align/sheet.py --photos docs/photos --models ten=imagenette aligned=imagenet --out sheet.jpg

Of each network its explanation (of an ordinary one its contributions), and of the last one its contributions as well, all
for that network's own first class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

import torchbcos
from torchbcos.zoo import Classifier

LINE = 16


def tiles_of(path: Path, models: dict[str, Classifier], side: int, percentile: float) -> list[tuple[Image.Image, str]]:
    """The photo as the last network saw it, and a tile for each map, with what stands below it."""
    last = list(models)[-1]
    seen = models[last].preprocess(path)[0, :3].permute(1, 2, 0).mul(255).round().byte().numpy()
    found = [(Image.fromarray(seen), path.stem)]
    for name, classifier in models.items():
        e = classifier.explain(path)
        first = int(e.targets[0, 0])
        words = f"{e.label(first)} {100 * float(e.probabilities()[0, first]):.0f} %"
        heat = Image.fromarray((255 * e.heatmap()).round().astype("uint8")[..., :3])
        if e.inputs.shape[1] == 6:
            rgba = Image.fromarray((255 * e.rgba(percentile=percentile)).round().astype("uint8"))
            white = Image.new("RGBA", rgba.size, "white")
            found.append((Image.alpha_composite(white, rgba).convert("RGB"), words))
        else:  # the weights of an ordinary network say no colour
            found.append((heat, words))
        if name == last:
            found.append((heat, "contributions"))
    return [(image.resize((side, side), Image.Resampling.LANCZOS), words) for image, words in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="photos, or folders of them")
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--side", type=int, default=150)
    parser.add_argument("--columns", type=int, default=2, help="photos beside each other")
    parser.add_argument("--percentile", type=float, default=99.5)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    paths = [path for place in args.photos for path in (sorted(place.iterdir()) if place.is_dir() else [place])]
    models = {name: torchbcos.load(source, device="cpu") for name, _, source in (given.partition("=") for given in args.models)}
    heads, each = ["photo", *models, ""], (len(models) + 2) * (args.side + 4) + 12
    rows = -(-len(paths) // args.columns)
    sheet = Image.new("RGB", (args.columns * each - 12, LINE + rows * (args.side + LINE + 4)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for c in range(args.columns):
        for j, head in enumerate(heads):
            pen.text((c * each + j * (args.side + 4), 1), head, "black", font)
    for i, path in enumerate(paths):
        left, top = i // rows * each, LINE + i % rows * (args.side + LINE + 4)
        for j, (image, words) in enumerate(tiles_of(path, models, args.side, args.percentile)):
            sheet.paste(image, (left + j * (args.side + 4), top))
            pen.text((left + j * (args.side + 4), top + args.side + 1), words[:28], "#444444", font)
    sheet.save(args.out, quality=88)
    print(f"{len(paths)} photos on {args.out}")


if __name__ == "__main__":
    main()
