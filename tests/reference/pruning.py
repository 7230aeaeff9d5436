"""Slow float64 twins of what pruning computes: loops, from the equations and definitions, not from our code.

Least squares stand as one tall system with the ridge as further rows, not as normal equations; fronts, crowding and hypervolume
as they are defined; operations are counted output by output.

Shapes: M samples, C channels, k numbers a channel (of the kernel), O outputs, A MaxOut arms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

Row = Sequence[float]
RIDGE = 1e-3  # of the mean diagonal of XᵀX: of what is solved, so after the means are off and of kept columns only


# -- layers --------------------------------------------------------------------------------------------------------------------


def around(side: int, mode: str, at: int) -> int | None:
    """Which number stands at a place that may lie outside of (0, side); None: a zero."""
    if 0 <= at < side:
        return at
    if mode == "zeros":
        return None
    if mode == "replicate":
        return min(max(at, 0), side - 1)
    if mode == "circular":
        return at % side
    return -at if at < 0 else 2 * (side - 1) - at  # reflect: the border itself stands once


def widths(padding: int | str, kernel: int, dilation: int) -> tuple[int, int]:
    """Padding before and after; "same" has the odd one after."""
    if isinstance(padding, int):
        return padding, padding
    whole = dilation * (kernel - 1) if padding == "same" else 0
    return whole // 2, whole - whole // 2


def patches(
    x: Tensor, kernel: tuple[int, int], stride: int, padding: int | str, dilation: int, mode: str
) -> dict[tuple[int, int, int], Tensor]:  # fmt: skip
    """What a convolution reads of x (N, C, H, W): picture, row and column of the output -> (C, k)."""
    n, channels, *sides = x.shape
    before = [widths(padding, kernel[i], dilation) for i in (0, 1)]
    outputs = [(sides[i] + sum(before[i]) - dilation * (kernel[i] - 1) - 1) // stride + 1 for i in (0, 1)]
    found = {}
    for picture, row, column in itertools.product(range(n), range(outputs[0]), range(outputs[1])):
        patch = torch.zeros(channels, kernel[0] * kernel[1], dtype=torch.float64)
        for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
            h = around(sides[0], mode, row * stride + i * dilation - before[0][0])
            w = around(sides[1], mode, column * stride + j * dilation - before[1][0])
            if h is not None and w is not None:
                patch[:, i * kernel[1] + j] = x[picture, :, h, w].double()
        found[picture, row, column] = patch
    return found


def plain_output(row: Row, filters: Sequence[Row], bias: Row | None) -> list[float]:
    """(O,) of an ordinary layer."""
    found = [math.fsum(a * b for a, b in zip(row, one, strict=True)) for one in filters]
    return found if bias is None else [a + b for a, b in zip(found, bias, strict=True)]


def bcos_arm(row: Row, one: Row, b: float) -> float:
    """`‖w‖^B ‖x‖ |cos(x, w)|^B sgn` of one filter that is used as it is."""
    length = math.sqrt(math.fsum(a * a for a in row))
    norm = math.sqrt(math.fsum(a * a for a in one))
    if length == 0 or norm == 0:
        return 0.0
    cosine = math.fsum(a * c for a, c in zip(row, one, strict=True)) / (length * norm)
    return math.copysign(norm**b * length * abs(cosine) ** b, cosine)


def bcos_output(row: Row, filters: Sequence[Row], b: float, arms: int) -> list[float]:
    """(O,): of the arms of an output the largest counts."""
    each = [bcos_arm(row, one, b) for one in filters]
    return [max(each[i : i + arms]) for i in range(0, len(each), arms)]


def unit(one: Row) -> list[float]:
    """A filter of unit norm."""
    norm = math.sqrt(math.fsum(a * a for a in one))
    return [a / norm for a in one]


# -- least squares -------------------------------------------------------------------------------------------------------------


def columns(x: Tensor, kept: Sequence[int]) -> list[list[float]]:
    """Rows (M, S k) of what is left of the samples (M, C, k)."""
    return [[float(value) for channel in kept for value in one[channel]] for one in x.double()]


def ridge_solution(x: Tensor, y: Tensor) -> Tensor:
    """(D, O) that makes Σ (x w - y)² + λ‖w‖² least: the rows of √λ I stand below those of x, zeros below those of y."""
    ridge = RIDGE * max(float(x.square().sum()) / x.shape[1], 1e-12)
    below = math.sqrt(ridge) * torch.eye(x.shape[1], dtype=torch.float64)
    tall = torch.cat([x, below])
    found: Tensor = torch.linalg.lstsq(tall, torch.cat([y, torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64)])).solution
    return found


def plain_fit(x: Tensor, filters: Sequence[Row], bias: Row | None, kept: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """(O, S k) filters, and the bias, with which the kept channels come nearest to what all of them gave."""
    everything = columns(x, range(x.shape[1]))
    y = torch.tensor([plain_output(row, filters, bias) for row in everything], dtype=torch.float64)
    rows = torch.tensor(columns(x, kept), dtype=torch.float64)
    if bias is None:
        return ridge_solution(rows, y).t(), None
    of_x, of_y = rows.mean(0), y.mean(0)
    found = ridge_solution(rows - of_x, y - of_y).t()
    return found, of_y - found @ of_x


def bcos_fit(x: Tensor, filters: Sequence[Row], b: float, kept: Sequence[int]) -> Tensor:
    """(O A, S k): w of t = sgn(y) (|y| ‖x_S‖^(B-1))^(1/B), each arm by itself; `filters` are used as they are."""
    rows = columns(x, kept)
    targets = []
    for whole, row in zip(columns(x, range(x.shape[1])), rows, strict=True):
        length = math.sqrt(math.fsum(a * a for a in row))
        given = [bcos_arm(whole, one, b) for one in filters]
        targets.append([math.copysign((abs(y) * length ** (b - 1)) ** (1 / b), y) for y in given])
    return ridge_solution(torch.tensor(rows, dtype=torch.float64), torch.tensor(targets, dtype=torch.float64)).t()


# -- several aims --------------------------------------------------------------------------------------------------------------


def beats(one: Row, other: Row) -> bool:
    """Nowhere worse and somewhere better (Deb et al. 2002)."""
    worse = [i for i in range(len(one)) if one[i] > other[i]]
    better = [i for i in range(len(one)) if one[i] < other[i]]
    return not worse and bool(better)


def fronts(aims: Sequence[Row]) -> list[list[int]]:
    """Take away those that nobody beats, and begin anew with the rest."""
    left = list(range(len(aims)))
    found = []
    while left:
        best = [i for i in left if not [j for j in left if beats(aims[j], aims[i])]]
        found.append(best)
        left = [i for i in left if i not in best]
    return found


def crowding(aims: Sequence[Row]) -> list[float]:
    """By definition, of aims that are nowhere the same: along each axis the next one below and the next one above."""
    found = []
    for one in aims:
        total = 0.0
        for axis in range(len(one)):
            values = [other[axis] for other in aims]
            below, above = [v for v in values if v < one[axis]], [v for v in values if v > one[axis]]
            total += (min(above) - max(below)) / (max(values) - min(values)) if below and above else math.inf
        found.append(total)
    return found


def hypervolume(aims: Sequence[Row], reference: Row) -> float:
    """All boxes of the grid that the coordinates span, each counted if one candidate lies below its lower corner."""
    axes = [sorted({one[i] for one in aims if one[i] < end} | {end}) for i, end in enumerate(reference)]
    total = 0.0
    for box in itertools.product(*(list(itertools.pairwise(axis)) for axis in axes)):
        if [one for one in aims if not [i for i in range(len(one)) if one[i] > box[i][0]]]:
            total += math.prod(high - low for low, high in box)
    return total


# -- operations ----------------------------------------------------------------------------------------------------------------


def conv_flops(
    inputs: int, outputs: int, kernel: tuple[int, int], sides: tuple[int, int], *, stride: int = 1, padding: int | str = 0,
    dilation: int = 1, groups: int = 1, arms: int = 1,
) -> int:  # fmt: skip
    """Two operations for each number that is multiplied by a weight, at each place, of each filter."""
    total = outputs * arms
    for i in (0, 1):
        whole = sides[i] + sum(widths(padding, kernel[i], dilation))
        total *= len([at for at in range(0, whole, stride) if at + dilation * (kernel[i] - 1) < whole])
    return total * 2 * kernel[0] * kernel[1] * (inputs // groups)


def linear_flops(inputs: int, outputs: int, tokens: int = 1, arms: int = 1) -> int:
    """The same of a linear layer."""
    return 2 * tokens * inputs * outputs * arms


def attention_flops(tokens: int, heads: int, head_dim: int) -> int:
    """Of q kᵀ and of what its softmax is multiplied by; the maps before and after are linear layers."""
    return 2 * heads * (tokens * tokens * head_dim + tokens * tokens * head_dim)
