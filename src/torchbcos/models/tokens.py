"""What transformers are made of: patches, layers over tokens, the classifier.

Shapes: N images, h × w tokens of D channels, last: (N, h, w, D).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos._core.names import hint
from torchbcos.models.blocks import Head, Style

__all__ = ["QKV", "FeedForward", "Merge", "Patches", "TokenHead", "make_linear", "make_qkv", "make_token_norm"]

QKV = ("linear", "bcos")


class Patches(bnn.Layer):
    """Cut (N, C, H, W) into tokens (N, h, w, p · p · C), channels fastest.

    Args:
        patch: p, pixels along one side.
        pad: sizes that p does not divide are filled up with zeros below and at the right; otherwise they are refused.
    """

    channel_dim = -1

    def __init__(self, patch: int, *, pad: bool = False) -> None:
        super().__init__()
        self.patch, self.pad = patch, pad

    def compute(self, x: Tensor) -> Tensor:
        """Map pixels to tokens."""
        height, width = x.shape[2:]
        if not self.pad and (height % self.patch or width % self.patch):
            p = self.patch
            raise InputError(
                f"A picture of {height} x {width} cannot be cut into patches of {p} x {p}: crop or resize it to multiples of {p}."
            )
        return _merged(x.movedim(1, -1), self.patch)

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.patch}, pad=True" if self.pad else f"{self.patch}"


class Merge(bnn.Layer):
    """Join p × p tokens (arXiv 2103.14030, section 3.1): (N, h, w, D) to (N, ⌈h/p⌉, ⌈w/p⌉, p · p · D), zeros where there is none.

    Args:
        side: p.
    """

    channel_dim = -1

    def __init__(self, side: int = 2) -> None:
        super().__init__()
        self.side = side

    def compute(self, x: Tensor) -> Tensor:
        """Map tokens to fewer."""
        return _merged(x, self.side)

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.side}"


def _merged(x: Tensor, p: int) -> Tensor:
    """(N, H, W, C) to (N, h, w, p · p · C), channels fastest; zeros fill up what is missing."""
    x = F.pad(x, (0, 0, 0, -x.shape[2] % p, 0, -x.shape[1] % p)) if x.shape[1] % p or x.shape[2] % p else x
    n, height, width, c = x.shape
    cells = x.reshape(n, height // p, p, width // p, p, c).transpose(2, 3)
    return cells.reshape(n, height // p, width // p, p * p * c)


class FeedForward(nn.Module):
    """Norm, linear layer, activation, linear layer on every token."""

    channel_dim = -1

    def __init__(self, style: Style, dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            OrderedDict(
                norm=make_token_norm(style, dim), linear1=make_linear(style, dim, hidden), act=style.activate(),
                linear2=make_linear(style, hidden, dim),
            )
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        out: Tensor = self.net(x)
        return out


@dataclass(frozen=True)
class TokenHead(Head):
    """The classifier of a transformer: mean over tokens, norm, linear layer.

    Attributes:
        classifier_first: norm and linear layer read every token, and the mean is that of their scores.
        prototypes: examples a class that tokens are compared with, in the place of the linear layer; 0: none.
        places: number of tokens, each of which has prototypes of its own; 0: all have the same.
    """

    classifier_first: bool = False
    prototypes: int = 0
    places: int = 0

    def make_classifier(self, num_classes: int | None = None) -> nn.Module:
        """A fresh linear layer, or fresh prototypes; the identity for no classes."""
        classes = self.num_classes if num_classes is None else num_classes
        if not classes:
            return nn.Identity()
        if self.prototypes:
            return bnn.Prototypes(self.features, classes, self.prototypes, places=self.places, b=self.style.b)
        return make_linear(self.style, self.features, classes)

    def run(self, classifier: nn.Module, x: Tensor) -> Tensor:
        """Map tokens (N, *S, D) to scores (N, classes), before temperature and bias."""
        tokens = x.flatten(1, -2)
        if self.prototypes and self.num_classes:
            scores: Tensor = classifier(tokens)
            return scores
        out: Tensor = classifier(tokens).mean(1) if self.classifier_first else classifier(tokens.mean(1))
        return out


def make_linear(style: Style, inputs: int, outputs: int, *, bias: bool = True) -> nn.Module:
    """A linear layer over the last axis; B-cos layers have no bias."""
    if style.plain:
        return bnn.Linear(inputs, outputs, bias=bias)
    return bnn.BcosLinear(inputs, outputs, b=style.b, max_out=style.max_out, unit_norm=style.unit_norm)


def make_qkv(style: Style, dim: int, inner: int, qkv: str) -> nn.Module | None:
    """The layer of queries, keys and values of attention; None: the one that attention has by itself.

    Raises:
        InputError: there is no such layer.
    """
    if qkv not in QKV:
        raise InputError(f"qkv must be one of {', '.join(QKV)}, not {qkv!r}.{hint(str(qkv), QKV)}")
    return make_linear(style, dim, 3 * inner, bias=False) if qkv == "bcos" else None


def make_token_norm(style: Style, dim: int) -> nn.Module:
    """A norm over the channels of every token."""
    if style.norm == "none":
        return nn.Identity()
    return bnn.TokenNorm(dim, eps=style.norm_eps, centered=style.norm_centered, affine=style.norm_affine, bias=style.norm_bias)
