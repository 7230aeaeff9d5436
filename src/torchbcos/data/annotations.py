"""Where the object is: boxes and masks beside labelled pictures, for guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.names import hint, quote
from torchbcos._core.tables import read_table
from torchbcos.data.labelled import Split
from torchbcos.pictures.read import read_image

__all__ = ["BOXES", "MASKS", "MOST", "find_annotations", "read_boxes"]

BOXES, MASKS = "boxes.csv", "masks"
# Masks of one picture. Guidance draws one object of a picture at random, so further boxes, which share the last mask, lose
# little; and each mask travels with every example of a batch: at 224 x 224, 8 take 0.4 MB, more than the picture's pixels.
MOST = 8
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Annotations:
    """Masks of the examples of one split.

    Attributes:
        names: of the examples.
        boxes: name -> (cx, cy, w, h) as fractions of width and height.
        masks: name -> file of a mask.
        used: which examples count as annotated.
    """

    names: Sequence[str]
    boxes: Mapping[str, tuple[_Box, ...]]
    masks: Mapping[str, Path]
    used: frozenset[int]

    def __len__(self) -> int:
        return len(self.used)

    def __call__(self, i: int, size: tuple[int, int]) -> Tensor:
        """(MOST, H, W) uint8: a mask a box; all zeros where the example is not annotated."""
        found = torch.zeros(MOST, *size, dtype=torch.uint8)
        if i not in self.used:
            return found
        name = self.names[i]
        if name in self.masks:
            grey = read_image(self.masks[name]).convert("L").resize((size[1], size[0]), 0)
            found[0] = (torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(size) > 0).to(torch.uint8)
            return found
        for k, (cx, cy, w, h) in enumerate(self.boxes[name]):
            top, left = round((cy - h / 2) * size[0]), round((cx - w / 2) * size[1])
            bottom, right = round((cy + h / 2) * size[0]), round((cx + w / 2) * size[1])
            found[min(k, MOST - 1), max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = 1
        return found


def find_annotations(place: Path, split: Split, *, share: float = 1.0, seed: int = 0) -> _Annotations:
    """Boxes (`boxes.csv`: file, cx, cy, w, h) or masks (`masks/NAME.png`) for the examples of a split.

    Args:
        place: the data's folder.
        split: its names are looked up, with and without the shard's name before them.
        share: the part of the annotated examples that is used, between 0 and 1, chosen by `seed`.

    Raises:
        MissingFileError: there is neither.
        InputError: a line of the table is wrong, or no example is annotated.
    """
    place = place.parent if place.is_file() else place  # beside a table of labels
    table, folder = place / BOXES, place / MASKS
    if not table.is_file() and not folder.is_dir():
        raise MissingFileError(
            f"Nothing says where the objects are: {str(table)!r} (file, cx, cy, w, h as fractions) or {str(folder)!r} "
            "with a mask for each picture is looked for, and there is neither."
        )
    given = read_boxes(table) if table.is_file() else {}
    boxes: dict[str, tuple[_Box, ...]] = {}
    masks: dict[str, Path] = {}
    for name in split.names:
        forms = (name, name.partition(".tar/")[2] or name)
        mask = next((f for f in (folder / Path(form).with_suffix(".png") for form in forms) if f.is_file()), None)
        if mask is not None:
            masks[name] = mask
        else:
            boxes[name] = next((given[form] for form in forms if form in given), ())
    rows = [i for i, name in enumerate(split.names) if name in masks or boxes.get(name)]
    if not rows:
        tail = hint(split.names[0], given) if given else ""
        first = f"the first is {split.names[0]!r}.{tail}"
        raise InputError(f"None of the {len(split)} examples is annotated in {str(place)!r}; {first}")
    generator = torch.Generator().manual_seed(seed)
    kept = torch.randperm(len(rows), generator=generator)[: max(1, round(share * len(rows)))].tolist()
    return _Annotations(split.names, boxes, masks, frozenset(rows[k] for k in kept))


def read_boxes(table: Path) -> dict[str, tuple[_Box, ...]]:
    """The boxes of every file of a table, each once.

    Raises:
        InputError: the table cannot be read, or a line is wrong; see `torchbcos._core.tables`.
    """
    found: dict[str, tuple[_Box, ...]] = {}
    for row in read_table(table, ["file", "cx", "cy", "w", "h"]).rows:
        try:
            cx, cy, w, h = (float(row[key]) for key in ("cx", "cy", "w", "h"))
        except ValueError:
            raise InputError(f"{quote(table)}, line {row.line}: cx, cy, w and h must be numbers.") from None
        if not (0 <= cx <= 1 and 0 <= cy <= 1 and 0 < w <= 1 and 0 < h <= 1):
            raise InputError(f"{quote(table)}, line {row.line}: a box is given in fractions between 0 and 1.")
        boxes = found.get(row["file"], ())
        if (cx, cy, w, h) not in boxes:  # a line that is there twice is one object, not two
            found[row["file"]] = (*boxes, (cx, cy, w, h))
    return found
