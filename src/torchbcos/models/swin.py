"""Swin transformers: attention within windows, shifted in every second block, and tokens that merge (arXiv 2103.14030).

Bwin (Tran et al. 2023, arXiv 2401.08868) makes every linear map of Swin a B-cos layer: patches, queries, keys and values,
outputs, both layers behind them, merging and the classifier; each unit is the larger of two (MaxOut). That much the paper says.
The rest is our design, since its text was not to be had: pictures are encoded to 6 channels, norms have no bias, and what fills
up windows and patches is zero after encoding and masked. There is no position embedding (relative positions stand inside the held
softmax), so the pixels carry all of the logit but its fixed bias.

Shapes: N images, h × w tokens of D channels, last: (N, h, w, D).
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.functional.numbers import check_whole
from torchbcos.models.blocks import Head, StochasticDepth, Style, check_depths, scale_widths
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network
from torchbcos.models.tokens import (
    FeedForward,
    Merge,
    Patches,
    TokenHead,
    make_linear,
    make_qkv,
    make_token_norm,
)
from torchbcos.nn.windows import WindowAttention

__all__ = ["FAMILY", "SIZES", "STYLES", "Swin", "SwinBlock", "SwinSizes", "SwinStage", "build"]


@dataclass(frozen=True, kw_only=True)
class SwinSizes:
    """What tells one Swin transformer from another.

    Attributes:
        dim: D of the first stage; each further stage has twice as many, on half the height and width.
        depths: blocks of each stage.
        heads: of the attention in each stage, each of D / heads channels.
        patch: pixels along one side of a token of the first stage.
        window: M, tokens along one side of a window.
        mlp: hidden channels of the feed-forward layers, as a multiple of D.
    """

    dim: int = 96
    depths: Sequence[int] = (2, 2, 6, 2)
    heads: Sequence[int] = (3, 6, 12, 24)
    patch: int = 4
    window: int = 7
    mlp: int = 4


SIZES = {"bwin_tiny": SwinSizes()}
STYLES = {name: Style(norm="layer", norm_centered=True, max_out=2) for name in SIZES}


class SwinBlock(nn.Module):
    """Attention within windows and feed-forward layers, each added to its input.

    Args:
        style: how layers are made.
        dim, heads, window, mlp: sizes.
        shift: tokens by which windows are moved.
        qkv: as in `Swin`.
        drop: chance that a branch is left out for an image while training.
    """

    channel_dim = -1

    def __init__(
        self, style: Style, dim: int, heads: int, window: int, mlp: int, *, shift: int, qkv: str, drop: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.attn = WindowAttention(
            dim, heads, window=window, shift=shift, head_dim=dim // heads, norm=make_token_norm(style, dim),
            to_out=make_linear(style, dim, dim, bias=False), to_qkv=make_qkv(style, dim, dim, qkv),
        )  # fmt: skip
        self.ff = FeedForward(style, dim, mlp * dim)
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, h, w, D) to (N, h, w, D)."""
        x = self.drop(self.attn(x)) + x
        out: Tensor = self.drop(self.ff(x)) + x
        return out


class SwinStage(nn.Sequential):
    """Merging, where there is something before it, and blocks: (N, h, w, D)."""

    channel_dim = -1


class Swin(Network):
    """A Swin transformer over encoded pictures of any size; zeros fill up what patches and windows do not divide.

    Its stages are token maps (N, h, w, D): channels last.

    Args:
        sizes: widths, depths, window.
        style: how layers are made.
        num_classes, in_channels: of the classifier and of the input (6: encoded RGB).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
        stochastic_depth: chance that a branch of the last block is left out while training; it rises linearly from 0.
        qkv: the map to queries, keys and values: "bcos", a B-cos layer (arXiv 2401.08868), or "linear" (arXiv 2306.10898).
        prototypes: examples a class that every token is compared with (`torchbcos.nn.Prototypes`), as its classifier; 0: none.
    """

    classifier_name = "head_layers.linear"
    channel_dim = -1

    def __init__(
        self,
        sizes: SwinSizes,
        style: Style,
        *,
        num_classes: int = 1000,
        in_channels: int = 6,
        logit_bias: float | str | None = "auto",
        temperature: float | None = None,
        stochastic_depth: float = 0.0,
        qkv: str = "bcos",
        prototypes: int = 0,
    ) -> None:
        super().__init__()
        widths = [sizes.dim * 2**i for i in range(len(sizes.depths))]
        _check_sizes(sizes, widths)
        self.in_channels, self.normalize = in_channels, style.make_normalize(in_channels)
        self.patches = nn.Sequential(
            OrderedDict(
                low_pass=bnn.LowPass(1) if style.antialias else nn.Identity(),
                rearrange=Patches(sizes.patch, pad=True),
                linear=make_linear(style, sizes.patch**2 * in_channels, sizes.dim),
                norm=make_token_norm(style, sizes.dim),
            )
        )
        drops = iter(_rising(stochastic_depth, sum(sizes.depths)))
        self.layers, info = nn.Sequential(), []
        for i, (width, depth, heads) in enumerate(zip(widths, sizes.depths, sizes.heads, strict=True)):
            stage = SwinStage() if i == 0 else _make_merging(style, widths[i - 1], width)
            for j in range(depth):
                shift = sizes.window // 2 if j % 2 else 0
                block = SwinBlock(style, width, heads, sizes.window, sizes.mlp, shift=shift, qkv=qkv, drop=next(drops))
                stage.add_module(f"block_{j}", block)
            self.layers.add_module(f"stage_{i}", stage)
            info.append(FeatureInfo(f"layers.stage_{i}", width, sizes.patch * 2**i))
        self.feature_info = tuple(info)
        self.head: Head = TokenHead(
            style, widths[-1], num_classes, logit_bias=logit_bias, temperature=temperature,
            prototypes=check_whole(prototypes, "prototypes", least=0),
        )  # fmt: skip
        self.head_layers = nn.Sequential(OrderedDict(norm=make_token_norm(style, widths[-1]), linear=self.head.make_classifier()))
        self.logits = self.head.make_logits()

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the tokens (N, h, w, D) after every stage."""
        return self.run_children("layers", self.patches(x))

    def classify(self, x: Tensor) -> Tensor:
        """The norm and the classifier, of the mean token; prototypes of each token."""
        return self.head.run(self.head_layers, x)


def _make_merging(style: Style, width: int, wider: int) -> SwinStage:
    """Four tokens become one: norm, then a linear layer without bias (arXiv 2103.14030, section 3.1)."""
    return SwinStage(
        OrderedDict(
            merge=Merge(2), norm=make_token_norm(style, 4 * width), reduce=make_linear(style, 4 * width, wider, bias=False)
        )
    )


def _check_sizes(sizes: SwinSizes, widths: Sequence[int]) -> None:
    """Raise InputError unless depths, heads and widths go together."""
    check_depths(sizes.depths, widths)
    if min(sizes.dim, sizes.patch, sizes.window, sizes.mlp, *sizes.heads) < 1 or len(sizes.heads) != len(sizes.depths):
        raise InputError(f"All sizes of a transformer must be positive, and each stage needs its heads: {sizes}.")
    for width, heads in zip(widths, sizes.heads, strict=True):
        if width % heads:
            raise InputError(f"{width} channels cannot be divided among {heads} heads.")


def _rising(last: float, count: int) -> list[float]:
    """Chances from 0 to `last`."""
    return [last * i / max(1, count - 1) for i in range(count)]


def build(
    sizes: SwinSizes, style: Style, *, width_factor: float = 1.0, window: int | None = None, **options: Any
) -> Swin:  # fmt: skip
    """A Swin transformer of these sizes, all its widths times `width_factor` (to whole channels a head), or with other windows.

    Windows of 7 divide the token maps of 224 px, those of 8 the ones of 256 px.
    """
    heads = sizes.heads[0]
    (channels,) = scale_widths([sizes.dim // heads], width_factor)
    window = sizes.window if window is None else check_whole(window, "window")
    return Swin(dataclasses.replace(sizes, dim=channels * heads, window=window), style, **options)


FAMILY = Family(
    network=Swin, build=build, sizes=SIZES, styles=STYLES, activation="gelu",
    plain_names={name: name.replace("bwin", "swin") for name in SIZES},
)  # fmt: skip
