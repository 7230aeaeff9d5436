"""What layer-wise relevance propagation needs of a network: a copy of its own, and a rule for every step."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torchbcos._core.errors import StateError, in_short
from torchbcos._core.names import quote
from torchbcos._core.optional import require
from torchbcos.attribution.ordinary import with_layers_of_torch
from torchbcos.attribution.steps import listed, names_of, operation_of
from torchbcos.kinds.call import tensors_in
from torchbcos.kinds.place import place_here
from torchbcos.nn.filters import FilterLayer

__all__ = ["LINEAR", "Relevant", "relevant_copy"]

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
_MEANS = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
# classes whose insides zennit's composites have a rule for, or whose gradient is the rule (maxima, what only moves numbers)
_RULED = (
    *LINEAR, *_MEANS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.ELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardtanh,
    nn.Hardswish, nn.LeakyReLU, nn.LogSigmoid, nn.PReLU, nn.ReLU, nn.RReLU, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.SiLU,
    nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
# operations outside such modules whose gradient passes relevance on as it is: they move numbers, choose them or leave them alone.
# A ReLU is among them: where it is 0, what follows gives no relevance.
_NAMES = """
    view reshape flatten unflatten ravel permute transpose swapaxes swapdims movedim moveaxis squeeze unsqueeze
    contiguous clone to type float double cpu cuda getitem select narrow split split_with_sizes tensor_split chunk
    unbind cat concat concatenate stack hstack vstack dstack channel_shuffle pixel_shuffle pixel_unshuffle flip fliplr
    flipud rot90 roll relu max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout register_hook
"""
_MOVES = frozenset(_NAMES.split())
_POOLING = frozenset({"mean", *(f"{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3))})
_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward", "softmax")


def relevant_copy(model: nn.Module) -> nn.Module:
    """A copy whose weights may be edited, in which our ordinary layers are torch's own.

    Raises:
        StateError: it is a B-cos network, or it cannot be copied.
    """
    layers = [f"{type(m).__name__} {quote(name)}" for name, m in model.named_modules() if isinstance(m, FilterLayer)]
    if layers:
        raise StateError(
            f"No rule of LRP is defined for B-cos layers ({listed(layers, 2)}). The network's own map is the z-rule with frozen "
            "scales: use method='inherent'."
        )
    try:
        with torch.inference_mode(False):
            found = copy.deepcopy(model)
    except Exception as error:
        why = in_short(" ".join(str(error).split()) or type(error).__name__, 200).rstrip(".")
        raise StateError(f"LRP edits a copy of the network, and this one cannot be copied: {why}.") from error
    return with_layers_of_torch(found).requires_grad_(False)


class Relevant(TorchFunctionMode):
    """While it is entered, sums of branches and means over space run as modules that zennit has rules for.

    Parameters of the network need no gradient, so what needs one depends on the input. What has no rule is remembered.

    Args:
        model: the copy, with its hooks.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = names_of(model)
        self.modules = dict(model.named_modules())
        self.rules = require("zennit.rules", extra="evaluate", why="LRP")
        self.layers = require("zennit.layer", extra="evaluate", why="LRP")
        self.ran: list[str] = []  # modules with a rule of their own, in order
        self.bare: list[str] = []
        self.attention: list[str] = []
        self._kept: list[tuple[nn.Module, Any]] = []  # hooks are known to their modules only weakly

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run it, by a module where zennit needs one."""
        kwargs = kwargs or {}
        moving = [t for t in tensors_in(args, kwargs) if t.requires_grad]
        rule, name = operation_of(func)
        if not moving or rule == "look":
            return func(*args, **kwargs)
        place = place_here(self.names)
        module = self.modules.get(place.name)
        if isinstance(module, _RULED):
            self._note(place.name, module, rule)
            return func(*args, **kwargs)
        if name == "add" and len(moving) == 2 and moving[0].shape == moving[1].shape and len(args) == 2 and not kwargs:
            # also of `a += b`, which takes what is given back; an `a.add_(b)` that does not changes the outputs: see lrp.py
            return self._normed(self.layers.Sum(), torch.stack(moving, -1))
        if name in _POOLING and isinstance(args[0] if args else None, Tensor) and self._over_space(name, args, kwargs):
            return self._normed(_Call(functools.partial(_rest, func, tuple(args[1:]), kwargs)), args[0])
        if name not in _MOVES:
            where = f"{name} in {quote(place.name)} ({place.family})" if place.name else f"{name} in its forward"
            (self.attention if name in _ATTENTION else self.bare).append(where)
        return func(*args, **kwargs)

    def _note(self, name: str, module: nn.Module, rule: str) -> None:
        """A module with a rule runs; one that keeps its input for its rule may do so once."""
        if isinstance(module, (*LINEAR, *_MEANS)) and rule in ("map_with_bias", "linear_map"):
            if name in self.ran:
                self.bare.append(f"{quote(name)} ({type(module).__name__}), which runs more than once")
            self.ran.append(name)

    @staticmethod
    def _over_space(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether a mean leaves images and channels apart."""
        if name != "mean":
            return True
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        axes = [dim] if isinstance(dim, int) else list(dim or [])
        return bool(axes) and all(axis % args[0].dim() >= 2 for axis in axes)

    def _normed(self, module: nn.Module, x: Tensor) -> Any:
        hook = self.rules.Norm()
        hook.register(module)
        self._kept.append((module, hook))
        return module(x)

    def check(self, first: str | None) -> None:
        """Raise StateError for what has no rule.

        Args:
            first: the layer that gets the rule of the first one; None where the composite has none.
        """
        if self.attention:
            raise StateError(
                f"LRP's composites have no rule for attention, and this network has {listed(self.attention)}: use "
                "method='gradient_attention' or 'inherent'."
            )
        if self.bare:
            raise StateError(
                f"LRP has no rule for {listed(self.bare)}, so its relevance would be lost or counted twice. "
                "method='inherent' and 'integrated_gradients' work on any network."
            )
        linear = [name for name in self.ran if isinstance(self.modules[name], LINEAR)]
        if first is not None and linear and linear[0] != first:
            raise StateError(
                f"zennit gives the rule of the first layer to {quote(first)}, which is registered first, but {quote(linear[0])} "
                "runs first: use composite='epsilon_plus' or 'epsilon'."
            )


class _Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _rest(func: Callable[..., Any], others: tuple[Any, ...], kwargs: dict[str, Any], x: Tensor) -> Any:
    return func(x, *others, **kwargs)
