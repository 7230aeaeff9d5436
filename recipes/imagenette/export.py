"""Write a checkpoint of train.py as the embedded model: safetensors and card.

    python recipes/imagenette/export.py --run runs/imagenette --out src/torchbcos/zoo/embedded/imagenette
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from data import classes

from torchbcos import models
from torchbcos.zoo.card import IMAGENETTE_TERMS, Card
from torchbcos.zoo.store import write_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--val", type=Path, help="the JSON that evaluate.py wrote")
    args = parser.parse_args()
    state = torch.load(args.run / "last.pt", weights_only=True)
    options = {"antialias": True, "width_factor": 0.75}
    model = models.build("resnet18", num_classes=10, **options)
    model.load_state_dict(state["judged"])
    measured = json.loads(args.val.read_text()) if args.val else {}
    card = Card(
        name="imagenette", architecture="resnet18", options=options, num_classes=10,
        classes=tuple(row["name"] for row in classes()),
        preprocess={"resize": 128, "crop": 128, "encoding": "add_inverse"}, probability="sigmoid",
        licence="Apache-2.0 for the weights as far as we can give it; see terms", terms=IMAGENETTE_TERMS,
        top1=measured.get("top1"), measured=measured.get("measured"), parameters=sum(p.numel() for p in model.parameters()),
        recipe={"script": "recipes/imagenette/train.py", "seed": 0, "epochs": state["epoch"], "curve": state["log"],
                "seconds": sum(row["seconds"] for row in state["log"]), "teacher": "EfficientNet-Lite2 (Apache-2.0)"},
        notes=measured.get("notes"),
    )  # fmt: skip
    # Filters have unit norm: half precision halves the file and moves no probability visibly.
    weights = {k: v.half() if v.dim() > 1 else v for k, v in model.state_dict().items()}
    write_folder(args.out, weights, card)
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
