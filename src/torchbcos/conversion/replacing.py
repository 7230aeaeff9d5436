"""The layer that stands in a converted network where another one stood, with its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, StateError, shorten
from torchbcos.conversion.attending import MultiheadAttention, PooledAttention, WindowAttention
from torchbcos.conversion.steps import Step, check_step
from torchbcos.deployment.settle import settle_weights_

__all__ = ["Numbers", "apply_step", "apply_steps", "blurred", "norm_numbers", "numbers_of", "replacement"]

_CONVOLUTIONS = {1: bnn.BcosifiedConv1d, 2: bnn.BcosifiedConv2d, 3: bnn.BcosifiedConv3d}
_NORMS = {
    "token": bnn.BcosifiedTokenNorm, "position": bnn.BcosifiedPositionNorm, "group": bnn.BcosifiedGroupNorm,
    "batch": bnn.BcosifiedBatchNorm,
}  # fmt: skip
_ATTENTION = {"multihead": MultiheadAttention, "windows": WindowAttention, "pooling": PooledAttention}
Numbers = tuple[Tensor, Tensor]  # a weight and a bias


def apply_steps(network: nn.Module, steps: tuple[Step, ...]) -> nn.Module:
    """The network with every step done to it; it is changed in place, and may be another object.

    Raises:
        StateError: a step is not for this network, or weights of it that are made of others cannot be made plain.
    """
    settle_weights_(network)  # as before its conversion
    for step in steps:
        check_step(network, step)
        try:
            network = apply_step(network, step)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise StateError(
                f"The {step.kind} step of its conversion does not fit the module {shorten(repr(step.path), 80)}: "
                f"{shorten(' '.join(str(error).split()), 160)}"
            ) from error
    return network


def apply_step(network: nn.Module, step: Step, numbers: Numbers | None = None) -> nn.Module:
    """The network with one step done to it.

    Args:
        network: is changed in place.
        step: what to do.
        numbers: weight and bias to go on with, where they are not those of the module that goes away.

    Raises:
        StateError: the network has no such module.
    """
    if step.kind == "decode":
        return _decoded(network, **step.settings)
    modules = dict(network.named_modules())
    if step.path not in modules:
        raise StateError(f"The network has no module {step.path!r}, which its conversion is about: is it another release's?")
    old = modules[step.path]
    if step.kind == "set":
        for name, value in step.settings.items():
            setattr(old, name, value)
        return network
    if step.kind in ("zero", "shift"):
        for name in step.settings["names"]:
            nn.init.zeros_(getattr(old, name))
    if step.kind == "zero":
        return network
    new = replacement(old, step, numbers)
    if not step.path:
        return new
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if module is old:  # under each of its names
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, new)
    return network


def replacement(old: nn.Module, step: Step, numbers: Numbers | None = None) -> nn.Module:
    """What stands in the place of a module, in its mode, dtype and device."""
    like = next(old.parameters(), None)
    made = _MAKERS[step.kind](old, dict(step.settings), numbers)
    if like is not None:
        made = made.to(like.device, like.dtype if like.is_floating_point() else None)
    return made.train(old.training)


def _conv(old: Any, settings: dict[str, Any], numbers: Numbers | None) -> nn.Module:
    stem: Mapping[str, Any] | None = settings.pop("stem", None)
    border = None if stem is None else stem["border"]
    bias, padding, blur = settings.pop("bias"), settings.pop("padding"), settings.pop("blur", 0)
    if blur and any(d != 1 for d in old.dilation):
        raise InputError(f"blur is for convolutions without dilation, and one has {tuple(old.dilation)}.")
    kernel = tuple(k + 2 * blur for k in old.kernel_size)
    if blur and padding == "valid":
        padding = [0] * len(kernel)
    if not isinstance(padding, str):
        padding = tuple(p + blur for p in padding)
    mode = "replicate" if border == "repeat" else old.padding_mode
    made = _CONVOLUTIONS[old.weight.dim() - 2](
        old.in_channels * (1 if stem is None else 2), old.out_channels, kernel, old.stride,
        padding, old.dilation, old.groups, bias, mode, **settings,
    )  # fmt: skip
    weight, added = numbers_of(old) if numbers is None else numbers
    weight = blurred(weight, blur)
    return _filled(made, *((weight, added) if stem is None else _of_encoded(weight, added, stem)))


def blurred(weight: Tensor, passes: int) -> Tensor:
    """Filters (O, C, *K) convolved with [1, 2, 1]/4 on every axis so many times, (O, C, *(K + 2·passes)).

    What they give is what the given ones give of a picture that was low-passed.

    >>> blurred(torch.ones(1, 1, 1), 1)
    tensor([[[0.2500, 0.5000, 0.2500]]])
    """
    found = weight.double()
    for axis in range(2, weight.dim()):
        for _ in range(passes):
            count = found.shape[axis]
            nothing = found.new_zeros([2 if i == axis else n for i, n in enumerate(found.shape)])
            wide = torch.cat([nothing, found, nothing], axis)
            found = (wide.narrow(axis, 0, count + 2) + wide.narrow(axis, 2, count + 2)) / 4 + wide.narrow(axis, 1, count + 2) / 2
    return found.to(weight.dtype)


def _of_encoded(weight: Tensor, bias: Tensor, stem: Mapping[str, Any]) -> Numbers:
    """Filters for [x, 1 - x] of those for (x - mean) / std: `[(1 - mean) W, -mean W] / std`.

    For a mean of 1/2 it is `[W, -W] / (2 std)`, as B-cosification has it. The two halves of a pixel add up to 1, so what the
    mean takes away is a part of each, and no constant; what is padded with zeros has neither half, and counts as the mean colour
    does: for nothing.
    """
    shape = (1, -1, *[1] * (weight.dim() - 2))
    mean, std = (torch.tensor(stem[name], dtype=torch.float64, device=weight.device).reshape(shape) for name in ("mean", "std"))
    scaled = weight.double() / std
    return torch.cat([scaled * (1 - mean), -scaled * mean], 1).to(weight.dtype), bias


def _linear(old: Any, settings: dict[str, Any], numbers: Numbers | None) -> nn.Module:
    made = bnn.BcosifiedLinear(old.in_features, old.out_features, settings.pop("bias"), **settings)
    return _filled(made, *(numbers_of(old) if numbers is None else numbers))


def _norm(old: Any, settings: dict[str, Any], numbers: Numbers | None) -> nn.Module:
    kind, follows = settings.pop("kind"), settings.pop("follows", ())
    made: Any = _NORMS[kind](settings.pop("features"), **settings)
    variance = getattr(old, "running_var", None)
    if kind == "batch" and variance is not None:
        made.running_var.copy_(variance)
    if follows:
        made.act = nn.Sequential(*_following(old, follows))
    if numbers is None:
        numbers = norm_numbers(old, kind, made.num_features)
    return _filled(made, *numbers)


def norm_numbers(old: Any, kind: str, features: int) -> Numbers:
    """Weight and bias of a norm; of a batch norm the bias with what its running mean adds."""
    like = next((t for t in (*old.parameters(), *old.buffers()) if t.is_floating_point()), torch.zeros(()))
    weight = getattr(old, "weight", None)
    weight = like.new_ones(features) if weight is None else weight.detach()
    bias = getattr(old, "bias", None)
    bias = like.new_zeros(features) if bias is None else bias.detach()
    if kind == "batch":
        bias = bias - old.running_mean * weight / (old.running_var + old.eps).sqrt()
    return weight, bias


def numbers_of(old: Any) -> Numbers:
    """Weight and bias of a layer; zeros where it has no bias."""
    weight, bias = old.weight.detach(), getattr(old, "bias", None)
    return weight, weight.new_zeros(len(weight)) if bias is None else bias.detach()


@torch.no_grad()
def _filled(made: Any, weight: Tensor, bias: Tensor) -> nn.Module:
    """A layer with a weight and a bias, a layer of unit norm with the norms as its gain."""
    made = made.to(weight.device, weight.dtype)
    if made.weight is not None:
        made.weight.copy_(weight)
    if made.bias is not None:
        made.bias.copy_(bias)
    if getattr(made, "gain", None) is not None:
        made.gain.copy_(weight.flatten(1).norm(dim=1))
    return made  # type: ignore[no-any-return]


def _attention(kind: str) -> Callable[[Any, dict[str, Any], Numbers | None], nn.Module]:
    def make(old: Any, settings: dict[str, Any], numbers: Numbers | None) -> nn.Module:
        made = _ATTENTION[kind](old, settings["biases"], dict(settings["out"])).to(next(old.parameters()).device)
        for name, layer in made.named_children():
            if isinstance(layer, bnn.BcosifiedLinear):
                _filled(layer, *numbers_of(getattr(old, name)))
        if isinstance(made, WindowAttention) and made.second and made.qkv.bias is not None:
            with torch.no_grad():
                made.qkv.bias.chunk(3)[1].zero_()
        return made

    return make


def _folded(old: Any, settings: dict[str, Any], numbers: Numbers | None) -> nn.Module:
    follows = _following(old, settings.get("follows", ()))
    return nn.Sequential(bnn.Folded(settings["into"]), *follows) if follows else bnn.Folded(settings["into"])


def _following(old: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """What a norm does after it has normalised, without what does nothing."""
    found = [getattr(old, name) for name in names]
    return [bnn.Hardswish() if type(m) is nn.Hardswish else m for m in found if type(m) is not nn.Identity]


def _pool(old: Any, settings: dict[str, Any], numbers: Numbers | None) -> nn.Module:
    strided = type(old)(old.kernel_size, stride=1, padding=old.padding, ceil_mode=False)
    return nn.Sequential(strided, bnn.LowPass(settings["stride"]))


def _shift(old: Any, settings: dict[str, Any], numbers: Numbers | None) -> nn.Module:
    made = bnn.BcosifiedShift(settings["num_features"], settings["channel_dim"])
    if numbers is not None:
        _filled(made, *numbers)
    return nn.Sequential(OrderedDict(module=old, shift=made))


def _hardswish(old: Any, settings: dict[str, Any], numbers: Numbers | None) -> nn.Module:
    return bnn.Hardswish()


_MAKERS: dict[str, Callable[[Any, dict[str, Any], Numbers | None], nn.Module]] = {
    "conv": _conv, "linear": _linear, "norm": _norm, "folded": _folded, "pool": _pool, "hardswish": _hardswish,
    "shift": _shift, **{kind: _attention(kind) for kind in _ATTENTION},
}  # fmt: skip


def _decoded(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Sequential:
    """A network behind what takes [x, 1 - x] back to what it was made for: `(x - mean) / std`.

    Args:
        network: of C channels.
        mean, std: a number a channel.
    """
    return nn.Sequential(OrderedDict(decode=bnn.Decode(mean, std), network=network)).train(network.training)
