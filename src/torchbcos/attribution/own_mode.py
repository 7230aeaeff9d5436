"""A mode that sees the operations of its own call: not those of a call inside it, in a hook, which has its own."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, TypeVar

from torch.overrides import TorchFunctionMode

__all__ = ["OwnMode"]

_M = TypeVar("_M", bound="OwnMode")
_here: ContextVar[TorchFunctionMode | None] = ContextVar("torchbcos_own_mode", default=None)


class OwnMode(TorchFunctionMode):
    """While it is entered, and no other of its kind inside it, `own` is true."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tokens: list[Token[TorchFunctionMode | None]] = []

    @property
    def own(self) -> bool:
        """Whether what runs here belongs to this mode's call."""
        return _here.get() is self

    def __enter__(self: _M) -> _M:
        self._tokens.append(_here.set(self))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _here.reset(self._tokens.pop())
