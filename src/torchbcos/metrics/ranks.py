"""Ranks, and how far two rows of numbers agree in them: Pearson's r, Spearman's ρ, Kendall's τ-b."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError

__all__ = ["average_ranks", "kendall_tau_b", "levelled", "pearson", "spearman", "tau_b_of_all"]

_PAIRS = 1 << 22  # compared at once: 32 MB


def average_ranks(values: Tensor) -> Tensor:
    """Ranks 1 to M along the last axis; equal numbers share the mean of their ranks.

    Args:
        values: (..., M).

    Returns:
        (..., M) float64; all NaN where a number of the row is NaN.

    >>> average_ranks(torch.tensor([30.0, 10.0, 30.0, 20.0]))
    tensor([3.5000, 1.0000, 3.5000, 2.0000], dtype=torch.float64)
    """
    values = _numbers(values).contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return torch.where(values.isnan().any(-1, keepdim=True), math.nan, (below + 1 + upto).double() / 2)


def levelled(values: Tensor, noise: Tensor | float) -> Tensor:
    """Rows whose numbers are equal where they differ by rounding alone: ranks would tell them apart, in an order of no meaning.

    Args:
        values: (..., M).
        noise: what rounding makes, a number or one a row (..., 1). Numbers that follow each other so closely become the least
            of them.

    Returns:
        (..., M) float64.

    >>> levelled(torch.tensor([0.3, 1.0, 0.30001]), 1e-4)
    tensor([0.3000, 1.0000, 0.3000], dtype=torch.float64)
    """
    ordered, places = _numbers(values).sort(-1)
    new = (ordered.diff(dim=-1) <= noise).logical_not()
    first = torch.nn.functional.pad(new * torch.arange(1, ordered.shape[-1], device=ordered.device), (1, 0)).cummax(-1).values
    return torch.empty_like(ordered).scatter_(-1, places, ordered.gather(-1, first))


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of two rows: cov(a, b) / (σ_a·σ_b).

    Args:
        a: (..., M).
        b: (..., M).

    Returns:
        (...) in [-1, 1], of the wider dtype of the two; NaN where one row is constant, shorter than two, or holds NaN.

    Raises:
        InputError: their shapes differ.

    >>> pearson(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0]))
    tensor(1.)
    """
    a, b, dtype = _pair(a, b)
    constant = _constant(a) | _constant(b)
    # scaled first: squares of huge or of tiny numbers leave the range
    a, b = (_scaled(v - v.mean(-1, keepdim=True)) for v in (a, b))
    r = (a * b).sum(-1) / ((a * a).sum(-1) * (b * b).sum(-1)).sqrt()
    return torch.where(constant, math.nan, r.clamp(-1, 1)).to(dtype)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of two rows: Pearson's of their average ranks.

    Args:
        a: (..., M).
        b: (..., M).

    Returns:
        (...) in [-1, 1], of the wider dtype of the two; NaN where one row is constant, shorter than two, or holds NaN.

    Raises:
        InputError: their shapes differ.

    >>> spearman(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 4.0, 9.0, 16.0]))
    tensor(1.)
    """
    a, b, dtype = _pair(a, b)
    return pearson(average_ranks(a), average_ranks(b)).to(dtype)


def kendall_tau_b(a: Tensor, b: Tensor) -> Tensor:
    """Kendall's τ-b of two rows: (concordant - discordant pairs) / √(pairs untied in a · pairs untied in b).

    All M² pairs are compared, in parts: made for rankings of methods and for pooled maps, not for maps of 50,000 pixels.

    Args:
        a: (..., M).
        b: (..., M).

    Returns:
        (...) in [-1, 1], of the wider dtype of the two; NaN where one row is constant, shorter than two, or holds NaN.

    Raises:
        InputError: their shapes differ.

    >>> kendall_tau_b(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0]))
    tensor(0.3333)
    """
    a, b, dtype = _pair(a, b)
    empty = _constant(a) | _constant(b) | a.isnan().any(-1) | b.isnan().any(-1)
    both, in_a, in_b = (torch.zeros(a.shape[:-1], dtype=torch.float64, device=a.device) for _ in range(3))
    for part in torch.split(torch.arange(a.shape[-1], device=a.device), max(1, _PAIRS // a.numel())):
        signs_a, signs_b = (_above(v[..., part], v) for v in (a, b))
        both += (signs_a * signs_b).sum((-2, -1)).double()
        in_a += signs_a.abs().sum((-2, -1)).double()
        in_b += signs_b.abs().sum((-2, -1)).double()
    return torch.where(empty, math.nan, both / (in_a * in_b).sqrt()).to(dtype)


def tau_b_of_all(rows: Tensor) -> Tensor:
    """Kendall's τ-b of each two of many short rows, over the places where both have a number: one product of matrices.

    Args:
        rows: (..., R, M), NaN for a place without a number. All M² pairs of a row are held at once.

    Returns:
        (..., R, R) float64; NaN where one of two rows is constant in the places that both have, or fewer than two are left.

    >>> tau_b_of_all(torch.tensor([[1.0, 2.0, 3.0, 9.0], [1.0, 3.0, 2.0, float("nan")]]))[0]
    tensor([1.0000, 0.3333], dtype=torch.float64)
    """
    rows = _numbers(rows)
    there = ~rows.isnan()
    signs = _above(rows, rows).double().flatten(-2)  # comparisons with NaN are False: 0
    pairs = (there.unsqueeze(-1) & there.unsqueeze(-2)).double().flatten(-2)
    untied = signs.abs() @ pairs.mT  # [a, b]: pairs that both rows have, and that are not tied in a
    return signs @ signs.mT / (untied * untied.mT).sqrt()  # 0/0 is NaN


def _above(some: Tensor, all_of: Tensor) -> Tensor:
    """1 where a number is above another, -1 where below; compared, for the difference of two infinities is none."""
    some, all_of = some.unsqueeze(-1), all_of.unsqueeze(-2)
    return (some > all_of).to(torch.int32) - (some < all_of).to(torch.int32)


def _constant(rows: Tensor) -> Tensor:
    """Rows whose numbers are all the same, or that have none or one."""
    return (rows == rows[..., :1]).all(-1)


def _scaled(rows: Tensor) -> Tensor:
    return rows / rows.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def _numbers(values: object, name: str = "values") -> Tensor:
    if not isinstance(values, Tensor):
        raise ArgumentTypeError(f"{name} must be a tensor (..., M), not {type(values).__name__}: torch.as_tensor({name}).")
    if values.dim() < 1 or values.is_complex() or values.numel() == 0:
        raise InputError(f"{name} must be rows of real numbers (..., M), not {tuple(values.shape)} of {values.dtype}.")
    return values.detach().double()


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
    """Both in float64, and the dtype of the answer."""
    first, second = _numbers(a, "a"), _numbers(b, "b")
    if a.shape != b.shape:
        raise InputError(f"Rows of the same shape are compared, not {tuple(a.shape)} and {tuple(b.shape)}.")
    wide = torch.float64 in (a.dtype, b.dtype)
    return first, second.to(first.device), torch.float64 if wide else torch.float32
