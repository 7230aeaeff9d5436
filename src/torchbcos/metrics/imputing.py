"""What removed pixels become: a replacement, or what their neighbours say (ROAD, arXiv 2202.00449), solved on the batch.

A removed pixel is the mean of its neighbours, direct ones with twice the weight of diagonal ones: a system with one unknown a
removed pixel, symmetric and positive definite once each equation is multiplied by the weights that exist at the border. It is
solved by conjugate gradients behind one cycle of a multigrid, in about twenty rounds whatever the size of the hole.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos.functional.replace import encoded_images, noisy, replacement
from torchbcos.metrics.passes import Replace, check_pictures, own_generator

__all__ = ["check_noise", "colour_noise", "impute_linear", "remover"]

_NOTHING = "nothing is left to impute it from. Stop at a fraction of 0.99, say."
_SMALL = 1e-11  # of a system's range: what is left of its equations at the end
_ROUNDS = 2000
_TOGETHER = 1 << 20  # numbers solved at once on a CPU: they stay in its cache
_COARSEST, _DAMPED = 8, 0.8


def impute_linear(x: Tensor, removed: Tensor, *, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Pictures whose removed pixels are the weighted mean of their 8 neighbours, 1/6 direct and 1/12 diagonal.

    At the border the weights of the neighbours that exist are renormalised to 1. The equation holds between removed pixels, too:
    holes are filled smoothly (Rong et al. 2022, arXiv 2202.00449). Encoded pictures `[c, 1 - c]` are imputed in their colours
    and encoded again.

    Args:
        x: (N, C, H, W) as the network takes it.
        removed: (N, H, W), or (H, W) for all pictures, bool.
        noise: standard deviation of the noise on removed pixels, in units of x (0.01 in the paper); one draw for all.
        generator: of the noise; None: a fresh one, seed 0.

    Returns:
        (N, C, H, W), of the dtype of x; pixels that are not removed keep their bits.

    Raises:
        InputError: shapes do not fit, or of a picture every pixel is removed.

    >>> x = torch.tensor([[12.0, 6.0, 12.0], [6.0, 0.0, 6.0], [12.0, 6.0, 12.0]]).view(1, 1, 3, 3)
    >>> impute_linear(x, x[0, 0] == 0)[0, 0, 1]
    tensor([6., 8., 6.])
    """
    x = check_pictures(x)
    gone = _checked(removed, x)
    check_noise(noise)
    full = gone.flatten(1).all(1)
    if bool(full.any()):
        raise InputError(f"Every pixel of picture {int(full.nonzero()[0])} is removed: {_NOTHING}")
    return _imputed(x, gone, colour_noise(x, noise, generator))


def remover(x: Tensor, replace: Replace, noise: Tensor | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of (b,) numbers of pictures and of (b, *S) what is removed of each: pictures (b, C, *S).

    Args:
        x: (N, C, *S), checked.
        replace: "linear", from the neighbours; else as `functional.replace.replacement` takes it.
        noise: of `colour_noise`, on what is imputed.

    Raises:
        InputError: "linear" of pictures with another number of space axes than two.
    """
    if isinstance(replace, str) and replace == "linear":
        _check_axes(x)
        return lambda images, gone: _imputed(x[images], gone, noise)
    base = replacement(x, replace)
    shared = base.stride(0) == 0  # one for all pictures: nothing to gather
    return lambda images, gone: torch.where(gone.unsqueeze(1), base[:1] if shared else base[images], x[images])


def colour_noise(x: Tensor, noise: float, generator: torch.Generator | None) -> Tensor | None:
    """One field (1, C, H, W) for all pictures, so that a picture's noise does not depend on its batch; None for no noise."""
    generator = own_generator(generator)
    if noise == 0:
        return None
    drawn = torch.randn(1, *x.shape[1:], generator=generator, device=generator.device, dtype=torch.float32)
    return (noise * drawn).to(x)


def check_noise(noise: object) -> None:
    """A standard deviation."""
    if isinstance(noise, bool) or not isinstance(noise, (int, float)):
        raise ArgumentTypeError(f"noise must be a number, a standard deviation, not {type(noise).__name__}.")
    if not 0 <= noise < float("inf"):
        raise InputError(f"noise must be a standard deviation of 0 or more, not {noise}.")


def _imputed(x: Tensor, removed: Tensor, noise: Tensor | None) -> Tensor:
    """As `impute_linear`, of checked pictures (N, C, H, W) and masks (N, H, W); noise (1, C, H, W) drawn already."""
    if bool(removed.flatten(1).all(1).any()):
        raise InputError(f"Every pixel of a picture is removed: {_NOTHING}")
    encoded = encoded_images(x)
    half = x.shape[1] // 2
    colours = x[:, :half] if bool(encoded.all()) else x
    filled = _filled(colours, removed)
    if colours.shape[1] < x.shape[1]:
        filled = torch.cat([filled, 1 - filled], 1)
    elif bool(encoded.any()):
        twin = torch.cat([filled[:, :half], 1 - filled[:, :half], filled[:, 2 * half :]], 1)
        filled = torch.where(encoded.view(-1, 1, 1, 1), twin, filled)
    gone = removed.unsqueeze(1)
    out = torch.where(gone, filled.to(x.dtype), x)
    return out if noise is None else torch.where(gone, noisy(out, noise, clamp=True), out)


def _checked(removed: object, x: Tensor) -> Tensor:
    _check_axes(x)
    if not isinstance(removed, Tensor) or removed.dtype != torch.bool:
        raise ArgumentTypeError("removed must be a tensor (N, H, W) or (H, W) of bool: True where a pixel is removed.")
    size = (len(x), *x.shape[2:])
    if tuple(removed.shape) not in (size, size[1:]):
        raise InputError(f"A mask of shape {tuple(removed.shape)} does not fit pictures of shape {tuple(x.shape)}.")
    return removed.to(x.device).expand(size)


def _check_axes(x: Tensor) -> None:
    if x.dim() != 4:
        raise InputError(f"Linear imputation is of pictures with two space axes, (N, C, H, W), not {tuple(x.shape)}.")


# -- the system ------------------------------------------------------------------------------------------------------


def _filled(x: Tensor, removed: Tensor) -> Tensor:
    """(N, C, H, W) float64: whatever it is where nothing was removed."""
    part = len(x) if x.is_cuda else max(1, _TOGETHER // x[0].numel())
    return torch.cat([_solved(a, b) for a, b in zip(torch.split(x, part), torch.split(removed, part), strict=True)])


def _solved(x: Tensor, removed: Tensor) -> Tensor:
    gone = removed.unsqueeze(1)
    x = x.double()
    # every system in its own range, [-1, 1]: a constant picture is 0, and its solution, too
    top = x.masked_fill(gone, -torch.inf).amax((2, 3), keepdim=True)
    bottom = x.masked_fill(gone, torch.inf).amin((2, 3), keepdim=True)
    middle, reach = bottom / 2 + top / 2, top / 2 - bottom / 2
    known = torch.where(gone, 0, (x - middle) / torch.where(reach > 0, reach, 1))
    return middle + reach * _conjugate_gradients(_around(known), gone.double(), _levels(gone))


def _conjugate_gradients(right: Tensor, mask: Tensor, levels: list[tuple[Tensor, Tensor]]) -> Tensor:
    """u with A·u = right where `mask` is 1: A·u = (weights that exist)·u - weighted sum of u around.

    Every channel of every picture is a system of its own, with its own steps: it stops when it is solved.
    """
    weights = _weights(mask)
    rest = right * mask
    u = torch.zeros_like(rest)
    way, size = u, torch.ones_like(rest[..., :1, :1])
    for _ in range(_ROUNDS):
        open_ = rest.abs().amax((2, 3), keepdim=True) > _SMALL
        if not bool(open_.any()):
            return u
        better = _cycle(rest.float(), levels).double()
        new = (rest * better).sum((2, 3), keepdim=True)
        way = better + torch.where(size > 0, new / size, 0) * way
        size = new
        bent = (weights * way - _around(way)) * mask
        energy = (way * bent).sum((2, 3), keepdim=True)
        step = torch.where(open_ & (energy > 0), new / energy, 0)
        u, rest = u + step * way, rest - step * bent
    raise StateError(f"Linear imputation did not converge in {_ROUNDS} rounds: its mask is unlike any that was tried.")


def _levels(gone: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Mask and weights that exist, of the picture and of its halves; a coarse pixel is removed where all its pixels are."""
    mask = gone.float()
    found = [(mask, _weights(mask))]
    while max(mask.shape[2:]) > _COARSEST:
        mask = -F.max_pool2d(-_even(mask, 1.0), 2)
        found.append((mask, _weights(mask)))
    return found


def _cycle(rest: Tensor, levels: list[tuple[Tensor, Tensor]]) -> Tensor:
    """About A⁻¹·rest: smooth, correct by the coarser level, smooth. Symmetric, as conjugate gradients need it."""
    (mask, weights), coarser = levels[0], levels[1:]
    damped = _DAMPED * mask / weights
    u = damped * rest
    for _ in range(1 if coarser else 20):
        u = u + damped * (rest - weights * u + _around(u))
    if not coarser:
        return u
    left = (rest - weights * u + _around(u)) * mask
    below = _cycle(4 * F.avg_pool2d(_even(left, 0.0), 2) * coarser[0][0], coarser)
    above = below.repeat_interleave(2, -1).repeat_interleave(2, -2)
    u = u + above[..., : u.shape[-2], : u.shape[-1]] * mask
    for _ in range(2):
        u = u + damped * (rest - weights * u + _around(u))
    return u


def _even(x: Tensor, fill: float) -> Tensor:
    return F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), value=fill)


def _weights(like: Tensor) -> Tensor:
    """(1, 1, H, W): the sum of the weights of the neighbours that exist: 1, and less at the border."""
    return _around(torch.ones_like(like[:1, :1]))


def _around(u: Tensor) -> Tensor:
    """The weighted sum of the 8 neighbours: (1, 2, 1)ᵀ(1, 2, 1)/12 without its centre."""
    wide = F.pad(u, (1, 1, 1, 1))
    rows = wide[..., :-2, :] + wide[..., 2:, :] + 2 * wide[..., 1:-1, :]
    return (rows[..., :-2] + rows[..., 2:] + 2 * rows[..., 1:-1] - 4 * u) / 12
