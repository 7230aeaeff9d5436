"""Names in messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchbcos._core.names import nearby, quote


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
