"""The folder layout of FunnyBirds: pictures of birds, maps of their parts by colour, and the same birds without some parts.

classes.json  parts.json  dataset_test.json
test/CLASS/000123.png                                   the picture: its number is its place in dataset_test.json
test_part_map/CLASS/000123.png                          a colour a part
test_interventions/CLASS/000123/body_beak_eye_foot.png  the bird with these parts only, in the order of the alphabet
test_interventions/CLASS/000123/background_interventions/4.png   without the fifth object behind it
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.files import read_whole
from torchbcos._core.foreign import foreign
from torchbcos._core.names import nearby, quote
from torchbcos._core.numbers import positive_integer
from torchbcos._core.tables import read_text
from torchbcos.pictures import decode_image
from torchbcos.zoo.fields import parse_json

__all__ = ["MOST_OBJECTS", "Bird", "BirdFolder", "open_birds"]

# Left and right halves have a colour each and are one part.
_COLOURS: dict[tuple[int, int, int], str] = {
    (255, 255, 253): "eye", (255, 255, 254): "eye", (255, 255, 0): "beak", (255, 0, 1): "foot", (255, 0, 2): "foot",
    (0, 255, 1): "wing", (0, 255, 2): "wing", (0, 0, 255): "tail",
}  # fmt: skip
_OBJECT = (204, 204, 204)  # of the first object behind the bird; each further one has one more blue
MOST_OBJECTS = 50
_MOST_TEXT, _MOST_BYTES, _MOST_PIXELS = 2**26, 2**25, 2**22  # of a JSON file, of a PNG file, of a picture (they have 256 x 256)
_MOST_CLASSES, _MOST_BIRDS = 1000, 100_000
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Bird:
    """One picture: its place in the JSON file, its class, and how many objects stand behind the bird."""

    index: int
    label: int
    objects: int


@dataclass(frozen=True)
class BirdFolder:
    """A folder of FunnyBirds.

    Attributes:
        folder: where it lies.
        split: "test" or another that has interventions.
        parts: names of the P parts.
        classes: (C, P) int64: the form of every part of every class.
        birds: the pictures.
        regions: the part of every colour: `part_importance` takes them as `groups`.
    """

    folder: Path
    split: str
    parts: tuple[str, ...]
    classes: Tensor
    birds: tuple[Bird, ...]
    regions: tuple[int, ...]

    def name(self, bird: Bird) -> str:
        """The picture's file, from the folder on."""
        return f"{self.split}/{bird.label}/{bird.index:06}.png"

    def picture(self, bird: Bird) -> Tensor:
        """(3, H, W) float32 in [0, 1], the stored numbers."""
        return _pixels(self._file("", bird)).permute(2, 0, 1).float() / 255

    def keeping(self, bird: Bird, code: int) -> Tensor:
        """(3, H, W): the bird with some parts only: bit p of `code` is set where part p stays."""
        return _pixels(self._intervention(bird, code)).permute(2, 0, 1).float() / 255

    def without_object(self, bird: Bird, number: int) -> Tensor:
        """(3, H, W): the picture without one object behind the bird."""
        return _pixels(self._object(bird, number)).permute(2, 0, 1).float() / 255

    def masks(self, bird: Bird) -> Tensor:
        """(R + B, H, W) bool: where the map has the colour of each region, and of each of the B objects.

        Raises:
            MissingFileError: there is no map of parts.
            InputError: it cannot be read, or no pixel has the colour of a part.
        """
        file = self._file("_part_map", bird)
        pixels = _pixels(file).int()
        codes = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
        red, green, blue = _OBJECT
        wanted = [c for c, part in _COLOURS.items() if part in self.parts]
        wanted += [(red, green, blue + i) for i in range(bird.objects)]
        found = torch.stack([codes == (r << 16 | g << 8 | b) for r, g, b in wanted])
        if not bool(found[: len(self.regions)].any()):
            most = int(codes.flatten().mode().values)
            raise InputError(
                f"{quote(file)} has no pixel of the colour of a part ((255, 255, 0) is the beak, …); its most frequent colour is "
                f"{(most >> 16, most >> 8 & 255, most & 255)}. Maps are stored without loss, and resized by nearest neighbours."
            )
        return found

    def missing(self) -> Path | None:
        """The first file or folder that a measurement will need and that is not there."""
        return next((file for bird in self.birds for file in self._needed(bird) if not file.exists()), None)

    def _needed(self, bird: Bird) -> Iterator[Path]:
        yield self._file("", bird)
        yield self._file("_part_map", bird)
        for code in range(2 ** len(self.parts)):
            yield self._intervention(bird, code)
        yield from (self._object(bird, i) for i in range(bird.objects))

    def _file(self, suffix: str, bird: Bird) -> Path:
        return self.folder / (self.split + suffix) / str(bird.label) / f"{bird.index:06}.png"

    def _intervention(self, bird: Bird, code: int) -> Path:
        kept = sorted(name for p, name in enumerate(self.parts) if code >> p & 1)
        return self._file("_interventions", bird).with_suffix("") / f"body_{'_'.join(kept)}.png"

    def _object(self, bird: Bird, number: int) -> Path:
        return self._file("_interventions", bird).with_suffix("") / "background_interventions" / f"{number}.png"


def open_birds(folder: str | os.PathLike[str], *, split: str = "test", limit: int | None = None) -> BirdFolder:
    """Look at a folder of FunnyBirds: its JSON files are read, and every file that a measurement needs is there.

    Args:
        folder: holds `classes.json`, `parts.json`, `dataset_test.json`, `test`, `test_part_map` and `test_interventions`.
        split: the word before these names.
        limit: pictures; they are spread evenly over all. None: all.

    Raises:
        MissingFileError: the folder, or a file in it, is not there.
        InputError: a JSON file is broken, too long, or says what no such folder says.
    """
    place = Path(folder)
    if not place.is_dir():
        raise MissingFileError(f"{quote(folder)} is no folder.{nearby(folder)}")
    if not isinstance(split, str) or not split.isidentifier():
        raise InputError(f"split is the word before the names of the folders ('test'), not {quote(split)}.")
    _check_texts(place, split)
    forms = _read_parts(place / "parts.json")
    classes = _read_classes(place / "classes.json", forms)
    birds = _read_birds(place / f"dataset_{split}.json", len(classes))
    if limit is not None:
        most = positive_integer(limit)
        if most is None:
            raise InputError(f"limit is a number of pictures, 1 or more, not {limit!r:.60}.")
        most = min(most, len(birds))
        birds = tuple(birds[i * len(birds) // most] for i in range(most))
    parts = tuple(forms)
    found = BirdFolder(place, split, parts, classes, birds, tuple(parts.index(p) for p in _COLOURS.values() if p in parts))
    lacking = found.missing()
    if lacking is not None:
        raise MissingFileError(
            f"{quote(lacking)} does not exist. FunnyBirds has pictures in {split}, maps of parts in {split}_part_map, and "
            f"the same birds without some parts in {split}_interventions."
        )
    return found


def _check_texts(place: Path, split: str) -> None:
    names = ("parts.json", "classes.json", f"dataset_{split}.json")
    lacking = next((name for name in names if not (place / name).exists()), None)
    if lacking is not None:
        inner = place / "FunnyBirds"
        hint = f"Is it {quote(inner)}?" if inner.is_dir() else f"FunnyBirds has {', '.join(names)} in one folder."
        raise MissingFileError(f"{quote(place)} has no {lacking}. {hint}")


def _read_parts(file: Path) -> dict[str, int]:
    """How many forms each part has."""
    found = _read_json(file, dict, "an object: part -> list of its forms")
    known = sorted(set(_COLOURS.values()))
    for part, forms in found.items():
        if part not in known:
            raise InputError(
                f"{quote(file)} has the part {quote(part)}, whose colour in maps is not known: {', '.join(known)} are."
            )
        if not isinstance(forms, list) or not forms:
            raise InputError(f"{quote(file)} must give a list of forms for {quote(part)}.")
    if not found:
        raise InputError(f"{quote(file)} names no part.")
    return {part: len(forms) for part, forms in found.items()}


def _read_classes(file: Path, forms: dict[str, int]) -> Tensor:
    rows = _read_json(file, list, "a list of classes")
    if not 2 <= len(rows) <= _MOST_CLASSES:
        raise InputError(f"{quote(file)} has {len(rows):,} classes; 2 to {_MOST_CLASSES:,} are compared.")
    found = []
    for number, row in enumerate(rows):
        said = row.get("parts") if isinstance(row, dict) and row.get("class_idx") == number else None
        if not isinstance(said, dict) or not all(_is_whole(said.get(p), count) for p, count in forms.items()):
            raise InputError(
                f"{quote(file)}, class {number}: expected 'class_idx' {number} and in 'parts' the number of a form for each of "
                f"{', '.join(forms)}, as parts.json lists them."
            )
        found.append([said[part] for part in forms])
    return torch.tensor(found)


def _read_birds(file: Path, classes: int) -> tuple[Bird, ...]:
    rows = _read_json(file, list, "a list of pictures")
    if not 1 <= len(rows) <= _MOST_BIRDS:
        raise InputError(f"{quote(file)} has {len(rows):,} pictures; 1 to {_MOST_BIRDS:,} are read.")
    found = []
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or not _is_whole(row.get("class_idx"), classes):
            raise InputError(f"{quote(file)}, picture {index}: expected 'class_idx', a number from 0 to {classes - 1}.")
        said = row.get("bg_objects", "")
        objects = [word for word in said.split(",") if word.strip()] if isinstance(said, str) else None
        if objects is None or len(objects) > MOST_OBJECTS:
            raise InputError(
                f"{quote(file)}, picture {index}: 'bg_objects' is a text of numbers with commas between, at most {MOST_OBJECTS}."
            )
        found.append(Bird(index, row["class_idx"], len(objects)))
    return tuple(found)


def _is_whole(value: object, below: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _read_json(file: Path, kind: type, expected: str) -> Any:
    text = read_text(file, _MOST_TEXT)
    try:
        found = parse_json(text)
    except ValueError as error:
        raise InputError(f"{quote(file)} {error}.") from None
    if not isinstance(found, kind):
        raise InputError(f"{quote(file)} must hold {expected}.")
    return found


def _pixels(file: Path) -> Tensor:
    """(H, W, 3) uint8, as they are stored: no profile may move the colours of a map."""
    name = quote(file)
    try:
        with foreign(f"{name} cannot be read"):
            data = read_whole(file, _MOST_BYTES)
    except InputError as error:
        if not file.exists():
            raise MissingFileError(f"{name} does not exist.{nearby(file)}") from None
        raise error from None
    if not data.startswith(_PNG) or len(data) < 24:
        raise InputError(f"{name} is no PNG: FunnyBirds has no other pictures, and its colours survive in no other form.")
    width, height = struct.unpack(">II", data[16:24])
    if width * height > _MOST_PIXELS:
        raise InputError(
            f"{name} has {width} x {height} pixels, and at most {_MOST_PIXELS:,} are read: FunnyBirds has 256 x 256."
        )
    image = decode_image(data, name, value_range=(0, 255))
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
