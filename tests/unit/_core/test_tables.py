"""Text files of users: every way to be wrong gets one sentence with the file and the line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from torchbcos._core.errors import BcosError, InputError, MissingFileError
from torchbcos._core.tables import read_rows, read_table, read_text, tidy

WRONG = [
    ("grün,1\n".encode("latin-1"), r"line 2, is not text in UTF-8 \(byte 0xfc\): save it as UTF-8"),
    (b"x,1\n" + b"\x81\x8d\n", r"line 3, is not text in UTF-8 \(byte 0x81\)"),
    (b"a\0b,1\n", "line 2, contains a zero byte"),
    (b'ok,1\n"a.png,1\nb.png,2\n', "line 3, begins no row of a CSV file: unexpected end of data"),
    (b'"a"b,1\n', "line 2, begins no row of a CSV file: "),
    (b'"' + b"x" * 200_000 + b"\n", "line 2, begins no row of a CSV file: "),
    (b"a,b.png,1\n", "line 2, has 3 cells, and there are 2 columns: a cell that contains a comma is written in quotation marks"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_what_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(b"file,n\n" + content)
    with pytest.raises(InputError, match=f"t.csv', {message}") as caught:
        read_table(tmp_path / "t.csv")
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,n\nx,1\n".encode("utf-16"), "is text in UTF-16: save it as UTF-8"),
        (b"", r"is empty: its first line names the columns \(file, n\)"),
        (b"\n\n", "is empty"),
        (b"file;n\nx;1\n", "is separated by semicolons: save it with commas"),
        (b"file\tn\n", "is separated by tabs"),
        (b"file,n,file\n", "has the column 'file' twice"),
        (b"fil,n\n", r"lacks the columns file; it has fil, n. Did you mean 'fil'"),
    ],
)
def test_what_is_no_table_of_these_columns(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"t.csv' {message}"):
        read_table(tmp_path / "t.csv", ["file", "n"])


@pytest.mark.parametrize("read", [read_text, read_rows, read_table])
def test_what_is_no_file(tmp_path: Path, read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels.csv").mkdir()
    for name, error, message in (
        ("labels.csv", InputError, "is a folder; a text file is expected there"),
        ("label.csv", MissingFileError, r"label.csv' does not exist. Did you mean 'labels.csv'"),
        ("no/label.csv", MissingFileError, "There is no folder '.*no' either"),
        ("a\0b", InputError, "cannot be read: no file can have this name"),
        ("x" * 5000, InputError, "cannot be read: File name too long"),
    ):
        with pytest.raises(error, match=message):
            read(tmp_path / name)
    (tmp_path / "secret.csv").write_text("a\n")

    def deny(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("torchbcos._core.tables.read_whole", deny)
    with pytest.raises(InputError, match="may not be read: permission denied"):
        read(tmp_path / "secret.csv")


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes('\ufefffile , n\r\n\r\n"a\nb.png",1\r\nc\u2028.png\r\n5" nail.png,2,,\n'.encode())
    table = read_table(tmp_path / "t.csv", ["file", "n"])
    assert table.columns == ("file", "n")
    assert [(row.line, row["file"], row["n"]) for row in table.rows] == [
        (3, "a\nb.png", "1"), (5, "c\u2028.png", ""), (6, '5" nail.png', "2"),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
def test_lines_end_in_three_ways(tmp_path: Path, end: str) -> None:
    for line, message in (
        (b"gr\xfc", r"line 3, is not text in UTF-8"),
        (b"a\0b", "line 3, contains a zero byte"),
        (b"1,2,3", "line 3, has"),
    ):
        (tmp_path / "t.csv").write_bytes(f"file,n{end}a,1{end}".encode() + line + end.encode())
        with pytest.raises(InputError, match=message):
            read_table(tmp_path / "t.csv")


def test_what_is_not_read_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    with pytest.raises(InputError, match=r"p\.csv' is a pointer of Git LFS, not the file itself"):
        read_text(tmp_path / "p.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv' is no regular file"):
        read_text(tmp_path / "pipe.csv")
    monkeypatch.setattr("torchbcos._core.tables._MOST_BYTES", 20)
    with pytest.raises(InputError, match=r"p\.csv' has more than 20 bytes, the most that is read of such a file: divide it"):
        read_text(tmp_path / "p.csv")


def test_cells_as_they_are_meant() -> None:
    for cell in ("cat", " cat", "cat\u00a0", "\ufeffcat", "\u200b cat \u200b\u3000", "\tcat\r"):
        assert tidy(cell) == "cat"
    assert tidy("a\u200bb") == "a\u200bb" and tidy("\u200b") == "" and tidy("e\u0301") == "\u00e9"


@pytest.mark.skipif(os.name == "nt", reason="permissions of another kind")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n")
    (tmp_path / "t.csv").chmod(0)
    try:
        (tmp_path / "t.csv").read_bytes()
    except PermissionError:
        with pytest.raises(BcosError, match="permission denied"):
            read_rows(tmp_path / "t.csv")
    finally:
        (tmp_path / "t.csv").chmod(0o600)
