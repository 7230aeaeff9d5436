"""Functions that are one step for whoever watches a forward pass: their insides are not looked at.

While an explanation runs, a `TorchFunctionMode` sees every operation and says of what kind its result is (`torchbcos.kinds`).
A layer of this library holds its own factors and names its own constants, so it is an atom of that chemistry: linear in its
signal, whatever it does inside. Such functions ask torch who is watching, as torch's own functions do.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

__all__ = ["Atom", "atom", "atoms", "unnamed", "unnamed_here", "unwatched", "watched"]

_F = TypeVar("_F", bound=Callable[..., Any])
_watching: ContextVar[bool] = ContextVar("torchbcos_watching", default=False)
_unnamed: ContextVar[bool] = ContextVar("torchbcos_unnamed", default=False)


class Atom(NamedTuple):
    """What is known of such a function.

    Attributes:
        signal: which positional argument it is linear in; all others are factors, which it holds.
        gives: "signal": the kind of its signal; "activation": the same, and it comes from an activation; "gate": a held value;
            "sum": its signal and a constant that is named inside.
    """

    signal: int
    gives: str


_ATOMS: dict[Callable[..., Any], Atom] = {}


def atom(*, signal: int = 0, gives: str = "signal") -> Callable[[_F], _F]:
    """Declare a function an atom: whoever watches sees one call.

    Args:
        signal, gives: as in `Atom`.
    """

    def declare(function: _F) -> _F:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not _watching.get():
                return function(*args, **kwargs)
            tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
            if not has_torch_function(tensors):  # type: ignore[arg-type]  # inside a rule
                return function(*args, **kwargs)
            return handle_torch_function(run, tensors, *args, **kwargs)

        _ATOMS[run] = Atom(signal, gives)
        return run  # type: ignore[return-value]

    return declare


def atoms() -> dict[Callable[..., Any], Atom]:
    """Every function that was declared an atom."""
    return _ATOMS


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Inside this block, and in this thread, atoms ask who is watching."""
    token = _watching.set(True)
    try:
        yield
    finally:
        _watching.reset(token)


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Inside this block, and in this thread, atoms run without asking."""
    token = _watching.set(False)
    try:
        yield
    finally:
        _watching.reset(token)


@contextlib.contextmanager
def unnamed() -> Iterator[None]:
    """Inside this block constants are added without a name: to a factor, which is held with them."""
    token = _unnamed.set(True)
    try:
        yield
    finally:
        _unnamed.reset(token)


def unnamed_here() -> bool:
    """Whether constants go without a name here."""
    return _unnamed.get()
