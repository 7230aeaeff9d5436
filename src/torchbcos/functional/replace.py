"""What stands in the place of removed pixels, and noise that stays a picture: the same for methods and for metrics."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError

__all__ = ["REPLACEMENTS", "encoded_images", "noisy", "replacement"]

REPLACEMENTS = ("grey", "mean", "blur", "black", "white", "zero6")
_BLUR = 10 / 224  # of the shorter side: σ of "blur"


def replacement(x: Tensor, replace: str | float | Tensor | Callable[[Tensor], Tensor] = "grey") -> Tensor:
    """What every pixel becomes once it is removed: pictures of the same encoding as `x`.

    Encoded pictures `[c, 1 - c]` (arXiv 2306.10898, section 3.2) stay encoded: a grey pixel is 0.5 in all six channels, a black
    one (0, 0, 0, 1, 1, 1). All zeros are no colour; they are offered under a name of their own, as the literature uses them.

    Args:
        x: (N, C, *S) as the network takes it: encoded pictures, pixels in [0, 1], or normalised pixels.
        replace: "grey" (0.5; in a normalised picture 0, the mean colour of the data), "mean" (the mean colour of the
            picture), "blur" (the picture, blurred: σ = 10 pixels of 224, reflected at the border), "black" or "white" (not for
            normalised pictures, whose black is not known), "zero6" (zeros in every channel), a number, a tensor that
            broadcasts to (N, C, *S), or a function from x to such a tensor.

    Returns:
        (N, C, *S), of the dtype and on the device of `x`.

    Raises:
        InputError: the name is unknown, the shape does not fit, or "black" is asked of a normalised picture.

    >>> x = torch.cat([torch.full((1, 3, 2, 2), 0.2), torch.full((1, 3, 2, 2), 0.8)], 1)
    >>> replacement(x, "black")[0, :, 0, 0]
    tensor([0., 0., 0., 1., 1., 1.])
    """
    if x.dim() < 2 or not x.is_floating_point():
        raise InputError(f"Expected pictures (N, C, *S) of floating point, got {tuple(x.shape)} of {x.dtype}.")
    if isinstance(replace, str):
        found = _named(x.detach(), replace)
    elif isinstance(replace, Tensor):
        found = replace.detach()
    elif isinstance(replace, (int, float)) and not isinstance(replace, bool):
        found = x.new_tensor(float(replace))
    elif callable(replace):
        found = replace(x.detach())
    else:
        raise ArgumentTypeError(f"A replacement is a name, a number, a tensor or a function, not {type(replace).__name__}.")
    return _fitted(found, x)


def _fitted(found: object, x: Tensor) -> Tensor:
    """A replacement of the shape of x."""
    if not isinstance(found, Tensor):
        raise ArgumentTypeError(f"The replacement's function gave a {type(found).__name__}, not a tensor.")
    found = found.to(x.device, x.dtype)
    try:
        return found.expand_as(x)
    except RuntimeError as error:
        raise InputError(f"A replacement of shape {tuple(found.shape)} does not fit pictures of {tuple(x.shape)}.") from error


def _named(x: Tensor, name: str) -> Tensor:
    axes = tuple(range(2, x.dim()))
    if name == "grey":
        return _by_image(x, _is_pixels(x)).to(x.dtype) * 0.5 + torch.zeros_like(x)
    if name == "mean":
        return x.mean(axes, keepdim=True) if axes else x
    if name == "blur":
        return _blurred(x)
    if name == "zero6":
        return torch.zeros_like(x)
    if name in ("black", "white"):
        if not bool(_is_pixels(x).all()):
            raise InputError(
                f"{name!r} is not known of a normalised picture (numbers outside [0, 1]): give it as a tensor, "
                "(0 - mean) / std for black, or use 'grey', 'mean' or 'blur'."
            )
        level = 0.0 if name == "black" else 1.0
        half = x.shape[1] // 2
        inverse = _by_image(x, encoded_images(x)) & (torch.arange(x.shape[1], device=x.device) >= half).view(
            1, -1, *(1,) * len(axes)
        )
        return torch.where(inverse, 1 - level, level).to(x.dtype)
    raise InputError(
        f"Unknown replacement {name!r}: expected one of {', '.join(REPLACEMENTS)}, a number, a tensor or a function."
    )


def _by_image(x: Tensor, flags: Tensor) -> Tensor:
    return flags.view(-1, *(1,) * (x.dim() - 1))


def _is_pixels(x: Tensor) -> Tensor:
    """(N,) bool: whether the numbers of an image lie in [0, 1]."""
    flat = x.flatten(1)
    return ((flat >= 0) & (flat <= 1)).all(1)


def encoded_images(x: Tensor) -> Tensor:
    """Which images are encoded as `[c, 1 - c]`: (N,) bool.

    >>> encoded_images(torch.tensor([[[0.25], [0.75]], [[0.25], [0.25]]]))
    tensor([ True, False])
    """
    half = x.shape[1] // 2
    if x.shape[1] % 2 or not half:
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)
    close = 1e-4 if torch.finfo(x.dtype).eps < 1e-4 else 2e-2
    return _is_pixels(x) & ((x[:, :half] + x[:, half:] - 1).abs().flatten(1) <= close).all(1)


def _blurred(x: Tensor) -> Tensor:
    """A Gaussian, axis by axis; reflected at the border, so that colours stay colours."""
    y = x
    for axis in range(2, x.dim()):
        size = x.shape[axis]
        sigma = _BLUR * min(x.shape[2:])
        radius = min(max(1, math.ceil(3 * sigma)), size - 1)
        if radius < 1 or sigma <= 0:
            continue
        at = torch.arange(
            -radius, radius + 1, device=x.device, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32
        )
        kernel = torch.exp(-(at**2) / (2 * sigma**2))
        kernel = kernel / kernel.sum()
        line = y.movedim(axis, -1)
        flat = line.reshape(-1, 1, size).to(kernel.dtype)
        flat = F.conv1d(F.pad(flat, (radius, radius), mode="reflect"), kernel.view(1, 1, -1))
        y = flat.reshape(line.shape).movedim(-1, axis).to(x.dtype)
    return y


def noisy(x: Tensor, noise: Tensor, *, clamp: bool = False) -> Tensor:
    """`x` with noise on its colours: an encoded picture `[c, 1 - c]` becomes `[c + n, 1 - c - n]`, and stays one.

    Args:
        x: (N, C, *S).
        noise: broadcasts to (N, C, *S); of an encoded picture its first half of the channels is used.
        clamp: cut colours at 0 and 1 where the picture lies in [0, 1].

    Returns:
        (N, C, *S).

    >>> noisy(torch.tensor([[[0.25], [0.75]]]), torch.tensor([0.25]).view(1, 1, 1)).flatten()
    tensor([0.5000, 0.5000])
    """
    noise = noise.to(x.device, x.dtype).expand_as(x)
    half = x.shape[1] // 2
    encoded = _by_image(x, encoded_images(x))
    moved = x + torch.where(encoded, torch.cat([noise[:, :half], -noise[:, :half], noise[:, 2 * half :]], 1), noise)
    return torch.where(_by_image(x, _is_pixels(x)), moved.clamp(0, 1), moved) if clamp else moved
