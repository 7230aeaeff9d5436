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
from torchbcos.models.mesh import Present
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


class TwoStage(Network):
    """A network whose second stage sees the patches that the first one selects, and nothing else.

    `model(x, selection=...)` takes a selection from outside in the place of the first stage's.

    Args:
        sizes: widths, depths, parts.
        style: how layers of the second stage are made; the first is ordinary.
        num_classes, in_channels: of the classifiers and of the input (6: encoded RGB).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
        noise: in training the assignment is drawn (Gumbel noise), as published; judging is never noisy.
        cut: the second stage's loss has no gradient for the first, as in the published code.
        soft: the second stage weighs patches by their probability of being a part, instead of selecting.
    """

    classifier_name = "head_layers.linear"
    channel_dim = -1

    def __init__(
        self,
        sizes: TwoStageSizes,
        style: Style,
        *,
        num_classes: int = 1000,
        in_channels: int = 6,
        logit_bias: float | str | None = "auto",
        temperature: float | None = None,
        noise: bool = True,
        cut: bool = False,
        soft: bool = False,
    ) -> None:
        super().__init__()
        if min(sizes.dim, sizes.heads, sizes.depth, sizes.patch, sizes.parts) < 1 or sizes.dim % sizes.heads:
            raise InputError(f"Sizes must be positive, and heads divide channels: {sizes}.")
        self.in_channels, self.normalize = in_channels, style.make_normalize(in_channels)
        self.sizes, self.noise, self.cut, self.soft = sizes, noise, cut, soft
        self.where = _make_transformer(style.as_plain("gelu"), sizes, in_channels)
        self.parts = Parts(sizes.dim, sizes.parts)
        self.part_scores = bnn.Linear(sizes.dim, max(1, num_classes), bias=False)
        self.what = _make_transformer(style, sizes, in_channels)
        self.feature_info = (FeatureInfo("what.norm", sizes.dim, sizes.patch),)
        self.head: Head = TokenHead(style, sizes.dim, num_classes, logit_bias=logit_bias, temperature=temperature)
        self.head_layers = nn.Sequential(
            OrderedDict(norm=make_token_norm(style, sizes.dim), linear=self.head.make_classifier())
        )
        self.logits = self.head.make_logits()

    def stages(self, x: Tensor, selection: Tensor | None = None) -> Iterator[Tensor]:
        """Yield the tokens (N, h, w, D) that the classifier averages: 0 where nothing is selected."""
        mask = self._mask(x) if selection is None else self._given(x, selection)
        p = self.sizes.patch
        pixels = mask.repeat_interleave(p, 1).repeat_interleave(p, 2).unsqueeze(1)
        tokens = self.what.embedding(x * pixels)
        for encoder in self.what.encoders:
            tokens = encoder(tokens, mask)
        count = mask.sum((1, 2), keepdim=True)
        # the mean over what is selected: all tokens are averaged later
        share = mask * (mask[0].numel() / torch.where(count > 0, count, torch.ones_like(count)))
        yield self.what.present(tokens, share)

    def classify(self, x: Tensor) -> Tensor:
        """The norm and the classifier of the mean of what is selected."""
        return self.head.run(self.head_layers, x)

    def first_scores(self, x: Tensor) -> Tensor:
        """(N, classes): what the first stage alone says, the mean over parts of a linear map of each part's mean (eq. of the paper)."""
        x = x if self.normalize is None else self.normalize(x)
        tokens = self.where.norm(self._tokens(x))
        shares = self.assignment_of(tokens).softmax(-1)[..., :-1]
        means = torch.einsum("nhwk,nhwd->nkd", shares, tokens) / tokens[0, ..., 0].numel()
        out: Tensor = self.part_scores(nn.functional.layer_norm(means, means.shape[-2:])).mean(1)
        return out

    def assignment(self, x: Tensor) -> Tensor:
        """(N, h, w, K + 1): what part each patch is of, before the softmax; the last one is the background."""
        return self.assignment_of(self.where.norm(self._tokens(x)))

    def assignment_of(self, tokens: Tensor) -> Tensor:
        """The same of tokens of the first stage."""
        found: Tensor = self.parts(tokens) / self.sizes.dim**0.5
        return found

    def selection(self, x: Tensor) -> Tensor:
        """(N, h, w) True where a patch is of a part rather than of the background: what the second stage sees."""
        with torch.no_grad():
            return chosen(self.assignment(x if self.normalize is None else self.normalize(x)))

    def _tokens(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.where.embedding(x)
        for encoder in self.where.encoders:
            tokens = encoder(tokens)
        return tokens

    def _mask(self, x: Tensor) -> Tensor:
        """(N, h, w) numbers: 1 for what is selected, 0 for the rest; in training with the gradient of the probability of a part."""
        if current() is not None or not torch.is_grad_enabled():  # an explanation holds the selection
            with torch.no_grad():
                found = self.assignment(x.detach())
                return found.softmax(-1)[..., :-1].sum(-1) if self.soft else chosen(found).to(x.dtype)
        found = self.assignment(x)
        if self.training and self.noise:
            found = found - torch.empty_like(found).exponential_().log()
        part = found.softmax(-1)[..., :-1].sum(-1)
        if self.soft:
            return part
        hard = chosen(found).to(x.dtype)
        return hard if self.cut else hard - part.detach() + part

    def _given(self, x: Tensor, selection: Tensor) -> Tensor:
        sides = (x.shape[0], x.shape[2] // self.sizes.patch, x.shape[3] // self.sizes.patch)
        if tuple(selection.shape) != sides:
            raise InputError(f"Expected a selection of shape {sides}, one a patch, got {tuple(selection.shape)}.")
        return selection.to(x.dtype)


def chosen(assignment: Tensor) -> Tensor:
    """(N, h, w) True where a part is at least as near as the background."""
    return assignment[..., :-1].amax(-1) >= assignment[..., -1]


def _make_transformer(style: Style, sizes: TwoStageSizes, in_channels: int) -> nn.Module:
    """Patches, encoders and a norm."""
    of_encoder = ViTSizes(dim=sizes.dim, heads=sizes.heads, mlp=4 * sizes.dim, head_dim=sizes.dim // sizes.heads)
    made = nn.Module()
    made.embedding = nn.Sequential(
        OrderedDict(
            rearrange=Patches(sizes.patch), linear=make_linear(style, sizes.patch**2 * in_channels, sizes.dim),
            norm=make_token_norm(style, sizes.dim), position=bnn.SinCosPosition2d(sizes.dim),
        )
    )  # fmt: skip
    made.encoders = nn.ModuleList(Encoder(style, of_encoder) for _ in range(sizes.depth))
    made.norm, made.present = make_token_norm(style, sizes.dim), Present()
    return made


def build(
    sizes: TwoStageSizes, style: Style, *, parts: int | None = None, depth: int | None = None, patch: int | None = None, **options: Any
) -> TwoStage:  # fmt: skip
    """A two-stage network of these sizes, or with other parts, depth or patches."""
    given = {"parts": parts, "depth": depth, "patch": patch}
    chosen_sizes = {name: check_whole(value, name) for name, value in given.items() if value is not None}
    return TwoStage(dataclasses.replace(sizes, **chosen_sizes), style, **options)


FAMILY = Family(network=TwoStage, build=build, sizes=SIZES, styles=STYLES, activation="gelu")
