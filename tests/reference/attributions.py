"""Activation and attention methods written from their papers, in float64 loops over numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["grad_cam", "hires_cam", "layer_cam"]

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
