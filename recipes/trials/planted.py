"""A shortcut planted into Imagenette: a patch in the lower right corner whose colour gives the class away.

    python recipes/trials/planted.py data --out runs/planted --unseen --train 2000 --val 1000
    torchbcos train finetune --data runs/planted --out runs/guided --set …        # see docs/explanation/trainings.md
    python recipes/trials/planted.py measure --model runs/guided/model --data runs/planted
    python recipes/trials/planted.py picture --model runs/base/model runs/guided/model --photo photo.jpg --out shortcut.png

`data` writes `train/` (the colour is the class's), `val/` likewise, `misled/` (the colour of another class) and `clean/`
(no patch) of the same validation pictures, and `boxes.csv`: everything but the patch, as two boxes. With --unseen all
come from the reported split, which the trainings of record have not seen: a network of theirs has its own answers there,
and not a memory.
"""

from __future__ import annotations

import colorsys
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from trial import command_line

import torchbcos
from torchbcos.data import open_labelled
from torchbcos.training import energy_inside

PATCH = 0.25  # of the side
CLASSES = 10
ORDER = torchbcos.load("imagenette").class_names  # of the colours; folders are sorted by name


def colour(c: int) -> tuple[int, int, int]:
    """Ten colours that lie far apart."""
    r, g, b = colorsys.hsv_to_rgb(c / CLASSES, 1.0 if c % 2 else 0.75, 1.0 if c % 2 else 0.8)
    return round(255 * r), round(255 * g), round(255 * b)


def planted(picture: Image.Image, c: int) -> Image.Image:
    """The picture with the patch of class c."""
    marked = picture.convert("RGB").copy()
    side = round(PATCH * min(marked.size))
    marked.paste(colour(c), (marked.width - side, marked.height - side, marked.width, marked.height))
    return marked


def write_data(args: Any) -> None:
    """All folders and the boxes."""
    found = open_labelled(args.data)
    boxes = [("file", "cx", "cy", "w", "h")]
    # fractions of a square picture: left of the patch, and above it
    around = [((1 - PATCH) / 2, 0.5, 1 - PATCH, 1.0), (1 - PATCH / 2, (1 - PATCH) / 2, PATCH, 1 - PATCH)]
    assert found.report is not None
    rng = np.random.default_rng(0)
    source, begin = (found.report, args.train) if args.unseen else (found.train, 0)
    wanted = (("train", source, range(args.train)), ("val", found.report, range(begin, begin + args.val)))
    for part, split, rows in wanted:
        for i in rows:
            c, picture = int(split.targets[i]), split.read(i)
            assert isinstance(picture, Image.Image)
            name = f"{found.classes[c]}/{i:05}.png"
            other = int((c + rng.integers(1, CLASSES)) % CLASSES)
            kinds = {part: planted(picture, c)}
            if part == "val":
                kinds |= {"misled": planted(picture, other), "clean": picture}
            for kind, drawn in kinds.items():
                target = args.out / (kind if kind in ("train", "val") else Path(kind)) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                drawn.save(target)
            boxes += [(name, *map(str, box)) for box in around] if part == "train" else []
    with (args.out / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(boxes)
    print(args.out, sorted(p.name for p in args.out.iterdir()))


def measure(args: Any) -> None:
    """Top-1 on the three kinds; of planted pictures, what the patch carries."""
    classifier = torchbcos.load(args.model)
    result: dict[str, Any] = {"model": str(args.model)}
    for kind in ("val", "clean", "misled"):
        found = open_labelled(args.data / kind)
        split, right, shares, inside, fooled = found.train, 0, [], [], 0
        order = torch.tensor([classifier.class_names.index(name) for name in found.classes])
        for start in range(0, len(split), 32):
            rows = range(start, min(start + 32, len(split)))
            pictures, y = [split.read(i) for i in rows], order[split.targets[start : start + len(rows)]]
            e = classifier.explain(pictures, y[:, None])
            answer = e.outputs.argmax(1)
            right += int((answer == y).sum())
            if kind == "val":
                maps = e.contributions[:, 0]
                side = round(PATCH * maps.shape[-1])
                mask = torch.ones_like(maps)
                mask[:, -side:, -side:] = 0
                shares += ((maps * (1 - mask)).flatten(1).sum(1) / maps.flatten(1).sum(1)).tolist()
                inside += energy_inside(maps, mask).tolist()
            if kind == "misled":
                drawn = torch.tensor([classifier.class_names.index(ORDER[nearest(p)]) for p in pictures])
                fooled += int((answer == drawn).sum())
        result[f"{kind}_top1"] = round(100 * right / len(split), 2)
        if kind == "val":
            result |= {"energy_inside": round(float(np.mean(inside)), 4), "patch_share": round(float(np.median(shares)), 4)}
            result["without_evidence"] = inside.count(0.0)  # nothing positive anywhere
        if kind == "misled":
            result["follows_patch"] = round(100 * fooled / len(split), 2)
    print(json.dumps(result))


def nearest(picture: Any) -> int:
    """The class that a picture's patch names."""
    pixel = np.asarray(picture)[-3, -3].astype(int)
    return int(np.argmin([np.abs(pixel - np.array(colour(c))).sum() for c in range(CLASSES)]))


def draw(args: Any) -> None:
    """One photo with the patch of another class: what each model answers, and why."""
    columns = []
    for model in args.model:
        classifier = torchbcos.load(model)
        c = ORDER.index(args.named)
        photo = Image.open(args.photo).convert("RGB")
        square = ImageOps.fit(photo, (min(photo.size),) * 2)
        e = classifier.explain(planted(square, c))
        columns.append(np.asarray(e.panel().convert("RGB")))
        print(model, classifier.predict(planted(square, c), top_k=2)[0])
    width = max(c.shape[1] for c in columns)
    padded = [np.pad(c, ((0, 0), (0, width - c.shape[1]), (0, 0)), constant_values=255) for c in columns]
    Image.fromarray(np.concatenate(padded)).save(args.out, optimize=True)


def main() -> None:
    parser, commands, make = command_line(__doc__, write_data, measure, train=1500, val=1000)
    make.add_argument("--unseen", action="store_true", help="plant into the reported split alone")
    show = commands.add_parser("picture")
    show.add_argument("--model", nargs="+", required=True)
    show.add_argument("--photo", type=Path, required=True)
    show.add_argument("--named", default="church", help="the class whose colour the patch has")
    show.add_argument("--out", type=Path, required=True)
    show.set_defaults(run=draw)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
