"""Guidance on real boxes: 128 pictures of COCO with several labels each, and 128 others to measure on.

    python recipes/trials/coco_boxes.py data --out runs/coco
    torchbcos train finetune --data runs/coco --out runs/coco-free --set epochs=20 selection_share=0 batch_size=16 workers=0
    torchbcos train finetune --data runs/coco --out runs/coco-guided --set epochs=20 selection_share=0 batch_size=16 workers=0 \\
        guide=energy guide_weight=1
    python recipes/trials/coco_boxes.py measure --data runs/coco --model runs/coco-free/model runs/coco-guided/model

`data` cuts the middle square out of every picture and writes `labels.csv` (what of COCO's groups is seen there), `boxes.csv` of
the training half, and `boxes_val.csv`, which names the group of each box and which nothing trains on. `boxes.csv` names no class:
guidance asks of each class for evidence on any object. `measure` asks more: the evidence for a group on boxes of that group.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tarfile
import warnings
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import torchbcos
from torchbcos.evaluation.statistics import pair, row
from torchbcos.metrics import energy_pointing, map_iou, mask_fraction, masks_of_boxes

DATA = Path(os.environ.get("TORCHBCOS_DATA", Path(__file__).parents[3] / "shared" / "data")) / "coco128"
SIDE = 192
SMALLEST = 0.005  # of the square: less of an object is none
GROUPS = {  # of the 80 classes in their usual order; groups that few pictures show are left out
    "person": range(1), "vehicle": range(1, 9), "animal": range(14, 24), "accessory": range(24, 29), "sports": range(29, 39),
    "kitchen": range(39, 46), "food": range(46, 56), "furniture": range(56, 62),
}  # fmt: skip
Box = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax as fractions of the square


def in_square(box: Box, width: int, height: int) -> Box | None:
    """A box of the whole picture, in the square from its middle; None where too little of it is left."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    x0, x1 = (min(max((v * width - left) / side, 0), 1) for v in (box[0], box[2]))
    y0, y1 = (min(max((v * height - top) / side, 0), 1) for v in (box[1], box[3]))
    return (x0, y0, x1, y1) if (x1 - x0) * (y1 - y0) >= SMALLEST else None


def boxes_of(part: str, source: Path) -> dict[str, list[tuple[int, Box]]]:
    """File -> class and box of each object, in the whole picture."""
    found: dict[str, list[tuple[int, Box]]] = defaultdict(list)
    with (source / f"boxes_{part}.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            cx, cy, w, h = (float(line[key]) for key in ("cx", "cy", "w", "h"))
            found[line["file"]].append((int(line["class"]), (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)))
    return found


def write_data(args: argparse.Namespace) -> None:
    """Squares, labels and boxes of both halves."""
    labels, boxes = [("file", "split", *GROUPS)], {"train": [], "val": []}
    for part in ("train", "val"):
        known = boxes_of(part, args.data)
        with tarfile.open(args.data / f"{part}.tar") as tar:
            for member in tar:
                if not member.name.startswith("images/"):
                    continue
                picture = Image.open(tar.extractfile(member)).convert("RGB")  # type: ignore[arg-type]
                name, seen = f"{part}/{Path(member.name).name}", defaultdict(list)
                for c, whole in known[Path(member.name).name]:
                    group = next((g for g, classes in GROUPS.items() if c in classes), None)
                    if group is not None and (box := in_square(whole, *picture.size)) is not None:
                        seen[group].append(box)
                labels.append((name, part, *(str(int(g in seen)) for g in GROUPS)))
                for group, several in seen.items():
                    boxes[part] += [
                        (name, *(f"{v:.5f}" for v in ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)), group)
                        for x0, y0, x1, y1 in several
                    ]
                side = min(picture.size)
                left, top = (picture.width - side) // 2, (picture.height - side) // 2
                (args.out / part).mkdir(parents=True, exist_ok=True)
                picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE)).save(args.out / name, quality=95)
    for name, lines in (
        ("labels.csv", labels),
        ("boxes.csv", [("file", "cx", "cy", "w", "h"), *(line[:5] for line in boxes["train"])]),
        ("boxes_val.csv", [("file", "cx", "cy", "w", "h", "group"), *boxes["val"]]),
    ):
        with (args.out / name).open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    counts = {
        part: [sum(line[1] == part and line[2 + i] == "1" for line in labels) for i in range(len(GROUPS))] for part in boxes
    }
    print(args.out, {g: tuple(counts[part][i] for part in boxes) for i, g in enumerate(GROUPS)})


def scores(model: str, data: Path) -> dict[str, Tensor]:
    """(pictures, groups) of each number; NaN where a picture does not show the group."""
    classifier = torchbcos.load(model)
    order = [classifier.class_names.index(group) for group in GROUPS]
    with (data / "boxes_val.csv").open(newline="") as file:
        boxes = list(csv.DictReader(file))
    files = sorted({line["file"] for line in boxes})
    names = ("energy", "energy on any object", "area", "iou", "iou, mean over thresholds", "logit")
    found = {name: torch.full((len(files), len(GROUPS)), torch.nan) for name in names}
    for i, name in enumerate(files):
        mine = [line for line in boxes if line["file"] == name]
        groups = [g for g, group in enumerate(GROUPS) if any(line["group"] == group for line in mine)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            e = classifier.explain(data / name, [[order[g] for g in groups]])
        maps = e.contributions[0]
        sides = (maps.shape[2], maps.shape[1])
        masks = masks_of_boxes([[_pixels(line, *sides) for line in mine if line["group"] == group]
                                for group in (list(GROUPS)[g] for g in groups)], (sides[1], sides[0]))  # fmt: skip
        union = masks.any(0, keepdim=True).expand_as(masks)
        values = (
            energy_pointing(maps, masks).nan_to_num(0.0), energy_pointing(maps, union).nan_to_num(0.0), mask_fraction(masks),
            map_iou(maps, masks), map_iou(maps, masks, threshold=None), e.values[0],
        )  # fmt: skip
        for key, one in zip(names, values, strict=True):
            found[key][i, groups] = one.to(found[key].dtype)
    return found


def _pixels(line: dict[str, str], width: int, height: int) -> list[float]:
    cx, cy, w, h = (float(line[key]) for key in ("cx", "cy", "w", "h"))
    return [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height]


def measure(args: argparse.Namespace) -> None:
    """Means with intervals over pictures, and the last model against the first, picture by picture."""
    found = {model: scores(model, args.data) for model in args.model}
    keys = ("energy", "energy on any object", "area", "iou", "iou, mean over thresholds")
    for model, one in found.items():
        rows = {key: row(one[key], undefined="skip") for key in keys}
        print(json.dumps({"model": model, "pictures": len(one["energy"]), **{
            key: [round(r[name], 4) for name in ("mean", "mean_low", "mean_high")] for key, r in rows.items()}}))  # fmt: skip
    first, last = args.model[0], args.model[-1]
    for key in keys[:2] + keys[3:] if first != last else ():
        apart = pair(found[last][key], found[first][key], undefined="skip")
        print(f"{key}: {apart['difference']:+.4f} ({apart['low']:+.4f} to {apart['high']:+.4f}), higher on {apart['better']:.0f} "
              f"pictures, lower on {apart['worse']:.0f}, p = {apart['p']:.2g}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("data")
    make.add_argument("--data", type=Path, default=DATA, help="boxes_*.csv, train.tar, val.tar")
    make.add_argument("--out", type=Path, required=True)
    make.set_defaults(run=write_data)
    ask = commands.add_parser("measure")
    ask.add_argument("--model", nargs="+", required=True)
    ask.add_argument("--data", type=Path, required=True)
    ask.set_defaults(run=measure)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
