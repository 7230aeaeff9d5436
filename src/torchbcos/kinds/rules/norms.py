"""Norms: the mean is linear, the spread is held, a running mean and a bias are named constants."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos.kernels.gated import HeldBatchNorm, HeldGroupNorm
from torchbcos.kernels.layernorm import FrozenLayerNorm
from torchbcos.kinds.call import Call, Outcome
from torchbcos.kinds.kind import LINEAR, Kind, Known
from torchbcos.kinds.named import Part

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "moments", "normalize", "rms_norm"]


def batch_norm(call: Call) -> Outcome:
    """With running statistics a constant scale and two constants; in training the batch's statistics are those of this call."""
    x, eps = call.signal, float(call.argument(7, "eps", default=1e-5))
    mean, var, weight, bias = _parameters(call, F.batch_norm)
    training = bool(call.argument(5, "training", default=False))
    early = _moving(call, mean, var, weight, bias)
    if early is not None:
        return early
    shape = [1, -1] + [1] * (x.dim() - 2)
    label: str = "running_mean"
    owner: Any = mean
    if training or mean is None:
        wide = call.held(x)
        wide = wide.float() if wide.dtype in (torch.float16, torch.bfloat16) else wide
        var, mean = torch.var_mean(wide, [0, *range(2, x.dim())], correction=0)
        label, owner = "batch_mean", None  # of this batch, and held: a constant of this call
    w, b = call.held(weight), call.held(bias)
    scale = (var + eps).rsqrt()
    scale = scale if w is None else scale * w
    if call.watch.state.detach:
        y = HeldBatchNorm.apply(x, mean, var, w, b, eps)
    else:
        y = (x - mean.reshape(shape)) * scale.reshape(shape)
        y = (y if b is None else y + b.reshape(shape)).to(x.dtype)
    parts = [Part((-mean * scale).reshape(shape), label, owner, own=owner is None)]
    parts += [] if bias is None else [Part(bias.reshape(shape), "bias", bias)]
    return call.naming.added(y, parts), LINEAR


def _parameters(call: Call, functional: Any) -> tuple[Any, Any, Any, Any]:
    """Running mean and variance, weight and bias; `torch.nn.functional` and `torch` have them in different order."""
    names = ("running_mean", "running_var", "weight", "bias")
    names = names if call.func is functional else (*names[2:], *names[:2])
    given = {name: call.argument(place, name) for place, name in enumerate(names, 1)}
    return given["running_mean"], given["running_var"], given["weight"], given["bias"]


def layer_norm(call: Call) -> Outcome:
    """`(x - mean) / spread · weight + bias` over the last axes, the spread held."""
    x, shape = call.signal, tuple(call.argument(1, "normalized_shape"))
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    eps = float(call.argument(4, "eps", default=1e-5))
    early = _moving(call, weight, bias)
    if early is not None:
        return early
    w, b = call.held(weight), call.held(bias)
    parts = [] if bias is None else [Part(bias, "bias", bias)]
    if call.watch.full or not call.watch.state.detach or _mixed(x, w):
        dims = list(range(x.dim() - len(shape), x.dim()))
        y = _spread(call, x, dims, eps, centered=True)
        y = y if w is None else y * w
        return call.naming.added((y if b is None else y + b).to(_dtype(x)), parts), LINEAR
    flat = x.flatten(x.dim() - len(shape))
    y = FrozenLayerNorm.apply(flat, None if w is None else w.flatten(), eps, None if b is None else b.flatten())
    if len(shape) > 1:
        parts = [Part(bias.flatten(), "bias", bias)] if bias is not None else []
    return call.naming.added(y, parts).reshape(x.shape), LINEAR


def rms_norm(call: Call) -> Outcome:
    """`x / root mean square · weight`, the root held."""
    x, shape, weight = call.signal, tuple(call.argument(1, "normalized_shape")), call.argument(2, "weight")
    eps = call.argument(3, "eps")
    early = _moving(call, weight)
    if early is not None:
        return early
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    y = _spread(call, x, list(range(x.dim() - len(shape), x.dim())), float(eps), centered=False)
    return (y if weight is None else y * call.held(weight)).to(x.dtype), LINEAR


def group_norm(call: Call) -> Outcome:
    """The norm over groups of channels, the spread held."""
    groups, weight, bias = call.argument(1, "num_groups"), call.argument(2, "weight"), call.argument(3, "bias")
    return _grouped(call, groups, weight, bias, float(call.argument(4, "eps", default=1e-5)))


def instance_norm(call: Call) -> Outcome:
    """The norm over the positions of each channel, the spread held; with running statistics a batch norm."""
    x, eps = call.signal, float(call.argument(7, "eps", default=1e-5))
    mean, var, weight, bias = _parameters(call, F.instance_norm)
    if call.argument(5, "use_input_stats", default=True):
        return _grouped(call, x.shape[1], weight, bias, eps)
    return call.again(lambda: F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps))


def _grouped(call: Call, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Outcome:
    x = call.signal
    early = _moving(call, weight, bias)
    if early is not None:
        return early
    w, b = call.held(weight), call.held(bias)
    shape = [1, -1] + [1] * (x.dim() - 2)
    parts = [] if bias is None else [Part(bias.reshape(shape), "bias", bias)]
    if call.watch.full or not call.watch.state.detach or _mixed(x, w):
        y = x.reshape(x.shape[0], groups, -1)
        y = _spread(call, y, [2], eps, centered=True).reshape(x.shape)
        y = y if w is None else y * w.reshape(shape)
        y = (y if b is None else y + b.reshape(shape)).to(_dtype(x))
    else:
        y = HeldGroupNorm.apply(x, groups, w, b, eps)
    return call.naming.added(y, parts), LINEAR


def normalize(call: Call) -> Outcome:
    """`x / ‖x‖`, the length held."""
    x = call.signal
    if call.kind(x) is not Kind.LINEAR:
        return call.bent()
    p, dim, eps = call.argument(1, "p", default=2.0), call.argument(2, "dim", default=1), call.argument(3, "eps", default=1e-12)
    return x / call.held(x).norm(p, dim, keepdim=True).clamp_min(eps), LINEAR


def local_response_norm(call: Call) -> Outcome:
    """`x / (k + α · mean of squares in neighbouring channels)^β`, the denominator held."""
    x = call.signal
    if call.kind(x) is not Kind.LINEAR:
        return call.bent()
    size, alpha = call.argument(1, "size"), call.argument(2, "alpha", default=1e-4)
    beta, k = call.argument(3, "beta", default=0.75), call.argument(4, "k", default=1.0)
    squares = call.held(x).square().reshape(x.shape[0], 1, x.shape[1], -1)
    squares = F.avg_pool2d(F.pad(squares, (0, 0, size // 2, (size - 1) // 2)), (size, 1), 1).reshape(x.shape)
    return x / squares.mul(alpha).add(k).pow(beta), LINEAR


def moments(call: Call) -> Outcome:
    """A variance is bent and a mean linear; together they are two results."""
    if call.kind(call.signal) is not Kind.LINEAR:
        return call.bent()
    spread, mean = call.run(*call.args, **call.kwargs)
    call.apart[id(mean)] = LINEAR
    return (spread, mean), call.bend()


def _spread(call: Call, x: Tensor, dims: list[int], eps: float, *, centered: bool) -> Tensor:
    """`(x - mean) / sqrt(var + eps)` written out, the spread held."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    fixed = call.held(wide)
    var = fixed.var(dims, correction=0, keepdim=True) if centered else fixed.square().mean(dims, keepdim=True)
    wide = wide - wide.mean(dims, keepdim=True) if centered else wide
    root = (var + eps).sqrt()
    normed: Tensor = wide / root.masked_fill(root.isinf(), math.nan)  # a variance that overflowed would make W zero
    return normed


def _mixed(x: Tensor, weight: Tensor | None) -> bool:
    """Whether the fused norms of torch do not take these, or autocast changes what they give."""
    half = x.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(x.device.type)
    return half or (weight is not None and weight.dtype != x.dtype)


def _dtype(x: Tensor) -> torch.dtype:
    """Of the result of a norm: autocast computes it in float32."""
    return torch.float32 if torch.is_autocast_enabled(x.device.type) else x.dtype


def _moving(call: Call, *parameters: Any) -> Outcome | None:
    """What comes out where the input is no signal, or a parameter moves; None where it is a norm of a signal."""
    kind = call.kind(call.signal)
    worst: Known = call.worst([p for p in parameters if p is not None])
    if worst.kind is not Kind.CONSTANT and kind is Kind.LINEAR:
        return call.bent("a parameter of the norm depends on the input")
    if kind is Kind.LINEAR:
        return None
    return call.bent()
