"""What is said of data: files that are not read, classes that look alike."""

from __future__ import annotations

import pytest

from torchbcos._core.errors import InputError
from torchbcos.data.notes import check_class, look_alikes, passed_over, same_class_key


@pytest.mark.parametrize(
    ("a", "b"), [("Cat", "cat"), ("1", "1.0"), ("01", "1"), ("caf\u00e9", "cafe\u0301"), ("a\u200bb", "ab"), ("a  b", "A b")]
)
def test_classes_that_look_alike(a: str, b: str) -> None:
    assert same_class_key(a) == same_class_key(b) and len(look_alikes([a, "dog", b], "x")) == 1
    (note,) = look_alikes([a, "dog", b], "x")
    assert note.isprintable() and (repr(a) if a.isascii() and b.isascii() else ascii(a)) in note


def test_classes_that_do_not() -> None:
    assert look_alikes(["cat", "cats", "1", "2", "10", "1.5", "1.2.3", "123", "none"], "x") == ()


def test_what_systems_leave_in_folders_is_no_data() -> None:
    assert passed_over(["d/.DS_Store", "d/a/Thumbs.db", "d/.git"], "d") == ()
    notes = passed_over(["d/a/1.psd", "d/b.txt", "d/c", "d/e.psd", "d/f.\x1b[2J", "d/.a.png"], "d")
    assert notes == (
        "5 files in 'd' are not read as pictures and not used: 2 .psd, 1 .txt, 1 of other kinds, 1 without a suffix; the first "
        "is 'a/1.psd'.",
        "1 hidden file in 'd' is not used; the first is '.a.png'.",
    )


def test_no_name_of_a_class() -> None:
    check_class("tench", "x")
    with pytest.raises(InputError, match=r"^x: the name of the class, 'a.x07', contains the control character U\+0007\.$"):
        check_class("a\x07", "x")
