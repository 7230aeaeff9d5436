"""Arrays in files: whatever their bytes are, they are read, or refused in one sentence before memory is taken."""

from __future__ import annotations

import io
import os
import random
import re
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.errors import BcosError, InputError, MissingFileError
from torchbcos.pictures import npy
from torchbcos.pictures.npy import read_array, read_npz

MUTATIONS = int(os.environ.get("TORCHBCOS_MUTATIONS", "400"))


def saved(array: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def headed(shape: str, descr: str = "'<f4'", body: bytes = b"", order: str = "False") -> bytes:
    """A file whose header says what it likes."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    text = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def archive(**arrays: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in arrays.items():
            file.writestr(f"{name}.npy", data)
    return stream.getvalue()


# -- what is read --------------------------------------------------------------------------------


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    kind=st.sampled_from(["<f4", ">f4", "<f8", ">f8", "<f2", ">f2", "|u1", "|b1", "<u2", ">u2", "<i4", ">i8"]),
    order=st.sampled_from("CF"), version=st.sampled_from([(1, 0), (2, 0)]), seed=st.integers(0, 9),
)  # fmt: skip
def test_every_order_and_kind_of_number_is_read(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], kind: str, order: str, version: tuple[int, int], seed: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "drawn.npy"
    draw = np.random.default_rng(seed)
    array = (draw.random(shape) if kind[1] == "f" else draw.integers(0, 256 if kind == "|u1" else 2, shape)).astype(kind)
    file.write_bytes(saved(np.asarray(array, order=order), version=version))
    numbers = read_array(file)
    expected = array.astype(np.float64) / (255 if kind == "|u1" else 1)
    assert tuple(numbers.shape) == (tuple(shape) if len(shape) > 1 else (1, *shape))
    assert np.abs(numbers.numpy().reshape(shape) - expected).max() < 1e-6
    within = read_array(file, value_range=(-1, 3)).numpy().reshape(shape)
    assert np.abs(within - (np.clip(array.astype(np.float64), -1, 3) + 1) / 4).max() < 1e-6


def test_resampled_numbers_are_cut_to_the_range(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[-0.0005, 0.5, 1.0005]]))
    assert read_array(tmp_path / "a.npy").tolist() == [[0, 0.5, 1]]
    np.save(tmp_path / "a.npy", np.array([[0, 1.002]]))
    with pytest.raises(
        InputError, match=r"a\.npy' holds numbers from 0 to 1\.002: bring them to \[0, 1\], all files by the same"
    ):
        read_array(tmp_path / "a.npy")


# -- what is refused -----------------------------------------------------------------------------

WRONG: dict[str, tuple[bytes, str]] = {
    "8 TB": (headed("(1000000, 1000000, 2)"), "has 2,000,000,000,000 numbers, more than the 268,435,456 that are read."),
    "10^30": (headed(f"({10**30},)"), "has 1,000,000,000,000,00…000,000,000,000,000 numbers, more than"),
    "10^300": (headed(f"({10**300}, 2)"), "numbers, more than the"),
    "a gigabyte that is not there": (
        headed("(1, 200000000)", body=b"\0" * 40),
        "ends early: its header says 200,000,000 numbers",
    ),
    "an archive": (
        archive(a=saved(np.zeros(3))),
        "is an .npz archive under another name: save each of its arrays with numpy.save.",
    ),
    "objects": (saved(np.array([{}], object), allow_pickle=True), "it holds Python objects, which would have to be unpickled"),
    "objects in a structure": (headed("(1,)", "[('a', '|O')]", b"\0" * 8), "it holds Python objects, which would have"),
    "a structure": (saved(np.zeros(3, [("a", "<f4"), ("b", "<i2")])), "it holds a structure of several fields"),
    "a structure with names": (saved(np.zeros(3, [("Ж", "<f4")]), version=(3, 0)), "is of version 3.0 of the format"),
    "arrays in an array": (headed("(2,)", "('<f4', (3,))", b"\0" * 24), "it holds a structure"),
    "complex": (saved(np.zeros(3, complex)), "it holds complex numbers"),
    "text": (saved(np.array(["x"])), "it holds text"),
    "a terabyte of text": (headed("(1,)", "'<U250000000000'"), "is no .npy file that can be read"),
    "dates": (saved(np.array(["2020-01-01"], "M8[D]")), "it holds dates"),
    "nothing": (saved(np.zeros((3, 0))), "contains float64 of shape (3, 0); supported: numbers of shape (C, *S)."),
    "one number": (saved(np.array(0.5)), "contains float64 of shape (); supported"),
    "five axes": (saved(np.zeros((1,) * 5)), "contains float64 of shape (1, 1, 1, 1, 1)"),
    "a negative length": (headed("(-1, -4)", body=b"\0" * 16), "has a negative length in its shape (-1, -4)."),
    "a boolean length": (headed("(True, 2.5)", body=b"\0" * 16), "is no .npy file that can be read"),
    "cut": (saved(np.zeros((3, 4)))[:-5], "ends early: its header says 12 numbers, 5 bytes are missing. Copy it again."),
    "two arrays": (saved(np.zeros(3)) + saved(np.zeros(3)), "bytes after its array: save one array in a file."),
    "an empty file": (b"", "is no .npy file that can be read"),
    "half a header": (headed("(3,)")[:40], "is no .npy file that can be read"),
    "another version": (
        b"\x93NUMPY\x07\x00" + b"\0" * 90,
        "is of version 7.0 of the format; supported: 1.0 and 2.0. Save it anew.",
    ),
    "another file": (b"GIF89a" + b"\0" * 90, "is no .npy file that can be read"),
    "code": (headed("(__import__('os').system('touch npy-ran'),)"), "is no .npy file that can be read"),
    "a header of brackets": (headed("(" * 1900), "is no .npy file that can be read"),
    "a header of minus signs": (headed("-" * 9000 + "1"), "has a header of 9,078 bytes, more than the 2,000 of any array"),
    "a header of many megabytes": (
        b"\x93NUMPY\x02\x00" + (30_000_000).to_bytes(4, "little") + b" " * 30_000_000,
        "has a header of 30,000,000 bytes, more than the 2,000 of any array: copy it again.",
    ),
    "NaN": (saved(np.array([0.5, np.nan])), "holds NaN or infinity."),
    "infinity": (saved(np.array([0.5, np.inf])), "holds NaN or infinity."),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_array_of_numbers_is_refused_before_it_costs_memory(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, text = WRONG[what]
    monkeypatch.chdir(tmp_path)
    Path("a.npy").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        read_array("a.npy", value_range=(0, 1) if what in ("NaN", "infinity") else None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith("'a.npy' ") and len(message) <= 500 and "\n" not in message
    assert peak < 5_000_000 and os.listdir() == ["a.npy"]


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"a\.npy' does not exist"):
        read_array(tmp_path / "a.npy")
    with pytest.raises(InputError, match="is no regular file"):
        read_array(tmp_path)
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InputError, match="is no regular file: copy the array into a file first"):
        read_array(tmp_path / "pipe.npy")


@pytest.mark.parametrize(
    "error",
    [OSError, ValueError, EOFError, OverflowError, MemoryError, AttributeError, RecursionError, SyntaxError, TypeError, KeyError,
     UserWarning],
)  # fmt: skip
def test_whatever_numpy_raises_is_one_sentence(tmp_path: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", a=np.zeros(3))

    def fail(*_: object, **__: object) -> None:
        raise error("two\nlines")

    monkeypatch.setattr(npy.npy, "read_array", fail)
    text = "does not fit into memory" if error is MemoryError else "that can be read: .?two"
    for read in (lambda: read_array(tmp_path / "a.npy"), lambda: read_npz(tmp_path / "a.npz", ["a"])):
        with pytest.raises(InputError, match=text):
            read()


def test_archives(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, a=np.arange(3), b=np.ones((2, 2)), c=np.array([{}], object))
    assert {key: value.tolist() for key, value in read_npz(file, ["a", "b"]).items()} == {"a": [0, 1, 2], "b": [[1, 1], [1, 1]]}
    for wanted, text in ((["c"], "holds Python objects"), (["d"], "holds no array 'd'; it should hold d.")):
        with pytest.raises(InputError, match=text):
            read_npz(file, wanted)
    for data, text in (
        (headed("(1000000, 1000000)"), "numbers, more than the"),
        (headed("(100, 100)"), "ends early"),
        (b"", "is no .npz archive that can be read"),
    ):
        file.write_bytes(archive(a=data))
        with pytest.raises(InputError, match=text):
            read_npz(file, ["a"])
    file.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match=r"a\.npz' is no \.npz archive that can be read"):
        read_npz(file, ["a"])
    with pytest.raises(MissingFileError):
        read_npz(tmp_path / "b.npz", ["a"])


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(archive(a=saved(np.zeros(100_000))))
    assert (tmp_path / "a.npz").stat().st_size < 5000
    with pytest.raises(InputError, match="would unpack to more than 100,000 bytes: it has 800,128"):
        read_npz(tmp_path / "a.npz", ["a"], most=100_000)


# -- mutated files -------------------------------------------------------------------------------


def mutate(content: bytes, draw: random.Random) -> bytes:
    raw = bytearray(content)
    at = draw.randrange(min(len(raw), draw.choice([12, 128, len(raw)])))
    how = draw.randrange(5)
    if how == 0:
        raw[at] ^= 1 << draw.randrange(8)
    elif how == 1:
        del raw[at : at + draw.choice([1, 4, 10_000])]
    elif how == 2:
        raw[at:at] = draw.choice([draw.randbytes(7), b"9" * 30, b"(", b"\0" * 300, b"'|O'", b"-"])
    elif how == 3:
        raw[at : at + 4] = draw.choice([b"\xff" * 4, b"9999", b"\0" * 4])
    else:
        start = raw.find(b"'shape': (")
        if start >= 0:
            raw[start + 10 : start + 11] = str(draw.choice([0, -3, 2**31, 2**63, 10**20, 1.5, True])).encode()
    return bytes(raw)


def test_mutated_arrays_are_read_or_refused(tmp_path: Path) -> None:
    draw = random.Random(13)
    seeds = [saved(np.random.default_rng(0).random((2, 5, 4)).astype(kind)) for kind in ("<f4", ">f8", "|u1", "<f2")]
    seeds += [saved(np.asfortranarray(np.ones((3, 4, 5), np.uint8))), archive(a=seeds[0], b=seeds[2])]
    path, counts = tmp_path / "a.npy", {"read": 0, "refused": 0}
    began = time.perf_counter()
    for i in range(MUTATIONS):
        path.write_bytes(mutate(seeds[i % len(seeds)], draw))
        for read in (lambda: read_array(path), lambda: read_npz(path, ["a", "b"])):
            try:
                read()
                counts["read"] += 1
            except BcosError as error:
                counts["refused"] += 1
                assert "a.npy'" in str(error) and len(str(error)) <= 500 and "\n" not in str(error)
    print(counts)
    assert time.perf_counter() - began < 20 + MUTATIONS / 50
    assert os.listdir(tmp_path) == ["a.npy"] and min(counts.values()) > 0
