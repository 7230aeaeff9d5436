"""Methods that cover parts of the picture, written a second time: float64, plain loops, from the papers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

Picture = dict[tuple[int, ...], float]  # place -> its number: pictures of one channel
Score = Callable[[Picture], float]


def occlusion(score: Score, x: Picture, base: Picture, window: Sequence[int], stride: Sequence[int], spread: bool) -> Picture:
    """The mean drop of the windows that cover a pixel (Zeiler and Fergus 2014); or the sum of its shares of their drops."""
    size = [1 + max(place[axis] for place in x) for axis in range(len(window))]
    starts = []
    for s, w, step in zip(size, window, stride, strict=True):
        at, found = 0, []
        while at + w < s:
            found.append(at)
            at += step
        starts.append([*found, s - w])
    drops: dict[tuple[int, ...], list[float]] = {place: [] for place in x}
    for corner in itertools.product(*starts):
        covered = [p for p in x if all(c <= i < c + w for i, c, w in zip(p, corner, window, strict=True))]
        changed = {place: base[place] if place in covered else number for place, number in x.items()}
        for place in covered:
            drops[place].append(score(x) - score(changed))
    return {p: sum(d) / (math.prod(window) if spread else len(d)) for p, d in drops.items()}


def rise_mask(grid: Picture, cells: Sequence[int], size: Sequence[int], shift: Sequence[int]) -> Picture:
    """A coarse grid enlarged linearly to (cells + 1) times the cell's size, cut at a shift (Petsiuk et al. 2018, section 3.2)."""
    mask = {}
    for place in itertools.product(*(range(s) for s in size)):
        corners: list[list[tuple[int, float]]] = []
        for i, c, s, moved in zip(place, cells, size, shift, strict=True):
            wide = (c + 1) * math.ceil(s / c)
            at = min(max((i + moved + 0.5) * c / wide - 0.5, 0), c - 1)
            low = math.floor(at)
            corners.append([(low, 1 - (at - low)), (min(low + 1, c - 1), at - low)])
        mask[place] = sum(
            math.prod(share for _, share in way) * grid[tuple(cell for cell, _ in way)] for way in itertools.product(*corners)
        )
    return mask


def rise(score: Score, x: Picture, base: Picture, masks: Sequence[Picture], probability: float, centred: bool) -> Picture:
    """`1 / (N p) Σ f(x ⊙ M + b ⊙ (1 - M)) M` (the paper's eq. 6); centred: minus the mean output times the mean mask."""
    scores = [score({place: x[place] * m[place] + base[place] * (1 - m[place]) for place in x}) for m in masks]
    mean, found = sum(scores) / len(masks), {}
    for place in x:
        total = sum(s * m[place] for s, m in zip(scores, masks, strict=True))
        if centred:
            total -= mean * sum(m[place] for m in masks)
        found[place] = total / len(masks) / probability
    return found


Game = Callable[[frozenset[int]], float]  # the segments that are shown -> the output


def shapley(game: Game, players: int) -> list[float]:
    """Shapley values by their definition: the mean of what a player adds, over all orders of joining."""
    values = [0.0] * players
    for order in itertools.permutations(range(players)):
        for at, player in enumerate(order):
            before = frozenset(order[:at])
            values[player] += (game(before | {player}) - game(before)) / math.factorial(players)
    return values


def solve(a: list[list[float]], b: list[float]) -> list[float]:
    """The solution of a·x = b by Gauss's elimination, with the largest pivot of each column."""
    n, rows = len(b), [[*row, right] for row, right in zip(a, b, strict=True)]
    for c in range(n):
        best = max(range(c, n), key=lambda r: abs(rows[r][c]))
        rows[c], rows[best] = rows[best], rows[c]
        for r in range(n):
            if r != c:
                factor = rows[r][c] / rows[c][c]
                rows[r] = [one - factor * other for one, other in zip(rows[r], rows[c], strict=True)]
    return [rows[c][n] / rows[c][c] for c in range(n)]


def kernel_shap(game: Game, coalitions: Sequence[frozenset[int]], weights: Sequence[float], players: int) -> list[float]:
    """Weighted least squares with the sum held: the last number is what the others leave (Lundberg and Lee 2017, section 4.1)."""
    nothing, whole, last = game(frozenset()), game(frozenset(range(players))), players - 1
    a, b = [[0.0] * last for _ in range(last)], [0.0] * last
    for shown, weight in zip(coalitions, weights, strict=True):
        row = [(i in shown) - (last in shown) for i in range(last)]
        target = game(shown) - nothing - (last in shown) * (whole - nothing)
        for i in range(last):
            b[i] += weight * row[i] * target
            for j in range(last):
                a[i][j] += weight * row[i] * row[j]
    found = solve(a, b) if last else []
    return [*found, whole - nothing - sum(found)]


def lime(game: Game, coalitions: Sequence[frozenset[int]], players: int, width: float, ridge: float) -> list[float]:
    """Ridge regression with an intercept, which is not penalised: its normal equations, one unknown more."""
    samples = [frozenset(range(players)), *coalitions]
    a, b = [[0.0] * (players + 1) for _ in range(players + 1)], [0.0] * (players + 1)
    for shown in samples:
        distance = 1 - math.sqrt(len(shown) / players)
        weight = math.sqrt(math.exp(-(distance**2) / width**2))
        row = [float(i in shown) for i in range(players)] + [1.0]
        for i in range(players + 1):
            b[i] += weight * row[i] * game(shown)
            for j in range(players + 1):
                a[i][j] += weight * row[i] * row[j]
    for i in range(players):
        a[i][i] += ridge
    return solve(a, b)[:players]
