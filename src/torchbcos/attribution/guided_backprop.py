"""Guided Backprop: gradients that pass a ReLU only where they speak for the output."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from torchbcos._core.eagerly import eagerly
from torchbcos._core.errors import ExplanationWarning
from torchbcos._core.names import quote
from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.maps import reduced
from torchbcos.attribution.own_mode import OwnMode
from torchbcos.attribution.record import Method
from torchbcos.attribution.steps import check_watchable, listed, names_of, operation_of
from torchbcos.attribution.subject import Subject
from torchbcos.kinds.place import place_here
from torchbcos.nn.filters import FilterLayer

__all__ = ["RECORDS", "GuidedBackprop"]

_CLAMPS = ("clamp", "clamp_min", "clamp_max", "clip")  # they guard roots and quotients as often as they activate


@dataclass(frozen=True)
class GuidedBackprop(Explainer):
    """Guided Backprop (Springenberg et al. 2015, arXiv 1412.6806, section 3.4): a ReLU passes back what is positive only.

    At each ReLU the gradient becomes `[x > 0] · max(0, gradient)`: of `relu`, `relu6` and `hardtanh` from 0 on, as modules, as
    functions or in place; clamps are left alone. Other activations have no rule, and pass their plain gradient.
    No module gets a hook.

    Args:
        reduce: how maps come from the gradient, as in `Saliency`: "max", "l2" or "sum" (signed).

    Warns:
        ExplanationWarning: the network has no ReLU, so this is the plain gradient; or it has other activations beside them.

    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> GuidedBackprop(net).attribute(torch.rand(2, 3, 2, 2), target=0).shape
    torch.Size([2, 3, 2, 2])
    """

    name: ClassVar[str] = "guided_backprop"
    _: KW_ONLY
    reduce: str = "max"

    def compute(self, subject: Subject) -> Found:
        """One pass forward, one back for each target."""
        check_watchable(subject.model, "Guided Backprop")
        with eagerly(), _Guided(names_of(subject.model)) as guided:
            found = subject.own_gradients()
        message = _doubt(guided, subject.model)
        if message:
            warnings.warn(message, ExplanationWarning, stacklevel=2)
        return Found(reduced(found, subject.x, self.reduce), found)


class _Guided(OwnMode):
    """While it is entered, every ReLU of this thread has the guided gradient; other activations are remembered."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.guided = 0
        self.others: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run it; a gradient that comes back to a ReLU loses what is negative."""
        value = func(*args, **(kwargs or {}))
        rule, name = operation_of(func)
        if rule not in ("rectifier", "activation") or name in _CLAMPS or not self.own:
            return value
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value
        if name in ("relu", "relu6") or (name == "hardtanh" and _least(args, kwargs or {}) == 0):
            self.guided += 1
            value.register_hook(_positive)  # type: ignore[no-untyped-call]  # of the graph, which goes with it
        else:
            place = place_here(self.names)
            self.others.append(f"{name} in {quote(place.name)}" if place.name else name)
        return value


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)


def _least(args: Sequence[Any], kwargs: dict[str, Any]) -> object:
    return args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)


def _doubt(guided: _Guided, model: object) -> str:
    """Why this is not what the name promises; "" where it is."""
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    layers = [f"{type(m).__name__} {quote(name)}" for name, m in modules if isinstance(m, FilterLayer)]
    others = listed([*guided.others, *layers], 2)
    if not guided.guided:
        found = f" (it has {others})" if others else ""
        return f"Guided Backprop found no ReLU in this network{found}: this is the plain gradient, the map of Saliency."
    if others:
        return (
            f"Guided Backprop has a rule for ReLU alone, and this network has {others} beside its {guided.guided}: there the "
            "gradient is the plain one."
        )
    return ""


RECORDS = (
    Method(
        GuidedBackprop, "gradient", "The gradient, without what is negative at any ReLU on its way.", False, "", True,
        "ReLU as its only activation", "1 + K", lambda s, k: 1 + k, "Springenberg et al. 2015, arXiv 1412.6806",
        "twin, Captum",
    ),
)  # fmt: skip
