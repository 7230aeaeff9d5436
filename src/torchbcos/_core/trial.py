"""An operation that may be there or not, with a stand-in that always is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Trial"]


class Trial:
    """A private operation with a public stand-in: its first call decides which of the two is used from then on.

    A name that still exists may take other arguments. Where the first call raises, and the stand-in takes the same
    arguments, the operation is given up. Where both raise, the fault is the caller's and nothing is decided.

    Args:
        private: the operation, or None where it is gone.
        public: the same by public calls.
    """

    def __init__(self, private: Callable[..., Any] | None, public: Callable[..., Any]) -> None:
        self.private, self.public, self.settled = private, public, private is None

    def __call__(self, *arguments: Any) -> Any:
        """The operation's answer, or its stand-in's."""
        if self.private is None:
            return self.public(*arguments)
        if self.settled:
            return self.private(*arguments)
        try:
            found = self.private(*arguments)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, RuntimeError):  # RuntimeError: how an operation refuses arguments that its schema has not
            found = self.public(*arguments)
            self.private = None
        self.settled = True
        return found
