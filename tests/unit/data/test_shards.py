"""Tar shards: found, indexed and read in any order."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.data.make import png, write_shard
from torchbcos._core.errors import InputError
from torchbcos.data import shards
from torchbcos.data.loading import Examples
from torchbcos.data.members import split_name
from torchbcos.data.sources import open_labelled
from torchbcos.pictures import Preprocess


def test_shards_of_both_forms_and_names_of_classes(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", [("001.png", png(1)), ("001.cls", b"1"), ("002.png", png(2)), ("002.cls", b"0\n")])
    write_shard(tmp_path / "train-1.tar", [("003.cls", b"1"), ("003.png", png(3)), ("003.json", b"{}")])
    write_shard(tmp_path / "val-0.tar", [("9.png", png(9)), ("9.cls", b"1")])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = open_labelled(tmp_path)
    assert (found.kind, found.classes) == ("shards", ("cat", "dog"))
    assert found.train.targets.tolist() == [1, 0, 1]
    assert [found.train.read(i).getpixel((0, 0))[0] for i in range(3)] == [1, 2, 3]
    assert found.report is not None and found.report.names == ["val-0.tar/9.png"]
    other = tmp_path / "folders"
    other.mkdir()
    write_shard(other / "x.tar", [("n02/1.png", png(1)), ("n01/2.png", png(2))])
    assert open_labelled(other).classes == ("n01", "n02")


def test_shards_that_webdataset_writes_are_read(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "train-000.tar")) as sink:
        for i in range(4):
            sink.write({"__key__": f"{i:03}", "png": png(i), "cls": i % 2})
    found = open_labelled(tmp_path)
    assert found.train.targets.tolist() == [0, 1, 0, 1]
    assert found.train.read(3).getpixel((0, 0))[0] == 3


def test_the_index_of_large_shards_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, read = tmp_path / "data", shards.read_index
    data.mkdir()
    write_shard(data / "train-0.tar", [("cat/1.png", png(1)), ("dög/2.png", png(2)), ("cat/3.png", png(3))])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    calls: list[int] = []
    monkeypatch.setattr(shards, "read_index", lambda tars: calls.append(len(tars)) or read(tars))  # type: ignore[func-returns-value]
    first = open_labelled(data)
    assert calls == [1] and not (tmp_path / "cache").exists()  # too small to be worth a file
    monkeypatch.setattr(shards, "LARGE", 3)
    for expected in ([1, 1], [1, 1]):
        found = open_labelled(data)
        assert calls == expected
        assert found.train.names == first.train.names and found.classes == ("cat", "dög")
        assert [found.train.read(i).getpixel((0, 0))[0] for i in range(3)] == [1, 2, 3]
    (file,) = (tmp_path / "cache").rglob("*.npz")
    file.write_bytes(b"damaged")
    assert open_labelled(data).train.names == first.train.names and len(calls) == 3
    write_shard(data / "train-0.tar", [("cat/1.png", png(1)), ("dog/2.png", png(2)), ("dog/4.png", png(3))])
    assert open_labelled(data).classes == ("cat", "dog") and len(calls) == 4  # another file of the same name
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/proc/nowhere")
    assert open_labelled(data).classes == ("cat", "dog")


def test_wrong_shards(tmp_path: Path) -> None:
    (tmp_path / "train.tar").write_bytes(b"no tar")
    with pytest.raises(InputError, match="no uncompressed tar file"):
        open_labelled(tmp_path)
    write_shard(tmp_path / "train.tar", [("1.png", png(1))])
    with pytest.raises(InputError, match=r"'1.png' has neither a '.cls' beside it nor a folder"):
        open_labelled(tmp_path)
    (tmp_path / "train.tar").rename(tmp_path / "val.tar")
    with pytest.raises(InputError, match="no shards to train on"):
        open_labelled(tmp_path)


def test_keys_end_at_the_first_dot() -> None:
    assert split_name("a.b/001.seg.PNG") == ("a.b/001", ".seg.png")


@pytest.mark.parametrize("name", ["classes.csv", "classes.txt"])
def test_names_of_classes_in_another_encoding_get_one_sentence(tmp_path: Path, name: str) -> None:
    write_shard(tmp_path / "train.tar", [("1.png", png(1)), ("1.cls", b"0"), ("2.png", png(2)), ("2.cls", b"1")])
    (tmp_path / name).write_bytes("id,name\n0,grün\n".encode("latin-1"))
    with pytest.raises(InputError, match=rf"{name}', line 2, is not text in UTF-8 \(byte 0xfc\)"):
        open_labelled(tmp_path)


@pytest.mark.parametrize(
    ("names", "train", "report"),
    [
        (("imagenet-train-000", "imagenet-val-000"), ["imagenet-train-000"], ["imagenet-val-000"]),
        (("Train-0", "VAL-0"), ["Train-0"], ["VAL-0"]),
        (("data1k-train-0", "data1k-validation-00"), ["data1k-train-0"], ["data1k-validation-00"]),
        (("valley-0", "testudo-0", "a"), ["a", "testudo-0", "valley-0"], None),
        (("train-test-0", "b_test"), ["train-test-0"], ["b_test"]),
        (("train0", "val0", "test0"), ["train0"], ["test0", "val0"]),
    ],
)
def test_what_shards_are_for_stands_in_a_word_of_their_names(
    tmp_path: Path, names: tuple[str, ...], train: list[str], report: list[str] | None
) -> None:
    """'imagenet-val-000' and 'VAL-0' were trained on, 'valley-0' was reported."""
    for i, name in enumerate(names):
        write_shard(tmp_path / f"{name}.tar", [("x/1.png", png(10 * i)), ("y/2.png", png(10 * i + 1))])
    found = open_labelled(tmp_path)
    assert sorted({name.partition(".tar")[0] for name in found.train.names}) == train
    assert (found.report and sorted({name.partition(".tar")[0] for name in found.report.names})) == report


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes.csv", "id,name\n0,cat\n1,cat\n", r"classes\.csv' gives the classes '0' and '1' one name, 'cat'"),
        ("classes.txt", "cat\ncat\n", r"classes\.txt' gives the classes '0' and '1' one name, 'cat'"),
        ("classes.csv", "id,name\n0,cat\n0,dog\n", r"line 3, gives the class '0' a second name"),
        ("classes.txt", "cat\nd\x07g\n", r"the name of the class, 'd.x07g', contains the control character"),
    ],
)
def test_names_of_classes_that_would_mix_them(tmp_path: Path, name: str, text: str, message: str) -> None:
    write_shard(tmp_path / "train.tar", [("1.png", png(1)), ("1.cls", b"0"), ("2.png", png(2)), ("2.cls", b"1")])
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_labelled(tmp_path)


def test_digits_that_are_no_numbers_are_names(tmp_path: Path) -> None:
    write_shard(tmp_path / "train.tar", [("1.png", png(1)), ("1.cls", "²".encode()), ("2.png", png(2)), ("2.cls", b"1")])
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert open_labelled(tmp_path).classes == ("1", "²")


def test_what_is_left_over_is_remembered_with_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_shard(data / "train-0.tar", [("a/1.png", png(1)), ("b/2.png", png(2)), ("b/2.json", b"{}"), ("c.cls.json", b"")])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "LARGE", 1)
    first = open_labelled(data)
    monkeypatch.setattr(shards, "read_index", lambda tars: 1 / 0)
    assert open_labelled(data).notes == first.notes and len(first.notes) == 1


@pytest.mark.parametrize(
    ("tars", "message"),
    [
        ({"data": ["train/c0/1.png", "train/c1/2.png", "val/c0/3.png", "val/c1/4.png"]}, "'data.tar' would be trained on"),
        ({"data": ["./Train/c0/1.png", "./Val/c1/2.png"]}, r"holds '\./Val/c1/2\.png'"),
        ({"a": ["x/train/c0/1.png", "x/train/c1/2.png"], "b": ["x/test/c0/3.png"]}, "'b.tar' would be trained on as a"),
        ({"train-0": ["c0/1.png", "c1/2.png", "valid/c1/3.png"]}, "holds 'valid/c1/3.png'"),
        ({"data": ["train/1.png", "train/1.cls", "val/2.png", "val/2.cls"]}, "holds 'val/2.png'"),
        ({"data": ["train/1.png", "val/2.png"]}, "holds 'val/2.png'"),
        ({"train-0": ["c0/0.png", "c1/1.png"], "val-000": ["train/c0/2.png", "train/c1/3.png"]},
         "'val-000.tar' would be reported as a whole, by its name, and it holds 'train/c0/2.png'"),
        ({"data": ["images/1.png", "images/2.png", "labels.csv"]}, "a table 'labels.csv' in them, which is not read"),
    ],
)  # fmt: skip
def test_splits_as_folders_of_one_shard_are_not_mixed(tmp_path: Path, tars: dict[str, list[str]], message: str) -> None:
    """All of them were trained on."""
    for name, members in tars.items():
        write_shard(tmp_path / f"{name}.tar", [(m, b"c" + m[0].encode() if m.endswith(".cls") else png(len(m))) for m in members])
    with pytest.raises(InputError, match=message) as caught:
        open_labelled(tmp_path)
    assert len(str(caught.value)) <= 500 + len(str(tmp_path))


@pytest.mark.parametrize(
    "tars",
    [
        {"data": ["train/c0/1.png", "train/c1/2.png"]},
        {"train-0": ["train/c0/1.png", "train/c1/2.png"], "val-0": ["val/c0/3.png"]},
        {"data": ["train/1.png", "car/2.png", "test/3.png"]},
        {"data": ["vehicles/train/1.png", "vehicles/car/2.png"]},
        {"data": ["valley/c0/1.png", "testing/c1/2.png"]},
    ],
)
def test_folders_that_are_no_other_split(tmp_path: Path, tars: dict[str, list[str]]) -> None:
    for name, members in tars.items():
        write_shard(tmp_path / f"{name}.tar", [(m, png(i)) for i, m in enumerate(members)])
    found = open_labelled(tmp_path)
    assert len(found) == sum(map(len, tars.values()))


def test_arrays_in_shards_are_examples_as_files_are(tmp_path: Path) -> None:
    """They were counted as members of other kinds, and not used."""
    stored = {}
    for i in range(4):
        array, file = np.full((1, 9, 8), 40 * i, np.uint8), io.BytesIO()
        np.save(file, array)
        stored[f"{'ab'[i % 2]}/{i}.npy"] = file.getvalue()
        (tmp_path / "files" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "files" / "ab"[i % 2] / f"{i}.npy", array)
    (tmp_path / "tars").mkdir()
    write_shard(tmp_path / "tars" / "train.tar", list(stored.items()))
    prepare = Preprocess(raw_channels=1)
    packed, loose = (Examples(open_labelled(tmp_path / name).train, prepare) for name in ("tars", "files"))
    wanted = {name: loose[i]["x"] for i, name in enumerate(loose.split.names)}
    assert len(packed) == 4
    for i, name in enumerate(packed.split.names):
        assert torch.equal(packed[i]["x"], wanted[name.partition("/")[2]])
