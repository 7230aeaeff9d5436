"""Vision transformers: SimpleViT on patches, ViT-C on a convolutional stem, and the B-cos aligned ones, BvT.

B-cos (arXiv 2306.10898, section 3.4): B-cos linear layers without activations, token norms
without bias, queries and keys held in explanations. The plain twin has biases and GELUs. The
position embedding is a named constant; in a network that has learned little it carries most of
the logit.

BvT (Tran et al. 2023, arXiv 2401.08868): every linear map is a B-cos layer, that of queries, keys and values too, and each unit
is the larger of two (MaxOut). That much the paper says; the rest (input, positions, pooling, biases of norms) is our design, as
in the networks above, since its text was not to be had.

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
from torchbcos.models.blocks import Head, Style
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network
from torchbcos.models.tokens import FeedForward, Patches, TokenHead, make_linear, make_qkv, make_token_norm
from torchbcos.nn.attention import Attention
from torchbcos.nn.position import SinCosPosition2d

__all__ = ["ALIGNED", "ALIGNED_SIZES", "FAMILY", "SIZES", "STYLES", "Encoder", "ViT", "ViTSizes", "build", "build_aligned"]


@dataclass(frozen=True, kw_only=True)
class ViTSizes:
    """What tells one transformer from another.

    Attributes:
        dim: D of the tokens.
        heads: of the attention, each of `head_dim` channels.
        mlp: hidden channels of the feed-forward layers.
        depth: number of encoders.
        patch: pixels (of the stem's output, where there is a stem) along one side of a token.
        stem: channels of the 3×3 convolutions before the tokens; the first one and every one that
            widens has stride 2.
        head_dim: d of each head.
    """

    dim: int
    heads: int
    mlp: int
    depth: int = 12
    patch: int = 16
    stem: Sequence[int] = ()
    head_dim: int = 64


_WIDE = (64, 128, 128, 256, 256, 512)
_PLANS: dict[str, tuple[int, int, int, Sequence[int]]] = {  # dim, heads, depth, stem of ViT-C
    "ti": (192, 3, 12, (24, 48, 96, 192)),
    "s": (384, 6, 12, (48, 96, 192, 384)),
    "b": (768, 12, 12, _WIDE),
    "l": (1024, 16, 14, _WIDE),
}
SIZES = {
    f"simple_vit_{size}_patch16_224": ViTSizes(dim=dim, heads=heads, mlp=4 * dim, depth=depth)
    for size, (dim, heads, depth, _) in _PLANS.items()
} | {
    f"vitc_{size}_patch1_14": ViTSizes(dim=dim, heads=heads, mlp=4 * dim, depth=depth - 1, patch=1, stem=stem)
    for size, (dim, heads, depth, stem) in _PLANS.items()
}  # fmt: skip
STYLES = {name: Style(norm="layer", norm_centered=True) for name in SIZES}
ALIGNED_SIZES = {
    f"bvt_{name}_patch{patch}": ViTSizes(dim=dim, heads=heads, mlp=4 * dim, patch=patch)
    for name, (dim, heads) in {"tiny": (192, 3), "small": (384, 6)}.items()
    for patch in (16, 8)
}


class Encoder(nn.Module):
    """Attention and feed-forward layers, each added to its input."""

    channel_dim = -1

    def __init__(self, style: Style, sizes: ViTSizes, qkv: str = "linear") -> None:
        super().__init__()
        dim, inner = sizes.dim, sizes.heads * sizes.head_dim
        self.attn = Attention(
            dim, sizes.heads, head_dim=sizes.head_dim, norm=make_token_norm(style, dim),
            to_out=make_linear(style, inner, dim, bias=False), to_qkv=make_qkv(style, dim, inner, qkv),
        )  # fmt: skip
        self.ff = FeedForward(style, dim, sizes.mlp)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, *S, D) to (N, *S, D); mask: (N, *S) which tokens are seen, as in `torchbcos.nn.Attention`."""
        x = self.attn(x, mask) + x
        out: Tensor = self.ff(x) + x
        return out


class ViT(Network):
    """A vision transformer over encoded pictures of any size that its patches divide.

    Its stages are token maps (N, h, w, D): channels last.

    Args:
        sizes: width, depth, stem.
        style: how layers are made; its norm is that of the stem, tokens always have a token norm.
        num_classes, in_channels: of the classifier and of the input (6: encoded RGB).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
        classifier_first: the classifier reads every token and its scores are averaged, as convolutional B-cos networks have it
            (B-cosification); otherwise it reads the mean token.
        qkv: the map to queries, keys and values: "linear" (arXiv 2306.10898), or "bcos", a B-cos layer (arXiv 2401.08868).
        patch_norm: a norm over the channels of every token before positions are added. A B-cos layer answers most of what it sees
            with little, and next to a position embedding little is nothing.
        prototypes: examples a class that every token is compared with (`torchbcos.nn.Prototypes`), as its classifier; 0: none.
    """

    classifier_name = "linear_head.linear"
    channel_dim = -1

    def __init__(
        self,
        sizes: ViTSizes,
        style: Style,
        *,
        num_classes: int = 1000,
        in_channels: int = 6,
        logit_bias: float | str | None = "auto",
        temperature: float | None = None,
        classifier_first: bool = False,
        qkv: str = "linear",
        patch_norm: bool = False,
        prototypes: int = 0,
    ) -> None:
        super().__init__()
        if min(sizes.dim, sizes.heads, sizes.mlp, sizes.depth, sizes.patch, sizes.head_dim) < 1:
            raise InputError(f"All sizes of a transformer must be positive: {sizes}.")
        self.in_channels, self.normalize = in_channels, style.make_normalize(in_channels)
        self.official_prefix = "" if style.plain else "0."  # there, B-cos transformers stand in a Sequential
        self.to_patch_embedding, reduction = _make_embedding(sizes, style, in_channels)
        if patch_norm:
            self.to_patch_embedding.add_module("norm", make_token_norm(style, sizes.dim))
        self.positional_embedding = SinCosPosition2d(sizes.dim)
        self.transformer = nn.Sequential(OrderedDict((f"encoder_{i}", Encoder(style, sizes, qkv)) for i in range(sizes.depth)))
        self.feature_info = tuple(
            FeatureInfo(f"transformer.{name}", sizes.dim, reduction) for name, _ in self.transformer.named_children()
        )
        self.head: Head = TokenHead(
            style, sizes.dim, num_classes, logit_bias=logit_bias, temperature=temperature, classifier_first=classifier_first,
            prototypes=check_whole(prototypes, "prototypes", least=0),
        )  # fmt: skip
        self.linear_head = nn.Sequential(OrderedDict(norm=make_token_norm(style, sizes.dim), linear=self.head.make_classifier()))
        self.logits = self.head.make_logits()

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the tokens (N, h, w, D) after every encoder."""
        return self.run_children("transformer", self.positional_embedding(self.to_patch_embedding(x)))

    def classify(self, x: Tensor) -> Tensor:
        """The norm and the classifier, of the mean token or of each."""
        return self.head.run(self.linear_head, x)


def _make_embedding(sizes: ViTSizes, style: Style, in_channels: int) -> tuple[nn.Module, int]:
    """What turns pixels into tokens, and the pixels along one side of a token.

    With `antialias` every strided convolution of the stem is preceded by the low-pass; patches
    without a stem are cut from a picture that was low-passed once, at its own resolution.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, reduction = in_channels, sizes.patch
    if sizes.stem:
        steps: list[nn.Module] = []
        for i, width in enumerate(sizes.stem):
            stride = 2 if i == 0 or width > channels else 1
            steps += [style.conv(channels, width, 3, stride, 1, bias=style.plain), style.make_norm(width)]
            steps.append(style.activate())
            channels, reduction = width, reduction * stride
        layers["conv_stem"] = nn.Sequential(*steps)
    elif style.antialias:
        layers["low_pass"] = bnn.LowPass(1)
    layers["rearrange"] = Patches(sizes.patch)
    layers["linear"] = make_linear(style, sizes.patch**2 * channels, sizes.dim)
    return nn.Sequential(layers), reduction


def build(sizes: ViTSizes, style: Style, *, depth: int | None = None, **options: Any) -> ViT:
    """A vision transformer of these sizes, or of another depth."""
    if depth is not None:
        sizes = dataclasses.replace(sizes, depth=check_whole(depth, "depth"))
    return ViT(sizes, style, **options)


def build_aligned(
    sizes: ViTSizes, style: Style, *, qkv: str = "bcos", patch_norm: bool = True, depth: int | None = None, **options: Any
) -> ViT:  # fmt: skip
    """A B-cos aligned transformer of these sizes, or of another depth."""
    return build(sizes, style, qkv=qkv, patch_norm=patch_norm, depth=depth, **options)


# The official zoo lists the plain twins, too, under names of their own.
FAMILY = Family(
    network=ViT, build=build, sizes=SIZES, styles=STYLES, activation="gelu",
    plain_names={name: f"standard_{name}" for name in SIZES},
)  # fmt: skip
ALIGNED = Family(
    network=ViT, build=build_aligned, sizes=ALIGNED_SIZES, activation="gelu",
    styles={name: Style(norm="layer", norm_centered=True, max_out=2) for name in ALIGNED_SIZES},
    plain_names={name: name.replace("bvt", "vit") for name in ALIGNED_SIZES},
)  # fmt: skip
