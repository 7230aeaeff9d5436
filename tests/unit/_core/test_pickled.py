"""Pickles of strangers: followed as far as they describe tensors, never run."""

from __future__ import annotations

import collections
import io
import os
import pathlib
import pickle
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fuzz.bombs import BOMBS, bombs
from torchbcos._core import pickled
from torchbcos._core.pickled import Entry, ForeignObject, Storage, follow, tensors_in


def program_of(value: Any, **options: Any) -> bytes:
    """The pickle that `torch.save` writes for a value."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return zipfile.ZipFile(buffer).read("archive/data.pkl")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_saves_is_followed(protocol: int) -> None:
    wide = torch.arange(24.0).reshape(4, 6)
    state = collections.OrderedDict(a=wide, b=wide[1:3, 2:5], c=torch.nn.Parameter(torch.ones(2).half()), n=torch.tensor(3))
    rest = {"epoch": 3, "lr": (0.1, 10**12, None, True), "state": {0: [b"x", "é"]}, "dtype": torch.float32,
            "device": torch.device("cpu"), "size": torch.Size([1, 2])}  # fmt: skip
    found = tensors_in(follow(program_of({"state_dict": state, **rest}, pickle_protocol=protocol)))
    assert found is not None
    assert {name: (entry.kind, entry.shape) for name, entry in found.items()} == {
        "a": ("float32", (4, 6)), "b": ("float32", (2, 3)), "c": ("float16", (2,)), "n": ("int64", ()),
    }  # fmt: skip
    assert found["b"].storage == found["a"].storage == Storage("float32", "0", 24)
    assert (found["b"].offset, found["b"].strides) == (8, (6, 1))
    assert tensors_in(follow(program_of([wide]))) is tensors_in(follow(program_of({"a": 1}))) is None


class Runs:
    """A pickle of it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, print, bytearray, torch.load, __import__, getattr])
def test_nothing_that_is_named_is_called(function: Any, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    payload = pickle.dumps({"a": Runs(function, f"touch {mark}")}, protocol=protocol)
    with pytest.raises(ForeignObject):
        follow(payload)
    assert not mark.exists()


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%btQ"
HOSTILE = {
    "a key that takes the interpreter with it": b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.",
    "more than 500,000 steps": b"\x80\x02" + b"NN" * 300_000 + b"N.",
    "a set inside a set as key": b"\x80\x04}(\x91K\x01s.",
    "no mark": b"\x80\x02K\x01K\x02u.",
    "nothing to pop": b"\x80\x02R.",
    "two results": b"\x80\x02K\x01K\x02.",
    "a text of 2**62 bytes": b"\x80\x04\x8d" + (1 << 62).to_bytes(8, "little") + b"x.",
    "bytes of 2**62 bytes": b"\x80\x05\x96" + (1 << 62).to_bytes(8, "little") + b"x.",
    "an extension": b"\x80\x02\x82\x01.",
    "attributes of nothing": b"\x80\x02b.",
    "a storage that is no storage": b"\x80\x02(X\x01\x00\x00\x00xNNNNtQ.",
    "a storage of a class that is none": b"\x80\x02" + STORAGE.replace(b"FloatStorage", b"float32") % b"K\x04" + b".",
    "a storage with a negative size": b"\x80\x02" + STORAGE % b"J\xff\xff\xff\xff" + b".",
    "a storage larger than any": b"\x80\x02" + STORAGE % b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f" + b".",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_hostile_programs_end_in_an_error(name: str) -> None:
    with pytest.raises((ForeignObject, ValueError, LookupError, TypeError, EOFError)):
        follow(HOSTILE[name])


def test_a_memory_of_two_billion_places_takes_none() -> None:
    """Python's own unpickler asks for 16 GB."""
    tracemalloc.start()
    assert follow(b"\x80\x02]r\xff\xff\xff\x7f.") == []
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def cost(program: bytes) -> tuple[float, int]:
    """Seconds and bytes that a program takes, beside its own; what it comes to is thrown away."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        tensors_in(follow(program))
    except (ForeignObject, ValueError, LookupError, TypeError, EOFError):
        pass
    finally:
        seconds, most = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return seconds, most - 2 * len(program)


@pytest.mark.parametrize("name", BOMBS)
def test_programs_that_grow_beyond_any_memory_do_not(name: str) -> None:
    seconds, most = cost(BOMBS[name])
    assert seconds < 5 and most < 32 << 20


def test_without_their_price_copies_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "_MOST_STEPS", 1 << 62)
    assert cost(bombs(3000)["sets of one tuple"])[1] > 32 << 20


def test_what_sound_checkpoints_name_is_made() -> None:
    value = {
        "device": torch.device("cpu", 1), "other": torch.device("meta"), "size": torch.Size([2, 3]), "set": {1, 2, 3}, 7: None,
        "order": collections.OrderedDict([("a", 1), (2**47, 2)]), "count": collections.Counter("aab"), "empty": torch.Size([]),
    }  # fmt: skip
    found = follow(pickle.dumps(value, 2))
    assert found == {
        "device": "cpu:1", "other": "meta", "size": (2, 3), "set": [1, 2, 3], 7: None, "order": {"a": 1, 2**47: 2},
        "count": {"a": 2, "b": 1}, "empty": (),
    }  # fmt: skip


def test_the_table_of_tensors_in_a_checkpoint() -> None:
    one, other = {"a": Entry("float32")}, {"a": Entry("float32", (2,))}
    for name in ("state_dict", "model_state_dict", "model"):
        assert tensors_in({name: one, "epoch": 3, "optimizer": {"state": {0: one}}, "scaler": {}}) == one
    assert tensors_in({"state_dict": one, "average": other}) == one
    assert tensors_in({"model": one, "average": other}) is tensors_in({"model": {"a": 1}, "average": one}) is None
    assert tensors_in({"model_state_dict": one, "model": other}) is tensors_in({"weights": one}) is None
    assert tensors_in({"model": one["a"]}) == {"model": one["a"]}  # a tensor of this name


def tensor(count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The program of a tensor in a storage of `count` numbers, as torch writes it, or as nobody should."""

    def numbers(*values: int) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + value.to_bytes(8, "little", signed=True) for value in values) + b"t"

    size = b"\x8a\x08" + count.to_bytes(8, "little")
    return (b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + STORAGE % size + numbers(offset)[1:-1]
            + numbers(*shape) + numbers(*strides) + b"\x89NtRs.")  # fmt: skip


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides"),
    [
        (6, 0, (7,), (1,)), (6, 1, (2, 3), (3, 1)), (6, 0, (2, 3), (4, 1)), (6, -1, (2,), (1,)), (6, 0, (-2,), (1,)),
        (6, 5, (2,), (-1,)), (6, 0, (2, 3), (3,)), (6, 0, (2**47, 2**47), (2**47, 1)), (0, 0, (1,), (1,)), (6, 6, (), ()),
    ],
)  # fmt: skip
def test_a_tensor_beyond_its_storage_is_refused(count: int, offset: int, shape: Any, strides: Any) -> None:
    """Whoever trusts it reads what lies behind it in memory, or asks for more."""
    with pytest.raises(ValueError, match=r"no tensor|beyond its storage"):
        follow(tensor(count, offset, shape, strides))


def test_a_tensor_inside_its_storage_is_not(tmp_path: Path) -> None:
    found = follow(tensor(6, 1, (2, 2), (3, 1)))
    assert found == {"a": Entry("float32", (2, 2), Storage("float32", "0", 6), 1, (3, 1))}
    assert follow(tensor(1, 0, (10**12,), (0,))) == {"a": Entry("expanded from fewer numbers")}
    assert follow(tensor(0, 0, (0, 3), (3, 1)))["a"].shape == (0, 3)


def test_paths_beside_weights_are_text() -> None:
    """Trainers note their folders in checkpoints; nothing is opened."""
    for path in (pathlib.PurePosixPath("runs") / "mine", pathlib.PureWindowsPath("C:/runs")):
        found = follow(pickle.dumps({"dirpath": path, "epoch": 3}))
        assert found == {"dirpath": "/".join(path.parts), "epoch": 3}
    with pytest.raises(ValueError, match="no path"):
        follow(pickle.dumps({"dirpath": Runs(pathlib.PurePosixPath, ["a"])}))
