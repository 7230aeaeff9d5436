"""What every network is: stages, a classifier, and the names by which others find them.

A family writes `stages`, and `classify` where something stands before its classifier. Everything else is written here
once and is final, so that the engine, the zoo, training and deployment may rely on it for every network alike.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import class_name_fault
from torchbcos.models.blocks import Head
from torchbcos.models.habits import ATTRIBUTES

__all__ = ["Architecture", "FeatureInfo", "Network", "check_class_names", "check_input"]


@dataclass(frozen=True)
class FeatureInfo:
    """One stage of a network.

    Attributes:
        name: the module whose output it is.
        channels: C of that output.
        reduction: input pixels per feature position, along one axis.
    """

    name: str
    channels: int
    reduction: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How a network was built: enough, with its classes and channels, to build it again."""

    name: str
    plain: bool
    options: Mapping[str, Any]


class Network(nn.Module, abc.ABC):
    """An abstract network over encoded pictures: stages, then a classifier, then temperature and bias.

    Attributes:
        classifier_name: dotted path of the last layer, the one that `reset_classifier` replaces.
        axes: the axes of space of its input, for messages.
        channel_dim: the axis of channels in the outputs of its stages.
        official_prefix: what the keys of the official package begin with.
        picture: (resize, crop) in pixels: what a picture is brought to before it is encoded.
        smallest: pixels that each axis of space must have.
        in_channels: channels as `forward` sees them.
        normalize: the step before the first layer that brings encoded pictures to a mean and spread; None without.
        feature_info: a description of each stage.
        head, logits: how the classifier is made and run; temperature and bias.
        class_names: in the order of the outputs, where they are known.
        architecture: how `torchbcos.models.build` made it; None for a network that it did not make.
        facts: fields of the card of its weights that a network cannot know (preprocessing, terms, …), where they have one.
    """

    classifier_name: ClassVar[str]
    axes: ClassVar[tuple[str, ...]] = ("H", "W")
    channel_dim: int = 1
    official_prefix: str = ""
    picture: tuple[int, int] = (256, 224)
    smallest: int = 1
    in_channels: int
    normalize: nn.Module | None
    feature_info: tuple[FeatureInfo, ...]
    head: Head
    logits: bnn.Logits
    class_names: tuple[str, ...] | None = None
    architecture: Architecture | None = None
    facts: Mapping[str, Any] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.normalize = None

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        """Parameters, buffers and modules, as in torch; names of timm that it lacks are answered with those it has."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name not in ATTRIBUTES:
                raise
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}: {ATTRIBUTES[name]}.")

    @abc.abstractmethod
    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the output of every stage, as `feature_info` describes them; x was checked."""

    def classify(self, x: Tensor) -> Tensor:
        """Map the last stage to scores (N, classes); families with layers before the classifier run those, too."""
        return self.head.run(self.classifier_layer(), x)

    @final  # type: ignore[misc]  # torch declares it as an attribute
    def forward(self, x: Tensor) -> Tensor:
        """Map encoded pictures (N, C, H, W) to logits (N, classes)."""
        return self.forward_head(self.forward_features(x))

    @final
    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The features after every stage, as `feature_info` describes them."""
        check_input(x, self.in_channels, self.axes, self.smallest)
        return list(self.stages(x if self.normalize is None else self.normalize(x)))

    @final
    def forward_features(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the output of the last stage."""
        return self.forward_stages(x)[-1]

    @final
    def forward_head(self, x: Tensor) -> Tensor:
        """Map the output of the last stage to logits (N, classes)."""
        out: Tensor = self.logits(self.classify(x))
        return out

    @final
    def run_children(self, part: str, x: Tensor) -> Iterator[Tensor]:
        """Run the layers of the module `part` one after the other; yield the outputs that `feature_info` names."""
        ends = {info.name for info in self.feature_info}
        for name, layer in self.get_submodule(part).named_children():
            x = layer(x)
            if f"{part}.{name}" in ends:
                yield x

    @final
    @property
    def num_classes(self) -> int:
        """Number of classes; 0: it returns pooled features (N, num_features)."""
        return self.head.num_classes

    @final
    @property
    def num_features(self) -> int:
        """Features that the classifier reads: what the network returns, pooled, when `num_classes` is 0."""
        return self.head.features

    @final
    @property
    def plain(self) -> bool:
        """Whether it is an ordinary twin."""
        return self.head.style.plain

    @final
    def classifier_layer(self) -> nn.Module:
        """The last layer."""
        return self.get_submodule(self.classifier_name)

    @final
    def get_classifier(self) -> nn.Module:
        """The last layer, by the name that timm gives it."""
        return self.classifier_layer()

    @final
    def classifier_parameters(self) -> set[int]:
        """The `id` of each parameter of the last layer."""
        return {id(parameter) for parameter in self.classifier_layer().parameters()}

    @final
    def reset_classifier(self, num_classes: int, *, class_names: Iterable[str] | None = None) -> None:
        """Replace the last layer by a fresh one; the logit bias follows, and class names become those that are given.

        Args:
            num_classes: 0 takes the classifier away: the network then returns pooled features (N, num_features).
            class_names: of the new classes, in the order of the outputs.

        Raises:
            InputError: `num_classes` is negative or no integer, or there are more or fewer names.
        """
        names = None if class_names is None else check_class_names(class_names, num_classes)
        self.head = self.head.resized(num_classes)
        old = self.classifier_layer()
        parameter = next(old.parameters(), next(self.parameters()))  # one without classes has no parameters
        fresh = self.head.make_classifier().to(device=parameter.device, dtype=parameter.dtype).train(old.training)
        owner, _, name = self.classifier_name.rpartition(".")
        self.get_submodule(owner).add_module(name, fresh)
        self.logits = self.head.make_logits().train(self.training)
        self.class_names = names


def check_class_names(names: Iterable[str], count: int) -> tuple[str, ...]:
    """Names of classes, one each.

    Raises:
        InputError: there are more or fewer, one stands twice, or one is no text that a card can hold.

    >>> check_class_names(["cat", "dog"], 2)
    ('cat', 'dog')
    """
    given = () if isinstance(names, str | Mapping | Set) or not isinstance(names, Iterable) else tuple(names)
    if not given or not all(isinstance(name, str) for name in given):
        raise InputError(f"class_names is a list of texts, not {shorten(repr(names), 80)}.")
    found = tuple(map(str, given))  # numpy's texts are their own class
    if len(found) != count:
        raise InputError(f"class_names has {len(found)} names, and there are {count} classes: one each is needed.")
    for i, name in enumerate(found):
        if (fault := class_name_fault(name)) is not None:
            raise InputError(f"A class {fault}: number {i}, {shorten(repr(name), 80)}.")
    if len(set(found)) < count:
        raise InputError("class_names has a name twice: each class needs one of its own.")
    return found


def check_input(x: Tensor, channels: int, axes: Sequence[str] = ("H", "W"), smallest: int = 1) -> None:
    """Raise InputError unless x is a batch of encoded pictures (N, C, *axes) that is large enough."""
    if x.dim() != 2 + len(axes):
        wanted = ", ".join(["N", str(channels), *axes])
        one = " One picture alone is a batch as x[None]." if x.dim() == 1 + len(axes) else ""
        raise InputError(f"Expected a batch of encoded pictures ({wanted}), got shape {tuple(x.shape)}.{one}")
    if not x.is_floating_point():
        raise InputError(f"Expected a floating-point tensor, got {x.dtype}: use x.float() / 255, then add_inverse.")
    if x.shape[0] == 0:
        raise InputError(f"Expected at least one picture, got an empty batch of shape {tuple(x.shape)}.")
    if x.shape[1] != channels:
        extra = _channels_hint(tuple(x.shape), channels)
        raise InputError(f"Expected {channels} channels, got {x.shape[1]} (shape {tuple(x.shape)}).{extra}")
    if smallest > 1 and any(side < smallest for side in x.shape[2:]):
        size, least = (" x ".join(map(str, sides)) for sides in (x.shape[2:], [smallest] * len(axes)))
        raise InputError(f"A picture of {size} is too small: this network needs at least {least} pixels. Give a larger picture.")


def _channels_hint(shape: tuple[int, ...], channels: int) -> str:
    """The next step for a batch with other channels than a network takes.

    >>> _channels_hint((1, 8, 8, 2), 2)
    ' Channels come second: x.movedim(-1, 1).'
    """
    given, encode = shape[1], "torchbcos.functional.add_inverse(x), or clf.preprocess(images) of a classifier"
    if shape[-1] in (channels, 3, 1) and given not in (1, 2, 3, 6):
        return " Channels come second: x.movedim(-1, 1)."
    if 2 * given == channels:
        return f" {'RGB' if given == 3 else 'Input'} is encoded first: {encode}."
    if given == 2 * channels:
        return " This network takes channels as they are, not encoded: leave add_inverse out."
    if channels in (3, 6) and given in (1, 2):
        return f" This network takes RGB. Repeat grey: x[:, :1].expand(-1, 3, -1, -1); then {encode}." if channels == 6 else ""
    if channels == 2 and given in (3, 6):
        return " This network takes grey pictures, encoded: (0.299 r + 0.587 g + 0.114 b), then add_inverse."
    return ""


# It looks at the shape of a real tensor. While torch.fx traces, x is a symbol without one: the call is recorded as one
# step, and the traced network checks its input when it runs. (Names are looked up in this file, so once is enough.)
torch.fx.wrap("check_input")
