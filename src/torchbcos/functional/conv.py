"""B-cos convolution in one, two and three dimensions.

Shapes: N images, C channels, *S space, O outputs, G groups, M MaxOut filters an output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.atoms import atom
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import check_mode, current, parameter
from torchbcos._core.names import hint
from torchbcos._core.numbers import integer
from torchbcos.functional.numbers import check_epsilon, check_exponent, check_positive
from torchbcos.functional.transform import CONV_EPS, bcos_transform, held_wide, layer_weight
from torchbcos.kernels.conv import conv
from torchbcos.kernels.geometry import CONVOLUTIONS, Geometry
from torchbcos.kernels.onednn import Packed
from torchbcos.kernels.patches import patch_squared_norms
from torchbcos.kernels.usable import usable

__all__ = [
    "PADDING_MODES", "Options", "bcos_conv", "check_conv", "check_extent", "convolve", "low_pass", "pad", "pad_widths",
    "patch_squared_norm", "spread",
]  # fmt: skip

_Size = int | Sequence[int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@atom()
def bcos_conv(
    x: Tensor,
    weight: Tensor,
    *,
    b: float | Tensor = 2.0,
    stride: _Size = 1,
    padding: _Size | str = 0,
    dilation: _Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    max_out: int = 1,
    unit_norm: bool = True,
    scale: float | None = None,
    eps: float = CONV_EPS,
) -> Tensor:
    """B-cos convolution: `|cos(x_p, w)|^(B-1) · ŵ·x_p` at every patch p (arXiv 2306.10898, eq. 3).

    The norm of a patch is taken over exactly the values the convolution sees, whatever the
    padding, its mode, the stride, the dilation and the groups.

    Args:
        x: (N, C, *S), or unbatched (C, *S), with one to three space axes.
        weight: (O·M, C/G, *kernel).
        b: exponent B ≥ 1, a number or a tensor.
        stride, padding, dilation, groups, padding_mode: as in `torch.nn.Conv2d`.
        max_out: M; each output is the largest of M consecutive filters, chosen before scaling.
        unit_norm: divide each filter by its norm.
        scale: divide the output by this number (the layer scale of B-cos v1).
        eps: added to the squared patch norm, inside the root.

    Returns:
        (N, O, *S'), or (O, *S') for unbatched input.

    Raises:
        InputError: shapes or options do not fit.

    >>> import torch
    >>> x, w = torch.randn(2, 6, 8, 8), torch.randn(4, 6, 3, 3)
    >>> bcos_conv(x, w, padding=1).shape
    torch.Size([2, 4, 8, 8])
    """
    options = Options(b, stride, padding, dilation, groups, padding_mode, max_out, unit_norm, scale, eps)
    return convolve(x, weight, options)


class Options(NamedTuple):
    """The arguments of `bcos_conv` after the weight."""

    b: float | Tensor
    stride: _Size
    padding: _Size | str
    dilation: _Size
    groups: int
    padding_mode: str
    max_out: int
    unit_norm: bool
    scale: float | None
    eps: float


def convolve(x: Tensor, weight: Tensor, options: Options, packed: Packed | None = None, *, watched: bool = False) -> Tensor:
    """`bcos_conv` for a layer: `packed` keeps its weight in oneDNN's order too; `watched` where hooks see the output."""
    b, stride, padding, dilation, groups, padding_mode, max_out, unit_norm, scale, eps = options
    space = weight.dim() - 2
    check_conv(x, weight, groups, max_out, padding_mode)
    check_epsilon(eps)
    check_positive(scale, "scale")
    if x.dim() == space + 1:
        return convolve(x.unsqueeze(0), weight, options, watched=watched).squeeze(0)
    kernel = tuple(weight.shape[2:])
    stride, dilation = spread(stride, space, "stride"), spread(dilation, space, "dilation")
    pads = pad_widths(padding, kernel, dilation)
    if padding_mode != "zeros" or any(left != right for left, right in pads):
        x, pads = pad(x, pads, padding_mode), [(0, 0)] * space
    widths = [left for left, _ in pads]
    check_extent(x, kernel, dilation, widths)
    if usable(x, b, max_out):
        check_mode()
        geometry = Geometry(kernel, stride, tuple(widths), dilation, groups)
        out = conv(x, parameter(weight), geometry, eps, packed, unit=unit_norm, watched=watched)
        return out if scale is None else out / scale
    weight = layer_weight(weight, unit_norm)
    if groups == 1 and all(k == 1 for k in stride) and not any(widths) and _as_product(x, weight):
        out = F.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0]).permute(0, 3, 1, 2)
    else:
        out = CONVOLUTIONS[space](x, weight, None, stride, widths, dilation, groups)
    if max_out > 1:
        out = out.reshape(out.shape[0], -1, max_out, *out.shape[2:]).amax(2)
    if not isinstance(b, Tensor) and b == 1:  # no cosine, so no norm
        check_exponent(b)
        check_mode()
        return out if scale is None else out / scale
    norm = patch_squared_norm(x, kernel, stride, widths, dilation, groups)
    if groups > 1:
        norm = norm.repeat_interleave(out.shape[1] // groups, dim=1)
    out = bcos_transform(out, norm, b, eps=eps)
    return out if scale is None else out / scale


def _as_product(x: Tensor, weight: Tensor) -> bool:
    """True where a compiled 1×1 convolution is faster as a matrix product: few positions, many channels, on a CPU.

    The convolution would bring its weight into oneDNN's order at every call, which takes longer than itself: 2048 to 1000
    channels on 7×7 took 2.0 ms, the product 1.4 (docs/decisions/005; uncompiled layers keep that order instead).
    """
    exporting = getattr(torch.compiler, "is_exporting", bool)()  # since torch 2.7; an exported batch may be any number
    if not torch.compiler.is_compiling() or exporting or x.dim() != 4 or x.device.type != "cpu":
        return False
    return weight.shape[2:] == (1, 1) and weight.shape[1] >= 1024 and x.shape[0] * x.shape[2] * x.shape[3] <= 64


def patch_squared_norm(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """Squared norm of every patch and group of zero-padded input: (N, G, *S')."""
    return patch_squared_norms(held_wide(x), Geometry(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), groups))


def spread(value: _Size, space: int, name: str) -> tuple[int, ...]:
    """An int or a sequence of `space` ints as a tuple of positive ints."""
    values = _integers(value, space)
    if len(values) != space or any(v < 1 for v in values):
        raise InputError(f"{name} must be a positive integer or {space} of them, not {value!r}.")
    return values


def _integers(value: _Size, space: int) -> tuple[int, ...]:
    """An integer for every space axis, or as many as were given; none where something else is among them."""
    given = tuple(value) if isinstance(value, Iterable) else (value,) * space
    # plain ints first: torch.compile follows this, and not what numpy's need
    found = [v if isinstance(v, int) and not isinstance(v, bool) else integer(v) for v in given]
    return tuple(v for v in found if v is not None) if None not in found else ()


def pad_widths(padding: _Size | str, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int]]:
    """Padding as (before, after) for every space axis; "same" puts an odd pixel after, as torch does."""
    if isinstance(padding, str):
        if padding == "valid":
            return [(0, 0)] * len(kernel)
        if padding != "same":
            tail = hint(padding, ["same", "valid"])
            raise InputError(f"padding must be 'same', 'valid' or integers, not {padding!r}.{tail}")
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    values = _integers(padding, len(kernel))
    if len(values) != len(kernel) or any(v < 0 for v in values):
        raise InputError(f"padding must be an integer ≥ 0 or {len(kernel)} of them, not {padding!r}.")
    return [(v, v) for v in values]


def pad(x: Tensor, pads: Sequence[tuple[int, int]], padding_mode: str) -> Tensor:
    """`x` padded on its space axes in one of the four padding modes."""
    for size, (before, after) in zip(x.shape[2:], pads, strict=True):
        widest = {"reflect": size - 1, "circular": size}.get(padding_mode)
        if widest is not None and max(before, after) > widest:
            raise InputError(
                f"padding {max(before, after)} in mode {padding_mode!r} needs more than the {size} positions of "
                f"an input of shape {tuple(x.shape)}: pad less or give a larger input."
            )
    flat = [width for before, after in reversed(pads) for width in (before, after)]
    return F.pad(x, flat, mode="constant" if padding_mode == "zeros" else padding_mode)


def check_conv(x: Tensor, weight: Tensor, groups: int, max_out: int, padding_mode: str) -> None:
    """Raise InputError where a convolution of these tensors is not defined."""
    space = weight.dim() - 2
    if space not in CONVOLUTIONS:
        raise InputError(f"weight must be (O, C/G, *kernel) with 1 to 3 kernel axes, not of shape {tuple(weight.shape)}.")
    if x.dim() not in (space + 1, space + 2):
        raise InputError(f"Expected (N, C, *S) or (C, *S) with {space} space axes, got shape {tuple(x.shape)}.")
    if not x.is_floating_point():
        raise InputError(f"Expected a floating-point tensor, got {x.dtype}: convert pictures with .float() / 255.")
    channels = x.shape[-space - 1]
    explained = current() if x.dim() == space + 1 else None
    # one picture without a batch is right for a layer, and not for an explanation, which would take its channels for pictures
    if explained is not None and explained.batched and x.shape == explained.inputs.shape:
        raise InputError(f"x must be (N, C, *S), and this network has {space} axes of space, not {tuple(x.shape)}: use x[None].")
    if channels != weight.shape[1] * groups:
        extra = ""
        if channels <= 4 and weight.shape[1] * groups == 2 * channels:
            extra = f" {'RGB pictures are' if channels == 3 else 'Input is'} encoded first: torchbcos.functional.add_inverse(x)."
        raise InputError(f"Expected {weight.shape[1] * groups} channels, got {channels} (shape {tuple(x.shape)}).{extra}")
    if groups < 1 or max_out < 1 or weight.shape[0] % (groups * max_out):
        raise InputError(f"{weight.shape[0]} filters cannot be divided into {groups} groups of MaxOut {max_out}.")
    if padding_mode not in PADDING_MODES:
        raise InputError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, not {padding_mode!r}.")


def check_extent(x: Tensor, kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int]) -> None:
    """Raise InputError where the padded input is smaller than the kernel."""
    for size, k, d, p in zip(x.shape[2:], kernel, dilation, padding, strict=True):
        if size + 2 * p < d * (k - 1) + 1:
            raise InputError(
                f"An input of {' x '.join(map(str, x.shape[2:]))} is too small for a kernel of "
                f"{' x '.join(map(str, kernel))}: give a larger picture."
            )


@atom()
def low_pass(x: Tensor, stride: int = 2) -> Tensor:
    """Fixed binomial low-pass [1, 2, 1]/4 on every space axis, then stride: anti-aliased down-sampling.

    Linear, so explanations stay exact; without it strided layers leave grid artefacts in
    explanations (arXiv 2507.16761). Borders are replicated by weighting: a constant stays one.

    Args:
        x: (N, C, *S).
        stride: step after the low-pass.

    Returns:
        (N, C, *ceil(S / stride)).

    Raises:
        InputError: `stride` is not a positive integer.

    >>> import torch
    >>> low_pass(torch.ones(1, 1, 4, 4))
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    space = x.dim() - 2
    spread(stride, 1, "stride")
    kernel = x.new_tensor([0.25, 0.5, 0.25])
    full = kernel
    for _ in range(space - 1):
        full = full.unsqueeze(-1) * kernel
    filters = full.expand(x.shape[1], 1, *full.shape)
    out = CONVOLUTIONS[space](x, filters, None, stride, 1, 1, x.shape[1])
    ones = x.new_ones((1, 1, *x.shape[2:]))
    return out / CONVOLUTIONS[space](ones, full[None, None], None, stride, 1)
