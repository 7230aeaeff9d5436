"""Pictures that are copies of others, byte for byte: named and counted, whatever they are called."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.make import classes_in, png, write_shard, write_table
from torchbcos.data import copies
from torchbcos.data.copies import copies_among
from torchbcos.data.labelled import FileReader, split_rows
from torchbcos.data.sources import open_labelled


def test_a_copy_in_another_split(tmp_path: Path) -> None:
    classes_in(tmp_path / "train", 2)
    classes_in(tmp_path / "val", 1)
    (tmp_path / "val" / "a" / "0.png").write_bytes(png(1))
    shutil.copy(tmp_path / "train" / "b" / "1.png", tmp_path / "val" / "b" / "0.png")
    (note,) = open_labelled(tmp_path).notes
    assert note.startswith("1 picture to report is trained on as well, as byte-identical copies: ")
    assert "'train/b/1.png' (to train on) and 'val/b/0.png' (to report)" in note


def test_copies_of_one_class_and_of_two(tmp_path: Path) -> None:
    classes_in(tmp_path, 3)
    for name in ("a/copy.png", "a/copy (2).png"):
        shutil.copy(tmp_path / "a" / "0.png", tmp_path / name)
    shutil.copy(tmp_path / "a" / "1.png", tmp_path / "b" / "other.png")
    found = open_labelled(tmp_path)
    assert len(found) == 9  # nothing is taken away: whoever made the data knows what is meant
    contrary, twice = found.notes
    assert contrary.startswith("Byte-identical pictures have different labels (1 picture): 'a/1.png' and 'b/other.png'.")
    assert twice.startswith("2 pictures are byte-identical copies of another: 'a/0.png' and 'a/copy")


def test_copies_in_tables_and_shards(tmp_path: Path) -> None:
    classes_in(tmp_path, 2)
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "a" / "1.png")
    rows: list[dict[str, object]] = [{"file": f"a/{i}.png", "sky": 1, "split": part} for i, part in enumerate(("train", "val"))]
    (note,) = open_labelled(write_table(tmp_path / "t.csv", rows)).notes
    assert "'a/0.png' (to train on) and 'a/1.png' (to report)" in note
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards" / "train-0.tar", [("a/1.png", png(1)), ("b/2.png", png(2)), ("b/3.png", png(1))])
    (note,) = open_labelled(tmp_path / "shards").notes
    assert "different labels" in note and "'train-0.tar/a/1.png' and 'train-0.tar/b/3.png'" in note


@settings(max_examples=25, deadline=None)
@given(
    contents=st.lists(st.sampled_from([b"", b"x", b"y", b"x" * 5000, b"x" * 4999 + b"y", b"y" + b"x" * 4999, b"xy"]), min_size=2)
)
def test_all_sets_of_equal_bytes_are_found(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("copies")
    for k in "ab":
        (folder / k).mkdir()
    for i, content in enumerate(contents):
        (folder / "ab"[i % 2] / f"{i}.png").write_bytes(content)
    split = open_labelled(folder).train
    found = {frozenset(split.names[i] for _, i in group) for group in copies_among([split])}
    same: dict[bytes, set[str]] = {}
    for i, content in enumerate(contents):
        same.setdefault(content, set()).add(f"{'ab'[i % 2]}/{i}.png")
    assert found == {frozenset(names) for content, names in same.items() if content and len(names) > 1}


def test_almost_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in "ab":
        (tmp_path / k).mkdir()
        for i in range(4):
            (tmp_path / k / f"{i}.png").write_bytes(b"x" * (10_000 + i + 2 * (k == "b")) + k.encode())
    split = open_labelled(tmp_path).train
    read: list[int] = []
    plain = FileReader.raw
    monkeypatch.setattr(FileReader, "raw", lambda self, i, start=0: read.append(start) or plain(self, i, start))  # type: ignore[func-returns-value]
    assert copies_among([split]) == []
    assert len(read) == 4 and min(read) > 5000  # the ends of those that share a size
    monkeypatch.setattr(copies, "MOST_READ", 3)
    assert copies_among([split]) == [] and len(read) == 4
    monkeypatch.setattr(copies, "MOST_EXAMPLES", 7)
    monkeypatch.setattr(FileReader, "size", lambda self, i: 1 / 0)
    assert copies_among([split]) == []  # not even sizes are asked for


def test_copies_are_not_divided(tmp_path: Path) -> None:
    """Twelve pictures, each under two names: reported ones were trained on as well."""
    for k in range(2):
        (tmp_path / "ab"[k]).mkdir()
        for i in range(12):
            (tmp_path / "ab"[k] / f"{i}.png").write_bytes(png(20 * (i // 2) + 7 * k))
    train = open_labelled(tmp_path).train
    assert train.twins == tuple(i // 2 * 2 for i in range(24))
    rest, held = split_rows(train.targets, 0.2, 1, train.twins)
    assert len(held) == 4 and len({train.reader.raw(i) for i in held}) == 2  # type: ignore[attr-defined]
    assert not {train.reader.raw(i) for i in held} & {train.reader.raw(i) for i in rest}  # type: ignore[attr-defined]
    assert train.take(held).twins == tuple(held[i // 2 * 2] for i in range(4))
    plain = split_rows(train.targets, 0.2, 1)
    assert {train.reader.raw(i) for i in plain[0]} & {train.reader.raw(i) for i in plain[1]}  # type: ignore[attr-defined]


def test_files_that_are_gone_are_for_the_reader_to_name(tmp_path: Path) -> None:
    classes_in(tmp_path, 2)
    split = open_labelled(tmp_path).train
    for name in ("a/0.png", "b/1.png"):
        (tmp_path / name).unlink()
    assert copies_among([split]) == []


def test_a_volume_that_was_packed_again_is_a_copy(tmp_path: Path) -> None:
    """One packed at another time or harder, or not packed, has other bytes and is the same example."""
    first, second = (bytes([k]) * 400 + os.urandom(600) for k in range(2))
    for k in "ab":
        (tmp_path / k).mkdir()
    for name, data in {
        "a/1.nii.gz": gzip.compress(first, 9, mtime=1), "b/1.nii.gz": gzip.compress(first, 1, mtime=2), "b/1.nii": first,
        "a/2.nii.gz": gzip.compress(second), "a/3.NII.GZ": gzip.compress(second, 1, mtime=9), "b/4.nii": bytes(1000),
        "b/5.nii.gz": gzip.compress(second)[:-8] + gzip.compress(first)[-8:],  # it lies about what it holds
        "b/6.nii.gz": gzip.compress(bytes(2_000_000))[:-4] + (1000).to_bytes(4, "little"), "b/7.nii.gz": b"no",
        "a/8.nii.gz": gzip.compress(second)[:50] + gzip.compress(second)[-8:],
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    split = open_labelled(tmp_path).train
    found = {frozenset(split.names[i] for _, i in group) for group in copies_among([split])}
    assert found == {frozenset(("a/1.nii.gz", "b/1.nii.gz", "b/1.nii")), frozenset(("a/2.nii.gz", "a/3.NII.GZ"))}
    assert split.twins is not None and len(set(split.twins)) == len(split) - 3
