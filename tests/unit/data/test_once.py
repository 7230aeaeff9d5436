"""Each real file is one example, in one split, whatever names lead to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.data.make import classes_in, png, write_shard, write_table
from torchbcos._core.errors import InputError
from torchbcos.data.annotations import read_boxes
from torchbcos.data.labelled import Labelled
from torchbcos.data.once import Files, apart, once
from torchbcos.data.sources import open_labelled


def same(data: Labelled) -> None:
    """The data are those of the folder without any link."""
    assert data.train.names == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    assert data.train.targets.tolist() == [0, 0, 1, 1] and len(data) == 4


def test_a_folder_that_links_to_itself_multiplies_nothing(tmp_path: Path) -> None:
    """84 examples were found here, and one picture could be trained on, selected by and reported."""
    classes_in(tmp_path, 2)
    (tmp_path / "a" / "loop").symlink_to(".")
    (tmp_path / "b" / "down").mkdir()
    (tmp_path / "b" / "down" / "up").symlink_to(tmp_path / "b")
    same(open_labelled(tmp_path))


def test_links_and_hard_links_of_files_are_counted_once(tmp_path: Path) -> None:
    classes_in(tmp_path, 2)
    (tmp_path / "a" / "-first.png").symlink_to("1.png")
    os.link(tmp_path / "a" / "0.png", tmp_path / "a" / "hard.png")
    (tmp_path / "b" / "far").symlink_to(tmp_path / "b")
    found = open_labelled(tmp_path)
    same(found)  # under the file's own name, not the link's
    assert found.repeated == 2


def test_folders_that_only_a_link_leads_to_are_data(tmp_path: Path) -> None:
    classes_in(tmp_path / "store", 2)
    (tmp_path / "data").mkdir()
    for name in "ab":
        (tmp_path / "data" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "data" / "a" / ".thumbs").mkdir()
    (tmp_path / "data" / "a" / ".thumbs" / "0.png").write_bytes(png(0))
    assert open_labelled(tmp_path / "data").train.names == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]


@pytest.mark.parametrize("kind", ["class", "inside", "file", "hard"])
def test_one_file_in_two_classes_is_refused(tmp_path: Path, kind: str) -> None:
    classes_in(tmp_path, 2)
    if kind == "class":
        (tmp_path / "c").symlink_to("a")
    elif kind == "inside":
        (tmp_path / "b" / "more").symlink_to(tmp_path / "a")
    elif kind == "file":
        (tmp_path / "b" / "x.png").symlink_to(tmp_path / "a" / "1.png")
    else:
        os.link(tmp_path / "a" / "1.png", tmp_path / "b" / "x.png")
    with pytest.raises(InputError, match=r"is the same file as '.*a/[01].png', and the two labels differ: remove one"):
        open_labelled(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_trained_on_is_not_reported(tmp_path: Path, kind: str) -> None:
    classes_in(tmp_path / "train", 2)
    if kind == "folder":
        (tmp_path / "val").symlink_to("train")
    else:
        classes_in(tmp_path / "val", 1)
        os.link(tmp_path / "train" / "a" / "1.png", tmp_path / "val" / "a" / "x.png")
    with pytest.raises(InputError, match=r"which is reported, is the same file as '.*train/a/[01].png', which is trained on"):
        open_labelled(tmp_path)


def test_rows_of_a_table_that_name_a_file_again(tmp_path: Path) -> None:
    classes_in(tmp_path, 2)
    (tmp_path / "link.png").symlink_to("a/0.png")
    names = ["a/0.png", "a/1.png", "a/0.png", "./b/../a/0.png", "link.png", "gone.png", "gone.png"]
    found = open_labelled(write_table(tmp_path / "t.csv", [{"file": name, "class": "x"} for name in names]))
    assert found.train.names == ["a/0.png", "a/1.png", "gone.png"] and found.repeated == 4
    for again in ("a/0.png", "link.png"):
        rows: list[dict[str, object]] = [
            {"file": "a/0.png", "sky": 1, "split": "train"},
            {"file": again, "sky": 0, "split": "train"},
        ]
        with pytest.raises(InputError, match=r"(is named twice|is the same file as .*), and the two labels differ"):
            open_labelled(write_table(tmp_path / "t.csv", rows))
        rows[1] |= {"sky": 1, "split": "val"}
        with pytest.raises(InputError, match="which is reported, is the same file as"):
            open_labelled(write_table(tmp_path / "t.csv", rows))


def test_a_shard_of_two_names_and_a_member_that_was_replaced(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", [("cat/1.png", png(1)), ("dog/2.png", png(2)), ("cat/1.png", png(9))])
    (tmp_path / "train-1.tar").symlink_to("train-0.tar")
    found = open_labelled(tmp_path)
    assert found.train.names == ["train-0.tar/cat/1.png", "train-0.tar/dog/2.png"] and found.repeated == 1
    assert found.train.read(0).getpixel((0, 0))[0] == 9  # type: ignore[union-attr, index]  # as unpacking leaves it
    (tmp_path / "val-0.tar").symlink_to("train-0.tar")
    with pytest.raises(InputError, match=r"val-0.tar', which is reported, is the same file as '.*train-0.tar'"):
        open_labelled(tmp_path)


def test_a_box_that_is_there_twice_is_one_object(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("file,cx,cy,w,h\na,.5,.5,1,1\na,.5,.5,1,1\na,.5,.5,.5,.5\n")
    assert read_boxes(tmp_path / "boxes.csv") == {"a": ((0.5, 0.5, 1, 1), (0.5, 0.5, 0.5, 0.5))}


def test_disks_that_give_one_number_to_all_their_files(tmp_path: Path) -> None:
    """As some network disks do when a folder is listed: only the disk's own answer about two files counts."""
    paths = [str(tmp_path / f"{i}") for i in range(5)]
    for path in paths[:4]:
        Path(path).touch()
    os.link(paths[1], paths[4])
    files = Files(tuple(paths), ((1, 0xFFFFFFFF),) * 5)
    assert once(files, [0] * 5) == [0, 1, 2, 3]
    apart(files.take([0, 2]), files.take([1, 3]))
    with pytest.raises(InputError, match=r"/4', which is reported, is the same file as '.*/1'"):
        apart(files.take([0, 1, 2]), files.take([3, 4]))


def test_the_guard_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes_in(tmp_path, 2)
    os.link(tmp_path / "a" / "0.png", tmp_path / "a" / "hard.png")
    monkeypatch.setattr("torchbcos.data.sources.once_walked", lambda walked, targets: list(range(len(targets))))
    assert len(open_labelled(tmp_path)) == 5
