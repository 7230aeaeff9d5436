"""Files of weights: read as torch and safetensors read them, or refused by name before anything is allocated."""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import torchbcos
from torchbcos._core.errors import MissingFileError, WeightsError
from torchbcos.zoo.archive import open_weights

WIDE = torch.arange(24.0).reshape(4, 6)
STATE = {
    "wide": WIDE, "turned": WIDE.t(), "part": WIDE[1:3, 2:5], "again": WIDE, "half": WIDE.half(), "brain": WIDE.bfloat16(),
    "double": WIDE.double(), "count": torch.tensor(3), "none": torch.empty(0, 3), "one": torch.tensor(2.5),
    "bytes": torch.arange(5, dtype=torch.uint8),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("nested", [False, True])
def test_what_torch_saves_is_read(zipped: bool, protocol: int, nested: bool, tmp_path: Path) -> None:
    state: Any = collections.OrderedDict(STATE, parameter=torch.nn.Parameter(WIDE.clone()))
    saved = {"optimizer": {0: torch.rand(3)}, "state_dict": state} if nested else state
    torch.save(saved, tmp_path / "w.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    file = open_weights(tmp_path / "w.pth")
    found = file.read()
    assert list(found) == list(state) == list(file.entries)
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor.detach())
        assert file.entries[name].shape == tuple(tensor.shape)


def quantised() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.eye(3).to_sparse(), "sparse"),
        (lambda: torch.eye(3).to_sparse_csr(), "sparse"),
        (quantised, "quantised"),
        (lambda: torch.ones(3, dtype=torch.complex64), "complex64"),
        (lambda: torch.ones(3).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda: torch.ones(3).to(torch.uint16), "uint16"),
        (lambda: torch.ones(1).expand(10**9), "expanded from fewer numbers"),
        (lambda: torch.ones(3, device="meta"), "meta, without numbers"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
    ],
)
def test_other_tensors_are_refused_by_name(zipped: bool, make: Callable[[], Any], kind: str, tmp_path: Path) -> None:
    torch.save({"good": torch.ones(2), "bad": make()}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=f"w.pth: the tensor 'bad' is {kind}"):
        open_weights(tmp_path / "w.pth").read()


def deflated(member: str) -> bytes:
    """A file of torch.save with one member compressed: 40 MB in 40 kB."""
    saved, packed = io.BytesIO(), io.BytesIO()
    torch.save({"w": torch.zeros(10_000_000)}, saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(packed, "w") as new:
        for info in old.infolist():
            method = zipfile.ZIP_DEFLATED if info.filename.endswith(member) else zipfile.ZIP_STORED
            new.writestr(info.filename, old.read(info) if member in info.filename else b"", compress_type=method)
    return packed.getvalue()


def zipped(*members: tuple[str, bytes], comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = comment
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def overlapping() -> bytes:
    """Two members that both say that they are the whole of one stretch of bytes."""
    content = bytearray(zipped(("a/data.pkl", b"\x80\x02}."), ("a/data/0", bytes(1 << 16))))
    first = content.find(b"PK\x01\x02")
    second = content.find(b"PK\x01\x02", first + 4)
    content[first + 20 : first + 28] = content[second + 20 : second + 28]  # its sizes
    return bytes(content)


def script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("w.pth", lambda: deflated("data/0"), r"is compressed \('archive/data/0'\)"),
        ("w.pth", lambda: deflated("data.pkl"), r"is compressed \('archive/data.pkl'\)"),
        ("w.pth", overlapping, "damaged|more bytes than it has"),
        ("w.pth", lambda: zipped(("a/data.pkl", bytes(17 << 20))), "more than the 16,777,216 that are read"),
        ("w.pth", lambda: zipped(("a/data.pkl", b"\x80\x02}."), ("a/data.pkl", b"")), "two members of one name"),
        ("w.pth", lambda: zipped(("a/data.pkl", b"\x80\x02}."), ("a/byteorder", b"big")), "big-endian"),
        ("w.pth", script, "is a TorchScript archive: a program, not weights"),
        ("w.pth", lambda: zipped(("m/archive_format", b"pt2")), r"is an exported program \(\.pt2\), not weights"),
        ("w.pth", npz, "is a zip file, but not one that torch.save wrote"),
        ("w.pth", tar, "is a tar file of torch's first versions"),
        ("w.pth", lambda: POINTER, "is only a pointer of Git LFS.*git lfs pull"),
        ("w.safetensors", lambda: POINTER, "is only a pointer of Git LFS"),
        ("w.pth", lambda: b"\x80\x02}.", "is truncated or damaged"),
        ("w.pth", lambda: b"words", "damaged or no weights file"),
        ("w.safetensors", lambda: struct.pack("<Q", 1 << 40) + b"{}", "is truncated or damaged"),
        ("w.safetensors", lambda: struct.pack("<Q", 17 << 20) + bytes(18 << 20), "has a header of 17,825,792 bytes"),
        ("w.safetensors", lambda: struct.pack("<Q", 4) + b"null", "is truncated or damaged"),
    ],
)  # fmt: skip
def test_other_files_are_named(name: str, content: Callable[[], bytes], text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content())
    tracemalloc.start()
    with pytest.raises(WeightsError, match=text) as caught:
        open_weights(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 3 * (1 << 20)
    tracemalloc.stop()
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


def test_a_list_of_members_that_never_ends_is_not_read(tmp_path: Path) -> None:
    """A directory of 200,000 members: Python's zipfile would make an object of each."""
    with (tmp_path / "w.pth").open("wb") as file:
        file.write(b"PK\x03\x04" + bytes(26))
        entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
        file.write(entry * 200_000)
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entry) * 200_000, 30, 0))
    begun = time.perf_counter()
    with pytest.raises(WeightsError, match="lists more members than any file of weights has"):
        open_weights(tmp_path / "w.pth")
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize("head", [b"\x80\x02c", b"\x80\x02X\xff\xff\xff\x7f", b"PK\x03\x04"], ids=["line", "text", "zip"])
def test_a_file_of_gigabytes_that_holds_nothing_is_refused_at_once(head: bytes, tmp_path: Path) -> None:
    with (tmp_path / "w.pth").open("wb") as file:
        file.write(head)
        file.truncate(3 << 30)  # a hole, which takes no room
    begun = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"w\.pth is truncated or damaged"):
        open_weights(tmp_path / "w.pth")
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert time.perf_counter() - begun < 5


def header(values: Any, content: bytes = bytes(24)) -> bytes:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + content


def one(dtype: str = "F32", shape: Any = (2, 3), offsets: Any = (0, 24)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    "content",
    [
        header(one(offsets=(0, 48))), header(one(offsets=(-24, 0))), header(one(shape=(10**9, 10**9))),
        header(one(offsets=(4, 28))),
        header(one(shape=(2, -3))), header(one(shape=7)), header({"a": 5}), header([]), header(one("F33")),
        header(b"{%b, %b}" % ((b'"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}',) * 2)),
        header({**one(), "b": one()["a"]}), header(b"[" * 1000), header(b"\xff\xfe{}"), header({**one(), "__metadata__": 5}),
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"^w\.safetensors") as caught:
        open_weights(tmp_path / "w.safetensors").read()
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.uint16], ids=str)
def test_other_dtypes_in_safetensors(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2).to(dtype)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="the tensor 'a' is "):
        open_weights(tmp_path / "w.safetensors").read()


def test_no_file_can_have_such_a_name(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b", str(tmp_path), ""):
        with pytest.raises(MissingFileError, match="There is no weights file"):
            open_weights(Path(name))


class Mutant:
    """Draws damaged files: of torch.save as they are, their program alone in a sound zip, and those before torch 1.6."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        state = {"a": torch.rand(3, 4), "b": torch.rand(5).half(), "c": torch.tensor(4)}
        new, old = io.BytesIO(), io.BytesIO()
        torch.save(state, new)
        torch.save(state, old, _use_new_zipfile_serialization=False)
        with zipfile.ZipFile(new) as archive:
            self.members = {info.filename: archive.read(info) for info in archive.infolist()}
        self.wholes = new.getvalue(), old.getvalue()

    def draw(self) -> bytes:
        whole = self.random.choice([*self.wholes, None])
        if whole is not None:
            return self.damage(whole)
        return zipped(*((name, self.damage(part) if "pkl" in name else part) for name, part in self.members.items()))

    def damage(self, content: bytes) -> bytes:
        data, draw = bytearray(content), self.random
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(len(data))
            how = draw.random()
            if how < 0.6:
                data[place] = draw.randrange(256)
            elif how < 0.75:
                del data[place : place + draw.randint(1, 8)]
            elif how < 0.9:
                data[place:place] = draw.randbytes(draw.randint(1, 9))
            else:
                data[place : place + 4] = draw.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)])
        return bytes(data[: draw.randrange(1, len(data) + 1)] if draw.random() < 0.1 else data) or b"x"


def test_mutated_files_of_torch_crash_nothing(tmp_path: Path) -> None:
    mutant, path = Mutant(0), tmp_path / "m.pth"
    read = refused = 0
    for _ in range(int(os.environ.get("TORCHBCOS_MUTATIONS", "200"))):
        path.write_bytes(mutant.draw())
        try:
            for tensor in open_weights(path).read().values():
                tensor.double().sum()  # every number is there
            read += 1
        except torchbcos.BcosError as error:
            assert len(str(error)) <= 500
            refused += 1
    assert read and refused


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in state.items()}},
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"model_state_dict": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {name: value.float() for name, value in state.items()},
        lambda state: {name: value.double() for name, value in state.items()},
    ],
    ids=["parallel", "compiled", "averaged", "model", "model_state_dict", "floats", "doubles"],
)
def test_state_dicts_as_others_write_them_are_loaded(change: Callable[[Any], Any], zipped: bool, tmp_path: Path) -> None:
    sound = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    state = {name: value + 5 if name.endswith("num_batches_tracked") else value for name, value in sound.state_dict().items()}
    torch.save(change(state), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    loaded = torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "w.pth", num_classes=3).state_dict()
    assert {name: value.dtype for name, value in loaded.items()} == {name: value.dtype for name, value in state.items()}
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize("count", [0.5, float("nan"), float("inf"), 1e300, -1e300])
def test_a_count_that_is_not_whole_is_refused(count: float, tmp_path: Path) -> None:
    state = torchbcos.create_model("cifar10_resnet20", num_classes=3).state_dict()
    torch.save({**state, "bn1.num_batches_tracked": torch.tensor(count, dtype=torch.float64)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"'bn1\.num_batches_tracked' counts, and holds a number that is not whole"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "w.pth", num_classes=3)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in open_weights(tmp_path / "w.pth").read().items())


def test_a_storage_whose_name_is_a_nest_is_refused(tmp_path: Path) -> None:
    """In the format before torch 1.6: to look for such a name takes ten times as long for each level."""
    nest = b"(" * 30 + b")q\x00" + b"".join((b"h" + bytes([i])) * 9 + b"tq" + bytes([i + 1]) for i in range(30))
    head = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}):
        pickle.dump(value, head, protocol=2)
    (tmp_path / "w.pth").write_bytes(head.getvalue() + b"\x80\x02(" + nest + b"l." + struct.pack("<q", 0))
    with pytest.raises(WeightsError, match="truncated or damaged"):
        open_weights(tmp_path / "w.pth")
