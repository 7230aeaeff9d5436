"""Labelled data is recognised by what lies there; each wrong form gets one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.make import classes_in, picture, png, write_shard, write_table
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


def beside(folder: Path, name: str) -> Path:
    """The folder, with an empty file of that name in it."""
    (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "absent", MissingFileError, "There is no data at"),
        (lambda p: p / ("x" * 5000), MissingFileError, "There is no data at"),
        (lambda p: p / "a\0b", MissingFileError, "There is no data at"),
        (lambda p: classes_in(p, names=("a",)), InputError, "holds 1 folder: a folder for every class is needed"),
        (
            lambda p: beside(classes_in(p, names=("a",)), "labels_excel.csv"),
            InputError,
            "'labels_excel.csv': give it as the data",
        ),
        (lambda p: beside(p, "Labels.xlsx"), InputError, "is not called 'labels.csv', 'Labels.xlsx': save it as CSV and call"),
        (lambda p: beside(p, "~$labels.csv"), InputError, "holds 0 folders: a folder for every class is needed"),
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


SPLITS = ("train", "Train", "training", "test", "val", "valid", "validation")


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("others", [("bus",), ("bus", "car"), ("bus", "val", "test")])
def test_a_class_may_be_called_as_a_split_is(tmp_path: Path, name: str, others: tuple[str, ...]) -> None:
    names = tuple(sorted({name, *others}))
    found = open_labelled(classes_in(tmp_path, 2, names))
    assert found.classes == names and len(found.train) == 2 * len(names) and found.report is None
    assert not any("ot used" in note for note in found.notes)


def test_a_class_called_train_may_hold_folders_beside_its_pictures(tmp_path: Path) -> None:
    classes_in(tmp_path, 1, ("bus", "train"))
    (tmp_path / "train" / "steam").mkdir()
    picture(77).save(tmp_path / "train" / "steam" / "x.png")
    found = open_labelled(tmp_path)
    assert found.train.names == ["bus/0.png", "train/0.png", "train/steam/x.png"]


def test_splits_are_splits_where_they_hold_folders(tmp_path: Path) -> None:
    classes_in(tmp_path / "train", 1)
    for name in ("extra", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "docs" / "x.txt").touch()
    found = open_labelled(tmp_path)
    assert found.classes == ("a", "b") and found.notes == (
        f"Not used in {str(tmp_path)!r}: 'docs', 'extra' ('train' is trained on).",
    )
    picture(9).save(tmp_path / "extra" / "1.png")
    with pytest.raises(
        InputError, match=r"holds 'train', with folders in it, and 'extra', with pictures. Are the classes in 'train'"
    ):
        open_labelled(tmp_path)
    classes_in(tmp_path / "test", 1, ("b",))
    (tmp_path / "val").mkdir()
    picture(8).save(tmp_path / "val" / "1.png")
    found = open_labelled(tmp_path)  # with a second split there is no doubt; one without classes is none
    assert found.report is not None and found.report.names == ["b/0.png"]
    assert "Not used in" in found.notes[0] and "'docs', 'extra', 'val' ('train' is trained on, 'test' reported)" in found.notes[0]


def test_what_lies_in_folders_and_is_not_used_is_said(tmp_path: Path) -> None:
    classes_in(tmp_path, 2)
    for name in ("loose.png", "a/notes.txt", "a/film.mp4", "b/._0.png", "b/.hidden.png", "a/.DS_Store", "boxes.csv"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b" / "gone.png").symlink_to("nowhere")
    found = open_labelled(tmp_path)
    assert len(found) == 4 and found.notes == (
        f"Not used in {str(tmp_path)!r}, being links that lead nowhere: 1; the first is 'b/gone.png'.",
        f"3 files in {str(tmp_path)!r} are not read as pictures and not used: 1 .mp4, 1 .png, 1 .txt; the first is 'a/film.mp4'.",
        f"2 hidden files in {str(tmp_path)!r} are not used; the first is 'b/._0.png'.",
    )


def test_what_lies_beside_tables_and_shards_is_said(tmp_path: Path) -> None:
    classes_in(tmp_path, 1)
    write_shard(tmp_path / "train-0.tar", [("x/1.png", png(1)), ("y/2.png", png(2))])
    (tmp_path / "train-1.tar.gz").touch()
    notes = " ".join(open_labelled(tmp_path).notes)
    assert "Folders in" in notes and "'a' say: shards come first." in notes and "1 .gz; the first is 'train-1.tar.gz'" in notes
    write_table(tmp_path / "labels.csv", [{"file": "a/0.png", "class": "a"}, {"file": "b/0.png", "class": "b"}])
    assert "1 file .tar in" in open_labelled(tmp_path).notes[-1]


@pytest.mark.parametrize("name", ["a\x1b[2J", "x" * 201, "a\u202eb"])
def test_folders_that_are_no_names_of_classes(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"A folder in .*: the name of the class, .* (contains|has 201 characters)"):
        open_labelled(classes_in(tmp_path, 1, ("a", name)))


def test_letters_that_a_disk_takes_apart(tmp_path: Path) -> None:
    classes_in(tmp_path / "train", 1, ("a", "e\u0301"))
    classes_in(tmp_path / "val", 1, ("\u00e9",))
    found = open_labelled(tmp_path)
    assert found.classes == ("a", "\u00e9") and found.report is not None and found.report.targets.tolist() == [1]
    (tmp_path / "train" / "\u00e9").mkdir()
    with pytest.raises(InputError, match="holds two folders '\u00e9', whose letters are composed in two ways"):
        open_labelled(tmp_path)
