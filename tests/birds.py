"""A made-up folder in the layout of FunnyBirds, a network that reads it exactly, and the maps that such a network deserves.

Every region of a bird, and every object behind it, is a square of its own, far from the others; its red says which form it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

COLOURS = {
    "beak": [(255, 255, 0)], "eye": [(255, 255, 253), (255, 255, 254)], "foot": [(255, 0, 1), (255, 0, 2)],
    "tail": [(0, 0, 255)], "wing": [(0, 255, 1), (0, 255, 2)],
}  # fmt: skip
HEIGHT, WIDTH, CELL, STEP = 24, 32, 8, 20
_REGIONS = [(part, i) for part, colours in COLOURS.items() for i in range(len(colours))]
MOST_OBJECTS = 12 - len(_REGIONS)


def square(number: int) -> tuple[slice, slice]:
    """The 2x2 pixels of a region or an object: dilated by 5x5 it stays within its cell of 8x8."""
    top, left = CELL * (number // 4) + 3, CELL * (number % 4) + 3
    return slice(top, top + 2), slice(left, left + 2)


def regions_of(part: str) -> list[int]:
    return [i for i, (name, _) in enumerate(_REGIONS) if name == part]


@dataclass(frozen=True)
class Birds:
    """What is in a folder: the forms of every class, the pictures' classes and how many objects stand behind each."""

    parts: tuple[str, ...] = ("beak", "eye", "tail", "wing")
    classes: tuple[tuple[int, ...], ...] = ((0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 0, 0), (1, 0, 1, 0))
    labels: tuple[int, ...] = (0, 0, 1, 2, 3)
    objects: tuple[int, ...] = (3, 0, 2, 1, 3)

    def pixels(self, index: int, kept: Sequence[str], objects: Sequence[int]) -> np.ndarray:
        found = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        found[..., 3] = 255
        for part, form in zip(self.parts, self.classes[self.labels[index]], strict=True):
            for number in regions_of(part) if part in kept else ():
                found[square(number)] = (STEP * (form + 1), 0, 0, 255)
        for number in objects:
            found[square(len(_REGIONS) + number)] = (STEP, 0, 0, 255)
        return found

    def part_map(self, index: int) -> np.ndarray:
        found = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        found[..., 3] = 255
        for number, (part, half) in enumerate(_REGIONS):
            if part in self.parts:
                found[square(number)] = (*COLOURS[part][half], 255)
        for number in range(self.objects[index]):
            found[square(len(_REGIONS) + number)] = (204, 204, 204 + number, 255)
        return found

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        forms = [max(row[p] for row in self.classes) + 1 for p in range(len(self.parts))]
        _json(
            folder / "parts.json",
            {p: [{"model": f"{p}{i}.glb"} for i in range(n)] for p, n in zip(self.parts, forms, strict=True)},
        )
        rows = [{"class_idx": i, "parts": dict(zip(self.parts, row, strict=True))} for i, row in enumerate(self.classes)]
        _json(folder / "classes.json", rows)
        pictures = [
            {"class_idx": label, "camera_distance": 300, "bg_objects": "".join(f"{i}," for i in range(count)), "bg_radius": ""}
            for label, count in zip(self.labels, self.objects, strict=True)
        ]
        _json(folder / "dataset_test.json", pictures)
        for i in range(len(self.labels)):
            self._write_picture(folder, i)
        return folder

    def _write_picture(self, folder: Path, i: int) -> None:
        place, everything = f"{self.labels[i]}/{i:06}", range(self.objects[i])
        _png(folder / "test" / f"{place}.png", self.pixels(i, self.parts, everything))
        _png(folder / "test_part_map" / f"{place}.png", self.part_map(i))
        for code in range(2 ** len(self.parts)):
            kept = sorted(part for p, part in enumerate(self.parts) if code >> p & 1)
            _png(folder / "test_interventions" / place / f"body_{'_'.join(kept)}.png", self.pixels(i, kept, everything))
        for number in everything:
            others = [j for j in everything if j != number]
            file = folder / "test_interventions" / place / "background_interventions" / f"{number}.png"
            _png(file, self.pixels(i, self.parts, others))


@dataclass(frozen=True)
class Reader:
    """A network that adds up `weights` of the parts it sees in the form of a class, and those of the objects it sees.

    Attributes:
        birds: what the folder holds.
        weights: of the parts.
        objects: of the objects, for every class.
        bias: of a class times its number: the first of equal classes wins.
    """

    birds: Birds
    weights: tuple[float, ...] = (4.0, 3.0, 2.5, 1.0)
    objects: tuple[float, ...] = (0.2, 3.0, -1.0)
    bias: float = -0.01
    calls: list[int] = field(default_factory=list)

    def evidence(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What every part (N, C, P) and every object (N, B) adds to the logits."""
        red = x[:, 0] * 255
        forms = (
            torch.stack([red[(slice(None), *square(regions_of(part)[0]))].mean((1, 2)) for part in self.birds.parts], 1) / STEP
            - 1
        )
        same = forms.round()[:, None] == torch.tensor(self.birds.classes)
        seen = [red[(slice(None), *square(len(_REGIONS) + i))].mean((1, 2)) > 0 for i in range(len(self.objects))]
        return same * torch.tensor(self.weights), torch.stack(seen, 1) * torch.tensor(self.objects)

    def __call__(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        parts, objects = self.evidence(x)
        return parts.sum(2) + objects.sum(1, keepdim=True) + self.bias * torch.arange(parts.shape[1])

    def explain(self, x: Tensor, targets: Tensor) -> Tensor:
        """The maps that say just this."""
        parts, objects = self.evidence(x)
        return self.drawn(parts.gather(1, targets[:, :, None].expand(-1, -1, parts.shape[2])), objects)

    def drawn(self, parts: Tensor, objects: Tensor) -> Tensor:
        """Maps (N, K, H, W) with these importances: parts (N, K, P), halves share them; objects (N, B)."""
        maps = torch.zeros(*parts.shape[:2], HEIGHT, WIDTH, dtype=parts.dtype)
        for p, part in enumerate(self.birds.parts):
            numbers = regions_of(part)
            for number in numbers:
                rows, columns = square(number)
                maps[:, :, rows.start, columns.start] = parts[:, :, p] / len(numbers)
        for i in range(objects.shape[1]):
            rows, columns = square(len(_REGIONS) + i)
            maps[:, :, rows.start, columns.start] = objects[:, None, i]
        return maps

    def saying(self, change: Callable[[Tensor], Tensor], behind: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
        """An `explain` whose parts are changed, with the same number for each object."""

        def explain(x: Tensor, targets: Tensor) -> Tensor:
            parts, objects = self.evidence(x)
            own = parts.gather(1, targets[:, :, None].expand(-1, -1, parts.shape[2]))
            return self.drawn(change(own), torch.full_like(objects, behind))

        return explain


def _json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value))


def _png(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, "RGBA").save(file)
