"""Names in messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchbcos._core.names import class_name_fault, look_alike_key, natural_key, nearby, quote, whole_number


def test_a_quoted_path_is_one_short_line_that_ends_with_the_files_name() -> None:
    assert quote(Path("a b.png")) == "'a b.png'" and "\n" not in quote("a\nb")
    text = quote("folder/" * 100 + "name.png")
    assert len(text) <= 220 and text.endswith("/name.png'") and quote(3) == "3"


def test_what_lies_beside_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.png").touch()
    assert nearby(tmp_path / "phto.png") == " Did you mean 'photo.png'?"
    assert nearby(tmp_path / "phto.png" / "") == " Did you mean 'photo.png'?"
    assert nearby(tmp_path / "zzz") == ""
    assert nearby(tmp_path / "no" / "a.png") == f" There is no folder {str(tmp_path / 'no')!r} either."
    monkeypatch.chdir(tmp_path)
    assert nearby("phto.png") == " Did you mean 'photo.png'?"
    for address in ("https://a.org/b.csv", Path("https://a.org/b.csv"), "s3://bucket/key"):
        assert nearby(address) == " Addresses are not read: download the file first."
    assert nearby("a\0b") == nearby("x" * 5000) == ""


@pytest.mark.parametrize("name", ["tench", "Größe 3", "猫", "a/b, c.d (e)", "x" * 200, "नमस्ते", "👩\u200d🚀", "می\u200cخواهم"])
def test_names_of_classes(name: str) -> None:
    assert class_name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"), ("\u00a0 ", "is empty"), ("x" * 201, "has 201 characters, more than 200"),
        ("\x1b]0;title\x07", "contains the control character U+001B"), ("a\nb", "contains the control character U+000A"),
        ("a\x00", "contains the control character U+0000"), ("a\x85b", "contains the control character U+0085"),
        ("a\u2028b", "contains the line separator U+2028"), ("a\udcffb", "contains half a character, U+DCFF"),
        ("gnp.\u202efdp", "contains the mark U+202E, which turns the direction of writing"),
        ("a\u2067b", "contains the mark U+2067, which turns the direction of writing"),
    ],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_name_of_a_class(name: str, fault: str) -> None:
    assert class_name_fault(name) == fault


def test_names_that_look_alike() -> None:
    for a, b in (
        ("Cat", "cat"),
        ("cat", "cat "),
        ("caf\u00e9", "cafe\u0301"),
        ("c\u200bat", "cat"),
        ("ｃat", "cat"),
        ("a  b", "a\tb"),
    ):
        assert look_alike_key(a) == look_alike_key(b) and a != b
    assert look_alike_key("cat") != look_alike_key("cats")


@pytest.mark.parametrize("text", ["²", "½", "Ⅷ", "", "-1", "+1", " 1", "1_0", "1e3", "9" * 5000])
def test_what_int_refuses_is_no_number(text: str) -> None:
    assert whole_number(text) is None
    assert natural_key(text) == natural_key(text)  # as a part of a name: no error


def test_digits_of_any_script_are_numbers() -> None:
    assert (whole_number("007"), whole_number("٣"), whole_number("9" * 18)) == (7, 3, 10**18 - 1)
