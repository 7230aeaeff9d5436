"""Slow, plain float64 twins of the layers, written from the equations: every patch is cut out and met by every filter.

Shapes: N images, C channels, *S space, O outputs, G groups, M MaxOut filters an output.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor


def padded(x: np.ndarray, pads: list[tuple[int, int]], mode: str) -> np.ndarray:
    """(N, C, *S) padded by numpy's own modes."""
    how = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    return np.pad(x, [(0, 0), (0, 0), *pads], mode=how)  # type: ignore[call-overload]


def scaled(linear: float, norm: float, b: float) -> float:
    """One output of the transform: `|cos|^(B-1) · linear`; the official code adds 1e-6 to |cos| unless B is 2."""
    if b == 1:
        return linear
    if b == 2:
        return abs(linear) / norm * linear
    return (abs(linear / norm) + 1e-6) ** (b - 1) * linear


def bcos_conv(
    x: Tensor, weight: Tensor, *, b: float, stride: tuple[int, ...], padding: tuple[int, ...] | str,
    dilation: tuple[int, ...], groups: int, padding_mode: str, max_out: int, unit_norm: bool, eps: float = 1e-6,
) -> Tensor:  # fmt: skip
    """B-cos convolution by loops over images, positions and outputs."""
    w = weight.double().numpy()
    space = w.ndim - 2
    kernel = w.shape[2:]
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if padding == "valid":
        pads = [(0, 0)] * space
    elif padding == "same":
        pads = [(r // 2, r - r // 2) for r in reach]
    else:
        pads = [(int(p), int(p)) for p in padding]
    z = padded(x.double().numpy(), pads, padding_mode)
    sizes = [(s - r - 1) // t + 1 for s, r, t in zip(z.shape[2:], reach, stride, strict=True)]
    outputs, per_group, inputs = len(w) // max_out, len(w) // groups, w.shape[1]
    out = np.zeros((len(z), outputs, *sizes))
    for n, place in itertools.product(range(len(z)), itertools.product(*map(range, sizes))):
        cut = tuple(slice(p * t, p * t + r + 1, d) for p, t, r, d in zip(place, stride, reach, dilation, strict=True))
        for o in range(outputs):
            group = o * max_out // per_group
            patch = z[(n, slice(group * inputs, (group + 1) * inputs), *cut)].ravel()
            answers = []
            for f in range(o * max_out, (o + 1) * max_out):
                row, length = w[f].ravel(), math.sqrt(float((w[f] ** 2).sum()))
                if unit_norm:
                    row = row / length if length > 0 else row
                answers.append(float(row @ patch))
            norm = math.sqrt(float(patch @ patch) + eps)
            out[(n, o, *place)] = scaled(max(answers), norm, b)
    return torch.from_numpy(out)


def bcos_linear(
    x: Tensor, weight: Tensor, *, b: float, max_out: int, unit_norm: bool, eps: float = 0.0, norm_eps: float = 1e-12
) -> Tensor:
    """B-cos linear map of the rows of (R, D)."""
    rows, w = x.double().numpy(), weight.double().numpy()
    out = np.zeros((len(rows), len(w) // max_out))
    for r, o in itertools.product(range(out.shape[0]), range(out.shape[1])):
        answers = []
        for row in w[o * max_out : (o + 1) * max_out]:
            length = math.sqrt(float(row @ row))
            answers.append(float(row @ rows[r]) / (length if unit_norm and length > 0 else 1.0))
        norm = math.sqrt(float(rows[r] @ rows[r]) + eps) + norm_eps
        out[r, o] = scaled(max(answers), norm, b)
    return torch.from_numpy(out)


def norm(
    x: Tensor, kind: str, *, groups: int = 2, eps: float = 1e-5, centered: bool, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """The six norms of (N, C, *S) by their index sets; the variance is about the mean, centred or not."""
    z = x.double().numpy()
    out = np.zeros_like(z)
    n, c = z.shape[:2]
    per = c // groups
    sets: list[tuple[object, ...]] = {
        "batch": [(slice(None), i) for i in range(c)],
        "all": [(slice(None),)],
        "layer": [(i,) for i in range(n)],
        "instance": [(i, j) for i in range(n) for j in range(c)],
        "group": [(i, slice(g * per, (g + 1) * per)) for i in range(n) for g in range(groups)],
        "position": [(i, slice(None), *p) for i in range(n) for p in itertools.product(*map(range, z.shape[2:]))],
    }[kind]  # type: ignore[assignment]
    for where in sets:
        part = z[where]  # type: ignore[index]
        mean = part.mean()
        spread = math.sqrt(float(((part - mean) ** 2).mean()) + eps)
        out[where] = (part - (mean if centered else 0.0)) / spread  # type: ignore[index]
    shape = (1, -1, *[1] * (z.ndim - 2))
    if weight is not None:
        out = out * weight.detach().double().numpy().reshape(shape)
    if bias is not None:
        out = out + bias.detach().double().numpy().reshape(shape)
    return torch.from_numpy(out)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of (N, heads, T, d), token by token."""
    out = torch.zeros_like(value)
    for n, h, t in itertools.product(*map(range, query.shape[:3])):
        scores = [float(query[n, h, t] @ key[n, h, s]) / math.sqrt(query.shape[3]) for s in range(key.shape[2])]
        weights = [math.exp(s - max(scores)) for s in scores]
        out[n, h, t] = sum(w / sum(weights) * value[n, h, s] for s, w in enumerate(weights))
    return out
