"""Pictures without labels: what is taken of folders, tables and shards, and what is refused."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.data.unlabelled import open_unlabelled

CLASSES = ("cat", "dog")


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(path)
    return path


def names(place: Path) -> list[str]:
    found = open_unlabelled(place, CLASSES)
    assert found.classes == CLASSES and found.kind == "unlabelled" and not found.train.targets.any()
    return list(found.train.names)


def test_everything_below_a_folder_but_masks(tmp_path: Path) -> None:
    for i, name in enumerate(("a.png", "b/c.jpg", "b/d/e.png", "masks/a.png", "masks/b/c.png", "b/notes.txt")):
        if name.endswith(".txt"):
            (tmp_path / name).write_text("no picture")
        else:
            picture(tmp_path / name, i)
    assert names(tmp_path) == ["a.png", "b/c.jpg", "b/d/e.png"]


def test_of_train_beside_val_only_train(tmp_path: Path) -> None:
    for i, name in enumerate(("train/a/1.png", "train/b/2.png", "val/a/3.png")):
        picture(tmp_path / name, i)
    assert names(tmp_path) == ["a/1.png", "b/2.png"]
    (tmp_path / "val").rename(tmp_path / "more")
    assert len(names(tmp_path)) == 3


def test_further_names_of_a_file_count_once_and_copies_stay_together(tmp_path: Path) -> None:
    first = picture(tmp_path / "a.png", 7)
    (tmp_path / "copy.png").write_bytes(first.read_bytes())
    os.link(first, tmp_path / "linked.png")
    picture(tmp_path / "other.png", 9)
    found = open_unlabelled(tmp_path, CLASSES)
    assert list(found.train.names) == ["a.png", "copy.png", "other.png"] and found.repeated == 1
    assert found.train.twins == (0, 0, 2) and "more than once" in found.notes[0]


def test_a_table_names_its_files(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", i)
    (tmp_path / "labels.csv").write_text("file,class,split\n0.png,x,train\n1.png,y,train\n2.png,x,val\n")
    assert names(tmp_path) == ["0.png", "1.png"] and names(tmp_path / "labels.csv") == ["0.png", "1.png"]
    (tmp_path / "labels.csv").write_text("who,what\nsomebody,something\n")  # another table: the pictures are there all the same
    assert names(tmp_path) == ["0.png", "1.png", "2.png"]


def packed(place: Path, members: dict[str, int | None]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(place, "w") as tar:
        for name, shade in members.items():
            body = io.BytesIO()
            if shade is None:
                body.write(b"cat")
            else:
                Image.new("RGB", (8, 8), (shade, 0, 0)).save(body, "PNG")
            info = tarfile.TarInfo(name)
            info.size = len(body.getvalue())
            tar.addfile(info, io.BytesIO(body.getvalue()))


def test_shards_with_and_without_labels(tmp_path: Path) -> None:
    packed(tmp_path / "train-000.tar", {"1.png": 1, "2.png": 2, "2.cls": None, "3.png": 3, "3.seg.png": 4, "folder/5.png": 5})
    packed(tmp_path / "val-000.tar", {"6.png": 6})
    found = open_unlabelled(tmp_path, CLASSES).train
    assert [name.rpartition("train-000.tar/")[2] for name in found.names] == ["1.png", "2.png", "3.png", "folder/5.png"]
    assert [found.read(i).getpixel((0, 0))[0] for i in range(4)] == [1, 2, 3, 5]  # type: ignore[union-attr, index]
    only = tmp_path / "only"
    packed(only / "val.tar", {"6.png": 6})
    assert len(names(only)) == 1


@pytest.mark.parametrize("what", ["nothing", "file", "empty", "no pictures", "tar"])
def test_what_holds_none(what: str, tmp_path: Path) -> None:
    place = tmp_path / "data"
    if what == "file":
        place.write_text("a file")
    elif what != "nothing":
        place.mkdir()
    if what == "no pictures":
        (place / "a.txt").write_text("text")
    if what == "tar":
        packed(place / "train.tar", {"a.cls": None})
    with pytest.raises(MissingFileError if what == "nothing" else InputError) as error:
        open_unlabelled(place, CLASSES)
    assert len(str(error.value)) < 500 and "data" in str(error.value)
