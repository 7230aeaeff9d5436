"""Why naive fine-tuning of a B-cos network overfits or does not learn: the same few photos, several ways.

python recipes/trials/own_photos.py --out runs/twenty --class accordion --class bonsai …
python recipes/trials/finetuning.py --data runs/twenty --out runs/finetuning
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

import torchbcos
from torchbcos.training import find_recipe, train

LONG = 20.0  # filters as long as after a long training


def lengthened(source: str, place: Path) -> str:
    """The same network with filters LONG times as long: equal outputs, as after a long training."""
    classifier = torchbcos.load(source, device="cpu", deploy=False)
    with torch.no_grad():
        for p in classifier.model.parameters():
            if p.dim() == 4:
                p.mul_(LONG)
    torchbcos.save(classifier, place)
    return str(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    long = lengthened("imagenette", args.out / "long")
    shared: dict[str, Any] = {
        "epochs": args.epochs, "selection_share": 0.0, "report_share": 0.5, "image_size": 96, "test_size": 96, "workers": 0,
        "export": "last", "ema_decay": 0.0,
    }  # fmt: skip
    naive: dict[str, Any] = {"freeze_epochs": 0, "lr": 1e-3, "head_lr": 1.0, "warmup_epochs": 0.0, "clip": "", "refresh": False}
    ways: dict[str, dict[str, Any]] = {
        "from scratch": {
            "pretrained": "",
            "model": "resnet18",
            "options": {"width_factor": 0.75, "antialias": True},
            "freeze_epochs": 0,
            "lr": 4e-4,
        },
        "naive: everything at 1e-3": naive,
        "naive, long filters": {**naive, "pretrained": long},
        "naive, long filters, lr 1e-2": {**naive, "pretrained": long, "lr": 1e-2},
        "last layer only, 1e-3": {**naive, "freeze_epochs": args.epochs},
        "last layer only, 2e-2": {**naive, "freeze_epochs": args.epochs, "lr": 2e-2},
        "everything at 2e-4": {**naive, "lr": 2e-4, "clip": "norm", "warmup_epochs": 1.0},
        "finetune, head_lr 1": {"head_lr": 1.0},
        "finetune, head_lr 10": {"head_lr": 10.0},
        "finetune, head_lr 50": {"head_lr": 50.0},
        "finetune, head_lr 50, long filters": {"head_lr": 50.0, "pretrained": long},
        "finetune, head_lr 50, long filters, not refreshed": {"head_lr": 50.0, "pretrained": long, "refresh": False},
    }
    for name, values in ways.items():
        if args.only and name not in args.only:
            continue
        recipe = find_recipe("finetune").changed(**{**shared, **values})
        place = args.out / name.replace(" ", "-").replace(",", "").replace(":", "")
        report = train(recipe, args.data, place, accelerator="cpu", devices=1, say=lambda _: None)
        loss = (place / "history.csv").read_text().splitlines()[-1].split(",")[2]
        row = {"way": name, **{k: round(v, 3) for k, v in report["report"].items()}, "train_loss": float(loss)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
