"""Blood cells: which kind of white cell is in the photo, and does the explanation lie in the cell?

    python recipes/aligned/cells.py prepare --data DATA/blood --out CELLS
    torchbcos train bvt --data CELLS/0 --out RUNS/bvt-0 --set image_size=80 …     (`make cells` has the whole line)
    python recipes/aligned/cells.py measure --data DATA/blood --cells CELLS --runs RUNS --json cells.json

`prepare` divides the 339 photos with one white cell into three parts; fold f is judged on part f and trained on the other two.
A photo becomes SIDE × SIDE pixels as a whole. Rare kinds are repeated, each time turned or mirrored in another way, so that the
four kinds are about equally many in training; no photo is in both parts, in whatever way it is turned.

`measure` prints macro-F1 over all photos (each is judged once), and how much of the positive evidence for the predicted kind lies
in the box of the white cell: of exact contributions, and of attention rollout, which knows no kind.
What came out: docs/explanation/aligned-transformers.md.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tarfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import torchbcos
from torchbcos import metrics
from torchbcos.rendering import heatmap

FOLDS = 3
COPIES = {"neutrophil": 2, "eosinophil": 5, "lymphocyte": 8, "monocyte": 8}
TURNS = (
    None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_90,
    Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
)  # fmt: skip


def kinds(data: Path) -> dict[str, str]:
    """The kind of white cell in each photo that has one, of a known kind, and its box."""
    boxed, rows = boxes(data), csv.DictReader((data / "labels.csv").open())
    return {row["file"]: row["kind"] for row in rows if row["kind"] and row["file"] in boxed}


def boxes(data: Path) -> dict[str, tuple[float, float, float, float]]:
    """The box (left, top, right, bottom) of the white cell as fractions, of photos with one."""
    found = defaultdict(list)
    for row in csv.DictReader((data / "boxes.csv").open()):
        if row["class"] == "wbc":
            x, y, w, h = (float(row[name]) for name in ("cx", "cy", "w", "h"))
            found[row["file"]].append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    return {file: one[0] for file, one in found.items() if len(one) == 1}


def folds(labels: dict[str, str]) -> dict[str, int]:
    """The part of each photo: every kind is divided evenly, in an order drawn once."""
    generator = np.random.default_rng(0)
    part = {}
    for kind in COPIES:
        files = sorted(file for file, of in labels.items() if of == kind)
        for i, j in enumerate(generator.permutation(len(files))):
            part[files[int(j)]] = i % FOLDS
    return part


def prepare(data: Path, out: Path, side: int) -> None:
    labels = kinds(data)
    part = folds(labels)
    with tarfile.open(data / "photos.tar") as archive:
        photos = {}
        for file in labels:
            member = archive.extractfile(file)
            assert member is not None
            photos[file] = Image.open(io.BytesIO(member.read())).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    for fold in range(FOLDS):
        folder = out / str(fold)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for file, kind in labels.items():
            split = "test" if part[file] == fold else "train"
            for turn in TURNS[: 1 if split == "test" else COPIES[kind]]:
                name = f"{Path(file).stem}-{'as-is' if turn is None else turn.name.lower()}.png"
                (photos[file] if turn is None else photos[file].transpose(turn)).save(folder / name)
                rows.append({"file": name, "class": kind, "split": split})
        with (folder / "labels.csv").open("w", newline="") as table:
            writer = csv.DictWriter(table, ["file", "class", "split"])
            writer.writeheader()
            writer.writerows(rows)
        judged = sum(row["split"] == "test" for row in rows)
        print(f"fold {fold}: {len(rows) - judged} to train on, {judged} to judge by")


def inside(box: tuple[float, float, float, float], side: int) -> Tensor:
    """(side, side) True in the box."""
    centres = (torch.arange(side) + 0.5) / side
    left, top, right, bottom = box
    return ((centres >= top) & (centres <= bottom))[:, None] & ((centres >= left) & (centres <= right))


def judge(run: Path, data: Path, cells: Path, fold: int) -> list[dict[str, Any]]:
    """A row a photo: kind, prediction, energy of both maps in the box, and the residual."""
    classifier = torchbcos.load(run / "model")
    labels, where = kinds(data), boxes(data)
    rows = []
    for file in sorted(f for f, p in folds(labels).items() if p == fold):
        picture = Image.open(cells / str(fold) / f"{Path(file).stem}-as-is.png")
        e = classifier.explain(picture, top_k=1)
        mask = inside(where[file], e.contributions.shape[-1])[None]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torchbcos.ExplanationWarning)  # rollout knows no target, and says so each time
            try:
                spread = torchbcos.attribute(classifier.model, classifier.preprocess(picture), e.targets, method="rollout").maps
                rollout = float(metrics.energy_pointing(spread[:, 0], mask))
            except torchbcos.BcosError:  # windows
                rollout = float("nan")
        rows.append({
            "file": file, "kind": labels[file], "predicted": classifier.class_names[int(e.targets)],
            "energy": float(metrics.energy_pointing(e.contributions[:, 0], mask)), "rollout": rollout,
            "area": float(mask.float().mean()), "residual": float(e.residual.abs()), "share": float(e.share),
        })  # fmt: skip
    return rows


def macro_f1(rows: list[dict[str, Any]]) -> float:
    scores = []
    for kind in COPIES:
        hits = sum(r["kind"] == kind == r["predicted"] for r in rows)
        scores.append(2 * hits / max(1, sum(r["kind"] == kind for r in rows) + sum(r["predicted"] == kind for r in rows)))
    return 100 * float(np.mean(scores))


def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of some photos."""
    right = [r for r in rows if r["kind"] == r["predicted"]]
    wrong = [r for r in rows if r["kind"] != r["predicted"]]

    def mean(of: list[dict[str, Any]], name: str) -> float:
        known = [r[name] for r in of if not np.isnan(r[name])]
        return round(float(np.mean(known)), 4) if known else float("nan")

    return {
        "photos": len(rows), "macro_f1": round(macro_f1(rows), 2), "accuracy": round(100 * len(right) / len(rows), 2),
        "energy": mean(rows, "energy"), "energy_right": mean(right, "energy"), "energy_wrong": mean(wrong, "energy"),
        "rollout": mean(rows, "rollout"), "area": mean(rows, "area"), "share": mean(rows, "share"),
        "residual": max(r["residual"] for r in rows),
    }  # fmt: skip


def measure(data: Path, cells: Path, runs: Path, file: Path | None) -> None:
    """Runs are folders NETWORK-FOLD; a network's numbers are those of its folds together."""
    found: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(dict)
    for run in sorted(runs.iterdir()):
        network, _, fold = run.name.rpartition("-")
        if (run / "model").is_dir():
            found[network][int(fold)] = judge(run, data, cells, int(fold))
    result = {}
    for network, by_fold in found.items():
        result[network] = {
            "together": told([r for rows in by_fold.values() for r in rows]),
            "folds": {str(fold): told(rows) for fold, rows in by_fold.items()},
        }
        print(network, json.dumps(result[network]["together"]))
        for fold, numbers in result[network]["folds"].items():
            print("   ", fold, json.dumps(numbers))
    if file is not None:
        file.write_text(json.dumps(result, indent=1))


def draw(run: Path, plain: Path, data: Path, cells: Path, fold: int, file: Path) -> None:
    """Maps of the first two photos of each kind that both networks get right, with the box of the cell; no photo is shown."""
    networks, labels, where = (torchbcos.load(run / "model"), torchbcos.load(plain / "model")), kinds(data), boxes(data)
    rows = []
    for kind in COPIES:
        for photo in sorted(f for f, p in folds(labels).items() if p == fold and labels[f] == kind):
            picture = Image.open(cells / str(fold) / f"{Path(photo).stem}-as-is.png")
            if sum(row[0] == kind for row in rows) == 2 or any(n.predict([picture])[0][0].label != kind for n in networks):
                continue
            e = networks[0].explain(picture, top_k=1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", torchbcos.ExplanationWarning)
                x = networks[1].preprocess(picture)
                spread = torchbcos.attribute(networks[1].model, x, 0, method="rollout").maps[0, 0]
            maps = [heatmap(e.contributions[0, 0]), heatmap(spread - spread.min())]
            rows.append((kind, [boxed(m, where[photo]) for m in maps]))
    whole = Image.new("RGB", (2 * 4 * 170 + 10, 2 * 190 + 10), "white")
    pen = ImageDraw.Draw(whole)
    for i, (kind, pictures) in enumerate(rows):
        x, y = (i // 2) * 340 + 10, (i % 2) * 190 + 10
        pen.text((x, y), kind, fill=(40, 40, 40))
        for j, one in enumerate(pictures):
            whole.paste(one, (x + 165 * j, y + 14))
    whole.save(file)


def boxed(colours: np.ndarray[Any, Any], box: tuple[float, float, float, float]) -> Image.Image:
    """A map of 160 px, with a frame and the box."""
    picture = Image.fromarray((255 * colours).round().astype(np.uint8)).resize((160, 160), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    pen.rectangle([0, 0, 159, 159], outline=(190, 190, 190))
    pen.rectangle([160 * side for side in box], outline=(0, 0, 0))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("prepare")
    judged = commands.add_parser("measure")
    for command in (made, judged):
        command.add_argument("--data", type=Path, required=True)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--side", type=int, default=80)
    judged.add_argument("--cells", type=Path, required=True)
    judged.add_argument("--runs", type=Path, required=True)
    judged.add_argument("--json", type=Path)
    drawn = commands.add_parser("draw")
    drawn.add_argument("--data", type=Path, required=True)
    drawn.add_argument("--cells", type=Path, required=True)
    drawn.add_argument("--run", type=Path, required=True)
    drawn.add_argument("--plain", type=Path, required=True)
    drawn.add_argument("--fold", type=int, default=0)
    drawn.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "prepare":
        prepare(args.data, args.out, args.side)
    elif args.command == "draw":
        draw(args.run, args.plain, args.data, args.cells, args.fold, args.out)
    else:
        measure(args.data, args.cells, args.runs, args.json)


if __name__ == "__main__":
    main()
