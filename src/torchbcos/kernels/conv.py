"""The B-cos convolution, b = 2 without MaxOut, as one step of autograd.

What a plain convolution keeps for its backward pass is its input. Written out with autograd's
own operations, `y · |y| / ‖x‖` keeps four more maps as large as the output and walks over memory
twice as often. Here a layer keeps its input, the linear output y and maps of one channel; while
an explanation runs, only the factor `|y| / ‖x‖`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from torchbcos._core.frozen import current
from torchbcos._core.torch_private import saved_tensor_hooks, version
from torchbcos.kernels.blocks import slope, square_over, times_own_size_
from torchbcos.kernels.geometry import Geometry
from torchbcos.kernels.onednn import Packed
from torchbcos.kernels.patches import inverse_norms, inverse_of_groups, over_channels, spread_sums
from torchbcos.kernels.unitnorm import unit_gain, unit_norm

__all__ = ["again", "again_with_graph", "conv", "input_gradient", "linear_output", "makes", "places", "waits"]


def conv(
    x: Tensor, weight: Tensor, geometry: Geometry, eps: float, packed: Packed | None = None, *, unit: bool = False,
    watched: bool = False,
) -> Tensor:  # fmt: skip
    """`y · |y| / ‖patch‖` of the linear output y, as few passes over memory as torch allows.

    `unit`: of filters at unit norm. `watched`: somebody may write into the output, so that nobody may count on making it again.

    Without a gradient for the weight, its filters are not brought to unit norm: their squared lengths divide the output,
    which is the same and needs one pass over the weight, so that nothing has to be remembered of it.
    """
    if current() is not None:
        held: Tensor = _FrozenConv.apply(x, weight, geometry, eps, packed, unit)
        return held
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        out: Tensor = _Conv.apply(x, unit_norm(weight) if unit else weight, geometry, eps, watched)
        return out
    y = linear_output(x, weight, geometry, packed)
    return times_own_size_(y, inverse_norms(x, geometry, eps, y.shape[1]), gain=unit_gain(weight) if unit else None)


def linear_output(x: Tensor, weight: Tensor, geometry: Geometry, packed: Packed | None) -> Tensor:
    """`x` convolved with `weight`, which `packed` keeps in oneDNN's order (then without autograd)."""
    out = None if packed is None else packed.convolve(x, weight, geometry)
    return geometry.convolve(x, weight) if out is None else out


class _Conv(Function):
    """A B-cos convolution, b = 2, outside explanations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry, eps: float, watched: bool) -> Tensor:
        y = geometry.convolve(x, weight)
        inverse = inverse_norms(x, geometry, eps, y.shape[1])
        ctx.save_for_backward(x, weight, y, inverse)
        out = square_over(y, inverse)
        # hooks on saved tensors (torch.utils.checkpoint) let them be unpacked once, by the convolution itself
        ctx.step = None if watched or saved_tensor_hooks() else _Conv
        ctx.geometry, ctx.eps, ctx.version = geometry, eps, version(out)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, weight, y, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: by operations that have derivatives
            wanted = [t for t, needed in zip((x, weight), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(_plain(x, weight, ctx.geometry, ctx.eps), wanted, g, create_graph=True))
            gx, gw = (next(found) if needed else None for needed in ctx.needs_input_grad[:2])
            return gx, gw, None, None, None
        geometry: Geometry = ctx.geometry
        gy, along = slope(y, 2 * inverse, g, geometry.groups)
        gx, gw = geometry.gradients(gy, x, weight, ctx.needs_input_grad[:2])
        if ctx.needs_input_grad[0]:
            # d out / d ‖patch‖² = -y|y|/‖patch‖³ / 2, and gy already has 2 |y| g / ‖patch‖
            per_patch = along * inverse_of_groups(inverse, geometry.groups).square()
            gx.addcmul_(x, over_channels(spread_sums(per_patch, geometry, x.shape[2:]), x.shape[1]), value=-0.5)
        return gx, gw, None, None, None


def makes(node: Any, out: Tensor) -> bool:
    """True where `out` is what the convolution of this autograd node gave, so that `again` makes it again.

    A write that torch counts is always seen. One through `.data` or another library's alias moves no counter: on a CPU some
    numbers of every channel are made again and compared. On an accelerator that would wait for it; there `uncentered_batch_norm`
    compares in the backward pass.
    """
    if getattr(node, "step", None) is not _Conv or node.version is None or node.version != version(out):
        return False
    if waits(out):
        return True
    try:
        y, inverse = (t[places(out)] for t in node.saved_tensors[2:])
    except RuntimeError:  # the input was written to: torch refuses the convolution's own backward pass, if there is one
        return False
    return torch.equal(y.abs().mul_(inverse).mul_(y), out.detach()[places(out)])


def waits(x: Tensor) -> bool:
    """True on an accelerator, where each number that Python looks at waits for all work before it."""
    return x.device.type != "cpu"


def places(maps: Tensor) -> tuple[slice, ...]:
    """All channels of (N, C, *S) at some positions, some thousand numbers."""
    each = max(2, round((4096 / max(1, maps.shape[1])) ** (1 / (maps.dim() - 1))))
    steps = [max(1, size // each) for size in maps.shape]
    steps[1] = 1
    return tuple(slice(step // 2, None, step) for step in steps)


def again(node: Any) -> Tensor:
    """The output of that convolution, made again from what it keeps."""
    return square_over(node.saved_tensors[2], node.saved_tensors[3])


def again_with_graph(node: Any) -> Tensor:
    """The same as a differentiable function of the convolution's input and weight."""
    x, weight, _, _ = node.saved_tensors
    return _plain(x, weight, node.geometry, node.eps)


class _FrozenConv(Function):
    """The same with the factor `|y| / ‖patch‖` held: linear in x, and nothing else is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: Geometry, eps: float, packed: Packed | None, unit: bool) -> Tensor:
        y = linear_output(x, weight, geometry, packed)
        factor, gain = torch.empty_like(y), unit_gain(weight) if unit else None
        ctx.save_for_backward(factor, weight)
        ctx.geometry, ctx.shape, ctx.packed, ctx.session = geometry, x.shape, packed, current()
        return times_own_size_(y, inverse_norms(x, geometry, eps, y.shape[1]), factor, gain)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        factor, weight = ctx.saved_tensors
        # in the factor's layout, and in its memory where nobody reads it again
        g = factor.mul_(g) if ctx.session is not None and ctx.session.final else factor * g
        return input_gradient(g, weight, ctx.geometry, ctx.shape, ctx.packed), None, None, None, None, None


def input_gradient(g: Tensor, weight: Tensor, geometry: Geometry, shape: torch.Size, packed: Packed | None) -> Tensor:
    """The gradient of a convolution with respect to its input of this shape."""
    gx = None if packed is None else packed.gradient(g, weight, geometry)
    if gx is not None:
        return gx
    # of the input the gradient needs shape and layout alone: memory that is never touched costs nothing,
    # while an expanded number would count as NCHW, in which oneDNN takes eight times as long
    last = g.dim() == 4 and any(t.is_contiguous(memory_format=torch.channels_last) for t in (weight, g))
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.empty(shape, dtype=g.dtype, device=g.device, memory_format=layout)
    return geometry.gradients(g, x, weight, (True, False))[0]


def _plain(x: Tensor, weight: Tensor, geometry: Geometry, eps: float) -> Tensor:
    """The same convolution by operations that autograd can differentiate again."""
    y = geometry.convolve(x, weight)
    return y * (y.abs() * inverse_norms(x, geometry, eps, y.shape[1]))
