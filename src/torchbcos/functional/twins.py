"""Every kernel beside the equation that it must equal.

A kernel is faster than the operations that it replaces, and nothing else may differ: values, first and second derivatives,
and, while its factors are held, W. One test draws inputs for each pair and compares
(tests/unit/functional/test_twins.py); the equations themselves answer to the slow twins in tests/reference.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.frozen import hold
from torchbcos.functional.length import patch_length
from torchbcos.functional.norm import affine, normalize
from torchbcos.functional.transform import bcos_transform, held_wide
from torchbcos.kernels import batchnorm, biased, gated, layernorm, named, onednn, unitnorm
from torchbcos.kernels.conv import conv
from torchbcos.kernels.converted import converted
from torchbcos.kernels.geometry import CONVOLUTIONS, Geometry
from torchbcos.kernels.linear import linear
from torchbcos.kernels.maxout import maxout_linear
from torchbcos.kernels.patches import patch_squared_norms

__all__ = ["TWINS", "Twin"]


@dataclass(frozen=True)
class Twin:
    """A kernel, and the equation that it must equal.

    Attributes:
        name: what the two compute.
        kernel: called with the drawn tensors and options.
        equation: called likewise; operations that autograd records by itself.
        draw: makes tensors and options from a generator; the first tensor is the layer's input, which W belongs to.
        orders: derivatives that are compared: 2, or 0 for kernels that run without gradients.
        held: whether it may run while factors are held, with W to compare.
        free: whether it may run while they are not.
    """

    name: str
    kernel: Callable[..., Tensor]
    equation: Callable[..., Tensor]
    draw: Callable[[torch.Generator], tuple[tuple[Tensor, ...], dict[str, Any]]]
    orders: int = 2
    held: bool = True
    free: bool = True


_Drawn = tuple[tuple[Tensor, ...], dict[str, Any]]


def _some(generator: torch.Generator, *choices: Any) -> Any:
    """One of the choices."""
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def _normal(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers; pictures by chance in channels_last."""
    x = torch.randn(*shape, generator=generator, dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 and _some(generator, True, False) else x


def _convolution(x: Tensor, weight: Tensor, *, geometry: Geometry, eps: float) -> Tensor:
    y = geometry.convolve(x, weight)
    ones = x.new_ones((geometry.groups, x.shape[1] // geometry.groups, *geometry.kernel))
    squares = held_wide(x).square()
    shape = (list(geometry.stride), list(geometry.padding), list(geometry.dilation), geometry.groups)
    norms = CONVOLUTIONS[len(geometry.kernel)](squares, ones, None, *shape)
    return bcos_transform(y, norms.repeat_interleave(y.shape[1] // geometry.groups, dim=1), eps=eps)


def _draw_convolution(generator: torch.Generator) -> _Drawn:
    space, groups = _some(generator, 1, 2, 2, 2, 3), _some(generator, 1, 1, 2, 6, 12)

    def size(*choices: int) -> tuple[int, ...]:
        return tuple(_some(generator, *choices) for _ in range(space))

    geometry = Geometry(size(1, 2, 3), size(1, 1, 2), size(0, 1, 2), size(1, 1, 2), groups)
    x = _normal(generator, 2, 12, *size(5, 6, 7))
    weight = _normal(generator, 12, 12 // groups, *geometry.kernel)
    # a patch of padding alone has length zero, where only eps > 0 leaves second derivatives
    return (x, weight), {"geometry": geometry, "eps": _some(generator, 1e-6, 0.1, 0.1 if any(geometry.padding) else 0.0)}


def _biased(y: Tensor, norms: Tensor, lengths: Tensor, bias: Tensor, *, b: float, tiny: float) -> Tensor:
    along = bias.reshape(-1, *[1] * (y.dim() - 2))
    return y * ((y / norms).abs() + tiny) ** (b - 1) + along * lengths


def _draw_biased(generator: torch.Generator) -> _Drawn:
    shape = _some(generator, (2, 5, 7), (2, 5, 3, 4), (1, 5, 2, 3, 2))
    one = (shape[0], 1, *shape[2:])
    norms, lengths = (_normal(generator, *one).abs() + 0.5 for _ in range(2))
    b = _some(generator, 1.25, 1.5, 1.75, 2.0, 2.5)
    return (_normal(generator, *shape), norms, lengths, _normal(generator, 5)), {"b": b, "tiny": 0.0 if b == 2 else 1e-6}


def _converted(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, geometry: Geometry, b: float, eps: float, tiny: float
) -> Tensor:  # fmt: skip
    y, (kernel, *walk) = geometry.convolve(x, weight), (geometry.kernel, geometry.stride, geometry.padding, geometry.dilation)
    lengths = patch_length(x, kernel, stride=walk[0], padding=walk[1], dilation=walk[2], eps=eps)
    if b > 1:
        squares = patch_squared_norms(held_wide(x), dataclasses.replace(geometry, groups=1))
        y = y * (hold(y).abs() / (squares + eps).sqrt() + tiny) ** (b - 1)
    return y if bias is None else y + bias.reshape(-1, *[1] * (y.dim() - 2)) * lengths


def _draw_converted(generator: torch.Generator) -> _Drawn:
    (x, weight), options = _draw_convolution(generator)
    b = 1.0 if options["geometry"].groups > 1 else _some(generator, 1.0, 1.25, 1.5, 2.0, 2.5)
    bias = _some(generator, None, _normal(generator, 12))
    return (x, weight, bias), {**options, "eps": 1e-6, "b": b, "tiny": 0.0 if b == 2 else 1e-6}


def _channel_squares(x: Tensor) -> Tensor:
    return x.square().sum(1, keepdim=True)


def _draw_maps(generator: torch.Generator) -> _Drawn:
    return (_normal(generator, *_some(generator, (2, 5, 7), (2, 5, 3, 4), (1, 6, 2, 3, 2))),), {}


def _unit(weight: Tensor) -> Tensor:
    return weight / unitnorm.filter_norms(weight)


def _linear(x: Tensor, weight: Tensor, *, norm_eps: float) -> Tensor:
    squares = held_wide(x).square().sum(-1, keepdim=True)
    return bcos_transform(F.linear(x, weight), squares, eps=0.0, norm_eps=norm_eps)


def _maxout(x: Tensor, weight: Tensor, *, norm_eps: float, max_out: int) -> Tensor:
    y = F.linear(x, weight)
    y = y.reshape(*y.shape[:-1], -1, max_out).amax(-1)
    return bcos_transform(y, held_wide(x).square().sum(-1, keepdim=True), eps=0.0, norm_eps=norm_eps)


def _draw_maxout(generator: torch.Generator) -> _Drawn:
    (x, weight), options = _draw_linear(generator)
    max_out = _some(generator, 2, 2, 3)
    weight = torch.randn(max_out * len(weight), weight.shape[1], generator=generator, dtype=weight.dtype)
    return (x, weight), {**options, "max_out": max_out}


def _draw_linear(generator: torch.Generator) -> _Drawn:
    shape = _some(generator, (5,), (3, 5), (2, 3, 5), (20, 10, 5))
    return (_normal(generator, *shape), _normal(generator, 4, 5)), {"norm_eps": _some(generator, 1e-12, 0.1)}


def _batch_norm(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    return affine(normalize(x, [0, *range(2, x.dim())], eps=eps, centered=False), weight, None, 1)


def _draw_batch_norm(generator: torch.Generator) -> _Drawn:
    shape = _some(generator, (5, 4), (3, 4, 5), (3, 4, 3, 2), (2, 4, 2, 3, 2))
    return (_normal(generator, *shape), _normal(generator, 4)), {"eps": _some(generator, 1e-5, 0.1)}


def _draw_both(generator: torch.Generator) -> _Drawn:
    (x, weight), options = _draw_convolution(generator)
    return (x, weight, _normal(generator, 12)), options


def _draw_layer_norm(generator: torch.Generator) -> _Drawn:
    shape = _some(generator, (3, 5), (2, 3, 5), (2, 3, 2, 5))
    return (_normal(generator, *shape), _normal(generator, 5)), {"eps": _some(generator, 1e-5, 0.1)}


def _draw_filters(generator: torch.Generator) -> _Drawn:
    return (_normal(generator, *_some(generator, (4, 5), (4, 3, 2), (4, 3, 2, 3), (1, 1, 1, 1))),), {}


def _draw_product(generator: torch.Generator) -> _Drawn:
    shape = _some(generator, (7, 24), (300, 24), (3, 100, 24), (2, 7, 20, 24))
    single = torch.float32  # what oneDNN computes in
    return (_normal(generator, *shape, dtype=single), _normal(generator, _some(generator, 8, 32), 24, dtype=single)), {}


def _packed(x: Tensor, weight: Tensor, *, geometry: Geometry) -> Tensor:
    """Twice: packed, and with what was packed."""
    packed = onednn.Packed()
    packed.convolve(x, weight, geometry)
    out = packed.convolve(x, weight, geometry)
    return geometry.convolve(x, weight) if out is None else out


def _packed_gradient(g: Tensor, weight: Tensor, *, geometry: Geometry) -> Tensor:
    out = onednn.Packed().gradient(g, weight, geometry)
    return _gradient(g, weight, geometry=geometry) if out is None else out


def _gradient(g: Tensor, weight: Tensor, *, geometry: Geometry) -> Tensor:
    padding, dilation = list(geometry.padding), list(geometry.dilation)
    return F.conv_transpose2d(g, weight, None, 1, padding, 0, 1, dilation)


def _draw_packed(generator: torch.Generator) -> _Drawn:
    kernel, dilation = (_some(generator, 1, 2, 3), _some(generator, 1, 2, 3)), _some(generator, 1, 2)
    geometry = Geometry(kernel, (1, 1), (_some(generator, 0, 1),) * 2, (dilation, dilation), 1)
    x = torch.randn(_some(generator, 1, 2), 192, 7, 8, generator=generator).contiguous(memory_format=torch.channels_last)
    return (x, torch.randn(192, 192, *kernel, generator=generator)), {"geometry": geometry}


def _gate(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x).detach()


def _draw_gate(generator: torch.Generator) -> _Drawn:
    return (_normal(generator, *_some(generator, (7,), (3, 5), (2, 3, 4, 5))),), {}


def _relu6(x: Tensor) -> Tensor:
    gate = 6 / (4 * x).detach().clamp_min(6) * (x > 0)
    return 4 * x * gate


def _statistics(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    shape = [-1, *[1] * (x.dim() - 2)]
    scale = (var + eps).rsqrt() * weight
    return (x - mean.reshape(shape)) * scale.reshape(shape) + bias.reshape(shape)


def _draw_statistics(generator: torch.Generator) -> _Drawn:
    (x, weight), options = _draw_batch_norm(generator)
    mean, bias = (_normal(generator, 4) for _ in range(2))
    return (x, mean, _normal(generator, 4).square(), weight, bias), options


def _groups(x: Tensor, weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    y = normalize(x.reshape(x.shape[0], 2, -1), [2], eps=eps, centered=True).reshape(x.shape)
    return affine(y, weight, bias, 1)


def _draw_groups(generator: torch.Generator) -> _Drawn:
    (x, weight), options = _draw_batch_norm(generator)
    return (x, weight, _normal(generator, 4)), options


def _measured(probe: Tensor, base: Tensor, constant: Tensor) -> Tensor:
    rows: Tensor = named.Named.apply(base + constant, 1, constant, probe)
    return rows


def _draw_probe(generator: torch.Generator) -> _Drawn:
    wide = _some(generator, (3,), (4, 3), (1, 3))
    base = _normal(generator, 2 * _some(generator, 1, 3), *((4, 3) if len(wide) > 1 else (3,)))
    return (torch.zeros(2, dtype=torch.float64), base, _normal(generator, *wide)), {}


def _probed(probe: Tensor, base: Tensor, constant: Tensor) -> Tensor:
    one = (1 + probe).repeat_interleave(len(base) // 2)
    return base + constant * one.reshape(-1, *[1] * (base.dim() - 1))


TWINS = (
    Twin(
        "ReLU6, held", lambda x: gated.Gated.apply(4 * x, F.relu6, lambda t: gated.clamp_gate(t, 6), True), _relu6,
        _draw_gate, free=False,
    ),
    Twin("activation, held", lambda x: gated.Gated.apply(x, F.silu, torch.sigmoid, True), _gate, _draw_gate, free=False),
    Twin(
        "activation in place, held",
        lambda x: gated.GatedInPlace.apply(x.clone(), lambda t: F.silu(t, inplace=True), torch.sigmoid, True), _gate, _draw_gate,
        free=False,
    ),
    Twin(
        "batch norm of given statistics", lambda x, *rest, eps: gated.HeldBatchNorm.apply(x, *rest, eps), _statistics,
        _draw_statistics, free=False,
    ),
    Twin(
        "group norm, held", lambda x, weight, bias, eps: gated.HeldGroupNorm.apply(x, 2, weight, bias, eps), _groups,
        _draw_groups, free=False,
    ),
    Twin("a constant that is measured", _measured, _probed, _draw_probe, free=False),
    Twin("B-cos convolution, b = 2", conv, _convolution, _draw_convolution),
    Twin(
        "B-cos convolution of filters at unit norm", functools.partial(conv, unit=True),
        lambda x, weight, geometry, eps: _convolution(x, _unit(weight), geometry=geometry, eps=eps), _draw_convolution,
    ),
    Twin(
        "B-cos factor and norm bias of a converted layer",
        lambda y, norms, lengths, bias, b, tiny: biased.biased(y, norms, lengths, bias, b, tiny), _biased, _draw_biased,
        held=False,
    ),
    Twin("convolution of a converted layer, outside its training", converted, _converted, _draw_converted, free=False),
    Twin("squares summed over channels", biased.channel_squares, _channel_squares, _draw_maps, held=False),
    Twin("B-cos linear layer, b = 2", linear, _linear, _draw_linear),
    Twin(
        "B-cos linear layer of rows at unit norm", functools.partial(linear, unit=True),
        lambda x, weight, norm_eps: _linear(x, _unit(weight), norm_eps=norm_eps), _draw_linear,
    ),
    Twin(
        "uncentred batch norm", lambda x, weight, eps: batchnorm.uncentered_batch_norm(x, weight, eps)[0], _batch_norm,
        _draw_batch_norm, held=False,
    ),
    Twin(
        "uncentred batch norm after a B-cos convolution",
        lambda x, weight, scale, geometry, eps: batchnorm.uncentered_batch_norm(conv(x, weight, geometry, eps), scale, 1e-3)[0],
        lambda x, weight, scale, geometry, eps: _batch_norm(
            _convolution(x, weight, geometry=geometry, eps=eps), scale, eps=1e-3
        ),
        _draw_both, held=False,
    ),
    Twin(
        "layer norm, held", lambda x, weight, eps: layernorm.FrozenLayerNorm.apply(x, weight, eps),
        lambda x, weight, eps: affine(normalize(x, [-1], eps=eps, centered=True), weight, None, -1), _draw_layer_norm,
        free=False,
    ),
    Twin("filters of unit norm", unitnorm.unit_norm, _unit, _draw_filters, held=False),
    Twin("B-cos linear layer with MaxOut, b = 2", maxout_linear, _maxout, _draw_maxout),
    Twin(
        "B-cos linear layer with MaxOut of rows at unit norm", functools.partial(maxout_linear, unit=True),
        lambda x, weight, **options: _maxout(x, _unit(weight), **options), _draw_maxout,
    ),
    Twin("matrix product by oneDNN", onednn.product, F.linear, _draw_product),
    Twin(
        "convolution with a packed weight", _packed, lambda x, weight, geometry: geometry.convolve(x, weight), _draw_packed,
        orders=0,
    ),
    Twin("its gradient with a packed weight", _packed_gradient, _gradient, _draw_packed, orders=0),
)  # fmt: skip
