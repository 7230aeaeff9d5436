"""Foreign formats: whatever their readers raise becomes one sentence."""

from __future__ import annotations

import pytest

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.foreign import foreign, refuse_pointer


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OverflowError("too\nlarge."), "'x' cannot be read: too large."),
        (OSError(5, "Input/output error"), "'x' cannot be read: Input/output error."),
        (KeyError("header"), "'x' cannot be read: 'header'."),
        (ZeroDivisionError(), "'x' cannot be read: ZeroDivisionError."),
        (MemoryError(), "'x' cannot be read: it asks for more memory than there is."),
        (RecursionError("x" * 1000), "…"),
        (
            ValueError(f"Too few bytes (3, vs 8) - {'it may be broken, ' * 3}or {'odd ' * 40}"),
            "(3, vs 8) - it may be broken, it may be broken, it may be broken.",
        ),
    ],
)
def test_any_error_becomes_one_sentence(error: Exception, text: str) -> None:
    with pytest.raises(InputError) as caught, foreign("'x' cannot be read"):
        raise error
    assert text in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_our_own_errors_and_interruptions_pass() -> None:
    for error in (StateError("as it is"), KeyboardInterrupt()):
        with pytest.raises(type(error)), foreign("'x' cannot be read"):
            raise error


def test_pointers_of_git_lfs() -> None:
    refuse_pointer(b"file,class\n", "'x'")
    with pytest.raises(InputError, match="'x' is a pointer of Git LFS, not the file itself: 'git lfs pull' fetches it"):
        refuse_pointer(b"version https://git-lfs.github.com/spec/v1\n", "'x'")
