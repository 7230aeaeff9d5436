"""CIFAR-10 in its forms."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.make import picture
from torchbcos._core.errors import InputError
from torchbcos.data.sources import open_labelled


def test_cifar10_binary_and_jpeg(tmp_path: Path) -> None:
    records = np.zeros((20, 3073), np.uint8)
    records[:, 0] = np.arange(20) % 10
    records[:, 1:1025] = 7  # red comes first
    for i in range(1, 6):
        records.tofile(tmp_path / f"data_batch_{i}.bin")
    records[:10].tofile(tmp_path / "test_batch.bin")
    found = open_labelled(tmp_path)
    assert (found.kind, len(found.train), found.classes[1]) == ("cifar10", 100, "automobile")
    assert found.report is not None and len(found.report) == 10
    assert found.train.read(5).getpixel((3, 3)) == (7, 0, 0)
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(InputError, match=r"CIFAR-10 in .* cannot be read"):
        open_labelled(tmp_path)


def binary(place: Path, label: int = 3, tail: bytes = b"") -> Path:
    records = np.zeros((4, 3073), np.uint8)
    for i in range(1, 6):
        records.tofile(place / f"data_batch_{i}.bin")
    records[2, 0] = label
    (place / "test_batch.bin").write_bytes(records.tobytes() + tail)
    return place


def packed(place: Path, **changes: object) -> Path:
    file = io.BytesIO()
    picture(7, 32).save(file, "JPEG")
    arrays: dict[str, object] = {
        "header": np.frombuffer(b"", np.uint8), "data": np.frombuffer(file.getvalue(), np.uint8),
        "offsets": np.array([0, len(file.getvalue())], np.uint32), "labels": np.array([1], np.uint8),
    }  # fmt: skip
    np.savez(place / "train.npz", **arrays)  # type: ignore[arg-type]
    np.savez(place / "test.npz", **(arrays | changes))  # type: ignore[arg-type]
    return place


def test_labels_and_sizes_are_looked_at_first(tmp_path: Path) -> None:
    """A label of 255 opened, and training ended in a traceback."""
    with pytest.raises(
        InputError, match="cannot be read: picture 2 of the test part has the label 255, and there are 10 classes"
    ):
        open_labelled(binary(tmp_path, 255))
    with pytest.raises(
        InputError, match=r"cannot be read: test_batch\.bin has 12,296 bytes, and records have 3,073 each: it is trun"
    ):
        open_labelled(binary(tmp_path, tail=b"1234"))
    (tmp_path / "data_batch_3.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"data_batch_3\.bin' is a pointer of Git LFS"):
        open_labelled(tmp_path)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(InputError, match=r"CIFAR-10 in .* cannot be read: No such file"):
        open_labelled(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([255])}, "picture 0 of the test part has the label 255"),
        ({"labels": np.array([-1])}, "has the label -1"),
        ({"labels": np.array([1.5])}, "do not belong together"),
        ({"labels": np.array([1, 2])}, "do not belong together"),
        ({"offsets": np.array([0, 2**31], np.uint32)}, "lead out of its data"),
        ({"offsets": np.array([10, 0], np.uint32)}, "lead out of its data"),
        ({"labels": np.array(1)}, "do not belong together"),
        ({"offsets": np.array([0.0, 9.5])}, "do not belong together"),
        ({"data": np.array([{}], dtype=object)}, "it holds Python objects"),
    ],
)
def test_packed_arrays_that_do_not_fit(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    assert open_labelled(packed(tmp_path)).train.read(0).size == (32, 32)
    with pytest.raises(InputError, match=message):
        open_labelled(packed(tmp_path, **changes))


def test_packed_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(tmp_path)
    for content, message in (
        (b"no zip", "archive that can be read: File is not a zip file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    ):
        (tmp_path / "test.npz").write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_labelled(tmp_path)
    with zipfile.ZipFile(tmp_path / "test.npz", "w", zipfile.ZIP_DEFLATED) as bomb, bomb.open("data.npy", "w") as member:
        member.write(bytes(2**21))
    monkeypatch.setattr("torchbcos.data.cifar10._MOST_BYTES", 2**20)
    with pytest.raises(InputError, match="would unpack to more than 1,048,576 bytes"):
        open_labelled(tmp_path)


def test_a_header_that_lies_costs_no_memory(tmp_path: Path) -> None:
    packed(tmp_path)
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (8000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "test.npz", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("data.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(InputError, match=r"'data' in '.*test\.npz' has 8,000,000,000,000 numbers, more than"):
        open_labelled(tmp_path)
