"""Labelled data is recognised by what lies there; each wrong form gets one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.make import classes_in, write_table
from torchbcos._core.errors import BcosError, InputError, MissingFileError
from torchbcos.data.sources import open_labelled


def test_folders_of_classes(tmp_path: Path) -> None:
    found = open_labelled(classes_in(tmp_path))
    assert (found.classes, found.kind, found.report, found.multi_label) == (("a", "b"), "folder", None, False)
    assert found.train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.train.names[3] == str(Path("b", "0.png"))
    assert found.train.read(4).getpixel((0, 0)) == (110, 0, 145)


def test_train_and_val_folders_share_their_classes(tmp_path: Path) -> None:
    classes_in(tmp_path / "train")
    classes_in(tmp_path / "val", 1, ("b",))
    found = open_labelled(tmp_path)
    assert found.report is not None
    assert found.report.targets.tolist() == [1]
    classes_in(tmp_path / "val", 1, ("bb",))
    with pytest.raises(InputError, match=r"a class 'bb' that the training data lacks. Did you mean 'b'"):
        open_labelled(tmp_path)


def test_tables_of_several_labels_and_of_classes(tmp_path: Path) -> None:
    classes_in(tmp_path)
    several = write_table(tmp_path / "several.csv", [
        {"file": "a/0.png", "sky": 1, "sea": 1, "split": "train"}, {"file": "b/0.png", "sky": 0, "sea": 1, "split": "val"},
    ])  # fmt: skip
    found = open_labelled(several)
    assert (found.classes, found.multi_label) == (("sky", "sea"), True)
    assert found.train.targets.tolist() == [[1.0, 1.0]]
    assert found.report is not None and found.report.targets.tolist() == [[0.0, 1.0]]
    write_table(tmp_path / "labels.csv", [{"file": f"a/{i}.png", "class": f"k{i}"} for i in range(3)])
    found = open_labelled(tmp_path)
    assert (found.classes, found.kind, found.multi_label) == (("k0", "k1", "k2"), "table", False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"name": "x", "sky": 1}], "needs a column 'file'"),
        ([{"file": "x.png", "sky": "yes"}], r"line 2, column 'sky': 'yes' is neither 0 nor 1"),
        ([{"file": "x.png", "sky": 1, "split": "trian"}], "the split 'trian' is neither"),
    ],
)
def test_wrong_tables(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_labelled(write_table(tmp_path / "t.csv", rows))


def test_real_cifar10_and_shards(data_dir: Path) -> None:
    cifar = open_labelled(data_dir / "cifar10")
    assert (len(cifar.train), cifar.report is not None and len(cifar.report)) == (50_000, 10_000)
    assert cifar.train.read(49_999).size == (32, 32)
    nette = open_labelled(data_dir / "imagenette")
    assert (len(nette.train), nette.classes[0]) == (9454, "tench")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "absent", MissingFileError, "There is no data at"),
        (lambda p: classes_in(p, names=("a",)), InputError, "holds 1 folder: a folder for every class is needed"),
        (lambda p: classes_in(p, count=0), InputError, "The class 'a' .* holds no files that end in"),
    ],
)
def test_what_is_no_data(tmp_path: Path, make: object, error: type[BcosError], message: str) -> None:
    with pytest.raises(error, match=message):
        open_labelled(make(tmp_path))  # type: ignore[operator]


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match=r"data is a folder, or a table that ends in .csv"):
        open_labelled(tmp_path / "x.txt")


def test_a_table_in_another_encoding_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("file,sky\ngrün.png,1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"labels.csv., line 2, is not text in UTF-8 \(byte 0xfc\): save it as UTF-8"):
        open_labelled(tmp_path)
