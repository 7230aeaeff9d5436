"""Vision transformers: SimpleViT on patches, ViT-C on a convolutional stem.

B-cos (arXiv 2306.10898, section 3.4): B-cos linear layers without activations, token norms
without bias, queries and keys held in explanations. The plain twin has biases and GELUs. The
position embedding is a named constant; in a network that has learned little it carries most of
the logit.

Shapes: N images, h × w tokens of D channels, last: (N, h, w, D).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.models.blocks import Head, Style
from torchbcos.models.family import Family
from torchbcos.models.network import FeatureInfo, Network
from torchbcos.nn.attention import Attention
from torchbcos.nn.position import SinCosPosition2d

__all__ = ["FAMILY", "SIZES", "STYLES", "Encoder", "FeedForward", "Patches", "TokenHead", "ViT", "ViTSizes", "build"]


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


class Patches(bnn.Layer):
    """Cut (N, C, H, W) into tokens (N, h, w, p · p · C), channels fastest."""

    channel_dim = -1

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def compute(self, x: Tensor) -> Tensor:
        """Map pixels to tokens."""
        (n, c, height, width), p = x.shape, self.patch
        if height % p or width % p:
            raise InputError(
                f"A picture of {height} x {width} cannot be cut into patches of {p} x {p}: crop or resize it to multiples of {p}."
            )
        cells = x.reshape(n, c, height // p, p, width // p, p).permute(0, 2, 4, 3, 5, 1)
        return cells.reshape(n, height // p, width // p, p * p * c)

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.patch}"


class FeedForward(nn.Module):
    """Norm, linear layer, activation, linear layer on every token."""

    channel_dim = -1

    def __init__(self, style: Style, dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            OrderedDict(
                norm=_make_token_norm(style, dim), linear1=_make_linear(style, dim, hidden), act=style.activate(),
                linear2=_make_linear(style, hidden, dim),
            )
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = self.net(x)
        return out


class Encoder(nn.Module):
    """Attention and feed-forward layers, each added to its input."""

    channel_dim = -1

    def __init__(self, style: Style, sizes: ViTSizes) -> None:
        super().__init__()
        dim = sizes.dim
        to_out = _make_linear(style, sizes.heads * sizes.head_dim, dim, bias=False)
        self.attn = Attention(dim, sizes.heads, head_dim=sizes.head_dim, norm=_make_token_norm(style, dim), to_out=to_out)
        self.ff = FeedForward(style, dim, sizes.mlp)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, h, w, D) to (N, h, w, D)."""
        x = self.attn(x) + x
        out: Tensor = self.ff(x) + x
        return out


@dataclass(frozen=True)
class TokenHead(Head):
    """The classifier of a transformer: mean over tokens, norm, linear layer.

    Attributes:
        classifier_first: norm and linear layer read every token, and the mean is that of their scores.
    """

    classifier_first: bool = False

    def make_classifier(self, num_classes: int | None = None) -> nn.Module:
        """A fresh linear layer; the identity for no classes."""
        classes = self.num_classes if num_classes is None else num_classes
        return _make_linear(self.style, self.features, classes) if classes else nn.Identity()

    def run(self, classifier: nn.Module, x: Tensor) -> Tensor:
        """Map tokens (N, h, w, D) to scores (N, classes), before temperature and bias."""
        tokens = x.flatten(1, 2)
        out: Tensor = classifier(tokens).mean(1) if self.classifier_first else classifier(tokens.mean(1))
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
    ) -> None:
        super().__init__()
        if min(sizes.dim, sizes.heads, sizes.mlp, sizes.depth, sizes.patch, sizes.head_dim) < 1:
            raise InputError(f"All sizes of a transformer must be positive: {sizes}.")
        self.in_channels, self.normalize = in_channels, style.make_normalize(in_channels)
        self.official_prefix = "" if style.plain else "0."  # there, B-cos transformers stand in a Sequential
        self.to_patch_embedding, reduction = _make_embedding(sizes, style, in_channels)
        self.positional_embedding = SinCosPosition2d(sizes.dim)
        self.transformer = nn.Sequential(OrderedDict((f"encoder_{i}", Encoder(style, sizes)) for i in range(sizes.depth)))
        self.feature_info = tuple(
            FeatureInfo(f"transformer.{name}", sizes.dim, reduction) for name, _ in self.transformer.named_children()
        )
        self.head: Head = TokenHead(
            style, sizes.dim, num_classes, logit_bias=logit_bias, temperature=temperature, classifier_first=classifier_first
        )  # fmt: skip
        self.linear_head = nn.Sequential(OrderedDict(norm=_make_token_norm(style, sizes.dim), linear=self.head.make_classifier()))
        self.logits = self.head.make_logits()

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the tokens (N, h, w, D) after every encoder."""
        return self.run_children("transformer", self.positional_embedding(self.to_patch_embedding(x)))

    def classify(self, x: Tensor) -> Tensor:
        """The norm and the classifier, of the mean token or of each."""
        return self.head.run(self.linear_head, x)


def _make_linear(style: Style, inputs: int, outputs: int, *, bias: bool = True) -> nn.Module:
    """A linear layer over the last axis; B-cos layers have no bias."""
    if style.plain:
        return bnn.Linear(inputs, outputs, bias=bias)
    return bnn.BcosLinear(inputs, outputs, b=style.b, max_out=style.max_out, unit_norm=style.unit_norm)


def _make_token_norm(style: Style, dim: int) -> nn.Module:
    """A norm over the channels of every token."""
    if style.norm == "none":
        return nn.Identity()
    return bnn.TokenNorm(dim, eps=style.norm_eps, centered=style.norm_centered, affine=style.norm_affine, bias=style.norm_bias)


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
    layers["linear"] = _make_linear(style, sizes.patch**2 * channels, sizes.dim)
    return nn.Sequential(layers), reduction


def build(sizes: ViTSizes, style: Style, **options: Any) -> ViT:
    """A vision transformer of these sizes."""
    return ViT(sizes, style, **options)


# The official zoo lists the plain twins, too, under names of their own.
FAMILY = Family(network=ViT, build=build, sizes=SIZES, styles=STYLES, activation="gelu", plain_prefix="standard_")
