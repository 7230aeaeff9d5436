"""Constants: what an operation adds that does not depend on the input gets a name, and is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torchbcos._core.errors import StateError
from torchbcos._core.identity import memory_of, node_of
from torchbcos._core.torch_private import base_of, is_view
from torchbcos.kernels.named import Named
from torchbcos.kinds.place import place_here

if TYPE_CHECKING:
    from torchbcos.kinds.watch import Watch

__all__ = ["Naming", "OneByOne", "Part"]


class OneByOne(StateError):
    """Images cannot be told apart where a constant is added: each must be explained alone."""


class Part(NamedTuple):
    """A constant in the result of an operation.

    Attributes:
        value: a number, or a tensor that broadcasts to the result.
        label: the word that names it in its module, where it is no parameter or buffer of the network.
        owner: the parameter that it was made of, where it was reshaped.
        own: whether the rule made it, of numbers among the arguments of the call.
    """

    value: Any
    label: str
    owner: Tensor | None = None
    own: bool = False


class Naming:
    """How the constants of one call get names."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def added(self, y: Tensor, parts: Sequence[Part], rows: int | None = None) -> Tensor:
        """`y`, which holds these constants already; each is measured from here on.

        Args:
            y: (N, ...) or (N·m, ...), fresh: the result of an operation.
            parts: what it holds.
            rows: how many rows the signal has, where y is flattened; None: as many as y.
        """
        held = [part for part in parts if not _nothing(part.value)]
        if not held:
            return y
        self._count(y.shape[0] if rows is None and y.dim() else rows or 1)
        probes = [self.watch.state.probe_of(self.key(part.value, part.label, part.owner, own=part.own)) for part in held]
        constants = [self.watch.plain(torch.as_tensor(part.value, dtype=y.dtype, device=y.device)) for part in held]
        y = y.clone() if is_view(y) else y
        named: Tensor = Named.apply(y, len(held), *constants, *probes)
        return named

    def in_place(self, t: Tensor, label: str) -> None:
        """Measure a constant from here on whose tensor a signal is about to be written into, or into a view of it."""
        whole = base_of(t)
        if self.watch.origins.owner_of(memory_of(t)) is None and not _nothing(whole) and bool(whole.detach().any()):
            whole.mul_(self.one(whole, self.key(whole, label)).to(t.dtype))
            node_of(t)  # a view learns of its new history when it is asked for it

    def leaf(self, c: Any, label: str, like: Tensor, *, owner: Tensor | None = None, own: bool = False) -> Tensor:
        """A constant as a tensor of its own (it is joined to a signal, or chosen instead of one), measured from here on.

        Args:
            c: a number or a tensor.
            label: as in `added`.
            like: the signal, for dtype and device.
            owner: what it was made of, for the name.
            own: as in `Part`.
        """
        own = own or not isinstance(c, Tensor)
        c = c if isinstance(c, Tensor) else torch.as_tensor(c, dtype=like.dtype, device=like.device)
        if not (c.is_floating_point() or c.is_complex()):  # it is written or chosen as the numbers that it holds
            c, owner = c.to(like.dtype), c if owner is None else owner
        if _nothing(c) or c.is_complex():
            return torch.as_tensor(c)
        measured: Tensor = self.watch.plain(c) * self.one(c, self.key(c, label, owner, own=own)).to(c.dtype)
        return measured

    def one(self, c: Tensor, key: str) -> Tensor:
        """A one for each image, whose derivative measures what is multiplied by it; it broadcasts to `c`."""
        probe = self.watch.state.probe_of(key)
        if probe.shape[0] == 1:
            return 1 + probe.reshape([1] * c.dim())
        self._count(c.shape[0] if c.dim() else 1)
        rows = (1 + probe).repeat_interleave(c.shape[0] // probe.shape[0])
        return rows.reshape(-1, *[1] * (c.dim() - 1))

    def _count(self, rows: int) -> None:
        """Images come first in a signal, each with as many rows as the others; what else is seen when the sum does not add up."""
        self.watch.foreign = True
        images = self.watch.state.batch
        if images == 1 or rows == images:
            return
        if rows % images:
            raise OneByOne(
                f"A constant is added to {rows} rows, and {images} images are explained: they cannot be told apart there. "
                "Explain one image at a time, or in eval mode."
                + (" One image (C, H, W) is explained as x[None]." if self.watch.state.inputs.dim() == 3 else "")
            )

    def key(self, c: Any, label: str, owner: Tensor | None = None, *, own: bool = False) -> str:
        """The name of a constant: its own where it is a parameter or a buffer, else that of the module and the label.

        Args:
            c: a number or a tensor.
            label: as in `added`.
            owner: what it was made of.
            own: as in `Part`.
        """
        origins = self.watch.origins
        source = owner if owner is not None else c if isinstance(c, Tensor) else None
        name = None if source is None else origins.name_of(source)
        owned = name is not None and isinstance(c, Tensor) and memory_of(c) == memory_of(source)  # type: ignore[arg-type]
        if name is None:
            place = place_here(self.watch.state.names).name
            name = f"{place}.{label}" if place else label
        # a tensor that nobody saw being made, or anything after numbers were read out of a signal: it must prove itself
        asked = self.watch.prove and label not in ("batch_mean", "filled")  # these are held, by their rules
        if asked or not (owned or origins.read is None) or not (own or source is None or origins.is_known(source)):
            origins.unproven.append((name, c.detach().clone() if isinstance(c, Tensor) else c))
        return name


def _nothing(c: Any) -> bool:
    """Whether adding a constant adds nothing; infinite ones are no part of any finite sum, and are not measured."""
    if not isinstance(c, Tensor):
        return c == 0 or c != c or c in (float("inf"), -float("inf"))
    return bool(c.numel() <= 1) and (
        not c.is_floating_point() or not bool(c.detach().isfinite().all()) or not bool(c.detach().any())
    )
