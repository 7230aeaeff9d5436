"""Objects pasted into scenes that go with them: does a network that provably looked nowhere else care for the scene?

    python recipes/two_stage/insets.py --data DATA --json insets.json

A CIFAR-10 photo of an animal or a vehicle (32 px) is pasted at a random place of a 64 px scene: a crop of an unlabelled photo, warm or
cold by its colours. Kind of object and kind of scene agree in 95 of 100 training pictures and in half of the test pictures, so the
scene is an easy wrong reason. The place of the object is known exactly.

It compares a plain transformer on the whole picture, two stages with hard masks (with and without the gradient to the first stage that
published code cuts), and soft masks: accuracy of the four groups, the worst of them, and how well the selection meets the object.
What came out: docs/explanation/two-stages.md.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import torchbcos
from torchbcos import functional

SIDE, INSET, PATCH = 64, 32, 8
ANIMALS, VEHICLES = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9)
TRAIN, TEST, EPOCHS, BATCH, LR = 6000, 2000, 10, 32, 1e-3


def objects(data: Path, split: str, count: int) -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) in [0, 1] and whether each is a vehicle."""
    stored = np.load(data / "cifar10" / f"{split}.npz")
    header, bytes_, ends, labels = stored["header"].tobytes(), stored["data"].tobytes(), stored["offsets"], stored["labels"]
    pictures = [Image.open(io.BytesIO(header + bytes_[ends[i] : ends[i + 1]])).convert("RGB") for i in range(count)]
    pixels = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 255
    return pixels, torch.from_numpy(np.isin(labels[:count], VEHICLES)).long()


def scenes(data: Path) -> tuple[Tensor, Tensor]:
    """Crops (M, 3, 64, 64) of unlabelled photos, and whether each is warm (more red than blue, by more than half of all)."""
    found = []
    for file in sorted((data / "photos-unlabelled").glob("*.tar")):
        with tarfile.open(file) as archive:
            for member in archive.getmembers():
                content = archive.extractfile(member)
                if content is None:
                    continue
                photo = Image.open(io.BytesIO(content.read())).convert("RGB")
                side = min(photo.size)
                left, top = (photo.width - side) // 2, (photo.height - side) // 2
                cut = photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                found.append(np.asarray(cut))
    pixels = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255
    warmth = (pixels[:, 0] - pixels[:, 2]).mean((1, 2))
    return pixels, (warmth > warmth.median()).long()
