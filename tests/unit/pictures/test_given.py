"""What a caller gives becomes single inputs, one at a time: batches, folders, patterns, open files, iterables."""

from __future__ import annotations

import io
import itertools
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, MissingFileError
from torchbcos.pictures import Form, Preprocess, Scan, title_of
from torchbcos.pictures.given import each_input

SIGNALS, GREY, RGB, VOLUMES = Form(2, 1), Form(1, 2), Form(3, 2), Form(1, 3)


def names(images: object, form: Form) -> list[str]:
    return [name for name, _ in each_input(images, form)]


@pytest.mark.parametrize("library", [torch.zeros, np.zeros])
@pytest.mark.parametrize(
    ("form", "one", "batch"),
    [
        (SIGNALS, (2, 9), (4, 2, 9)), (GREY, (5, 6), (4, 1, 5, 6)), (GREY, (1, 5, 6), (4, 1, 5, 6)),
        (RGB, (3, 5, 6), (4, 3, 5, 6)),
        (VOLUMES, (4, 5, 6), (4, 1, 4, 5, 6)), (VOLUMES, (1, 4, 5, 6), (4, 1, 4, 5, 6)), (Form(1, 1), (9,), (4, 1, 9)),
    ],
)  # fmt: skip
def test_a_batch_is_its_parts(library: Any, form: Form, one: tuple[int, ...], batch: tuple[int, ...]) -> None:
    single, several = library(one), library(batch)
    assert names(single, form) == ["image"] and names(several, form) == [f"images[{i}]" for i in range(4)]
    assert names([single, several], form) == ["images[0]", *(f"images[1][{i}]" for i in range(4))]
    p = Preprocess(raw_channels=form.channels, axes=form.axes)
    assert torch.equal(p.batch(several), p.batch([single] * 4)) and torch.equal(p.batch(several), p.batch(list(several)))


@pytest.mark.parametrize(
    ("form", "shape", "text"),
    [
        (Form(1, 1), (12, 400), "Are these 12 signals? Then give x[:, None], of shape (12, 1, 400)."),
        (GREY, (3, 5, 6), "Are these 3 pictures? Then give x[:, None]"),
        (GREY, (5, 6, 1), "Channels come first: use x[..., 0]."),
        (VOLUMES, (2, 4, 5, 6), "Are these 2 volumes? Then give x[:, None]"),
        (SIGNALS, (4, 3, 9), "images[0] has shape (3, 9)."),
        (RGB, (7, 5, 6), "takes pictures of 3 channels"),
    ],
)
def test_what_may_be_a_batch_or_not_is_never_guessed(form: Form, shape: tuple[int, ...], text: str) -> None:
    for item in (torch.zeros(shape), np.zeros(shape)):
        with pytest.raises(InputError, match=re.escape(text)):
            Preprocess(raw_channels=form.channels, axes=form.axes).batch(item)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in (10, 9):
        np.save(tmp_path / f"a{i}.npy", np.full((1, 4, 5), i / 10))
    return tmp_path


def test_folders_and_patterns_are_their_files(folder: Path) -> None:
    p = Preprocess(raw_channels=1)
    files = [folder / "a9.npy", folder / "a10.npy"]
    expected = p.batch(files)
    forms: list[Any] = [
        folder, str(folder), f"{folder}/*.npy", folder / "a*.npy", [folder], (file for file in files), map(str, files),
        np.array([str(file) for file in files]), {"a": files[0], "b": files[1]}.values(), [f"{folder}/a9*", files[1]],
    ]  # fmt: skip
    for given in forms:
        assert torch.equal(p.batch(given), expected)
    assert [title_of(item) for _, item in each_input(folder, GREY)] == ["a9.npy", "a10.npy"]
    with pytest.raises(MissingFileError, match=r"No picture matches '.*b\*\.npy'"):
        p.batch(f"{folder}/b*.npy")
    with pytest.raises(MissingFileError, match=r"b\.npy' does not exist"):
        p.batch([files[0], folder / "b.npy"])


def test_an_endless_iterable_is_taken_only_as_far_as_is_asked_for() -> None:
    taken: list[int] = []

    class Endless:
        def __iter__(self) -> Iterator[np.ndarray]:
            for i in itertools.count():
                taken.append(i)
                yield np.zeros((2, 9))

    found = each_input(Endless(), SIGNALS)
    assert [next(found)[0] for _ in range(3)] == ["images[0]", "images[1]", "images[2]"] and taken == [0, 1, 2]


def test_open_files_of_every_kind(folder: Path) -> None:
    p = Preprocess(raw_channels=1)
    file = folder / "a9.npy"
    expected = p.batch(file)
    with (
        open(file, "rb") as opened,
        tempfile.SpooledTemporaryFile() as spooled,
        zipfile.ZipFile(folder / "z.zip", "w") as archive,
    ):
        spooled.write(file.read_bytes())
        spooled.seek(0)
        archive.write(file, "a9.npy")
        for item in (opened, io.BytesIO(file.read_bytes()), spooled):
            assert torch.equal(p.batch(item), expected) and torch.equal(p.batch([item]), expected)  # twice: it is rewound
        assert title_of(opened) == "a9.npy" and title_of(io.BytesIO()) == ""
    with zipfile.ZipFile(folder / "z.zip") as archive, archive.open("a9.npy") as member:
        assert torch.equal(p.batch(member), expected)
    photo = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(photo, "PNG")
    photo.seek(0)
    assert Preprocess()(photo)[:3, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (None, ArgumentTypeError, "an iterable of these; got NoneType. This classifier takes pictures of 1 channel, (1, "),
        (b"data", ArgumentTypeError, "got bytes (the bytes of a file? Then give io.BytesIO(data))."),
        ({1, 2}, ArgumentTypeError, "got set, which has no order: give a list."),
        ({"a": 1}, ArgumentTypeError, "got dict."),
        ([], InputError, "images is empty: give at least one picture."),
        (iter(()), InputError, "images is empty"),
        (np.zeros((0, 1, 4, 4)), InputError, "images is empty"),
        ([[np.zeros((4, 4))]], ArgumentTypeError, "images[0] must be a path, a PIL image, a numpy array"),
        ([0.5, 0.25], ArgumentTypeError, "a tensor, a Scan or an open binary file; got float."),
        (io.StringIO("text"), ArgumentTypeError, "is a text file for Python: open it with mode 'rb'."),
        (io.BytesIO(b""), InputError, "image is empty (0 bytes)"),
        (io.BytesIO(b"\x93NUMPY\x01"), InputError, "image is no .npy file that can be read"),
        (io.BytesIO(bytes(128) + b"DICM" + bytes(9)), InputError, "image"),
        (io.BytesIO(b"%PDF"), InputError, "image is no picture that can be read: it contains a PDF document"),
    ],
)  # fmt: skip
def test_what_is_refused(images: Any, error: type[BcosError], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        Preprocess(raw_channels=1).batch(images)
    assert "/tmp" not in str(caught.value)


def test_a_file_that_stands_at_its_end() -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"stands at its end, where nothing can be read: use file\.seek\(0\)"):
        Preprocess(raw_channels=1)(stream)


def test_arrays_of_other_libraries() -> None:
    """Of h5py, say: one input is read whole, a batch part by part."""

    class Stored:
        def __init__(self, array: np.ndarray) -> None:
            self.array, self.ndim, self.read_whole = array, array.ndim, 0

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            self.read_whole += 1
            return self.array

        def __iter__(self) -> Iterator[np.ndarray]:
            return iter(self.array)

    p, array = Preprocess(raw_channels=2, axes=1), np.random.default_rng(0).random((3, 2, 9))
    several = Stored(array)
    assert torch.equal(p.batch(several), p.batch(array)) and several.read_whole == 0
    for one in (Stored(array[0]), [Stored(array[0])]):
        assert torch.equal(p.batch(one), p.batch(array[:1]))


def test_scans_are_single() -> None:
    scan = Scan(pixels=torch.rand(1, 4, 5))
    assert names(scan, GREY) == ["image"] and names([scan, scan], GREY) == ["images[0]", "images[1]"]


def test_a_series_whose_folder_says_little_is_called_by_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cube/00", "sphere/00", "cube/x", "cube/1234567", "cube/patient 7"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "cube" / "1").touch()
    found = [title_of(tmp_path / name) for name in ("cube/00", "sphere/00", "cube/x", "cube/1234567", "cube/patient 7", "cube/1")]
    assert found == ["cube/00", "sphere/00", "cube/x", "cube/1234567", "patient 7", "1"]
    monkeypatch.chdir(tmp_path / "cube")
    assert title_of("00") == title_of("./00/") == title_of(Path("../cube/00")) == "cube/00" and title_of("/") == "/"
