"""The folder layout of FunnyBirds: exact colours whatever the PNG says of itself, and one sentence for what is broken."""

from __future__ import annotations

import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin

from tests.birds import Birds, square
from torchbcos._core.errors import BcosError, InputError, MissingFileError
from torchbcos.evaluation.funnybirds_folder import MOST_OBJECTS, open_birds

SMALL = Birds(parts=("beak", "eye"), classes=((0, 0), (1, 1)), labels=(0, 1), objects=(2, 0))
MAP, PICTURE = "test_part_map/0/000000.png", "test/0/000000.png"
OBJECTS = "test_interventions/0/000000/background_interventions"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return SMALL.write(tmp_path / "FunnyBirds")


def test_it_reads_what_was_written(tmp_path: Path) -> None:
    five = Birds(("tail", "foot", "beak", "wing", "eye"), ((0, 0, 0, 0, 0), (0, 1, 2, 0, 1)), (1,), (3,))
    found = open_birds(five.write(tmp_path / "FunnyBirds"))
    (bird,) = found.birds
    assert found.parts == five.parts and found.classes.tolist() == [list(row) for row in five.classes]
    assert (bird.index, bird.label, bird.objects) == (0, 1, 3)
    wanted = torch.from_numpy(five.pixels(0, five.parts, range(3)))[..., :3].permute(2, 0, 1).float() / 255
    assert torch.equal(found.picture(bird), wanted)
    masks = found.masks(bird)
    assert masks.shape == (8 + 3, 24, 32) and masks.sum((1, 2)).tolist() == [4] * 11
    names = [found.parts[p] for p in found.regions]
    assert names == ["eye", "eye", "beak", "foot", "foot", "wing", "wing", "tail"]
    assert bool(masks[2][square(0)].all())  # the beak
    kept = torch.from_numpy(five.pixels(0, ("foot", "eye"), range(3)))[..., :3].permute(2, 0, 1).float() / 255
    assert torch.equal(found.keeping(bird, 0b10010), kept)
    other = torch.from_numpy(five.pixels(0, five.parts, (0, 2)))[..., :3].permute(2, 0, 1).float() / 255
    assert torch.equal(found.without_object(bird, 1), other)


def test_a_profile_a_gamma_or_a_palette_moves_no_colour(folder: Path) -> None:
    birds = open_birds(folder)
    wanted = birds.masks(birds.birds[0])
    with Image.open(folder / MAP) as opened:
        image = opened.copy()
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 100_000))
    image.save(folder / MAP, pnginfo=chunks)
    assert torch.equal(birds.masks(birds.birds[0]), wanted)
    palette = image.convert("RGB").quantize(16)
    palette.save(folder / MAP)
    assert palette.mode == "P" and torch.equal(birds.masks(birds.birds[0]), wanted)


def _rewrite(name: str, change: Callable[[list[dict[str, object]]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(found)))

    return spoil


def _write(name: str, data: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return spoil


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def _vast(folder: Path) -> None:
    """A header of 60,000 x 60,000 pixels and nothing behind it."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (folder / MAP).write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)))


def _cut(folder: Path) -> None:
    (folder / MAP).write_bytes((folder / MAP).read_bytes()[:60])


def _a_folder(folder: Path) -> None:
    (folder / MAP).unlink()
    (folder / MAP).mkdir()


def _blurred(folder: Path) -> None:
    with Image.open(folder / MAP) as opened:
        image = opened.convert("RGB")
    image.resize((64, 48), Image.Resampling.BICUBIC).resize((16, 12), Image.Resampling.BOX).resize((32, 24)).save(folder / MAP)


def _classes(parts: dict[str, object]) -> Callable[[Path], None]:
    return _rewrite("classes.json", lambda rows: [rows[0], {"class_idx": 1, "parts": parts}])


BROKEN: dict[str, tuple[type[BcosError], Callable[[Path], None], str]] = {
    "no JSON": (MissingFileError, _remove("classes.json"), "has no classes.json"),
    "no pictures": (MissingFileError, _remove("dataset_test.json"), "has no dataset_test.json"),
    "no map": (MissingFileError, _remove(MAP), "test_part_map/0/000000.png' does not exist.*maps of parts in test_part_map"),
    "no maps": (MissingFileError, _remove("test_part_map"), "test_part_map"),
    "no picture": (MissingFileError, _remove(PICTURE), "test/0/000000.png' does not exist"),
    "no subset": (MissingFileError, _remove("test_interventions/0/000000/body_beak.png"), "body_beak.png' does not exist"),
    "no object": (MissingFileError, _remove(OBJECTS), "background_interventions/0"),
    "half a JSON": (InputError, _write("classes.json", b'[{"class_idx"'), "is not valid JSON .line 1."),
    "bytes": (InputError, _write("parts.json", b"\xff\xfe\x00"), "UTF"),
    "deep": (InputError, _write("parts.json", b"[" * 100_000), "parts.json"),
    "a number": (InputError, _write("classes.json", b"7"), "a list of classes"),
    "one class": (InputError, _rewrite("classes.json", lambda rows: rows[:1]), "1 classes"),
    "a hole": (InputError, _classes({"beak": 0}), "class 1: .*eye"),
    "order": (InputError, _rewrite("classes.json", lambda rows: rows[::-1]), "class 0: expected 'class_idx' 0"),
    "a form": (InputError, _classes({"beak": True, "eye": 0}), "class 1"),
    "a part": (InputError, _write("parts.json", b'{"../x\\u001b[5m": [1]}'), r"part '\.\./x\\x1b.* colour .* not known"),
    "no part": (InputError, _write("parts.json", b"{}"), "names no part"),
    "no form": (InputError, _rewrite("parts.json", lambda parts: {**parts, "eye": []}), "list of forms"),
    "class": (InputError, _rewrite("dataset_test.json", lambda rows: [{"class_idx": 2}]), "picture 0.* from 0 to 1"),
    "path": (InputError, _rewrite("dataset_test.json", lambda rows: [{"class_idx": "../../etc"}]), "picture 0"),
    "objects": (InputError, _write("dataset_test.json", b'[{"class_idx": 0, "bg_objects": "%s"}]' % (b"1," * 51)), "at most 50"),
    "none": (InputError, _write("dataset_test.json", b"[]"), "0 pictures"),
}  # fmt: skip
UNREADABLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "blurred": (_blurred, "no pixel of the colour of a part"),
    "a JPEG": (lambda folder: Image.new("RGB", (32, 24)).save(folder / MAP, "JPEG"), "is no PNG"),
    "vast": (_vast, "60000 x 60000 pixels"),
    "cut": (_cut, "000000.png'"),
    "empty": (_write(MAP, b""), "is no PNG"),
    "a folder": (_a_folder, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused_before_anything_runs(case: str, folder: Path) -> None:
    error, spoil, message = BROKEN[case]
    spoil(folder)
    with pytest.raises(error, match=message) as caught:
        open_birds(folder)
    assert len(str(caught.value)) <= 500 and str(caught.value).isprintable()


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_map_that_cannot_be_read(case: str, folder: Path) -> None:
    spoil, message = UNREADABLE[case]
    spoil(folder)
    birds = open_birds(folder)
    with pytest.raises(InputError, match=message) as caught:
        birds.masks(birds.birds[0])
    assert len(str(caught.value)) <= 500 and str(caught.value).isprintable()


def test_a_map_that_goes_away(folder: Path) -> None:
    birds = open_birds(folder)
    (folder / MAP).unlink()
    with pytest.raises(MissingFileError, match="does not exist"):
        birds.masks(birds.birds[0])


def test_no_folder(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"FunnyBird' is no folder\. Did you mean 'FunnyBirds'"):
        open_birds(tmp_path / "FunnyBird")
    with pytest.raises(MissingFileError, match=r"has no parts\.json\. Is it '.*FunnyBirds'\?"):
        open_birds(tmp_path)
    with pytest.raises(MissingFileError, match=r"dataset_train\.json"):
        open_birds(folder, split="train")


def test_pictures_without_objects_need_no_word_of_them(folder: Path) -> None:
    rows = json.loads((folder / "dataset_test.json").read_text())
    del rows[1]["bg_objects"]
    (folder / "dataset_test.json").write_text(json.dumps(rows))
    assert [bird.objects for bird in open_birds(folder).birds] == [2, 0] and MOST_OBJECTS == 50


@pytest.mark.parametrize("name", [MAP, "parts.json", "classes.json", "dataset_test.json"])
def test_damage_is_a_sentence_or_harmless(name: str, folder: Path) -> None:
    draw, whole = random.Random(0), (folder / name).read_bytes()
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (folder / name).write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])
        try:
            birds = open_birds(folder)
            for bird in birds.birds:
                birds.masks(bird)
        except BcosError as error:
            refused += 1
            assert len(str(error)) <= 500 and str(error).isprintable()
    assert refused > 20
