from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchbcos._core.errors import ArgumentTypeError, InputError, MissingFileError, StateError
from torchbcos.rendering import save_image, save_png, to_uint8

picture = np.random.default_rng(0).random((5, 7, 4), dtype=np.float32)


def test_rounding_and_cutting() -> None:
    assert to_uint8(np.array([[[-1.0, 0.5, 2.0]]])).tolist() == [[[0, 128, 255]]]
    same = np.ones((2, 2, 3), np.uint8)
    assert to_uint8(same) is same


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (np.ones((4, 4)), InputError, r"must be \(H, W, 3\) or \(H, W, 4\) with pixels, got \(4, 4\)"),
        (np.ones((0, 4, 3)), InputError, r"got \(0, 4, 3\)"),
        (np.ones((4, 4, 3), np.int64), InputError, "float in .* or uint8, got int64"),
        (np.full((1, 1, 3), np.nan), InputError, "picture holds NaN"),
        ([1], ArgumentTypeError, "numpy array or a PIL image, got list"),
    ],
)
def test_uint8_errors(value: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        to_uint8(value)


def test_png_keeps_every_byte(tmp_path: Path) -> None:
    assert save_image(picture, tmp_path / "a.png") == tmp_path / "a.png"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), to_uint8(picture))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "P"])
def test_every_format_takes_every_picture(tmp_path: Path, name: str, mode: str) -> None:
    save_image(picture, str(tmp_path / name))
    save_image(picture[..., :3], tmp_path / name)
    save_image(Image.fromarray(to_uint8(picture)).convert(mode), tmp_path / name)
    with Image.open(tmp_path / name) as saved:
        saved.load()
        assert saved.size == (7, 5)
    assert os.listdir(tmp_path) == [name]


def test_jpeg_is_composed_over_white(tmp_path: Path) -> None:
    clear = np.zeros((8, 8, 4), np.float32)
    for source in (clear, Image.fromarray(to_uint8(clear))):
        save_image(source, tmp_path / "a.jpg")
        assert np.asarray(Image.open(tmp_path / "a.jpg")).min() >= 254


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_image(picture, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["a.bmp", "a", "png"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"must end with one of \.png, \.jpg, \.jpeg, \.webp"):
        save_image(picture, tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"The folder .*nowhere' does not exist"):
        save_image(picture, tmp_path / "nowhere" / "a.png")


@pytest.mark.parametrize("stage", ["write", "replace"])
def test_a_failed_save_leaves_nothing_and_the_old_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def half_written(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    def refused(source: object, target: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    if stage == "write":
        monkeypatch.setattr(Path, "write_bytes", half_written)
    else:
        monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(StateError, match=r"Could not write '.*a\.png': (No space left|Permission denied)"):
        save_image(picture, target)
    assert os.listdir(tmp_path) == ["a.png"] and target.read_bytes() == b"old"


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_image(picture, tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(StateError, match=r"Could not write '.*a\.png'"):
        save_image(picture, tmp_path / "a.png")
    assert os.listdir(tmp_path) == ["a.png"]


def test_too_large_for_the_format(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"cannot write a 70000x1 picture as WEBP .*PNG holds any picture"):
        save_image(np.zeros((1, 70000, 3)), tmp_path / "a.webp")
    assert os.listdir(tmp_path) == []


def test_the_first_name_still_works() -> None:
    assert save_png is save_image
