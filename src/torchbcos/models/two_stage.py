"""Two stages: the first says where to look, the second sees nothing else (Aniraj et al. 2025, arXiv 2506.08915).

The first stage, an ordinary transformer, assigns every patch to one of K parts or to the background. The second one, of B-cos
layers, reads only the patches of parts: pixels of the others are zero before anything is computed, their tokens are masked in
attention and left out of the mean. So contributions outside are exactly 0. What is selected depends on the whole picture, and is not
part of the explained map: it is held, and reported by itself (`selection`).

Three things differ from the published code, on purpose: the selection is the same each time (there it is drawn, also when judging);
the second stage's loss has a gradient for the first (there the mask becomes `bool`, which has none); the second stage is of B-cos
layers, with a masked mean and no class token. `noise`, `cut` and `soft` bring back theirs, so that they can be measured.

Shapes: N pictures, h × w patches, D channels last, K parts.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import current, hold
from torchbcos.functional.numbers import check_whole
from torchbcos.models.blocks import Head, Style
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network
from torchbcos.models.tokens import Patches, TokenHead, make_linear, make_token_norm
from torchbcos.models.vit import Encoder, ViTSizes

__all__ = ["FAMILY", "SIZES", "STYLES", "Parts", "TwoStage", "TwoStageSizes", "build"]


@dataclass(frozen=True, kw_only=True)
class TwoStageSizes:
    """What tells one two-stage network from another.

    Attributes:
        dim, heads, depth: of both transformers.
        patch: pixels along one side of a patch.
        parts: K.
    """

    dim: int = 128
    heads: int = 4
    depth: int = 4
    patch: int = 8
    parts: int = 2


SIZES = {"two_stage_tiny": TwoStageSizes()}
STYLES = {name: Style(norm="layer", norm_centered=True) for name in SIZES}


class Parts(nn.Module):
    """Part vectors: a patch belongs to the nearest, `a_k(u) = -‖z_u - p_k‖²`; the last one is the background.

    Args:
        dim: D.
        parts: K.
    """

    def __init__(self, dim: int, parts: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(parts + 1, dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh vectors."""
        nn.init.normal_(self.vectors)

    def forward(self, z: Tensor) -> Tensor:
        """Map tokens (N, h, w, D) to assignments (N, h, w, K + 1), before their softmax."""
        products = z @ self.vectors.t()
        return 2 * products - z.square().sum(-1, keepdim=True) - self.vectors.square().sum(1)
