"""Names in messages."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.letters import one_line, printable
from torchbcos._core.names import (
    brief,
    class_name_fault,
    file_parts,
    fit_name,
    look_alike_key,
    natural_key,
    nearby,
    panel_name,
    quote,
    slug,
    whole_number,
)


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


# -- names of strangers ------------------------------------------------------------------------------------------------

# what commands a terminal or hides: escape sequences, return, backspace, C1, bidirectional, zero width, fillers, surrogates
EVIL = [
    "\x1b]0;owned\x07", "\x1b[2J", "fake: 100%\r", "a\b\b\b", "one\ntwo", "\u202egpj.exe", "\x9b31m", "go\u200blf", "\x00",
    "\x7f",
    "\u2066x\u2069", "\u2028", "\ufeff", "\u00ad", "\U000e0041", "\ud800", "\u3164", "a\u200dz", "\u0085", "\u061c",
]  # fmt: skip
HONEST = ["tench", "Größe", "金魚", "قطة", "می‌خواهم", "👩‍👩‍👧", "क्‍ष", "a  b", "é", "a b", "[bold]x[/bold]", "C:\\x"]


def is_unseen(letter: str) -> bool:
    """Said another way than the code says it: by Unicode's own list of categories, without the two joiners."""
    return unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter not in "\u200c\u200d"


@given(st.text(st.characters(), max_size=40) | st.sampled_from(EVIL))
def test_no_name_commands_a_terminal_or_a_disk(name: str) -> None:
    for shown in (printable(name), one_line(name), brief(name), slug(name), fit_name(name)):
        assert not any(map(is_unseen, shown)), ascii(shown)
    for part in (slug(name), fit_name(name)):
        assert "/" not in part and len(part.encode()) <= 255
    assert not set(slug(name)) & set('/\\:*?"<>| ')


@pytest.mark.parametrize("name", EVIL)
def test_evil_names_are_shown_as_what_they_are(name: str) -> None:
    assert printable(name) != name and printable(name).encode("ascii").decode("unicode_escape") == name
    assert one_line(name) == " ".join(one_line(name).split()) != name


@pytest.mark.parametrize("name", HONEST)
def test_honest_names_stay(name: str) -> None:
    assert printable(name) == brief(name) == name and fit_name(name.replace("/", "")) == name.replace("/", "")


def test_joiners_stay_where_they_spell_and_nowhere_else() -> None:
    assert (
        printable("\u200dgolf") == "\\u200dgolf"
        and printable("go\u200clf") == "go\\u200clf"
        and printable("金\u200d") == "金\\u200d"
    )
    assert printable("\u202e\u200d\u202e") == "\\u202e\\u200d\\u202e"  # a joiner between two that hide is hidden as well


def test_long_names_fit_and_stay_apart() -> None:
    long = ["x" * 300, "x" * 299 + "y", "é" * 200, "金" * 90, "👩" * 70, "a\x1b" * 200]
    assert all(len(fit_name(name).encode()) <= 255 for name in long)
    assert len({fit_name(name) for name in long}) == len(long)
    assert fit_name("a\x1bb") != fit_name("a\x1cb") != fit_name("a-b") == "a-b"
    assert len(brief("x" * 10**6)) == 100 and len(slug("é" * 10**6).encode()) <= 100


# Two files of one name are one file: the second panel would replace the first.
@pytest.mark.parametrize(
    "names", [["a", "A", "a-0", "b"], ["caf\u00e9", "cafe\u0301"], ["", "-0", "-0-0"], ["x"] * 3, ["STRASSE", "stra\u00dfe"]]
)
def test_file_parts_are_distinct_on_every_disk(names: list[str]) -> None:
    parts = file_parts(names)
    on_disk = {unicodedata.normalize("NFD", part).casefold() for part in parts}
    assert len(on_disk) == len(names) and not any(set(part) & set('/\\:*?"<>| ') for part in parts)
    assert file_parts(["tench", "b"]) == ["tench", "b"]


@pytest.mark.parametrize(("picture", "suffix"), [("a.jpg", ".png"), ("é" * 300, ".pdf"), ("a/b", ".png"), ("", ".png")])
def test_the_name_of_a_panel_fits_a_disk(picture: str, suffix: str) -> None:
    name = panel_name(picture, "tench", "church", suffix)
    assert name.endswith(".tench-not-church" + suffix) and len(name.encode()) <= 255 and "/" not in name
