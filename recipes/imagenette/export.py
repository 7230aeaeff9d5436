"""Write a checkpoint of train.py as the embedded model: safetensors and card.

    python recipes/imagenette/export.py --run runs/imagenette --out src/torchbcos/zoo/embedded/imagenette
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from data import classes, images, split_indices
from train import Student, recalibrated

from torchbcos import models
from torchbcos.zoo.card import IMAGENETTE_TERMS, Card
from torchbcos.zoo.store import write_folder


def rounded(row: dict[str, float]) -> dict[str, float]:
    """A line of the curve with four digits."""
    return {key: round(value, 4) for key, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="checkpoints of earlier runs that this one began from")
    parser.add_argument("--size", type=int, default=128, help="side that pictures are resized to")
    parser.add_argument("--all", action="store_true", help="the run saw the held-out tenth too")
    parser.add_argument("--val", type=Path, help="the JSON that evaluate.py wrote")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    state = torch.load(args.run / "last.pt", weights_only=True)
    student = Student()
    student.load_state_dict(state["average"])
    pictures, _ = images("train")
    # the statistics of averaged weights, over whole training pictures of the size that is predicted at
    seen = pictures if args.all else pictures[split_indices(len(pictures))[0]]
    judged = recalibrated(student.net, seen, args.size, np.random.default_rng(0))
    options = {"antialias": True, "width_factor": 0.75}
    model = models.build("resnet18", num_classes=10, **options)
    model.load_state_dict(judged.state_dict())
    log = [row for path in args.before for row in torch.load(path, weights_only=True)["log"]] + state["log"]
    measured = json.loads(args.val.read_text()) if args.val else {}
    card = Card(
        name="imagenette", architecture="resnet18", options=options, num_classes=10,
        classes=tuple(row["name"] for row in classes()),
        preprocess={"resize": args.size, "crop": args.size, "encoding": "add_inverse"}, probability="sigmoid",
        licence="Apache-2.0 for the weights as far as we can give it; see terms", terms=IMAGENETTE_TERMS,
        top1=measured.get("top1"), measured=measured.get("measured"), parameters=sum(p.numel() for p in model.parameters()),
        recipe={"script": "recipes/imagenette/train.py", "seed": 0, "epochs": len(log), "curve": [rounded(row) for row in log],
                "seconds": sum(row["seconds"] for row in log), "teacher": "EfficientNet-Lite2 (Apache-2.0)"},
        notes=measured.get("notes"),
    )  # fmt: skip
    # Filters have unit norm: half precision halves the file and moves no probability visibly.
    weights = {k: v.half() if v.dim() > 1 else v for k, v in model.state_dict().items()}
    write_folder(args.out, weights, card)
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
