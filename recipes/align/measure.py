"""What an aligned network is worth beside its teacher: agreement, share, what cancels, localisation; without labels.

    python recipes/align/measure.py --model runs/a/model --teacher given --pictures PICTURES/train/duts --some 300 --json a.json
    python recipes/align/measure.py --model runs/a/model --teacher given --pictures PICTURES/measure/duts --samples DIR

Labels are the teacher's first classes. Grids are 2×2 of pictures that both networks see alike; the energy is in the masks
beside the pictures (`masks/<folder>/<name>.png` of the folder above), for the network's own first class. `--samples` measures
accuracy, at the end; to choose, take pictures of PICTURES/train.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import torchbcos
from torchbcos.attribution import IntegratedGradients
from torchbcos.metrics import choose_grids, compose_grids, energy_pointing, fit_temperature, grid_pointing, score
from torchbcos.zoo import Classifier

SMOOTH = (1, 15)
BATCH = 16
Maps = Callable[[Tensor, Tensor], Tensor]  # pixels (N, 3, H, W), classes (N,) -> (N, H, W)


def pixels_of(paths: list[Path], resize: int, crop: int) -> Tensor:
    """(N, 3, crop, crop) in [0, 1]: shorter side to `resize`, then the centre."""
    read = torchbcos.pictures.Preprocess(resize=resize, crop=crop, encoding="none")
    return torch.stack([read(path) for path in paths])


def masks_of(paths: list[Path], resize: int, crop: int) -> Tensor:
    """(N, crop, crop) bool, cut as the pictures are."""
    found = []
    for path in paths:
        mask = Image.open(path.parents[1] / "masks" / path.parent.name / f"{path.stem}.png").convert("L")
        scale = resize / min(mask.size)
        mask = mask.resize((round(mask.width * scale), round(mask.height * scale)), Image.Resampling.NEAREST)
        left, top = (mask.width - crop) // 2, (mask.height - crop) // 2
        cut = mask.crop((left, top, left + crop, top + crop))
        found.append(torch.frombuffer(bytearray(cut.tobytes()), dtype=torch.uint8).reshape(crop, crop) > 127)
    return torch.stack(found)


def logits_of(classifier: Classifier, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([classifier.model(classifier.transform.encode(part, dim=1)) for part in pixels.split(BATCH)])


def inherent(classifier: Classifier) -> Maps:
    def maps(pixels: Tensor, classes: Tensor) -> Tensor:
        x = classifier.transform.encode(pixels, dim=1)
        return torchbcos.explain(classifier.model, x, classes).contributions[:, 0].detach()

    return maps


def post_hoc(classifier: Classifier, name: str) -> Maps:
    method: Any = IntegratedGradients(steps=8) if name == "integrated_gradients" else name

    def maps(pixels: Tensor, classes: Tensor) -> Tensor:
        x = classifier.transform.encode(pixels, dim=1)
        found = torchbcos.attribute(classifier.model, x, classes[:, None], method=method, batch_size=BATCH).maps
        return found[:, 0].detach()

    return maps


def on_grids(maps: Maps, pixels: Tensor, classes: Tensor, grids: Tensor) -> dict[str, float]:
    """2×2 grid pointing, raw and smoothed, mean of cells."""
    scores: dict[int, list[Tensor]] = {k: [] for k in SMOOTH}
    for rows in grids:
        grid = compose_grids(pixels[rows][None], 2)
        drawn = maps(grid.expand(4, *grid.shape[1:]).contiguous(), classes[rows])
        for k in SMOOTH:
            scores[k].append(grid_pointing(drawn, torch.arange(4), n=2, smooth=k))
    return {f"grid smooth {k}": round(float(torch.cat(found).nanmean()), 4) for k, found in scores.items()} if len(grids) else {}


def in_masks(maps: Maps, pixels: Tensor, classes: Tensor, masks: Tensor) -> dict[str, float]:
    """Share of the positive evidence inside the mask, raw and smoothed."""
    scores: dict[int, list[Tensor]] = {k: [] for k in SMOOTH}
    for part in torch.arange(len(pixels)).split(BATCH):
        drawn = maps(pixels[part], classes[part])
        for k in SMOOTH:
            even = torch.nn.functional.avg_pool2d(drawn[:, None], k, 1, k // 2, count_include_pad=False)[:, 0]
            scores[k].append(energy_pointing(even, masks[part]))
    return {f"mask smooth {k}": round(float(torch.cat(found).nanmean()), 4) for k, found in scores.items()}


def of_sums(classifier: Classifier, pixels: Tensor, classes: Tensor) -> dict[str, float]:
    """Share, residual, constants, and Σ|contributions| over the logit."""
    shares, residuals, sums, constants = [], [], [], 0.0
    for part in torch.arange(len(pixels)).split(BATCH):
        e = torchbcos.explain(classifier.model, classifier.transform.encode(pixels[part], dim=1), classes[part])
        shares.append(e.share[:, 0])
        residuals.append(e.residual.abs().max())
        sums.append(e.contributions.abs().flatten(2).sum(2)[:, 0] / e.values[:, 0].abs())
        free = [value.abs().max() for name, value in e.constants.items() if name not in e.fixed]
        constants = max([constants, *map(float, free)])
    return {
        "share": round(float(torch.cat(shares).median()), 4), "residual": float(torch.stack(residuals).max()),
        "largest constant": constants, "sum of sizes over logit": round(float(torch.cat(sums).median()), 3),
    }  # fmt: skip


def agreement(mine: Tensor, theirs: Tensor) -> dict[str, float]:
    """How often the first class is the teacher's, and the teacher's is among the first five; in per cent."""
    first = theirs.argmax(1)
    return {
        "agreement": round(100 * float((mine.argmax(1) == first).double().mean()), 2),
        "agreement of 5": round(100 * float((mine.topk(5).indices == first[:, None]).any(1).double().mean()), 2),
    }


def of_samples(classifier: Classifier, place: Path, size: int, temperature: float = 1.0) -> dict[str, float]:
    """Top-1 and top-5 of photos with labels, and the calibration error, in per cent."""
    with (place / "labels.csv").open(newline="") as file:
        rows = {row["file"]: int(row["index"]) for row in csv.DictReader(file)}
    read = torchbcos.pictures.Preprocess(resize=round(size / 0.875), crop=size, encoding="none")
    with tarfile.open(place / "samples.tar") as tar:
        files = [(name, tar.extractfile(name)) for name in rows]
        pixels = torch.stack([read(Image.open(io.BytesIO(file.read()))) for _, file in files if file is not None])
    labels, logits = torch.tensor(list(rows.values())), logits_of(classifier, pixels)
    found = score(logits / temperature, labels, probability="softmax")
    names = {"calibration error": "ece", "top1": "top1", "top5": "top5"}
    return {f"{name} {size}": round(found[key], 2) for name, key in names.items()}


def of_imagenette(
    classifier: Classifier, place: Path, split: str, size: int, limit: int = 10**9
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 1000) logits and (N,) labels of Imagenette's train or val, and its ten classes."""
    with (place / "classes.csv").open(newline="") as file:
        index = {row["wnid"]: int(row["imagenet_index"]) for row in csv.DictReader(file)}
    read = torchbcos.pictures.Preprocess(resize=round(size / 0.875), crop=size, encoding="none")
    logits, labels = [], list[int]()
    for shard in sorted(place.glob(f"{split}-*.tar")):
        with tarfile.open(shard) as tar:
            members = [member for member in tar.getmembers() if member.isfile()][: limit - len(labels)]
            for start in range(0, len(members), BATCH):
                part = members[start : start + BATCH]
                files = [file for file in map(tar.extractfile, part) if file is not None]
                logits.append(logits_of(classifier, torch.stack([read(Image.open(io.BytesIO(file.read()))) for file in files])))
                labels += [index[member.name.split("/")[0]] for member in part]
    return torch.cat(logits), torch.tensor(labels), torch.tensor(sorted(index.values()))


def of_ten(classifier: Classifier, place: Path, size: int) -> dict[str, float]:
    """Top-1 on Imagenette val in per cent, within its ten classes and among all thousand."""
    logits, labels, ten = of_imagenette(classifier, place, "val", size)
    within, among = ten[logits[:, ten].argmax(1)] == labels, logits.argmax(1) == labels
    rates = {"within its ten": within, "among all": among}
    return {f"Imagenette val, {name}": round(100 * float(right.double().mean()), 2) for name, right in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--some", type=int, default=10**9, help="only so many, evenly by name")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--grids", type=int, default=25)
    parser.add_argument("--explained", type=int, default=100, help="pictures in masks and sums")
    parser.add_argument("--methods", nargs="*", default=[], help="of the teacher, beside: grad_cam integrated_gradients")
    parser.add_argument("--samples", type=Path, help="the last measurement: photos with labels")
    parser.add_argument("--imagenette", type=Path, help="the last measurement: Imagenette, whose val is measured")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    mine, teacher = (torchbcos.load(str(place), deploy=False) for place in (args.model, args.teacher))
    paths = sorted(path for path in args.pictures.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = paths[:: max(1, len(paths) // args.some)]
    resize = round(args.size / 0.875)
    pixels = pixels_of(paths, resize, args.size)
    ours, theirs = logits_of(mine, pixels), logits_of(teacher, pixels)
    classes = theirs.argmax(1)
    found: dict[str, Any] = {"model": str(args.model), "pictures": len(paths), **agreement(ours, theirs)}
    grids = choose_grids([ours, theirs], classes, 2, confidence=0.0, probability=["softmax"] * 2, limit=args.grids)
    found["grids"] = len(grids)
    step = max(1, len(paths) // args.explained)
    some = slice(None, None, step)
    masked = (args.pictures.parent / "masks" / args.pictures.name).is_dir()
    masks = masks_of(paths[some], resize, args.size) if masked else None
    ways: dict[str, tuple[Maps, Tensor]] = {"inherent": (inherent(mine), ours.argmax(1))}
    ways |= {f"teacher: {name}": (post_hoc(teacher, name), classes) for name in args.methods}
    for name, (maps, own) in ways.items():
        numbers = on_grids(maps, pixels, classes, grids)
        if masks is not None:
            numbers |= in_masks(maps, pixels[some], own[some], masks)
        found[name] = numbers
    if masks is not None:
        found["area of masks"] = round(float(masks.double().mean()), 4)
    found |= of_sums(mine, pixels[some], ours.argmax(1)[some])
    if args.imagenette is not None:
        known, classes, _ = of_imagenette(mine, args.imagenette, "train", args.size, 1000)
        found["temperature"] = round(fit_temperature(known, classes, probability="softmax"), 3)
    if args.samples is not None:
        for size in (160, 224):
            found |= of_samples(mine, args.samples, size, found.get("temperature", 1.0))
        print(json.dumps(found, indent=1), flush=True)  # what follows takes minutes
    if args.imagenette is not None:
        found |= of_ten(mine, args.imagenette, args.size)
    print(json.dumps(found, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
