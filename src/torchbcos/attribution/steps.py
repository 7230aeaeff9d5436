"""What a network computes with its input, step by step: which operation, in which module."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torchbcos._core.eagerly import eagerly
from torchbcos._core.errors import StateError
from torchbcos._core.names import quote
from torchbcos.kinds.call import tensors_in
from torchbcos.kinds.operation import spelled
from torchbcos.kinds.place import place_here
from torchbcos.kinds.table import rule_of

__all__ = ["Step", "Steps", "bent_steps", "check_watchable", "listed", "names_of", "operation_of"]

# rules of `torchbcos.kinds` whose operations are linear or constant in whatever moves, with batch norms of eval mode
_LINEAR = (
    "map_with_bias", "view", "shaped_as", "alpha_dropout", "each", "like", "linear_map", "add", "subtract", "join", "pad", "fill",
    "refill", "overwrite", "index_add", "batch_norm", "cut", "listen", "read", "counted", "look",
)  # fmt: skip
# and those that are linear where one factor alone moves
_BILINEAR = ("multiply", "divide", "einsum", "addmm", "addcmul", "addcdiv", "lerp", "choose")

# what comes out has a size or a dtype of theirs, and none of their numbers
_READ = ("like", "read", "counted")


class Step(NamedTuple):
    """One operation on something that depends on the input.

    Attributes:
        operation: as the table of `torchbcos.kinds` calls it.
        rule: the name of its rule there: operations of one rule are alike.
        module: the innermost module around it; "" in the network's own forward.
        family: the class of that module.
        moving: how many of its arguments depend on the input.
    """

    operation: str
    rule: str
    module: str
    family: str
    moving: int

    @property
    def bent(self) -> bool:
        """Whether it is no affine function of what moves."""
        return self.rule not in _LINEAR and not (self.rule in _BILINEAR and self.moving < 2)

    def __str__(self) -> str:
        inside = f" in {quote(self.module)} ({self.family})" if self.module else ""
        return f"{self.operation}{inside}"


class Steps(TorchFunctionMode):
    """While it is entered, every operation on something that depends on `x` is written down; nothing is changed.

    Args:
        names: of the modules, by `id`.
        x: the input.
    """

    def __init__(self, names: dict[int, str], x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names
        self.steps: list[Step] = []
        self._moves: dict[int, weakref.ref[Tensor]] = {id(x): weakref.ref(x)}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run it, and write it down."""
        kwargs = kwargs or {}
        moving = sum(self._depends(t) for t in tensors_in(args, kwargs))
        value = func(*args, **kwargs)
        rule, name = operation_of(func)
        if moving and rule != "look":
            place = place_here(self.names)
            self.steps.append(Step(name, rule, place.name, place.family, moving))
            for t in tensors_in((value,), {}) if rule not in _READ else ():
                self._moves[id(t)] = weakref.ref(t)
        return value

    def _depends(self, t: Tensor) -> bool:
        found = self._moves.get(id(t))
        return found is not None and found() is t


def operation_of(func: Callable[..., Any]) -> tuple[str, str]:
    """The name of an operation's rule, and its own."""
    rule, operation = rule_of(func)
    return rule.__name__, operation.name or spelled(func)


def names_of(model: object) -> dict[int, str]:
    """The name of each module, by `id`; of a function there are none."""
    return {id(m): name for name, m in model.named_modules()} if isinstance(model, nn.Module) else {}


def bent_steps(model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> list[Step]:
    """What a network computes with x that is not affine; each operation of a module once.

    Args:
        model: its modules have names.
        run: calls it.
        x: (1, C, *S).
    """
    x = x.detach().clone()
    with eagerly(), torch.no_grad(), Steps(names_of(model), x) as seen:
        run(x)
    return list(dict.fromkeys(step for step in seen.steps if step.bent))


def check_watchable(model: object, name: str) -> None:
    """Raise StateError for parts that are scripts: nobody sees what they compute."""
    for path, module in model.named_modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, torch.jit.ScriptModule):
            raise StateError(
                f"{name} changes steps of a network, and nobody sees those of {quote(path) if path else 'this one'}, which is "
                "scripted or traced code: use the network that it was made from."
            )


def listed(found: Iterable[object], most: int = 3) -> str:
    """The first few of what was found, and how many more there are."""
    words = list(dict.fromkeys(str(f) for f in found))
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
