"""Which classes are asked for, handed out batch by batch to pictures whose number is known only at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.names import hint, whole_number
from torchbcos._core.targets import as_integers

__all__ = ["Asked", "class_index"]


class Asked:
    """Targets of a walk over pictures: one class for all, one a picture (N,), or K a picture (N, K).

    A list for one picture alone is a list of its classes: two names and one photo are two explanations.

    Args:
        targets: indices in one of these forms, or None.
        name: what messages call them.

    Raises:
        InputError: something else than integers.

    >>> Asked([3, 5]).rows(0, 1, alone=True)
    tensor([[3, 5]])
    >>> Asked([3, 5]).rows(1, 1, alone=False)
    tensor([5])
    """

    def __init__(self, targets: Any, name: str = "targets") -> None:
        self.name = name
        self.given: Tensor | None = None if targets is None else as_integers(targets, name)
        if self.given is not None and self.given.dim() and not self.given.numel():
            raise InputError(f"{name} is empty: name a class, or give None.")

    @property
    def several(self) -> bool:
        """Whether it depends on the number of pictures what is meant: a list of more than one."""
        return self.given is not None and self.given.dim() == 1 and len(self.given) > 1

    def rows(self, start: int, count: int, *, alone: bool) -> Tensor | None:
        """The targets of `count` pictures from `start` on, as `torchbcos.explain` takes them.

        Args:
            start, count: which pictures.
            alone: whether there is one picture in all.

        Raises:
            InputError: there are fewer targets than pictures.
        """
        if self.given is None or self.given.dim() == 0:
            return self.given
        if alone and self.given.dim() == 1:
            return self.given[None]
        found = self.given[start : start + count]
        if len(found) < count:
            raise InputError(f"{self._count()} for more than {start + len(found)} pictures: {_RULE}")
        return found

    def check_all(self, pictures: int) -> None:
        """Raise where targets are left over after the last picture."""
        left = self.given is not None and self.given.dim() > 0 and len(self.given) > pictures
        if left and not (pictures == 1 and self.several):
            raise InputError(f"{self._count()} for {pictures} pictures: {_RULE}")

    def _count(self) -> str:
        shape = () if self.given is None else tuple(self.given.shape)
        return f"{self.name} of shape {shape}"


_RULE = "give one class for all, one a picture, or a list of classes a picture (of one picture alone: a list of its classes)."


def class_index(target: Any, names: Sequence[str]) -> Any:
    """A class by name or number; other forms are passed on.

    Raises:
        InputError: there is no such class.
    """
    if isinstance(target, str):
        if target in names:  # "a" where there is "A", too
            return list(names).index(target)
        folded = [name.casefold() for name in names]
        if target.casefold() in folded:
            return folded.index(target.casefold())
        if (index := whole_number(target)) is not None and index < len(names):
            return index
        first = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        known = f" The model knows {first}; or give an index from 0 to {len(names) - 1}."
        raise InputError(f"There is no class {target!r} among {len(names)}.{hint(target, names) or known}")
    if isinstance(target, np.ndarray):
        return class_index(target.tolist(), names)
    if isinstance(target, (list, tuple)):
        return [class_index(t, names) for t in target]
    return target
