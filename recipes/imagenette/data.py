"""Imagenette from its tar files, as one uint8 tensor in memory, and crops of it."""

from __future__ import annotations

import csv
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

DATA = Path(os.environ.get("TORCHBCOS_DATA", Path(__file__).parents[3] / "shared" / "data"))


def classes() -> list[dict[str, str]]:
    """The ten classes in their official order: class, wnid, imagenet_index, name."""
    with (DATA / "imagenette" / "classes.csv").open(newline="") as f:
        return list(csv.DictReader(f))


def images(split: str) -> tuple[Tensor, Tensor]:
    """All pictures of "train" or "val": (N, 3, 160, 160) uint8 and (N,) int64 labels."""
    index = {row["wnid"]: int(row["class"]) for row in classes()}
    pictures, labels = [], []
    for path in sorted((DATA / "imagenette").glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                file = tar.extractfile(member)
                if file is None:
                    continue
                pictures.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
                labels.append(index[member.name.split("/")[0]])
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), torch.tensor(labels)


def split_indices(n: int, *, held_out: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A seeded division of range(n): (rest, held-out tenth on which every choice is made)."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    k = round(n * held_out)
    return order[k:], order[:k]


def random_boxes(n: int, side: int, rng: np.random.Generator, scale: tuple[float, float]) -> np.ndarray:
    """`n` random resized-crop boxes (top, left, height, width), ratio 3/4 to 4/3."""
    area = side * side * rng.uniform(*scale, n)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), n))
    h = np.clip(np.round(np.sqrt(area / ratio)), 8, side).astype(np.int64)
    w = np.clip(np.round(np.sqrt(area * ratio)), 8, side).astype(np.int64)
    top = (rng.random(n) * (side - h + 1)).astype(np.int64)
    left = (rng.random(n) * (side - w + 1)).astype(np.int64)
    return np.stack([top, left, h, w], 1)


def crop(pictures: Tensor, boxes: np.ndarray, size: int) -> Tensor:
    """Cut one box a picture and resize it: (N, 3, size, size) uint8."""
    out = torch.empty(len(pictures), 3, size, size, dtype=torch.uint8)
    for i, (top, left, h, w) in enumerate(boxes.tolist()):
        patch = pictures[i : i + 1, :, top : top + h, left : left + w]
        out[i] = F.interpolate(patch, size=(size, size), mode="bilinear", antialias=True)[0]
    return out
