"""Text and CSV files that users write: one reader, whose errors name the file and the line."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchbcos._core.errors import InputError, MissingFileError, shorten
from torchbcos._core.files import read_whole
from torchbcos._core.foreign import refuse_pointer
from torchbcos._core.names import hint, nearby, quote

__all__ = ["Row", "Table", "list_columns", "read_rows", "read_table", "read_text", "tidy"]

_MOST_BYTES = 2**29  # of a text: ten million rows fit
# What is seen as nothing at the ends of a cell: byte-order marks and spaces without width, which str.strip() keeps.
_UNSEEN = "\ufeff\u200b\u2060\u200e\u200f\u00ad"
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, counted from 1, its cells by column, and how many of them it lacks."""

    line: int
    cells: dict[str, str]
    missing: int = 0

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@dataclass(frozen=True)
class Table:
    """A CSV file with a line of column names."""

    file: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_text(file: Path, most: int | None = None) -> str:
    """The text of a file in UTF-8, with or without the mark that some programs put at its start.

    Args:
        file: a regular file.
        most: bytes that it may have; None for as many as any table has.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is a folder, a pipe or a device, has more bytes, may not be read, or is no UTF-8 text; the message names
            the line.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "names.txt").write_bytes("Blümchen".encode("latin-1"))
    ...     try: read_text(Path(folder, "names.txt"))
    ...     except InputError as error: print(str(error).partition("names.txt', ")[2])
    line 1, is not text in UTF-8 (byte 0xfc): save it as UTF-8, which editors call its encoding.
    """
    name = quote(file)
    try:
        data = read_whole(file, _MOST_BYTES if most is None else most, "divide it.")
    except InputError:  # which is a ValueError, too
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError(f"{name} does not exist.{nearby(file)}") from None
    except IsADirectoryError:
        raise InputError(f"{name} is a folder; a text file is expected there.") from None
    except PermissionError:
        raise InputError(f"{name} may not be read: permission denied. Change its permissions (chmod +r).") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or type(error).__name__}.") from error
    except ValueError as error:  # of the system's own check
        raise InputError(f"{name} cannot be read: no file can have this name.") from error
    return _decode(data, name)


def _decode(data: bytes, name: str) -> str:
    advice = "save it as UTF-8, which editors call its encoding."
    refuse_pointer(data[:64], name)
    if data.startswith(_UTF_16):
        raise InputError(f"{name} is text in UTF-16: {advice}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line(data[: error.start].decode("latin-1"))
        raise InputError(f"{name}, line {line}, is not text in UTF-8 (byte 0x{data[error.start]:02x}): {advice}") from None
    if "\0" in text:
        line = _line(text[: text.index("\0")])
        raise InputError(f"{name}, line {line}, contains a zero byte: it is no text, or damaged. Save it again as UTF-8.")
    return text


def _line(before: str) -> int:
    """The number of the line after some text, whose lines end as on Unix, on Windows or on old Macs."""
    return before.count("\n") + before.count("\r") - before.count("\r\n") + 1


def tidy(cell: str) -> str:
    """A cell as it is meant: nothing unseen at its ends, each letter in Unicode's composed form (NFC).

    >>> tidy("\\ufeff caf" + "e\\u0301\\u00a0")
    'café'
    """
    text = cell.strip()
    while text and (text[0] in _UNSEEN or text[-1] in _UNSEEN):
        text = text.strip(_UNSEEN).strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def read_rows(file: Path) -> list[tuple[int, list[str]]]:
    """The lines of a CSV file that are not empty: the number of each, counted from 1, and its cells.

    Raises:
        MissingFileError, InputError: see `read_text`; or a quotation mark is not closed, or stands in the middle of a cell.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "t.csv").write_text('file,class\\n\\n"a,b.png",cat\\n')
    ...     read_rows(Path(folder, "t.csv"))
    [(1, ['file', 'class']), (3, ['a,b.png', 'cat'])]
    """
    reader = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)  # strict: an open quote would swallow the rest
    found: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1  # where the next row begins; a cell in quotes may go over several lines
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{quote(file)}, line {line}, begins no row of a CSV file: {error}. Cells are separated by commas; "
                "quotation marks come in pairs, around a whole cell."
            ) from error
        if cells is None:
            return found
        if cells:
            found.append((line, cells))


def read_table(file: Path, needed: Sequence[str] = ()) -> Table:
    """A CSV file whose first line names the columns.

    Cells are as `tidy` leaves them. A row that is shorter than the first has "" in the columns that it lacks.

    Args:
        file: in UTF-8, cells separated by commas.
        needed: columns that it must have.

    Raises:
        MissingFileError, InputError: see `read_rows`; or a column is missing or there twice, or a row has more cells than there
            are columns.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "t.csv").write_text("file,class\\n1.png,cat\\n")
    ...     read_table(Path(folder, "t.csv"), ["file"]).rows[0]["class"]
    'cat'
    """
    name, lines = quote(file), read_rows(file)
    if not lines:
        raise InputError(f"{name} is empty: its first line names the columns{_named(needed)}.")
    columns = tuple(tidy(cell) for cell in lines[0][1])
    if columns[0].casefold() == "sep=":  # what Excel takes as an instruction, and every other program as names
        raise InputError(f"{name} begins with a line 'sep=', which only Excel understands: remove that line.")
    _check_columns(name, columns, needed)
    rows = []
    for line, cells in lines[1:]:
        cells = [tidy(cell) for cell in cells]
        if any(cells[len(columns) :]):
            raise InputError(
                f"{name}, line {line}, has {len(cells)} cells, and there are {len(columns)} columns: a cell that contains a "
                'comma is written in quotation marks, "a,b.png".'
            )
        lacking = max(0, len(columns) - len(cells))
        rows.append(Row(line, dict(zip(columns, [*cells, *[""] * lacking], strict=False)), lacking))
    return Table(file, columns, tuple(rows))


def _check_columns(name: str, columns: tuple[str, ...], needed: Sequence[str]) -> None:
    other = next((word for mark, word in _SEPARATORS.items() if len(columns) == 1 and mark in columns[0]), None)
    if other is not None:
        first = (
            " Remove its first line, which only Excel understands, as well." if columns[0].casefold().startswith("sep=") else ""
        )
        raise InputError(
            f"{name} is separated by {other}: save it with commas (Excel: as 'CSV UTF-8', or replace them in an editor).{first}"
        )
    counts = Counter(columns)
    twice = next((column for column in columns if column and counts[column] > 1), None)
    if twice is not None:
        raise InputError(f"{name} has the column {shorten(repr(twice), 100)} twice.")
    missing = [column for column in needed if column not in counts]
    if missing:
        raise InputError(
            f"{name} lacks the columns {', '.join(missing)}; it has {list_columns(columns)}.{hint(missing[0], columns)}"
        )


def list_columns(columns: Sequence[str]) -> str:
    """Names of columns as they stand in a message: as they are, in quotation marks where they hold what cannot be printed.

    >>> list_columns(["file", "a\\x07"])
    "file, 'a\\\\x07'"
    """
    shown = [shorten(column if column.isprintable() else repr(column), 60) for column in columns[:20]]
    return ", ".join(shown) + (f", … ({len(columns):,} in all)" if columns[20:] else "")


def _named(needed: Sequence[str]) -> str:
    return f" ({', '.join(needed)})" if needed else ""
