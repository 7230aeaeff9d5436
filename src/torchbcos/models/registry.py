"""All networks by name; the only place that ties names to sizes, and options to their meaning."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint, natural_key
from torchbcos.models import convnext, densenet, resnet, vgg, vit
from torchbcos.models.blocks import Style
from torchbcos.models.family import Family
from torchbcos.models.network import Architecture, Network

__all__ = ["FAMILIES", "build", "find_family", "names"]

FAMILIES: tuple[Family, ...] = (
    resnet.FAMILY,
    densenet.FAMILY,
    vgg.FAMILY,
    convnext.FAMILY,
    vit.FAMILY,
)
_STYLE_OPTIONS = {f.name for f in dataclasses.fields(Style)} - {"plain", "activation"}


def names(pattern: str = "*") -> list[str]:
    """Names of networks that match a wildcard pattern, in natural order.

    >>> names("resnet1*")
    ['resnet18', 'resnet101', 'resnet152']
    """
    if not isinstance(pattern, str):
        raise ArgumentTypeError(f"A pattern is a word such as 'resnet*', not {type(pattern).__name__}.")
    known = [name for family in FAMILIES for name in family.names()]
    return sorted(fnmatch.filter(known, pattern), key=natural_key)


def find_family(name: str) -> tuple[Family, str, bool]:
    """The family of a name, the name in its tables, and whether it is that of a plain twin.

    Raises:
        InputError: there is no network of that name.
    """
    for family in FAMILIES:
        bare = name.removeprefix(family.plain_prefix)
        if bare in family.sizes:
            return family, bare, bare != name
    raise InputError(f"There is no network {name!r}.{hint(name, names())} torchbcos.list_models() names all.")


def build(
    name: str, *, num_classes: int | None = None, in_channels: int | None = None, plain: bool = False, **options: Any
) -> Network:
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
    family, bare, always_plain = find_family(name)
    plain = plain or always_plain
    known = _STYLE_OPTIONS | family.options()
    for option in options:
        if option not in known:
            tail = f"{hint(option, known)} Options: {', '.join(sorted(known))}."
            raise ArgumentTypeError(f"{bare} has no option {option!r}.{tail}")
    style = dataclasses.replace(family.styles.get(bare, Style()), **{k: v for k, v in options.items() if k in _STYLE_OPTIONS})
    if plain:
        style = style.as_plain(family.activation)
    classes = num_classes if num_classes is not None else family.classes.get(bare, 1000)
    channels = in_channels if in_channels is not None else (3 if plain else 6)
    rest = {k: v for k, v in options.items() if k not in _STYLE_OPTIONS}
    model = family.build(family.sizes[bare], style, num_classes=classes, in_channels=channels, **rest)
    model.architecture = Architecture(name=name, plain=plain, options=dict(options))
    return model
