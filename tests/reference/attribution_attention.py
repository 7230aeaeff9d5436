"""Activation and attention methods written from their papers, in float64 loops over numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["grad_cam", "gradient_attention", "hires_cam", "joined", "layer_cam", "rollout"]

Array = NDArray[np.float64]


def grad_cam(features: Array, gradient: Array, relu: bool = True) -> Array:
    """Selvaraju et al. 2017, eq. 1 and 2: features and gradient (C, h, w) of one image and one class."""
    channels, height, width = features.shape
    found = np.zeros((height, width))
    for c in range(channels):
        alpha = sum(float(gradient[c, i, j]) for i in range(height) for j in range(width)) / (height * width)
        for i in range(height):
            for j in range(width):
                found[i, j] += alpha * features[c, i, j]
    return np.maximum(found, 0) if relu else found


def layer_cam(features: Array, gradient: Array, relu: bool = True) -> Array:
    """Jiang et al. 2021, eq. 6 and 7."""
    channels, height, width = features.shape
    found = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            for c in range(channels):
                if gradient[c, i, j] > 0:
                    found[i, j] += gradient[c, i, j] * features[c, i, j]
    return np.maximum(found, 0) if relu else found


def hires_cam(features: Array, gradient: Array) -> Array:
    """Draelos and Carin 2020, eq. 4."""
    channels, height, width = features.shape
    found = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            found[i, j] = sum(float(gradient[c, i, j] * features[c, i, j]) for c in range(channels))
    return found


def joined(shares: Array, how: str = "mean") -> Array:
    """One matrix (T, T) of heads (heads, T, T): rows sum to 1."""
    heads, tokens, _ = shares.shape
    found = np.zeros((tokens, tokens))
    for i in range(tokens):
        for j in range(tokens):
            column = [float(shares[h, i, j]) for h in range(heads)]
            found[i, j] = {"mean": sum(column) / heads, "max": max(column), "min": min(column)}[how]
        found[i] /= found[i].sum()
    return found


def rollout(layers: list[Array], how: str = "mean", skip: float = 0.5) -> Array:
    """Abnar and Zuidema 2020, eq. 1: attention (heads, T, T) of every layer, the first one first."""
    tokens = layers[0].shape[-1]
    total = np.eye(tokens)
    for shares in layers:
        one, product = joined(shares, how), np.zeros((tokens, tokens))
        for i in range(tokens):
            for j in range(tokens):
                for m in range(tokens):
                    mixed = (1 - skip) * one[i, m] + (skip if i == m else 0.0)
                    product[i, j] += mixed * total[m, j]
        total = product
    return total


def gradient_attention(layers: list[Array], gradients: list[Array]) -> Array:
    """Chefer et al. 2021, eq. 5 and 6, less the identity that it starts from."""
    tokens = layers[0].shape[-1]
    total = np.eye(tokens)
    for shares, gradient in zip(layers, gradients, strict=True):
        heads, step = len(shares), np.zeros((tokens, tokens))
        for i in range(tokens):
            for m in range(tokens):
                step[i, m] = sum(max(0.0, float(shares[h, i, m] * gradient[h, i, m])) for h in range(heads)) / heads
        total = total + np.array(
            [[sum(step[i, m] * total[m, j] for m in range(tokens)) for j in range(tokens)] for i in range(tokens)]
        )
    return total - np.eye(tokens)
