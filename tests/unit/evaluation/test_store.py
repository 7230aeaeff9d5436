"""A folder of maps and numbers: what is damaged is missing, what is foreign is refused, and several may write at once."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from torchbcos._core.errors import StateError
from torchbcos.evaluation import store as module
from torchbcos.evaluation.store import Kept, Store, kept_of

RECORD = {"values": [0.5, math.nan], "passes": 3, "map_seconds": 0.1, "seconds": 0.2, "told": ["é"], "curve most": [1.0, 0.5]}


def kept(k: int = 2) -> Kept:
    return kept_of(torch.rand(k, 4, 5), torch.rand(k), torch.rand(k), 7, 0.25, ["a warning"])


def lines(root: Path) -> list[Path]:
    return sorted((root / "values").glob("*.jsonl"))


def test_maps_come_back_as_they_were(tmp_path: Path) -> None:
    store, one = Store(tmp_path / "a" / "b"), kept()
    store.write("m", "x", "item", one)
    found = store.read("m", "x", "item")
    assert found is not None and torch.equal(found.maps, one.maps) and torch.equal(found.values, one.values)
    assert found.delta is not None and one.delta is not None and torch.equal(found.delta, one.delta)
    assert (found.passes, found.seconds, found.told) == (7, 0.25, ("a warning",))
    assert store.read("m", "x", "other") is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "garbage", "other shape", "a folder", "no checksum"])
def test_damaged_maps_are_missing(damage: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("m", "x", "item", kept())
    file = store.path("m", "x", "item")
    data = bytearray(file.read_bytes())
    if damage == "flipped":
        data[-9] ^= 4  # a bit of a number: every header stays right
        file.write_bytes(data)
    elif damage in ("cut", "empty", "garbage"):
        file.write_bytes({"cut": bytes(data[:-5]), "empty": b"", "garbage": os.urandom(300)}[damage])
    elif damage == "other shape":
        store.write("m", "x", "item", Kept(torch.rand(4, 5), torch.rand(2), None, 1, 0.0))
    elif damage == "no checksum":
        module.save_file({"maps": torch.rand(1, 2, 2), "values": torch.rand(1)}, file, {"passes": "1", "seconds": "1"})
    else:
        file.unlink()
        file.mkdir()
    assert store.read("m", "x", "item") is None


def test_numbers_come_back_from_every_process(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.note({"a": RECORD})
    second.note({"b": {"refused": "no such layer"}})
    third = Store(tmp_path)
    found = third.numbers("a")
    assert found is not None and found["values"][0] == 0.5 and math.isnan(found["values"][1]) and found["told"] == ["é"]
    assert third.numbers("b") == {"refused": "no such layer"} and third.numbers("c") is None
    assert len(lines(tmp_path)) == 2, "each writes a file of its own"


def _damaged(text: str) -> list[str]:
    record = json.loads(text)
    wrong = [{**record, "values": "0.5"}, {**record, "values": [[0.5]]}, {**record, "told": [1]}, {**record, "passes": "3"}]
    without = [{key: value for key, value in record.items() if key != gone} for gone in ("crc", "key")]
    return [
        text.replace("0.5", "0.6", 1), text[:-10], "", "null", "[]", "{}", "[" * 100_000, text + text, "\x00\xff", '{"key": 3}',
        *(json.dumps(one) for one in [*wrong, *without]),
    ]  # fmt: skip


def test_damaged_lines_are_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.note({"a": RECORD})
    (file,) = lines(tmp_path)
    text = file.read_text().strip()
    for bad in _damaged(text):
        file.write_text(bad + "\n")
        assert Store(tmp_path).numbers("a") is None, bad[:80]
    file.write_text(text)  # killed before the end of the line
    assert Store(tmp_path).numbers("a") is None
    file.write_text("\n".join([*_damaged(text), text]) + "\n" + text[:20])
    assert Store(tmp_path).numbers("a") is not None, "a good line among bad ones"


def test_lines_of_crafted_kinds_are_none(tmp_path: Path) -> None:
    """A checksum is no proof of kind: whoever made the folder can compute it."""
    store = Store(tmp_path)
    store.note({"a": RECORD})
    (file,) = lines(tmp_path)
    for wrong in (
        {"values": "x"},
        {"values": [True]},
        {"curve most": 3},
        {"told": "x"},
        {"refused": 3},
        {"passes": None},
        {"x": []},
    ):
        file.write_text(module._line({"key": "a", **wrong}))
        assert Store(tmp_path).numbers("a") is None, wrong


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"sea")
    with pytest.raises(StateError, match="is a folder of something else"):
        Store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_mark_that_another_process_writes_meanwhile_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Store._is_foreign

    def meanwhile(self: Store) -> bool:
        if not (self.root / "torchbcos-maps.json").exists():
            monkeypatch.setattr(Store, "_is_foreign", looked)
            Store(self.root)
        return looked(self)

    monkeypatch.setattr(Store, "_is_foreign", meanwhile)
    assert Store(tmp_path / "a").numbers("a") is None


@pytest.mark.parametrize("mark", ['{"schema": 1}', '{"schema": 99}', "[]", "no JSON", "", "\xff" * 10, "[" * 4000, "0" * 10_000])
def test_another_schema_is_refused(mark: str, tmp_path: Path) -> None:
    (tmp_path / "torchbcos-maps.json").write_text(mark)
    with pytest.raises(StateError, match=r"another release.*--cache"):
        Store(tmp_path)


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateError, match=r"Maps cannot be kept in .*\(--cache\)"):
            Store(place)
    Store(tmp_path / "half")
    (tmp_path / "half" / "values").rmdir()
    (tmp_path / "half" / "values").touch()
    with pytest.raises(StateError, match="Maps cannot be kept"):
        Store(tmp_path / "half")


def test_an_unwritable_folder_is_refused_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path)
    asked = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "values" not in str(path) and asked(path, mode))  # root may do anything
    with pytest.raises(StateError, match="Permission denied"):
        Store(tmp_path)


def test_a_full_disk_loses_nothing_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.note({"a": RECORD})
    store.write("m", "x", "item", kept())

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, text: str) -> None:
            self.file.write(text[: len(text) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda self, *a, **k: Full(opened(self, *a, **k)))
        with pytest.raises(StateError, match=r"No space left on device.*run the same command again"):
            store.note({"b": RECORD})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(module, "save_file", full)
        with pytest.raises(StateError, match="No space left"):
            store.write("m", "x", "item", kept())
    store.note({"c": RECORD})  # there is room again: half a line stands in the way of nothing
    again = Store(tmp_path)
    assert again.numbers("a") is not None and again.numbers("b") is None and again.numbers("c") is not None
    assert again.read("m", "x", "item") is not None
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]


def _writes(root: str, name: str) -> None:
    store = Store(Path(root))
    for number in range(30):
        store.write("m", "x", f"item{number}", kept())
        store.note({f"{name}{number}": RECORD, f"both{number}": RECORD})


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_writes, args=(str(tmp_path / "new"), name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    store = Store(tmp_path / "new")
    assert all(store.numbers(f"{name}{number}") for name in ("a", "b", "both") for number in range(30))
    assert all(store.read("m", "x", f"item{number}") for number in range(30))


def test_a_fork_writes_a_file_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.note({"a": RECORD})
    if (child := os.fork()) == 0:
        store.note({"b": RECORD})
        os._exit(0)
    os.waitpid(child, 0)
    assert len(lines(tmp_path)) == 2 and Store(tmp_path).numbers("b") is not None


def test_a_pipe_among_the_numbers_is_passed_over(tmp_path: Path) -> None:
    Store(tmp_path)
    os.mkfifo(tmp_path / "values" / "a.jsonl")
    assert Store(tmp_path).numbers("a") is None
