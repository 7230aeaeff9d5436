"""Files that appear whole or not at all, and strangers' files that are read whole."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos._core.names import quote

__all__ = ["NOT_REGULAR", "finite_or_null", "read_whole", "replacing", "write_json"]

NOT_REGULAR = "is no regular file (a pipe or a device?): copy it into a file first."
_PART = 2**20  # bytes


def read_whole(file: Path, limit: int, advice: str = "is it the right one?") -> bytes:
    """All bytes of a file that somebody else may have put there: no pipe that never ends, no more than the limit.

    Args:
        file: a regular file, or a link to one.
        limit: bytes; what the file's size says is not relied on, which a device does not know and a writer changes.
        advice: the next step where it has more.

    Raises:
        InputError: it is a pipe, a device or a socket, or has more bytes.
        OSError: it is not there, is a folder, or may not be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("whole")
    ...     read_whole(Path(folder, "a.txt"), 100)
    b'whole'
    """
    _check_regular(file, file.stat())  # before it is opened: to open some devices is to use them
    # not blocking: between these two lines the file may have become a pipe
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as opened:
        found = os.fstat(handle)
        _check_regular(file, found)
        data = opened.read(min(found.st_size, limit) + 1)
        while found.st_size < len(data) <= limit and (part := opened.read(min(_PART, limit + 1 - len(data)))):
            data += part  # more than its size: it grows, or the system makes it up while it is read
    if len(data) > limit:
        size = f"{limit // 2**20:,} MB" if limit >= 2**20 else f"{limit:,} bytes"
        raise InputError(f"{quote(file)} has more than {size}, the most that is read of such a file: {advice}")
    return data


def _check_regular(file: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{quote(file)} {NOT_REGULAR}")


@contextmanager
def replacing(target: Path, *, durable: bool = False, keep: Path | None = None) -> Iterator[Path]:
    """A file beside `target` to write to; at the end of the block it takes the place of `target`.

    After an error in the block, `target` is as before and nothing else is left. A new file has the permissions of any new
    file, as umask and folder say; a file that is replaced hands its permissions on.

    Args:
        target: the file; its folder exists.
        durable: wait until the disk has it, so that not even a power cut leaves half of it.
        keep: where the old file goes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as partial:
    ...         _ = partial.write_text("whole")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    # a short random name: no collision between threads, and no longer than the folder allows
    partial = target.parent / f".{uuid.uuid4().hex}.part"
    # not tempfile, whose files are the owner's alone: the umask cannot be asked for without changing it for all threads
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        if durable:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        _hand_on_mode(target, partial)
        if keep is not None and target.exists():
            os.replace(target, keep)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _hand_on_mode(old: Path, new: Path) -> None:
    try:
        wanted = stat.S_IMODE(old.stat().st_mode)
    except FileNotFoundError:
        return
    if wanted != stat.S_IMODE(new.stat().st_mode):
        os.chmod(new, wanted)


def write_json(target: Path, values: Mapping[str, Any]) -> None:
    """A JSON file for people and programs, whole or not at all; null in place of NaN and infinity, which JSON has not.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(Path(folder, "a.json"), {"name": "é"})
    ...     Path(folder, "a.json").read_text("utf-8")
    '{\\n "name": "é"\\n}\\n'
    """
    with replacing(target) as partial:
        text = json.dumps(finite_or_null(values), indent=1, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", "utf-8")


def finite_or_null(value: Any) -> Any:
    """Mappings, lists and numbers as JSON can hold them: None in place of NaN and infinity, for which it has no word.

    >>> finite_or_null({"top1": math.nan, "of": [1.5, -math.inf, "x"]})
    {'top1': None, 'of': [1.5, None, 'x']}
    """
    if isinstance(value, Mapping):
        return {key: finite_or_null(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
