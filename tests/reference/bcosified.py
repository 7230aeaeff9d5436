"""Converted layers in plain loops, float64: B-cos maps with the norms of their filters, and the three rules of biases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["converted_conv", "converted_linear", "converted_norm", "fit_channel", "fit_together", "length"]


def length(values: Sequence[float], eps: float) -> float:
    """`‖v‖² / sqrt(‖v‖² + eps)`; zero for zeros."""
    square = math.fsum(v * v for v in values)
    return square / math.sqrt(square + eps) if square > 0 else 0.0


def _b_cos(x: Sequence[float], w: Sequence[float], b: float, eps: float, unit: bool) -> float:
    """`(|ŵ·x| / ‖x‖)^(B-1) ŵ·x`, the filter as it is, or of unit norm."""
    norm = math.sqrt(math.fsum(v * v for v in w))
    scale = (1 / norm if norm > 0 else 0.0) if unit else 1.0
    y = scale * math.fsum(a * c for a, c in zip(x, w, strict=True))
    if b == 1:
        return y
    size = math.sqrt(math.fsum(v * v for v in x) + eps)
    small = 0.0 if b == 2 else 1e-6
    return y * (abs(y) / size + small) ** (b - 1)


def converted_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, gain: Tensor | None, unit: float, *, b: float, biases: str, eps: float
) -> Tensor:
    """(N, D) to (N, O)."""
    out = torch.zeros(len(x), len(weight), dtype=torch.float64)
    for n, row in enumerate(x.tolist()):
        for o, filter_ in enumerate(weight.tolist()):
            y = _b_cos(row, filter_, b, 0.0, gain is not None) * (1.0 if gain is None else float(gain[o]))
            if bias is not None:
                y += float(bias[o]) * (length(row, eps) / unit if biases == "norm" else 1.0)
            out[n, o] = y
    return out


def converted_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, gain: Tensor | None, unit: float, *, b: float, biases: str, eps: float,
    stride: int, padding: int | str, groups: int, repeat: bool = False, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """(N, C, H, W) to (N, O, H', W')."""
    n_images, _, height, width = x.shape
    outputs, per_group, kernel, _ = weight.shape
    walk = 1 if antialias else stride
    before, sides = [], []
    for size in (height, width):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) if padding == "dynamic" else 2 * int(padding)
        before.append(total // 2 if padding == "dynamic" else int(padding))
        sides.append((size + total - kernel) // walk + 1)

    def pixel(n: int, c: int, i: int, j: int) -> float:
        if repeat:
            i, j = min(max(i, 0), height - 1), min(max(j, 0), width - 1)
        return float(x[n, c, i, j]) if 0 <= i < height and 0 <= j < width else 0.0

    out = torch.zeros(n_images, outputs, *sides, dtype=torch.float64)
    offsets = [(u, v) for u in range(kernel) for v in range(kernel)]
    for n in range(n_images):
        for i in range(sides[0]):
            for j in range(sides[1]):
                at = [(i * walk - before[0] + u, j * walk - before[1] + v) for u, v in offsets]
                whole = [pixel(n, c, *place) for c in range(x.shape[1]) for place in at]
                for o in range(outputs):
                    first = o // (outputs // groups) * per_group
                    part = [pixel(n, c, *place) for c in range(first, first + per_group) for place in at]
                    y = _b_cos(part, weight[o].flatten().tolist(), b, eps, gain is not None)
                    y *= 1.0 if gain is None else float(gain[o])
                    if bias is not None:
                        y += float(bias[o]) * (length(whole, eps) / unit if biases == "norm" else 1.0)
                    out[n, o, i, j] = y
    return _low_pass(out, stride) if antialias and stride > 1 else out


def _low_pass(x: Tensor, stride: int) -> Tensor:
    """1-2-1 along both axes, at the edge in units of the weights that lie inside; every `stride`-th place."""
    weights = {-1: 0.25, 0: 0.5, 1: 0.25}
    height, width = x.shape[2:]
    out = torch.zeros(*x.shape[:2], -(-height // stride), -(-width // stride), dtype=torch.float64)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            inside = 0.0
            for u, a in weights.items():
                for v, c in weights.items():
                    y, z = i * stride + u, j * stride + v
                    if 0 <= y < height and 0 <= z < width:
                        out[:, :, i, j] += a * c * x[:, :, y, z]
                        inside += a * c
            out[:, :, i, j] /= inside
    return out


def converted_norm(
    rows: Sequence[Sequence[float]], weight: Tensor, bias: Tensor, *, eps: float, biases: str
) -> list[list[float]]:
    """Layer norm of rows, its bias by rule: the unit of a length is the root of how many numbers there are."""
    found = []
    for row in rows:
        mean = math.fsum(row) / len(row)
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in row) / len(row) + eps)
        normal = [(v - mean) / spread for v in row]
        size = math.sqrt(math.fsum(v * v for v in normal)) / math.sqrt(len(row))
        factor = {"norm": size, "keep": 1.0, "drop": 0.0}[biases]
        found.append([v * float(w) + float(c) * factor for v, w, c in zip(normal, weight, bias, strict=True)])
    return found


def shifted(row: Sequence[float], bias: Sequence[float], unit: float) -> list[float]:
    """A vector with a bias that grows with its length."""
    size = math.sqrt(math.fsum(v * v for v in row)) / unit
    return [v + c * size for v, c in zip(row, bias, strict=True)]


def fit_channel(y: Sequence[float], m: Sequence[float], t: Sequence[float], ridge: float) -> tuple[float, float]:
    """s and b of the least squares of `s·y + b·m` to t, with a ridge on both, by Cramer's rule."""
    k = len(y)
    yy, mm = math.fsum(a * a for a in y) / k * (1 + ridge), math.fsum(a * a for a in m) / k * (1 + ridge)
    ym, yt, mt = (math.fsum(a * c for a, c in zip(p, q, strict=True)) / k for p, q in ((y, m), (y, t), (m, t)))
    determinant = yy * mm - ym * ym
    return (yt * mm - mt * ym) / determinant, (mt * yy - yt * ym) / determinant


def fit_together(
    y: Sequence[Sequence[float]], m: Sequence[float], t: Sequence[Sequence[float]], ridge: float
) -> tuple[float, list[float]]:
    """One s of all channels and a b for each, of the least squares of `s·y + b·m` to t; y and t are lists of channels."""
    k, channels = len(m), len(y)
    equations = torch.zeros(channels + 1, channels + 1, dtype=torch.float64)
    right = torch.zeros(channels + 1, dtype=torch.float64)
    for c in range(channels):
        for i in range(k):
            equations[0, 0] += y[c][i] * y[c][i] / k * (1 + ridge)
            equations[c + 1, c + 1] += m[i] * m[i] / k * (1 + ridge)
            equations[0, c + 1] += y[c][i] * m[i] / k
            equations[c + 1, 0] += y[c][i] * m[i] / k
            right[0] += y[c][i] * t[c][i] / k
            right[c + 1] += m[i] * t[c][i] / k
    s, *b = torch.linalg.solve(equations, right).tolist()
    return s, b
