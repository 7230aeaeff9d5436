"""A folder that one process writes at a time; whoever comes second is told by whom."""

from __future__ import annotations

import errno
import importlib
import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torchbcos._core.errors import StateError, shorten
from torchbcos._core.files import read_whole
from torchbcos._core.names import quote

__all__ = ["LOCK", "claimed"]

LOCK = ".lock"
_LONGEST = 2**12  # bytes of it: a number, a host and a time
_PAUSE = 0.01  # seconds between two tries of who waits
_PATIENCE = 1.0  # seconds that the holder has to write down who it is
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
try:
    _FCNTL: Any = importlib.import_module("fcntl")
except ImportError:  # Windows
    _FCNTL = None
_HELD: set[int] = set()  # file descriptors of this process


@contextmanager
def claimed(folder: Path, doing: str, *, wait: float = 0.0) -> Iterator[bool]:
    """Have a folder for oneself; the block sees False where the file system has no locks, and nothing keeps others away.

    The lock is the kernel's (`flock`), on a file in the folder that says who has it: it ends with the process however that
    ends, does not mistake another process for the holder where numbers of processes repeat (in containers), and holds
    on all machines that share a folder by NFS. Processes that this one forks do not hold it.

    Args:
        folder: created, and removed again if it was and nothing was written there.
        doing: what a process does in the block: "trains", for the message.
        wait: seconds for which another process is waited for, before the error.

    Raises:
        StateError: another process has the folder; the message names it. Or something else is called as the lock is.
        OSError: the folder cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place, claimed(Path(place, "run"), "trains"):
    ...     try:
    ...         with claimed(Path(place, "run"), "trains"): pass
    ...     except StateError as error: print(str(error).partition(":")[0].partition(" (")[0])
    Another process trains here
    """
    fresh = not folder.exists()
    handle = _locked(folder, doing, wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            _let_go(folder, handle)
        if fresh:
            with suppress(OSError):  # not empty: something was written
                folder.rmdir()


def _locked(folder: Path, doing: str, wait: float) -> int | None:
    """The locked file; None where there are no locks."""
    until = time.monotonic() + wait
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # a file; or the holder removed the folder just now, while mkdir looked what is there
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                if folder.is_dir():  # a link that was made, or whose folder came, just now
                    continue
                raise  # a file, or a link to nothing: waiting changes neither
            continue
        if _FCNTL is None:
            return None
        try:  # a link would be written through: the folder may be a stranger's
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        except FileNotFoundError:  # the holder removed the folder just now
            continue
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                raise _no_lock(folder) from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _no_lock(folder)
            _FCNTL.flock(handle, _FCNTL.LOCK_EX | _FCNTL.LOCK_NB)
            if _is_file(folder / LOCK, handle):
                _sign(handle)
                _HELD.add(handle)
                return handle
        except BlockingIOError:
            if time.monotonic() >= until:
                raise StateError(_who(folder, doing)) from None
            time.sleep(_PAUSE)  # not the kernel's own waiting, which would wait for this very process for ever
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return None
            raise
        finally:
            if handle not in _HELD:
                os.close(handle)


def _no_lock(folder: Path) -> StateError:
    """What is said of a link, a folder or a pipe in the lock's place."""
    return StateError(
        f"{quote(folder / LOCK)} is no file, and that is where a lock would be: remove it, or choose another folder."
    )


def _is_file(path: Path, handle: int) -> bool:
    """Whether an open file is still the one of this name: a holder removes it when it is done."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    """Write down who has the lock, for people; no program decides by it."""
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(about).encode(), 0)


def _who(folder: Path, doing: str) -> str:
    """The sentence for whoever comes second."""
    until = time.monotonic() + _PATIENCE
    about: Any = None
    while about is None and time.monotonic() < until:
        try:
            about = json.loads(read_whole(folder / LOCK, _LONGEST))
            who = f"process {int(about['pid'])} on {str(about['host'])!a}, since {str(about['since'])!a}"
        except (OSError, ValueError, TypeError, LookupError, RecursionError):  # not written yet; or a stranger's
            about = None
            time.sleep(0.02)
    who = f" ({shorten(who.replace(chr(39), ''), 160)})" if about is not None else ""
    return f"Another process {doing} here{who}: {quote(folder)}. Wait for it, end it, or choose another folder."


def _let_go(folder: Path, handle: int) -> None:
    """End the lock; its file goes first, while nobody else can have it."""
    _HELD.discard(handle)
    try:
        if _is_file(folder / LOCK, handle):
            (folder / LOCK).unlink(missing_ok=True)
    finally:
        os.close(handle)


def _forget() -> None:
    """In a process that was forked, which would otherwise keep the lock after the end of the one that has it."""
    for handle in _HELD:
        os.close(handle)
    _HELD.clear()


if _FCNTL is not None:
    os.register_at_fork(after_in_child=_forget)
