"""What an operation is called: the names in the table, for every spelling that torch has of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.torch_private import qualified

__all__ = ["Operation", "asks_in_place", "functions_of", "key_of", "spelled", "writes"]

# where torch keeps functions of one name; what is written as an operator or in place is the same operation
_NAMESPACES: tuple[Any, ...] = (Tensor, torch, F, torch.special, torch.linalg)
_OPERATORS = {
    "add": ("__add__", "__radd__", "__iadd__"), "sub": ("__sub__", "__isub__"), "rsub": ("__rsub__",),
    "mul": ("__mul__", "__rmul__", "__imul__"), "div": ("__truediv__", "__itruediv__", "__div__", "__idiv__"),
    "rdiv": ("__rtruediv__", "__rdiv__"), "matmul": ("__matmul__", "__imatmul__"), "rmatmul": ("__rmatmul__",),
    "pow": ("__pow__", "__ipow__"), "rpow": ("__rpow__",), "neg": ("__neg__",), "abs": ("__abs__",),
    "getitem": ("__getitem__",), "setitem": ("__setitem__",), "where_method": ("where",),  # x.where(condition, other)
}  # fmt: skip


class Operation(NamedTuple):
    """One function of torch, by the name of its operation.

    Attributes:
        name: as the table has it: "relu" for `torch.relu`, `Tensor.relu_`, `F.relu`, `torch.ops.aten.relu.default`.
        inplace: whether it writes into its first argument.
    """

    name: str
    inplace: bool = False


def functions_of(name: str) -> Iterator[tuple[Any, bool]]:
    """Every function of torch that is the operation `name`, and whether it writes into its first argument."""
    for space in _NAMESPACES:
        for spelling in (name, f"special_{name}", f"linalg_{name}"):
            found: Any = getattr(space, spelling, None)
            if inspect.isdatadescriptor(found):  # x.shape, x.T: torch tells of its getter
                yield found.__get__, False  # type: ignore[union-attr]
            elif found is not None and callable(found):
                yield found, False
        if (found := getattr(space, f"{name}_", None)) is not None and callable(found):
            yield found, True
    for operator in _OPERATORS.get(name, ()):
        if (found := getattr(Tensor, operator, None)) is not None:
            yield found, operator.startswith("__i") or operator == "__setitem__"


def key_of(function: Any) -> Any:
    """What a rule of `function` is kept under: the qualified name of an operation of `torch.ops`, else the function itself.

    >>> key_of(torch.ops.aten.relu.default), key_of(torch.relu) is torch.relu
    ('aten::relu', True)
    """
    return qualified(function) or function


@functools.cache
def _place_of_inplace(function: Any) -> int | None:
    """Which argument of a function of `torch.nn.functional` says that it writes into its input."""
    try:
        return list(inspect.signature(function).parameters).index("inplace")
    except (TypeError, ValueError):
        return None


def asks_in_place(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this call asks a function to write into its first argument: by `inplace=True`, or by its place.

    >>> asks_in_place(F.relu, (torch.ones(1), True), {}), asks_in_place(F.relu, (torch.ones(1),), {})
    (True, False)
    """
    if "inplace" in kwargs:
        return kwargs["inplace"] is True
    if not [a for a in args if a is True]:
        return False
    place = _place_of_inplace(function)
    return place is not None and place < len(args) and args[place] is True


def writes(function: Callable[..., Any]) -> bool:
    """Whether a function that the table does not have writes into its first argument, by torch's way of naming such."""
    name = spelled(function, whole=True).partition("::")[2] or spelled(function, whole=True)
    return (name.endswith("_") and not name.endswith("__")) or name in ("__set__", "__delete__") or name.startswith("__i")


def spelled(function: Callable[..., Any], *, whole: bool = False) -> str:
    """What a message calls a function that the table does not have; `whole`: with every underscore.

    >>> spelled(torch.fft.fft), spelled(Tensor.T.__get__), spelled(torch.ops.aten.cumprod.default)
    ('fft_fft', 'T', 'aten::cumprod')
    """
    named = qualified(function)
    if named is not None:
        return named
    name = str(getattr(function, "__name__", type(function).__name__))
    if whole:
        return name
    if name in ("__get__", "__set__", "__delete__"):
        name = str(getattr(getattr(function, "__self__", None), "__name__", name))
    return name.strip("_") or name
