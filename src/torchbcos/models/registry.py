"""All networks by name; the only place that ties names to sizes, and options to their meaning."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any

import torch

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, shorten
from torchbcos._core.names import hint, natural_key, quote
from torchbcos.models import convnext, densenet, resnet, surface, swin, two_stage, vgg, vit
from torchbcos.models.blocks import Style
from torchbcos.models.family import Family
from torchbcos.models.habits import habit_of
from torchbcos.models.network import Architecture, Network

__all__ = ["FAMILIES", "axes_of", "build", "find_family", "is_plain", "names"]

FAMILIES: tuple[Family, ...] = (
    resnet.FAMILY,
    densenet.FAMILY,
    vgg.FAMILY,
    convnext.FAMILY,
    vit.FAMILY,
    vit.ALIGNED,
    swin.FAMILY,
    surface.FAMILY,
    two_stage.FAMILY,
)
_SIZE_OPTIONS = ("num_classes", "in_channels", "plain")
_STYLE_OPTIONS = {f.name for f in dataclasses.fields(Style)} - {"plain"}


def names(pattern: str = "*") -> list[str]:
    """Names of networks that match a wildcard pattern, in natural order.

    >>> names("resnet1*")
    ['resnet18', 'resnet101', 'resnet152']
    """
    if not isinstance(pattern, str):
        raise ArgumentTypeError(f"A pattern is a word such as 'resnet*', not {type(pattern).__name__}.")
    known = [name for family in FAMILIES for name in family.names()]
    return sorted(fnmatch.filter(known, pattern), key=natural_key)


def is_plain(name: str) -> bool:
    """Whether a name is that of an ordinary network, the plain twin of another.

    >>> is_plain("vit_tiny_patch8"), is_plain("bvt_tiny_patch8")
    (True, False)
    """
    return any(name in family.plain_names.values() for family in FAMILIES)


def axes_of(name: str) -> int:
    """Axes of space that a network's input has: 2 of pictures, 1 of surfaces; 2 for an unknown name.

    >>> axes_of("resnet18"), axes_of("surface_vit_nano")
    (2, 1)
    """
    return next((len(family.network.axes) for family in FAMILIES if family.bare(name) in family.sizes), 2)


def find_family(name: str) -> tuple[Family, str, bool]:
    """The family of a name, the name in its tables, and whether it is that of a plain twin.

    Raises:
        InputError: there is no network of that name.
    """
    for family in FAMILIES:
        bare = family.bare(name)
        if bare in family.sizes:
            return family, bare, bare != name
    raise InputError(f"There is no network {name!r}.{hint(name, names())} torchbcos.list_models() names all.")


def build(
    name: str, *, num_classes: int | None = None, in_channels: int | None = None, plain: bool = False, **options: Any
) -> Network:
    """A freshly initialised network.

    Args:
        name: one of `names()`.
        num_classes: default 1000 (10 for the CIFAR networks); 0: no classifier, the network returns pooled features.
        in_channels: channels as `forward` sees them; default 6 (encoded RGB), 3 for plain networks.
        plain: the ordinary twin.
        **options: fields of `Style` (b, max_out, norm, antialias, activation, …) and arguments of the network
            (logit_bias, temperature, stochastic_depth, …).

    Raises:
        InputError: no such network, a number out of range, or sizes that no memory holds.
        ArgumentTypeError: no such option, or it has the wrong type.

    >>> build("resnet18", num_classes=10, antialias=True).num_classes
    10
    """
    family, bare, always_plain = find_family(name)
    known = _types_of(family)
    for option in options:
        if option not in known:
            raise ArgumentTypeError(_no_option(bare, option, [*_SIZE_OPTIONS, *sorted(known)]))
    sizes: dict[str, Any] = {"num_classes": num_classes, "in_channels": in_channels}
    plain = bool(_typed("plain", plain, bool)) or always_plain
    options = {name: _typed(name, value, known[name]) for name, value in options.items()}
    sizes = {name: _size(name, value) for name, value in sizes.items() if value is not None}
    style = dataclasses.replace(family.styles.get(bare, Style()), **{k: v for k, v in options.items() if k in _STYLE_OPTIONS})
    if plain:
        style = style.as_plain(options.get("activation", family.activation))
    sizes = {"num_classes": family.classes.get(bare, 1000), "in_channels": 3 if plain else 6, **sizes}
    rest = {k: v for k, v in options.items() if k not in _STYLE_OPTIONS}
    try:
        model = family.build(family.sizes[bare], style, **sizes, **rest)
    except (BcosError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # of torch, about sizes that no tensor can have
        reason = shorten(str(error).splitlines()[0] if str(error) else type(error).__name__, 150)
        raise InputError(f"{name} cannot be built with {_list({**sizes, **options})}: {reason}") from None
    model.architecture = Architecture(name=name, plain=plain, options=dict(options))
    return model


def _no_option(name: str, option: str, known: list[str]) -> str:
    """That a network has no such option, what those who come from elsewhere mean by it, and all that there are.

    >>> _no_option("vgg11", "drop_out", ["num_classes", "temperature"])
    "vgg11 has no option 'drop_out' (or 'dropout'): B-cos networks have no dropout; stochastic_depth leaves out whole branches. \
Options: num_classes, temperature."
    """
    options = f" Options: {', '.join(known)}."
    habit = habit_of(option, known)
    if habit is None:
        return f"{name} has no option {quote(option)}.{hint(option, known)}{options}"
    word, sentence = habit
    return f"{name} has no option {quote(option)}{'' if word == option else f' (or {word!r})'}: {sentence}.{options}"


def _types_of(family: Family) -> dict[str, Any]:
    """The options of a family, and the type of each: as its functions and `Style` declare them."""
    declared = {
        **typing.get_type_hints(Style), **typing.get_type_hints(family.network.__init__), **typing.get_type_hints(family.build),
    }  # fmt: skip
    return {name: declared[name] for name in _STYLE_OPTIONS | family.options()}


def _typed(name: str, value: Any, declared: Any) -> Any:
    """A value of the declared type, as Python's own; numpy's numbers are taken, too.

    Raises:
        ArgumentTypeError: it is of another type.
        InputError: it is no finite number.

    >>> _typed("antialias", "no", bool)
    Traceback (most recent call last):
    ...
    torchbcos._core.errors.ArgumentTypeError: antialias must be True or False, not 'no'.
    """
    if name == "b" and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        return value  # the layers say what a b is
    kinds = typing.get_args(declared) if isinstance(declared, types.UnionType) else (declared,)
    if (value is None and type(None) in kinds) or (isinstance(value, str) and str in kinds):
        return value
    if isinstance(value, bool):
        if bool in kinds:
            return value
    elif isinstance(value, numbers.Integral) and {int, float} & set(kinds):
        return int(value)
    elif isinstance(value, numbers.Real) and float in kinds and math.isfinite(value):
        return float(value)
    words = " or ".join(_WORDS[kind] for kind in kinds)
    number = isinstance(value, numbers.Real) and not isinstance(value, bool) and float in kinds
    raise (InputError if number else ArgumentTypeError)(f"{name} must be {words}, not {shorten(repr(value), 80)}.")


_WORDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a word", type(None): "None"}


def _size(name: str, value: Any) -> int:
    least = 0 if name == "num_classes" else 1
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        also = "" if least else "; 0 gives a network that returns pooled features"
        raise InputError(f"{name} must be a positive integer, not {shorten(repr(value), 80)}{also}.")
    return int(value)


def _list(values: Mapping[str, Any]) -> str:
    return shorten(", ".join(f"{name}={value!r}" for name, value in values.items()), 150)
