"""Calibration on a few unlabelled pictures: each layer of a converted network is fitted to what the given one has there.

Layer by layer, in the order of the forward pass and on the converted network's own input, `s · linear part + b · length` is
fitted to the given network's values by least squares, one s and one b a channel; then the spread that a fit loses is restored.
Each s is drawn to the one that all channels of its layer would share: the fewer places a layer has, the more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from torchbcos import functional
from torchbcos.conversion.attending import MultiheadAttention
from torchbcos.conversion.planning import Planned
from torchbcos.conversion.recording import listening
from torchbcos.conversion.steps import prefix_of
from torchbcos.functional.length import vector_length
from torchbcos.nn.bcosified import Biased
from torchbcos.nn.bcosified_norm import BcosifiedNorm, BcosifiedShift

__all__ = ["Fit", "Sample", "calibrate_", "fitted", "values_to_match"]

_SAMPLES = 4096  # places of each layer that are compared
_NUMBERS = 2**27  # that are kept of all layers together
_SHARED = 4096.0  # over all places of a layer: how much the factor that its channels would share weighs beside their own.
# A classifier behind a pool has one place a picture, and a factor of its own for each class, from so few, is noise.
_RIDGE = 1e-4
_LEAST, _MOST = 0.05, 50.0  # factors of a channel: beyond them a fit says that channel cannot be matched
_SPREAD = 2.0  # by how much a spread is restored at most


class Sample(NamedTuple):
    """Values of a layer at some places.

    Attributes:
        places: (K,) which of all positions of all pictures.
        values: (K, O).
    """

    places: Tensor
    values: Tensor


class Fit(NamedTuple):
    """What makes a layer's output like another's: `scale · y + bias · length`, a number a channel.

    Attributes:
        scale, bias: (O,) float64.
        explained: share of the variance that it gives, of all channels together.
    """

    scale: Tensor
    bias: Tensor
    explained: float


def values_to_match(network: nn.Module, x: Tensor, plans: Sequence[Planned]) -> dict[str, Sample]:
    """What the given network has where each layer's output will be, at the same places for all channels.

    Args:
        network: as given, in eval mode.
        x: (N, C, *S) as it takes it.
        plans: of the conversion.
    """
    wanted = {p.step.path: p for p in plans if p.step.kind in ("conv", "linear", "norm") and (p.role or _shifts(p))}
    found: dict[str, Sample] = {}
    modules = dict(network.named_modules())
    total = sum(_channels(modules[path]) for path in wanted)
    most = min(_SAMPLES, max(256, _NUMBERS // max(total, 1)))
    generator = torch.Generator().manual_seed(0)

    def keep(path: str, planned: Planned) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, y: Any) -> None:
            if path in found or not isinstance(y, Tensor):
                return
            rows = _rows(y, module, planned)
            places = torch.randperm(len(rows), generator=generator)[:most]
            values = rows[places.to(rows.device)].double()
            if planned.scale is not None and planned.shift is not None:
                values = values * planned.scale.double() + planned.shift.double()
            found[path] = Sample(places, values.float())

        return hook

    handles = [modules[path].register_forward_hook(keep(path, planned)) for path, planned in wanted.items()]
    with listening(handles), torch.no_grad():
        network(x)
    return found


def _shifts(planned: Planned) -> bool:
    """Whether a norm does something else than before: a layer norm over tokens or positions does not."""
    return (
        planned.step.kind == "norm"
        and planned.step.settings["kind"] in ("batch", "group")
        and "follows" not in planned.step.settings
    )


def _channels(module: Any) -> int:
    for name in ("out_channels", "out_features", "num_features", "num_channels"):
        if isinstance(getattr(module, name, None), int):
            return int(getattr(module, name))
    return 1


def _rows(y: Tensor, module: nn.Module, planned: Planned) -> Tensor:
    """(places, channels) of an output."""
    last = planned.step.kind == "linear"
    return (y if last or y.dim() == 2 else y.movedim(1, -1)).reshape(-1, y.shape[-1 if last else 1])


def calibrate_(network: nn.Module, x: Tensor, targets: dict[str, Sample], plans: Sequence[Planned]) -> None:
    """Fit every layer of a converted network in one forward pass; the plans learn how well each fits.

    Args:
        network: converted, in eval mode; its layers are changed in place.
        x: (N, 2C, *S) encoded, the pictures of `targets`.
        targets: of `values_to_match`.
        plans: of the conversion.
    """
    modules, by_path = dict(network.named_modules()), {p.step.path: p for p in plans}
    prefix = prefix_of(network)
    done: set[str] = set()

    def fit(path: str) -> Callable[..., None]:
        def hook(layer: Any, args: tuple[Any, ...]) -> None:
            if path not in done:
                done.add(path)
                by_path[path].fit = _fit_(layer, args[0], targets[path], by_path[path])

        return hook

    handles = [modules[prefix + path].register_forward_pre_hook(fit(path)) for path in targets if prefix + path in modules]
    for path, module in modules.items():
        if isinstance(module, MultiheadAttention | Biased | BcosifiedShift) and path.removeprefix(prefix) not in targets:
            handles.append(module.register_forward_pre_hook(_measure_, with_kwargs=True))
    with listening(handles), torch.no_grad():
        network(x)


def _measure_(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Give the bias of a layer that is fitted to nothing the unit that it had: the usual length of what it takes."""
    if layer.biases == "norm":
        inputs = [*args, *kwargs.values()]
        if isinstance(layer, MultiheadAttention):
            lengths: Tensor | None = vector_length(inputs[2])
        else:
            lengths = layer.parts(inputs[0])[1]
        if lengths is not None and bool(lengths.any()):  # else nothing arrives here
            layer.unit.fill_(float(lengths.mean().clamp_min(1e-12)))


def _fit_(layer: Any, x: Tensor, target: Sample, planned: Planned) -> float | None:
    """Fit one layer on its own input; the share of the variance that it then gives."""
    if not isinstance(layer, Biased | BcosifiedNorm):
        return None
    y, lengths = layer.parts(x)
    if getattr(layer, "antialias", False):
        stride = max(cast("Any", layer).strides)
        y, lengths = functional.low_pass(y, stride), None if lengths is None else functional.low_pass(lengths, stride)
    rows = _rows(y, layer, planned)
    places = target.places.to(rows.device)
    if len(rows) <= int(places.max()):
        return None
    m = None
    if layer.bias is not None:
        m = rows.new_ones(len(rows), 1) if lengths is None else _rows(lengths, layer, planned)
        if not bool((m if lengths is None else lengths).any()):
            return None  # nothing arrives here
        if lengths is not None:
            layer.unit.fill_(float(m.mean().clamp_min(1e-12)))
            m = m / layer.unit
    taken = rows[places].double(), None if m is None else m[places].double(), target.values.double()
    found = fitted(*taken, shared=_SHARED / len(rows))
    _apply_(layer, found)
    return found.explained


def fitted(y: Tensor, m: Tensor | None, t: Tensor, *, shared: float = 0.0) -> Fit:
    """Least squares of `s · y + b · m` to t, one s and one b a channel, then the spread of t restored, at most twofold.

    Args:
        y: (K, O) the linear part.
        m: (K, 1) lengths; None: there is no bias.
        t: (K, O) to match.
        shared: s, and how much the spread is restored, are means of what is right for the channel, with weight 1, and for all
            channels together, with this one.
    """
    over, under = (y * t).mean(0), (y * y).mean(0) * (1 + _RIDGE if m is not None else 1)
    if m is not None:  # what b · m cannot give
        ym, mm, mt = (y * m).mean(0), (m * m).mean(0) * (1 + _RIDGE), (m * t).mean(0)
        over, under = over - ym * mt / mm, under - ym * ym / mm
    scale = _drawn(over, under, shared)
    scale = torch.where(scale.isfinite() & (scale > _LEAST), scale, _LEAST).clamp(max=_MOST)
    fit = scale * y + (0 if m is None else (mt - scale * ym) / mm * m)
    wider = _drawn(t.var(0, correction=0), fit.var(0, correction=0), shared)
    scale = scale * wider.sqrt().clamp(1, _SPREAD)
    bias = torch.zeros_like(scale) if m is None else (t.mean(0) - scale * y.mean(0)) / m.mean()  # the mean is that of t
    fit = scale * y + (0 if m is None else bias * m)
    rest, all_of_it = ((t - fit) ** 2).sum(), ((t - t.mean(0)) ** 2).sum()
    return Fit(scale, bias, float(1 - rest / all_of_it.clamp_min(1e-30)))


def _drawn(over: Tensor, under: Tensor, shared: float) -> Tensor:
    """`over / under` of each channel, drawn to that of all together, which weighs `shared` times as much."""
    of_all = over.sum() / under.sum().clamp_min(1e-30)
    return (over + shared * of_all * under) / ((1 + shared) * under).clamp_min(1e-30)


@torch.no_grad()
def _apply_(layer: Any, found: Fit) -> None:
    """Give a layer the factors and the bias of a fit."""
    if layer.bias is not None:
        layer.bias.copy_(found.bias)
    gain = getattr(layer, "gain", None)
    if gain is not None:
        gain.mul_(found.scale.to(gain))
    elif layer.weight is not None:  # the output is of degree B in its filter
        degree = 1.0 if isinstance(layer, BcosifiedNorm) else float(layer.b)
        factor = found.scale ** (1 / degree)
        layer.weight.mul_(factor.to(layer.weight).reshape(-1, *[1] * (layer.weight.dim() - 1)))
