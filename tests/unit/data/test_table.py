"""Tables of labels: what changes nothing is read away, what would mix classes or splits is an error that names its lines."""

from __future__ import annotations

import csv
import io
import os
import time
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.make import classes_in, picture
from torchbcos._core.errors import InputError
from torchbcos.data.labelled import Labelled, split_rows
from torchbcos.data.sources import open_labelled

BLANK = st.sampled_from(["", " ", "\u00a0", "\t", "\u3000", "\u200b", "\ufeff", " \u200b "])
NAMES = ("cat", "dog", "Größe 3", "pe\u0301rche", "a, b", 'the "x"')


def opened(folder: Path, text: str | bytes) -> Labelled:
    (folder / "t.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return open_labelled(folder / "t.csv")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    for i in range(6):
        picture(40 * i).save(folder / f"{i}.png")
    picture(250).save(folder / unicodedata.normalize("NFD", "é.png"))
    return folder


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_not_seen_changes_nothing(pictures: Path, data: st.DataObject) -> None:
    """Spaces of all kinds, marks, quotation marks, ends of lines and composed letters: the classes are those that are meant."""
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=6))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    quoting = data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=quoting)
    rows = [["file", "class", "split"]] + [[f"{i}.png", name, "VAL" if i == 1 else "train"] for i, name in enumerate(names)]
    for row in rows:
        form = data.draw(st.sampled_from(["NFC", "NFD"]))
        writer.writerow([data.draw(BLANK) + unicodedata.normalize(form, cell) + data.draw(BLANK) for cell in row])
    mark, empty = data.draw(st.sampled_from(["", "\ufeff"])), data.draw(st.sampled_from(["", end, end + end]))
    found = opened(pictures, mark + text.getvalue() + empty)
    clean = [unicodedata.normalize("NFC", name) for name in names]
    shown = [found.classes[i] for i in found.train.targets.tolist()]
    assert set(found.classes) == set(clean) and shown == [name for i, name in enumerate(clean) if i != 1]
    assert found.report is not None and found.report.names == ["1.png"]
    assert not any("exist" in note for note in found.notes)


BROKEN = {
    "class blank": (",cat", "{0}.png,", r"the name of the class, '', is empty"),
    "only spaces": (",cat", "{0}.png,\u00a0\u200b", r"the name of the class, '', is empty"),
    "short": (",cat", "{0}.png", r"the name of the class, '', is empty"),
    "no file": (",cat", ",cat", "names no file"),
    "commas only": (",cat", ",", "names no file"),
    "too many": (",cat", "{0}.png,cat,dog", "has 3 cells, and there are 2 columns"),
    "semicolons": (",cat", "{0}.png;cat", "the name of the class, '', is empty"),
    "escape": (",cat", "{0}.png,\x1b]0;t\x07", r"contains the control character U\+001B"),
    "turning": (",cat", "{0}.png,gnp\u202e", r"contains the mark U\+202E"),
    "long": (",cat", "{0}.png," + "x" * 201, "has 201 characters, more than 200"),
    "quote": (",cat", '{0}.png,"cat', "unexpected end of data"),
    "quote inside": (",cat", '{0}.png,"cat"s', "begins no row of a CSV file"),
    "zero": (",cat", "{0}.png,c\0t", "contains a zero byte"),
}


@pytest.mark.parametrize("blemish", BROKEN)
@pytest.mark.parametrize("line", [2, 5])
def test_every_blemish_names_its_line(pictures: Path, blemish: str, line: int) -> None:
    _, bad, message = BROKEN[blemish]
    rows = ["file,class"] + [f"{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(5)]
    rows[line - 1] = bad.format(line - 2)
    with pytest.raises(InputError, match=rf"t\.csv', line {line}\b.*{message}"):
        opened(pictures, "\n".join(rows) + "\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'file,class\n0.png,"cat\n1.png,cat"\n2.png,dog\n',
            "line 2: the cell of 'class' goes over 2 lines, 'cat.n1.png,cat': a quot",
        ),
        ('file,class\n3.png,cat\n"0.png,cat\n1.png,cat\n",dog\n', "line 3: the cell of 'file' goes over 2 lines"),
        ('file,class\n"0.png,cat\n1.png,dog"\n', "line 2: the cell of 'file' goes over 2 lines"),
        ("file,class,split\n0.png,cat,train\n1.png,dog,\n", "line 3: the split is blank; write 'train' or 'val'"),
        ("file,class,split\n0.png,cat,train\n1.png,dog,trian\n", "line 3: the split 'trian' is neither"),
        ("file,sky,sky\n0.png,1,0\n", "t.csv' has the column 'sky' twice"),
        ("file,sky, sky\u00a0\n0.png,1,0\n", "t.csv' has the column 'sky' twice"),
        ("file,sky,\n0.png,1,0\n", "line 1: a column has no name"),
        ("file,a\x1b[2Jb\n0.png,1\n", r"line 1: the name of the class, 'a.x1b\[2Jb', contains the control character"),
        (",file,sky\n0,0.png,1\n1,1.png,0\n", r"line 1: a column has no name\. .*index=False"),  # pandas writes its index
        ("file,sky\n0.png,1\n1.png\n", "line 3, has 1 cell, and there are 2 columns: a label that is not known is a blank cell"),
        ("file,sky\n0.png,1\n1.png,nan\n", "line 3, column 'sky': 'nan' is neither 0 nor 1"),
        (",file,class\n0,0.png,cat\n1,1.png,dog\n", r"line 1: a column has no name\. .*index=False"),
        ("sep=,\nfile,class\n0.png,cat\n", "begins with a line 'sep=', which only Excel understands: remove that line"),
        ("sep=;\nfile;class\n0.png;cat\n", r"is separated by semicolons: .* Remove its first line, which only Excel"),
        ("file;class\n0.png;cat\n", "'CSV UTF-8'"),
        ("file;class\n0.png;cat\n", "is separated by semicolons: save it with commas"),
        ("file\tclass\n0.png\tcat\n", "is separated by tabs"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            "is a pointer of Git LFS, not the file itself: 'git lfs pull'",
        ),
    ],
)
def test_what_is_no_table_of_labels(pictures: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        opened(pictures, text)
    assert len(str(caught.value)) <= 500 and str(caught.value).isprintable()


@pytest.mark.parametrize("again", ["0.png", "./0.png", "link.png"])
def test_one_file_with_two_labels_or_in_two_splits_names_both_lines(tmp_path: Path, again: str) -> None:
    for i in range(3):
        picture(40 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "link.png").symlink_to("0.png")
    with pytest.raises(InputError, match=r"t\.csv', lines 3 and 5: .*, and the two labels differ: remove one of the two lines"):
        opened(tmp_path, f"file,class\n1.png,dog\n0.png,cat\n2.png,dog\n{again},dog\n")
    with pytest.raises(
        InputError, match=r"t\.csv', lines 2 and 4: .*, which is reported, is the same file as .*, which is trained on"
    ):
        opened(tmp_path, f"file,class,split\n0.png,cat,val\n1.png,dog,train\n{again},cat,train\n")
    found = opened(tmp_path, f"file,class\n1.png,dog\n0.png,cat\n{again},cat\n0.png,cat\n")
    assert found.train.names == ["1.png", "0.png"] and found.repeated == 2


def test_what_is_there_and_not_used_is_said(pictures: Path) -> None:
    found = opened(pictures, "file,class\n0.png,Cat\n1.png,cat\ngone.png,01\n3.png,1.0\nno/such.png,nan\n")
    assert found.classes == ("01", "1.0", "Cat", "cat", "nan")
    notes = "\n".join(found.notes)
    assert "2 rows of '" in notes and "t.csv' name a file that does not exist; the first is line 4, 'gone.png'." in notes
    assert "have no row in it and are not used; the first is '" in notes and notes.count("4 pictures among those") == 1
    assert "The class 'nan' of '" in notes
    assert "The classes '01' and '1.0' of '" in notes
    assert "(2 such pairs)" in notes
    clean = opened(pictures, "file,class\n" + "".join(f"{i}.png,k{i}\n" for i in range(6)) + "é.png,k0\n")
    assert clean.notes == ()


def test_labels_that_nothing_to_train_on_shows(pictures: Path) -> None:
    several = opened(pictures, "file,sky,sea,split\n0.png,1,0,train\n1.png,1,1,val\n")
    assert "No picture to train on shows 'sea': a network cannot learn it." in several.notes
    one = opened(pictures, "file,class,split\n0.png,cat,train\n1.png,dog,val\n2.png,fox,val\n")
    assert "No picture to train on shows 'dog' (2 such classes): a network cannot learn it." in one.notes


def test_files_under_other_spellings(tmp_path: Path) -> None:
    """Letters that a Mac's disk takes apart, and Windows' backslashes."""
    (tmp_path / "imgs").mkdir()
    for i, name in enumerate((unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "ü.png"))):
        picture(90 * i).save(tmp_path / "imgs" / name)
    found = opened(tmp_path, unicodedata.normalize("NFC", "file,class\nimgs\\é.png,a\n") + "imgs/u\u0308.png,b\n")
    assert not found.notes and [found.train.read(i).getpixel((0, 0))[0] for i in range(2)] == [0, 90]  # type: ignore[union-attr, index]


def test_a_table_may_name_files_elsewhere(tmp_path: Path) -> None:
    classes_in(tmp_path / "far", 1)
    (tmp_path / "near").mkdir()
    found = opened(tmp_path / "near", f"file,class\n../far/a/0.png,a\n{tmp_path / 'far/b/0.png'},b\n")
    assert len(found.train) == 2 and found.train.names == ["../far/a/0.png", "../far/b/0.png"]
    (tmp_path / "secret").write_text("root:x\n")
    with pytest.raises(InputError, match="it contains text"):
        opened(tmp_path / "near", "file,class\n../secret,a\n").train.read(0)


def test_many_classes_take_no_time_that_grows_with_their_square(tmp_path: Path) -> None:
    def seconds(count: int) -> tuple[float, float]:
        began = time.process_time()
        rest, held = split_rows(torch.arange(count).repeat(2), 0.5, seed=0)
        assert len(held) == len(rest) == count
        divided = time.process_time()
        with pytest.raises(InputError, match=f"line 2, column 'k{count - 1}'"):
            opened(tmp_path, "file," + ",".join(f"k{i}" for i in range(count)) + "\n0.png" + ",1" * (count - 1) + ",x\n")
        return divided - began, time.process_time() - divided

    seconds(10)
    quickest = [min(times) for times in zip(*(seconds(16_000) for _ in range(3)), strict=True)]  # others use this machine, too
    for small, large in zip(seconds(1_000), quickest, strict=True):
        assert large < 64 * max(small, 0.01), (small, large)  # the square would be 256 times


def test_splits_are_those_of_before(tmp_path: Path) -> None:
    """A class at a time, as `split_rows` did when it looked for each class in all targets."""
    targets = torch.tensor([3, 1, 1, 7, 3, 3, 1, 0, 7, 3])
    generator = torch.Generator().manual_seed(5)
    rest, held = list[int](), list[int]()
    for c in sorted(set(targets.tolist())):
        group = (targets == c).nonzero().flatten()
        order = group[torch.randperm(len(group), generator=generator)].tolist()
        k = min(max(1, round(0.3 * len(order))), len(order) - 1) if len(order) > 1 else 0
        held, rest = held + order[:k], rest + order[k:]
    assert split_rows(targets, 0.3, 5) == (sorted(rest), sorted(held))


def test_words_for_one_and_none(pictures: Path) -> None:
    data = opened(pictures, "file,sky,sea\n0.png,True,FALSE\n1.png,false,1\n2.png,1.0,0\n")
    assert data.multi_label and data.train.targets.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_a_pipe_exists_and_is_no_regular_file(tmp_path: Path) -> None:
    classes_in(tmp_path / "d", 1)
    for folder in ("d/a", "."):
        os.mkfifo(tmp_path / folder / "pipe.png")
    notes = opened(tmp_path, "file,class\nd/a/0.png,cat\npipe.png,dog\nnone.png,dog\n").notes
    assert any("1 row of" in note and "is no regular file (a pipe or a device?); the first is line 3" in note for note in notes)
    assert any("does not exist; the first is line 4" in note for note in notes)
    (note,) = open_labelled(tmp_path / "d").notes
    assert note.startswith("Not used in '") and "being no regular files (pipes or devices?): 1; the first is 'a/pipe.png'" in note
    (tmp_path / "d" / "b" / "gone.png").symlink_to("nowhere.png")
    assert any("links that lead nowhere: 1; the first is 'b/gone.png'" in note for note in open_labelled(tmp_path / "d").notes)


@pytest.mark.parametrize("column", ["label", "Label", "target", "category"])
def test_a_spreadsheet_that_calls_the_class_otherwise(pictures: Path, column: str) -> None:
    """The only label, all of whose cells are words, is the class; classes, splits and blemishes are those of `class`."""
    rows = "file,{0},split\n0.png,cat,train\n1.png,dog,train\n2.png,cat,val\n"
    found, usual = opened(pictures, rows.format(column)), opened(pictures, rows.format("class"))
    assert found.classes == usual.classes == ("cat", "dog") and not found.multi_label
    assert found.train.targets.tolist() == usual.train.targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "classes"),
    [("file,label\n0.png,1\n1.png,0\n2.png,0.5\n", ("label",)), ("file,label\n0.png,true\n1.png,False\n", ("label",))],
)
def test_a_label_of_that_name_stays_a_label(pictures: Path, text: str, classes: tuple[str, ...]) -> None:
    found = opened(pictures, text)
    assert found.classes == classes and found.multi_label


@pytest.mark.parametrize(
    "text",
    [
        "file,label\n0.png,cat\n1.png,1\n", "file,label\n0.png,cat\n1.png,\n", "file,species\n0.png,cat\n1.png,dog\n",
        "file,label\n0.png,1\n1.png,l\n", "file,group,kind\n0.png,p1,cat\n1.png,p2,dog\n",
    ],
)  # fmt: skip
def test_what_may_be_the_class_is_asked(pictures: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"is neither 0 nor 1.*Is it the class\? Call the column 'class'\."):
        opened(pictures, text)


def test_a_word_among_several_labels_is_no_class(pictures: Path) -> None:
    with pytest.raises(InputError) as error:
        opened(pictures, "file,label,other\n0.png,cat,1\n1.png,dog,0\n")
    assert "'cat' is neither 0 nor 1" in str(error.value) and "Is it the class" not in str(error.value)
