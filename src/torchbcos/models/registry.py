"""All networks by name; the only place that ties names to sizes, and options to their meaning."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint, natural_key
from torchbcos.models import convnext, densenet, resnet, vgg, vit
from torchbcos.models.blocks import Style


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of networks.

    Attributes:
        build: makes a network from sizes, a style and options.
        network: the class it makes; its arguments are the options.
        sizes: name -> sizes.
        style: the B-cos style of each name; the default style where it is not listed.
        activation: of its plain twin.
    """

    build: Callable[..., nn.Module]
    network: type[nn.Module]
    sizes: Mapping[str, Any]
    style: Mapping[str, Style] = field(default_factory=dict)
    activation: str = "relu"


FAMILIES = (
    Family(build=resnet.build, network=resnet.ResNet, sizes=resnet.SIZES),
    Family(build=densenet.build, network=densenet.DenseNet, sizes=densenet.SIZES, style=densenet.STYLES),
    Family(build=vgg.build, network=vgg.VGG, sizes=vgg.SIZES, style=vgg.STYLES),
    Family(build=convnext.build, network=convnext.ConvNeXt, sizes=convnext.SIZES, style=convnext.STYLES, activation="gelu"),
    Family(build=vit.build, network=vit.ViT, sizes=vit.SIZES, style=vit.STYLES, activation="gelu"),
)
PLAIN = "standard_"  # official prefix of the plain vision transformers
STYLE_OPTIONS = {f.name for f in dataclasses.fields(Style)} - {"plain", "activation"}


def names(pattern: str = "*") -> list[str]:
    """Names of networks that match a wildcard pattern, in natural order.

    >>> names("resnet1*")
    ['resnet18', 'resnet101', 'resnet152']
    """
    if not isinstance(pattern, str):
        raise ArgumentTypeError(f"A pattern is a word such as 'resnet*', not {type(pattern).__name__}.")
    known = [name for family in FAMILIES for name in family.sizes]
    known += [PLAIN + name for name in vit.SIZES]
    return sorted(fnmatch.filter(known, pattern), key=natural_key)


def build(
    name: str, *, num_classes: int | None = None, in_channels: int | None = None, plain: bool = False, **options: Any
) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: one of `names()`.
        num_classes: default 1000 (10 for the CIFAR networks).
        in_channels: channels as `forward` sees them; default 6 (encoded RGB), 3 for plain networks.
        plain: the ordinary twin.
        **options: fields of `Style` (b, max_out, norm, antialias, …) and arguments of the network
            (logit_bias, temperature, stochastic_depth, …).

    Raises:
        InputError: no such network.
        ArgumentTypeError: no such option.

    >>> build("resnet18", num_classes=10, antialias=True).num_classes
    10
    """
    given, plain = name, plain or name.startswith(PLAIN)
    name = name.removeprefix(PLAIN) if name.removeprefix(PLAIN) in vit.SIZES else name
    family = next((f for f in FAMILIES if name in f.sizes), None)
    if family is None:
        raise InputError(f"There is no network {name!r}.{hint(name, names())} torchbcos.list_models() names all.")
    known = STYLE_OPTIONS | family_options(family)
    for option in options:
        if option not in known:
            tail = f"{hint(option, known)} Options: {', '.join(sorted(known))}."
            raise ArgumentTypeError(f"{name} has no option {option!r}.{tail}")
    style = dataclasses.replace(family.style.get(name, Style()), **{k: v for k, v in options.items() if k in STYLE_OPTIONS})
    if plain:
        style = style.as_plain(family.activation)
    classes = num_classes if num_classes is not None else (10 if name.startswith("cifar10_") else 1000)
    channels = in_channels if in_channels is not None else (3 if plain else 6)
    rest = {k: v for k, v in options.items() if k not in STYLE_OPTIONS}
    model = family.build(family.sizes[name], style, num_classes=classes, in_channels=channels, **rest)
    model.architecture = Architecture(name=given, plain=plain, options=dict(options))  # type: ignore[assignment]
    return model


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How a network was built: enough, with its classes and channels, to build it again."""

    name: str
    plain: bool
    options: Mapping[str, Any]


def family_options(family: Family) -> set[str]:
    """Arguments of a family's networks that a caller may set."""
    found = set(inspect.signature(family.network.__init__).parameters) | set(inspect.signature(family.build).parameters)
    return found - {"self", "sizes", "style", "options", "num_classes", "in_channels"}
