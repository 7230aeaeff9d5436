"""Two stages: the first says where to look, the second sees nothing else (Aniraj et al. 2025, arXiv 2506.08915).

The first stage assigns every patch to one of K parts or to the background. The second one, of B-cos layers, reads only the
patches of parts: the others are zero before anything is computed, their tokens are masked in attention and left out of the
mean. So contributions outside are exactly 0, and while the selection is held, no pixel outside changes a logit. What is
selected does depend on the whole picture: the selection is a step of its own, with an explanation of its own
(`PartEvidence`).

Where this differs from the published code, on purpose: the selection is the same each time (there it is drawn anew, also when
judging); the second stage's loss has a gradient for the first (there the mask becomes `bool`, which has none); the second stage
is of B-cos layers, with a masked mean and no class token. `noise`, `cut` and `mask` bring theirs back, so that they can be
measured.

Shapes: N pictures, h × w patches, D channels last, K parts.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos._core.frozen import hold, outside
from torchbcos._core.names import hint
from torchbcos.functional.numbers import check_rate, check_whole
from torchbcos.models.blocks import Head, Style
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network, check_input
from torchbcos.models.selecting import Features, PartScores, Tokens, What, Where, chosen, make_features, without_parts
from torchbcos.models.tokens import TokenHead, make_token_norm
from torchbcos.models.vit import ViTSizes

__all__ = ["FAMILY", "MASKS", "NOISE", "SIZES", "STYLES", "PartEvidence", "TwoStage", "TwoStageSizes", "build"]

MASKS = ("hard", "soft", "late")
NOISE = ("training", "always", "never")


@dataclass(frozen=True, kw_only=True)
class TwoStageSizes:
    """What tells one two-stage network from another.

    Attributes:
        dim, heads: of both transformers.
        depth: encoders of the second stage.
        depth_where: encoders of the first.
        patch: pixels along one side of a patch.
        parts: K.
    """

    dim: int
    heads: int
    depth: int
    depth_where: int
    patch: int
    parts: int


SIZES = {
    "two_stage_nano": TwoStageSizes(dim=128, heads=4, depth=4, depth_where=2, patch=8, parts=2),  # for pictures of 64 px
    "two_stage_tiny": TwoStageSizes(dim=192, heads=3, depth=12, depth_where=6, patch=16, parts=4),
    "two_stage_small": TwoStageSizes(dim=384, heads=6, depth=12, depth_where=6, patch=16, parts=8),
}
STYLES = {name: Style(norm="layer", norm_centered=True) for name in SIZES}


class TwoStage(Network):
    """A network whose second stage sees the patches that the first one selects, and nothing else.

    `model.selection(x)` is what it selects, `model(x, selection=…)` or `model.look(x, selection)` what it says of another
    selection.

    Args:
        sizes: widths, depths, parts.
        style: how layers of both stages are made.
        num_classes, in_channels: of the classifiers and of the input (6: encoded RGB).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
        mask: what the second stage does with the selection. "hard": it sees what is selected. "soft": tokens weigh in attention
            and in the mean by their probability to be of a part, so everything is seen a little. "late": it sees the whole
            picture, and only the last tokens are masked. The last two are for comparison: contributions outside are not 0.
        cut: the second stage's loss has no gradient for the first, as in the published code.
        noise: when the assignment is drawn (Gumbel noise): in "training"; "always", as published; "never".
        part_drop: chance of each part to be left out of the selection, and of the first stage's own scores, in training.
        first_classes: classes of the first stage's own scores, where it learns other labels than the second: finer ones, say.
            0: the same.
        qkv: the map to queries, keys and values: "bcos" or "linear".
        features: "", the first stage is a transformer that learns; or a trained network whose features it takes and leaves as
            they are, such as "resnet18 antialias=true width_factor=0.75": `model.where.take(network)` copies its weights.
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
        mask: str = "hard",
        cut: bool = False,
        noise: str = "training",
        part_drop: float = 0.3,
        first_classes: int = 0,
        qkv: str = "bcos",
        features: str = "",
    ) -> None:
        super().__init__()
        if min(dataclasses.astuple(sizes)) < 1 or sizes.dim % sizes.heads:
            raise InputError(f"Sizes must be positive, and heads divide channels: {sizes}.")
        for name, word, known in (("mask", mask, MASKS), ("noise", noise, NOISE)):
            if word not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not {word!r}.{hint(str(word), known)}")
        check_rate(part_drop, "part_drop")
        check_whole(first_classes, "first_classes", least=0)
        self.in_channels, self.sizes, self.mask = in_channels, sizes, mask
        of = ViTSizes(
            dim=sizes.dim, heads=sizes.heads, mlp=4 * sizes.dim, depth=sizes.depth, patch=sizes.patch,
            head_dim=sizes.dim // sizes.heads,
        )  # fmt: skip
        if features:
            first: Features | Tokens = make_features(features, sizes.patch, in_channels)
        else:
            first = Tokens(style, dataclasses.replace(of, depth=sizes.depth_where), in_channels, qkv)
        norm = make_token_norm(dataclasses.replace(style, norm_affine=False, norm_bias=False), first.dim)
        self.where = Where(first, norm, sizes.parts, noise=noise, cut=cut, soft=mask == "soft", drop=part_drop)
        self.part_scores = PartScores(first.dim, sizes.parts, first_classes or max(1, num_classes), part_drop)
        self.what = What(Tokens(style, of, in_channels, qkv), late=mask == "late")
        self.feature_info = (FeatureInfo("what.present", sizes.dim, sizes.patch),)
        self.head: Head = TokenHead(style, sizes.dim, num_classes, logit_bias=logit_bias, temperature=temperature)
        self.head_layers = nn.Sequential(OrderedDict(norm=make_token_norm(style, sizes.dim), linear=self.head.make_classifier()))
        self.logits = self.head.make_logits()

    def __call__(self, x: Tensor, selection: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The logits (N, classes); with a selection those of `look`, in the place of what the first stage selects."""
        out: Tensor = super().__call__(x) if selection is None else self.look(x, selection)
        return out

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the tokens (N, h, w, D) whose mean the classifier reads: 0 where nothing is selected."""
        yield self.what(x, self.where(x))

    def classify(self, x: Tensor) -> Tensor:
        """The norm and the classifier of the mean of what is seen."""
        return self.head.run(self.head_layers, x)

    def look(self, x: Tensor, selection: Tensor) -> Tensor:
        """(N, classes): the logits if the second stage saw what `selection` says, whatever the first one says.

        Args:
            x: (N, C, H, W) encoded pictures.
            selection: (N, h, w) True where a patch is seen; or numbers from 0, which weigh patches.

        Raises:
            InputError: a selection of another shape, of whole or of negative numbers.
        """
        check_input(x, self.in_channels, self.axes, self.smallest)
        sides = (x.shape[0], x.shape[2] // self.sizes.patch, x.shape[3] // self.sizes.patch)
        if tuple(selection.shape) != sides:
            raise InputError(f"Expected a selection of shape {sides}, one a patch, got {tuple(selection.shape)}.")
        if selection.dtype != torch.bool and (not selection.is_floating_point() or not bool((selection >= 0).all())):
            raise InputError("A selection is of True and False, or of floating-point numbers from 0.")
        return self.forward_head(self.what(x, selection))

    def tokens(self, x: Tensor) -> Tensor:
        """(N, h, w, D): normed tokens of the first stage, of encoded pictures (N, C, H, W)."""
        check_input(x, self.in_channels, self.axes, self.smallest)
        return self.where.tokens(x)

    def assignment(self, x: Tensor) -> Tensor:
        """(N, h, w, K + 1): how near each patch is to each part, before the softmax; the last one is the background."""
        out: Tensor = self.where.parts(self.tokens(x))
        return out

    @torch.no_grad()
    def selection(self, x: Tensor, *, keep: Sequence[int] | Tensor | None = None) -> Tensor:
        """(N, h, w) True where a patch is nearer to a part than to the background: what the second stage sees.

        Args:
            x: (N, C, H, W) encoded pictures.
            keep: parts that stay, the places of others become background: numbers, or (N, K) True.

        Raises:
            InputError: there is no such part.
        """
        with outside():
            found = self.assignment(x)
            return chosen(found if keep is None else without_parts(found, keep))


class PartEvidence(nn.Module):
    """Why patches are selected: by how much a part is nearer than the background, as a network that can be explained.

    Output k is the mean over the patches of part k of `a_k - a_background`; which patches those are is held. It is linear in the
    first stage's tokens: with B-cos layers, contributions and named constants add up to it. A part that no patch is of gives 0.

    Args:
        model: a two-stage network.

    >>> from torchbcos import create_model, explain, functional
    >>> network = PartEvidence(create_model("two_stage_nano", num_classes=3).eval())
    >>> e = explain(network, functional.add_inverse(torch.rand(1, 3, 64, 64)), [0])
    >>> bool(e.residual.abs().max() < 1e-4)
    True
    """

    def __init__(self, model: TwoStage) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, K)."""
        found = self.model.assignment(x)
        margins = found[..., :-1] - found[..., -1:]
        of = hold(nn.functional.one_hot(found.argmax(-1), found.shape[-1])[..., :-1].to(x.dtype))
        return (margins * of).sum((1, 2)) / of.sum((1, 2)).clamp_min(1)


def build(
    sizes: TwoStageSizes,
    style: Style,
    *,
    parts: int | None = None,
    depth: int | None = None,
    depth_where: int | None = None,
    patch: int | None = None,
    **options: Any,
) -> TwoStage:
    """A two-stage network of these sizes, or with other parts, depths or patches."""
    given = {"parts": parts, "depth": depth, "depth_where": depth_where, "patch": patch}
    other = {name: check_whole(value, name) for name, value in given.items() if value is not None}
    return TwoStage(dataclasses.replace(sizes, **other), style, **options)


FAMILY = Family(network=TwoStage, build=build, sizes=SIZES, styles=STYLES, activation="gelu")
