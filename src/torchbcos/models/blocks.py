"""The style of a network: one small value that makes its convolutions, norms and activations.

Architectures ask a `Style` for layers and know nothing of B-cos or plain; builders choose one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, InputError, shorten
from torchbcos._core.names import hint
from torchbcos._core.numbers import integer
from torchbcos.functional.conv import PADDING_MODES
from torchbcos.pictures import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["Head", "StochasticDepth", "Style", "check_depths", "moments_of", "scale_widths"]

_NORMS: dict[str, Callable[..., nn.Module]] = {
    "batch": bnn.BatchNorm,
    "all": bnn.AllNorm,
    "layer": bnn.LayerNorm,
    "instance": bnn.InstanceNorm,
    "position": bnn.PositionNorm,
    "group": lambda features, **options: bnn.GroupNorm(2, features, **options),  # two groups, as the official "gn" norm
    "none": lambda features, **options: nn.Identity(),
}
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"none": nn.Identity, "relu": bnn.ReLU, "gelu": bnn.GELU}
_MOMENTS = {"imagenet": (IMAGENET_MEAN, IMAGENET_STD)}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the layers of a network are made.

    Attributes:
        plain: the ordinary twin: convolutions, centred norms with bias, activations.
        b: exponent B of the B-cos layers.
        max_out: MaxOut filters an output.
        norm: "batch", "all", "layer", "instance", "position", "group" or "none".
        norm_centered, norm_affine, norm_bias, norm_eps: as in `torchbcos.nn.BatchNorm`.
        antialias: each strided layer becomes a low-pass of that stride and the layer with stride 1.
        padding_mode: what stands around the border: "zeros", "reflect", "replicate" or "circular", as in `torch.nn.Conv2d`.
            Zeros tell a network where the border is, and it may use that as evidence (docs/how-to/read-a-picture.md).
        activation: "none", "relu" or "gelu".
        unit_norm: filters of B-cos layers are divided by their norms; False takes them as they are (B-cosification).
        normalize: the step `normalize`, which brings [x, 1 - x] to a mean and spread first: "none", "imagenet" (of ImageNet), or
            numbers, such as "0.74 0.70 0.71" (a mean for each channel of x) or "0.74 0.70 0.71 / 0.06 0.10 0.07" (and a
            spread). It is linear and leaves no constant (`torchbcos.nn.NormalizeEncoded`).
        sync: batch statistics over all processes.
    """

    plain: bool = False
    b: float = 2.0
    max_out: int = 1
    norm: str = "batch"
    norm_centered: bool = False
    norm_affine: bool = True
    norm_bias: bool = False
    norm_eps: float = 1e-5
    antialias: bool = False
    padding_mode: str = "zeros"
    activation: str = "none"
    unit_norm: bool = True
    normalize: str = "none"
    sync: bool = False

    def __post_init__(self) -> None:
        if self.norm not in _NORMS:
            raise InputError(f"Unknown norm {self.norm!r}: choose one of {', '.join(_NORMS)}.{hint(self.norm, _NORMS)}")
        moments_of(self.normalize)
        for name, known in (("padding_mode", PADDING_MODES), ("activation", _ACTIVATIONS)):
            if (word := getattr(self, name)) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not {word!r}.{hint(str(word), known)}")

    def as_plain(self, activation: str = "relu") -> Style:
        """The ordinary twin of this style."""
        return dataclasses.replace(self, plain=True, norm_centered=True, norm_bias=True, norm_affine=True, activation=activation)

    def conv(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, *, groups: int = 1,
        bias: bool = False,
    ) -> nn.Module:  # fmt: skip
        """A convolution; with `antialias` and a stride, a low-pass and the convolution at stride 1."""
        if stride > 1 and self.antialias:
            layer = self.conv(inputs, outputs, kernel, 1, padding, groups=groups, bias=bias)
            return nn.Sequential(bnn.LowPass(stride), layer)
        if self.plain:
            return bnn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias, padding_mode=self.padding_mode)  # type: ignore[arg-type]
        return bnn.BcosConv2d(
            inputs, outputs, kernel, stride, padding, groups=groups, b=self.b, max_out=self.max_out,
            padding_mode=self.padding_mode, unit_norm=self.unit_norm,
        )  # fmt: skip

    def make_norm(self, features: int) -> nn.Module:
        """A norm over `features` channels."""
        options: dict[str, object] = {"sync": self.sync} if self.norm in ("batch", "all") and self.sync else {}
        return _NORMS[self.norm](
            features, eps=self.norm_eps, centered=self.norm_centered, affine=self.norm_affine, bias=self.norm_bias,
            **options,
        )  # fmt: skip

    def activate(self) -> nn.Module:
        """The activation, or nothing."""
        return _ACTIVATIONS[self.activation]()

    def make_normalize(self, in_channels: int) -> nn.Module | None:
        """The step that normalises encoded pictures; None without.

        Raises:
            InputError: they are no [x, 1 - x] of as many channels.
        """
        found = moments_of(self.normalize)
        if found is None:
            return None
        mean, std = found
        if in_channels != 2 * len(mean):
            if self.plain and in_channels == len(mean):
                raise InputError(f"normalize={self.normalize!r} is for [x, 1 - x]: plain networks are given normalised pictures.")
            which = "RGB" if len(mean) == 3 else f"{len(mean)} channels"
            raise InputError(
                f"normalize={self.normalize!r} is for [x, 1 - x] of {which}, {2 * len(mean)} channels: in_channels is "
                f"{in_channels}."
            )
        return bnn.NormalizeEncoded(mean, std)

    def pool(self, kernel: int, stride: int, padding: int = 0) -> nn.Module:
        """Local average pooling; the low-pass instead with `antialias`."""
        if self.antialias:
            return bnn.LowPass(stride)
        # with another padding than zeros, the mean is that of the pixels there are: no ring of darker features either
        return nn.AvgPool2d(kernel, stride, padding, count_include_pad=self.padding_mode == "zeros")


def moments_of(text: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Means and spreads, a number a channel of x; None for "none".

    Raises:
        InputError: it is no such text.

    >>> moments_of("0.5 0.25 0.5 / 0.1 0.1 0.2")
    ((0.5, 0.25, 0.5), (0.1, 0.1, 0.2))
    """
    if not isinstance(text, str):
        raise ArgumentTypeError(f"normalize is a text such as 'imagenet', not {shorten(repr(text), 80)}.")
    if text == "none":
        return None
    if text in _MOMENTS:
        return _MOMENTS[text]
    try:
        parts = [tuple(float(word) for word in part.replace(",", " ").split()) for part in text.split("/")]
    except ValueError:
        parts = []
    fits = parts and len(parts) <= 2 and parts[0] and len(parts[-1]) == len(parts[0])
    if not fits or not all(0 <= m <= 1 for m in parts[0]) or (len(parts) == 2 and not all(0 < s < math.inf for s in parts[1])):
        words = ("none", *_MOMENTS)
        raise InputError(
            f"normalize must be one of {', '.join(words)}, or means from 0 to 1 such as '0.74 0.70 0.71', and spreads above 0 "
            f"behind a /, not {shorten(repr(text), 80)}.{hint(text, words)}"
        )
    return parts[0], parts[1] if len(parts) == 2 else (1.0,) * len(parts[0])


class StochasticDepth(nn.Module):
    """Drop a residual branch for whole images while training, and scale the rest up."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise InputError(f"stochastic depth must be in [0, 1), not {p}.")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Keep each image's branch with probability 1 - p."""
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device, dtype=x.dtype) >= self.p
        return x * keep / (1 - self.p)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


@dataclass(frozen=True)
class Head:
    """The classifier of a convolutional network: B-cos 1×1 before pooling, or plain linear after it.

    Attributes:
        style: how layers are made.
        features: channels of the last feature map.
        num_classes: number of logits; 0: none, the classifier is the identity and the pooled features are the output.
        logit_bias: a number, None, or "auto" for -ln(classes - 1), which makes every class start
            at the probability 1/classes under BCE (arXiv 2306.10898, section 3.2).
        temperature: divides the logits.
    """

    style: Style
    features: int
    num_classes: int
    logit_bias: float | str | None = "auto"
    temperature: float | None = None

    def __post_init__(self) -> None:
        count = integer(self.num_classes)
        if count is None or count < 0:
            raise InputError(
                f"num_classes must be a positive integer, not {self.num_classes!r}; 0 gives a network that returns pooled "
                "features."
            )
        object.__setattr__(self, "num_classes", count)  # numpy's do not fit into a card
        if isinstance(self.logit_bias, str) and self.logit_bias != "auto":
            raise InputError(f"logit_bias must be a number, None or 'auto', not {self.logit_bias!r}.")

    def make_classifier(self, num_classes: int | None = None) -> nn.Module:
        """A fresh classifier; the identity for no classes."""
        classes = self.num_classes if num_classes is None else num_classes
        if classes == 0:
            return nn.Identity()
        if self.style.plain:
            return bnn.Linear(self.features, classes)
        return self.style.conv(self.features, classes, 1)

    def make_logits(self) -> bnn.Logits:
        """The logit layer that belongs to the number of classes; features have neither bias nor temperature."""
        return bnn.Logits(self.bias(), self.temperature) if self.num_classes else bnn.Logits()

    def bias(self) -> float | None:
        """The logit bias as a number; 0 for one class, and none for plain networks by default."""
        if not isinstance(self.logit_bias, str):
            return self.logit_bias
        return None if self.style.plain else -math.log(max(1, self.num_classes - 1))

    def resized(self, num_classes: int) -> Head:
        """The same head for another number of classes; a bias that was "auto" follows."""
        return dataclasses.replace(self, num_classes=num_classes)

    def run(self, classifier: nn.Module, x: Tensor) -> Tensor:
        """Map features (N, F, h, w) to scores (N, classes), before temperature and bias."""
        if self.style.plain:
            out: Tensor = classifier(x.flatten(2).mean(2))
        else:
            out = classifier(x).flatten(2).mean(2)
        return out


def check_depths(depths: Sequence[int], widths: Sequence[int]) -> None:
    """Raise InputError unless there is one positive depth for every width."""
    if len(depths) != len(widths) or min(depths) < 1:
        raise InputError(f"depths {list(depths)} and widths {list(widths)} must be equally many and positive.")


def scale_widths(widths: Sequence[int], factor: float, *, least: int = 1) -> tuple[int, ...]:
    """Channels times `factor`, rounded, at least `least` each.

    Raises:
        InputError: the factor is not positive.

    >>> scale_widths((64, 128), 0.75)
    (48, 96)
    """
    if not factor > 0:
        raise InputError(f"width_factor must be positive, not {factor!r}.")
    return tuple(max(least, round(width * factor)) for width in widths)
