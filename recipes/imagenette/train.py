"""Train the embedded Imagenette network: B-cos, anti-aliased, distilled from an ImageNet teacher.

Resumable: started again with the same --out it goes on from the last checkpoint. Only `train` is
used; a seeded tenth of it is held out and every choice is made there. `evaluate.py` measures
`val` once, at the end.

    python recipes/imagenette/teacher.py --out runs/teacher
    python recipes/imagenette/train.py --teacher runs/teacher --out runs/imagenette --epochs 60
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import crop, images, split_indices
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos.functional import add_inverse
from torchbcos.models.blocks import Style
from torchbcos.models.resnet import ResNet, ResNetSizes

IMAGENETTE = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
WIDTHS = (48, 96, 192, 384)


def network() -> ResNet:
    """ResNet-18 at three quarters of its width, low-pass filters instead of strides."""
    sizes = ResNetSizes(depths=(2, 2, 2, 2), widths=WIDTHS, expansion=1, stem=WIDTHS[0])
    return ResNet(sizes, Style(antialias=True), num_classes=10)


class Student(nn.Module):
    """The network and a second classifier for the teacher's 1,000 classes, dropped after training."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.aux = bnn.BcosConv2d(WIDTHS[-1], 1000, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.forward_features(x)
        return self.net.forward_head(features), self.aux(features).flatten(2).mean(2)


def learning_rate(step: int, steps: int, warm_up: int, peak: float) -> float:
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


@torch.no_grad()
def shorten_filters(net: nn.Module) -> None:
    """Filters as long as fresh ones. Outputs stay (filters have unit norm), steps count again."""
    for weight in net.parameters():
        if weight.dim() == 4:
            weight.mul_(3**-0.5 / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1))


@torch.inference_mode()
def accuracy(net: nn.Module, pictures: Tensor, labels: Tensor, size: int) -> float:
    """Top-1 on whole pictures resized to `size`."""
    right = 0
    for i in range(0, len(pictures), 64):
        x = F.interpolate(pictures[i : i + 64], size=(size, size), mode="bilinear", antialias=True).float() / 255
        out = net(add_inverse(x).contiguous(memory_format=torch.channels_last))
        right += int((out.argmax(1) == labels[i : i + 64]).sum())
    return right / len(pictures)


@torch.no_grad()
def recalibrated(net: nn.Module, pictures: Tensor, size: int, rng: np.random.Generator) -> nn.Module:
    """A copy of `net` with norm statistics recomputed over whole training pictures."""
    net = copy.deepcopy(net)
    for m in net.modules():
        if isinstance(m, bnn.BatchNorm):
            m.reset_running_stats()
            m.momentum = None
    net.train()
    for rows in np.array_split(rng.permutation(len(pictures))[:1024], 8):
        x = F.interpolate(pictures[rows], size=(size, size), mode="bilinear", antialias=True).float() / 255
        net(add_inverse(x).contiguous(memory_format=torch.channels_last))
    for m in net.modules():
        if isinstance(m, bnn.BatchNorm):
            m.momentum = 0.1
    return net.eval()


def jittered(boxes: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """The teacher's crops, each edge moved by up to 4 % of the picture: what it saw still holds."""
    edges = np.stack([boxes[:, 0], boxes[:, 1], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]], 1)
    moved = np.clip(edges + rng.integers(-side // 25, side // 25 + 1, edges.shape), 0, side)
    return np.stack([moved[:, 0], moved[:, 1], moved[:, 2] - moved[:, 0], moved[:, 3] - moved[:, 1]], 1)


def cutmix(pictures: Tensor, soft: Tensor, teacher: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One rectangle of every picture from another picture; targets by area (CutMix, arXiv 1905.04899)."""
    side, other = pictures.shape[-1], torch.from_numpy(rng.permutation(len(pictures)))
    h, w = (int(side * s) for s in rng.uniform(0.3, 0.7, 2))
    top, left = int(rng.integers(0, side - h + 1)), int(rng.integers(0, side - w + 1))
    mixed = pictures.clone()
    mixed[:, :, top : top + h, left : left + w] = pictures[other, :, top : top + h, left : left + w]
    kept = 1 - h * w / side**2
    return mixed, kept * soft + (1 - kept) * soft[other], kept * teacher + (1 - kept) * teacher[other]


def batch_of(share: float, mix: float, rows: Tensor, data: dict[str, Tensor], files: dict[str, np.ndarray], size: int,
             rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Encoded crops, targets of the ten classes, and the teacher's distribution."""
    boxes = jittered(files["boxes"][rows.numpy()], data["x"].shape[-1], rng)
    pictures = crop(data["x"][rows], boxes, size).float() / 255
    flip = torch.from_numpy(rng.random(len(rows)) < 0.5)
    pictures[flip] = pictures[flip].flip(3)
    brightness = torch.from_numpy(rng.uniform(0.7, 1.3, (len(rows), 1, 1, 1)).astype(np.float32))
    tint = torch.from_numpy(rng.uniform(0.93, 1.07, (len(rows), 3, 1, 1)).astype(np.float32))
    pictures = (pictures * brightness * tint).clamp(0, 1)
    teacher = torch.from_numpy(files["logits"][rows.numpy()].astype(np.float32))
    onehot = F.one_hot(data["y"][rows], 10).float()
    soft = (1 - share) * onehot + share * teacher[:, IMAGENETTE].softmax(1)
    teacher = teacher.softmax(1)
    if rng.random() < mix:
        pictures, soft, teacher = cutmix(pictures, soft, teacher, rng)
    return add_inverse(pictures).contiguous(memory_format=torch.channels_last), soft, teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, default=None, help="start from this checkpoint's averaged weights")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--sizes", default="96:0.8,128:1.0", help="side:until (share of the epochs)")
    parser.add_argument("--peak", type=float, default=4e-4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--soft", type=float, default=0.5, help="the teacher's share of the ten targets")
    parser.add_argument("--aux", type=float, default=0.05, help="weight of the teacher's 1,000 classes")
    parser.add_argument("--cutmix", type=float, default=0.25, help="share of the batches that are mixed")
    parser.add_argument("--all", action="store_true", help="train on the held-out tenth too, when every choice is made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    x, y = images("train")
    data = {"x": x, "y": y}
    rest, held = split_indices(len(x), seed=0)
    if args.all:
        rest = torch.arange(len(x))
    passes = [np.load(p) for p in sorted(args.teacher.glob("pass-??.npz"))]
    files = [{"boxes": f["boxes"].astype(np.int64), "logits": f["logits"]} for f in passes]
    student = Student().to(memory_format=torch.channels_last)
    if args.init:
        student.load_state_dict(torch.load(args.init, weights_only=True)["average"])
        shorten_filters(student)
    average = copy.deepcopy(student)
    optimizer = torch.optim.Adam(student.parameters(), lr=args.peak)
    per_epoch = len(rest) // args.batch
    steps, start, log = args.epochs * per_epoch, 0, []
    checkpoint = args.out / "last.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        student.load_state_dict(state["student"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start, log = state["epoch"], state["log"]
    stages = [(int(s), float(u)) for s, u in (part.split(":") for part in args.sizes.split(","))]
    step_model = student if args.no_compile else torch.compile(student)
    for epoch in range(start, args.epochs):
        began, rng = time.time(), np.random.default_rng([args.seed, epoch])
        size = next(s for s, until in stages if epoch < until * args.epochs)
        order = rest[torch.from_numpy(rng.permutation(len(rest)))]
        student.train()
        running = 0.0
        for i in range(per_epoch):
            step = epoch * per_epoch + i
            rate = learning_rate(step, steps, per_epoch // 2, args.peak)
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = order[i * args.batch : (i + 1) * args.batch]
            mix = args.cutmix if size != stages[-1][0] else 0.0
            pictures, soft, teacher = batch_of(args.soft, mix, rows, data, files[epoch % len(files)], size, rng)
            logits, aux = step_model(pictures)
            loss = F.binary_cross_entropy_with_logits(logits, soft)
            total = loss + args.aux * F.cross_entropy(aux, teacher)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            decay = min(0.998, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - decay)
            running += loss.item()
            if i % 20 == 0:
                print(f"  epoch {epoch} step {i}/{per_epoch} loss {running / (i + 1):.4f} "
                      f"{(i + 1) * args.batch / (time.time() - began):.0f} pictures/s", flush=True)  # fmt: skip
        entry = {"epoch": epoch + 1, "side": size, "loss": running / per_epoch}
        if not args.all and (epoch % 4 == 3 or epoch + 1 == args.epochs):
            judged = recalibrated(average.net, x[rest], 128, np.random.default_rng(0))
            entry["held_out_top1"] = accuracy(judged, x[held], y[held], 128)
        log.append(entry | {"seconds": round(time.time() - began)})
        print(json.dumps(log[-1]), flush=True)
        state = {"student": student.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
                 "epoch": epoch + 1, "log": log}  # fmt: skip
        torch.save(state, checkpoint.with_suffix(".tmp"))
        os.replace(checkpoint.with_suffix(".tmp"), checkpoint)


if __name__ == "__main__":
    main()
