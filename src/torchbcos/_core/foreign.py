"""Files that others made: whatever goes wrong in reading one becomes one sentence that names the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torchbcos._core.errors import BcosError, InputError, in_short

__all__ = ["LFS_POINTER", "foreign", "is_pointer", "refuse_pointer"]

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def is_pointer(head: bytes) -> bool:
    """Whether a file that begins with these bytes only stands for a large one that Git LFS keeps elsewhere.

    >>> is_pointer(b"version https://git-lfs.github.com/spec/v1\\noid sha256:0000\\n"), is_pointer(b"file,class\\n")
    (True, False)
    """
    return head.startswith(LFS_POINTER)


def refuse_pointer(head: bytes, name: str) -> None:
    """Name a pointer of Git LFS as what it is.

    Args:
        head: the beginning of a file.
        name: of the file, in quotation marks.

    Raises:
        InputError: it is one.
    """
    if is_pointer(head):
        raise InputError(f"{name} is a pointer of Git LFS, not the file itself: 'git lfs pull' fetches it.")


@contextlib.contextmanager
def foreign(complaint: str) -> Iterator[None]:
    """Read a foreign format: any error but one of our own becomes `complaint` and its reason, on one line.

    Readers of such formats raise a dozen kinds of errors on broken bytes, few of them documented.

    Raises:
        InputError: something went wrong.

    >>> with contextlib.suppress(InputError), foreign("'x.tar' cannot be read"):
    ...     raise OverflowError("too large")
    """
    try:
        yield
    except BcosError:
        raise
    except MemoryError as error:
        raise InputError(f"{complaint}: it asks for more memory than there is.") from error
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        why = in_short(" ".join(reason.split()) or type(error).__name__, 160).rstrip(".")
        raise InputError(f"{complaint}: {why}.") from error
