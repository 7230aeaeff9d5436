"""What libraries in C write to the terminal themselves: heard, so that it is said in one sentence with the file's name."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["is_tiff", "overheard"]

_STDERR = 2  # the number of the stream, whatever Python's sys.stderr is
_MOST = 65_536  # bytes that are read of it
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(source: Path | bytes) -> bool:
    """Whether a file, or the bytes of one, is a TIFF: libtiff alone, of the libraries that decode pictures, writes to stderr.

    >>> is_tiff(b"II*\\0\\x08"), is_tiff(b"BM"), is_tiff(Path("absent"))
    (True, False, False)
    """
    if isinstance(source, bytes):
        return source.startswith(_TIFF)
    try:
        with open(source, "rb") as file:
            return file.read(4) in _TIFF
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return False


@contextmanager
def overheard() -> Iterator[list[str]]:
    """The lines that anything in this process writes to stderr inside, after it; they do not reach the terminal.

    What a progress bar writes meanwhile, from a thread of its own, is lost: it draws itself anew. Does nothing outside the main
    thread, and where stderr is closed.
    """
    lines: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield lines
        return
    try:
        kept = os.dup(_STDERR)
    except OSError:
        yield lines
        return
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), _STDERR)
            try:
                yield lines
            finally:
                os.dup2(kept, _STDERR)
                file.seek(0)
                text = file.read(_MOST).decode(errors="replace")
                lines += [line.strip() for line in text.splitlines() if line.strip() and line.isprintable()]
    finally:
        os.close(kept)
