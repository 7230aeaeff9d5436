"""What the modules of a network give during one forward pass: of this thread, and of this call."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from torchbcos._core.frozen import current
from torchbcos.explanation.forward import hook_lock

__all__ = ["Seen", "Sight", "sight_of"]

_KEPT = 128  # outputs that are kept, from the end: the last blocks of any network, and not all of its memory
_here: ContextVar[Sight | None] = ContextVar("torchbcos_sight", default=None)


@dataclass(frozen=True, eq=False)
class Seen:
    """The output of a module.

    Attributes:
        name, module: which.
        output: what it gave.
        last: whether the last convolution or linear layer until then keeps channels in the last axis.
        constants: how many constants an explanation had named by then.
    """

    name: str
    module: nn.Module
    output: Any
    last: bool
    constants: int


@dataclass(eq=False)
class Sight:
    """Outputs of modules, in the order in which these ended.

    Attributes:
        seen: the last of them.
        modules: of the network, by name.
        shapes: of all tensors that came out.
        maps: those that may hold channels second: all but the tokens of linear layers.
    """

    seen: deque[Seen]
    modules: dict[str, nn.Module]
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    maps: list[tuple[int, ...]] = field(default_factory=list)
    last: bool = False

    def note(self, name: str, module: nn.Module, output: object, *, keep: bool) -> None:
        """Keep what a module gave, or its shape."""
        if getattr(module, "channel_dim", 1) == -1:
            self.last = True
        elif isinstance(module, nn.Linear | nn.LayerNorm) and isinstance(output, Tensor):
            self.last = output.shape[-1] in (getattr(module, "out_features", 0), *getattr(module, "normalized_shape", ())[-1:])
        elif "Conv" in type(module).__name__:
            self.last = False
        state = current()
        if keep:
            self.seen.append(Seen(name, module, output, self.last, 0 if state is None else len(state.probes)))
        if isinstance(output, Tensor):
            self.shapes.append(tuple(output.shape))
            if output.dim() > 3 or not self.last:
                self.maps.append(self.shapes[-1])


@contextlib.contextmanager
def sight_of(model: nn.Module, only: str | None = None) -> Iterator[Sight]:
    """Inside this block, what modules of `model` give in this thread is seen.

    Args:
        model: the network.
        only: the name of one module, whose output alone is kept. The network goes on with a copy of it, so that an activation
            that edits it in place leaves what was seen. None: every module but the network itself, without copies.
    """
    sight = Sight(deque(maxlen=_KEPT), dict(model.named_modules()))
    handles = []
    try:
        with hook_lock:
            for name, module in sight.modules.items():
                if name:
                    handles.append(module.register_forward_hook(_hook(sight, name, only)))
        token = _here.set(sight)
        try:
            yield sight
        finally:
            _here.reset(token)
    finally:
        with hook_lock:
            for handle in handles:
                handle.remove()


def _hook(sight: Sight, name: str, only: str | None) -> Any:
    def note(module: nn.Module, _args: object, output: object) -> object:
        if _here.get() is not sight:  # another thread, or another call inside this one
            return None
        sight.note(name, module, output, keep=only in (None, name))
        return output.clone() if only == name and isinstance(output, Tensor) else None

    return note
