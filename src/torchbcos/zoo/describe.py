"""Cards of networks: of those that `create_model` made, and of anybody's own."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from torch import nn

from torchbcos import models
from torchbcos._core.errors import ArgumentTypeError, InputError, shorten
from torchbcos.conversion import conversion_of, given_network
from torchbcos.deployment import is_deployed
from torchbcos.pictures import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from torchbcos.zoo.card import Card, imagenet_classes
from torchbcos.zoo.fields import IMAGENET
from torchbcos.zoo.from_timm import preprocess_of
from torchbcos.zoo.importing import IMPORT, builder_path, can_build, class_path
from torchbcos.zoo.libraries import library_of
from torchbcos.zoo.probe import check_channels, check_logits, first_convolution, outputs_of, samples
from torchbcos.zoo.saveable import unwrapped
from torchbcos.zoo.sequential import SEQUENTIAL, describe_sequential

__all__ = ["UNKNOWN", "Builder", "as_card", "as_converted", "card_around", "card_of", "described", "encoded", "names_of"]

UNKNOWN = "own:"  # what the architecture of a network begins with of which nobody knows how it is built: it cannot be saved

Builder = str | Callable[..., nn.Module]


def card_of(model: nn.Module) -> Card:
    """The card of a network made by `create_model`, also of one that `bcosify` converted since.

    Raises:
        InputError: it was not.
    """
    conversion = conversion_of(model)
    if conversion is not None:
        return as_converted(_card_of_given(given_network(model)), conversion, model)
    return _card_of_given(model)


def as_converted(card: Card, conversion: Mapping[str, Any], network: nn.Module) -> Card:
    """The card of a network, and what a conversion changed in it.

    Args:
        card: of the network that was given.
        conversion: the steps and settings, as the converted network remembers them.
        network: converted.
    """
    prepare = None if card.preprocess is None else Preprocess.from_dict(dict(card.preprocess))
    prepare = Preprocess() if prepare is None else prepare
    channels = 2 * len(conversion["settings"]["mean"])
    return dataclasses.replace(
        card, conversion=conversion, preprocess=encoded(prepare, channels // 2).to_dict(), in_channels=channels, probe=None,
        parameters=sum(p.numel() for p in network.parameters()),
    )  # fmt: skip


def encoded(prepare: Preprocess, raw_channels: int | None = None) -> Preprocess:
    """The same preprocessing with pixels as [x, 1 - x]."""
    raw = prepare.raw_channels if raw_channels is None else raw_channels
    return dataclasses.replace(prepare, encoding="add_inverse", mean=None, std=None, raw_channels=raw)


def _card_of_given(model: nn.Module) -> Card:
    if not isinstance(model, models.Network) or model.architecture is None:
        raise InputError(
            f"A card of a network made by torchbcos.create_model says how to build it; this is a {type(model).__name__}: "
            "torchbcos.Classifier(network, class_names=…) makes one for a network of your own."
        )
    made, preprocess = model.architecture, _usual_preprocess(model)
    fields = {
        "preprocess": preprocess.to_dict(),
        "probability": "softmax" if made.plain else "sigmoid",
        **(model.facts or {}),
    }
    return Card(
        name=made.name, architecture=made.name, options=made.options, plain=made.plain, in_channels=model.in_channels,
        classes=model.class_names, num_classes=model.num_classes, parameters=sum(p.numel() for p in model.parameters()), **fields,
    )  # fmt: skip


def _usual_preprocess(network: models.Network) -> Preprocess:
    """What inputs go through before a network of this kind.

    [x, 1 - x] before a B-cos network and for six channels, ImageNet's moments before a plain one of RGB. Arrays of other channels
    have no usual moments, and an odd number of channels is no [x, 1 - x]: both stay as they are.
    """
    if len(network.axes) != 2:
        even = not network.plain and network.in_channels % 2 == 0
        channels = network.in_channels // 2 if even else network.in_channels
        return Preprocess(encoding="add_inverse" if even else "none", raw_channels=channels, axes=len(network.axes))
    resize, crop = network.picture
    raw, odd = divmod(network.in_channels, 2)
    if not odd and (raw == 3 or not network.plain):  # six channels of a plain network, too, are encoded RGB
        return Preprocess(resize=resize, crop=crop, raw_channels=raw)
    if network.plain and network.in_channels == 3:
        return Preprocess(resize=resize, crop=crop, encoding="normalize", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return Preprocess(resize=resize, crop=crop, encoding="none", raw_channels=network.in_channels)


# -- networks of one's own -------------------------------------------------------------------------------------------------


def card_around(
    module: nn.Module,
    *,
    class_names: Iterable[str] | None = None,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    probability: str | None = None,
    builder: Builder | None = None,
    options: Mapping[str, Any] | None = None,
) -> Card:
    """The card of any network; arguments as `Classifier` takes them.

    The network runs once on a made-up input, where one of the usual sizes suits it: that says how many classes there are, and
    whether channels and class names fit.

    Raises:
        InputError: they do not, or the number of classes cannot be found out.
        ArgumentTypeError: an argument has the wrong type.
    """
    if not isinstance(module, nn.Module):
        named = isinstance(module, str | os.PathLike)
        instead = (
            f": torchbcos.load({shorten(repr(os.fspath(module)), 150)}) gives the classifier of a name or folder" if named else ""
        )
        raise ArgumentTypeError(f"A classifier needs a torch.nn.Module, not {type(module).__name__}{instead}.")
    names = names_of(class_names)
    network = unwrapped(module)
    given, conversion = given_network(network), conversion_of(network)
    made_here = isinstance(given, models.Network) and given.architecture is not None and builder is None
    base = card_of(network) if made_here else None
    if names is not None and base is not None:  # before the card, which would complain in other words
        _check_count(len(names), base.num_classes)
    prepare = _preprocess_of(network, preprocess, base)
    if base is None:
        count = _count_classes(network, prepare, names)
        architecture, options = described(network, builder, options)
        base = Card(
            name=_short_name(given, architecture), architecture=architecture, options=options, num_classes=count,
            in_channels=prepare.channels, parameters=sum(p.numel() for p in network.parameters()), conversion=conversion,
        )  # fmt: skip
    elif options is not None:
        raise InputError(f"{base.architecture} was made by create_model, which knows its options: leave options=… out.")
    elif prepare.channels != base.in_channels:
        raise InputError(f"The network takes {base.in_channels} channels, and this preprocessing gives {prepare.channels}.")
    return dataclasses.replace(
        base, classes=base.classes if names is None else as_card(names), preprocess=prepare.to_dict(),
        deployed=is_deployed(network), probability=base.probability if probability is None else probability,
    )  # fmt: skip


def names_of(class_names: Iterable[str] | None) -> tuple[str, ...] | None:
    if class_names is None:
        return None
    names = () if isinstance(class_names, str | Mapping | Set) or not isinstance(class_names, Iterable) else tuple(class_names)
    if not names or not all(isinstance(name, str) for name in names):
        raise ArgumentTypeError(f"class_names is a list of texts, not {shorten(repr(class_names), 80)}.")
    return tuple(map(str, names))  # numpy's texts are their own class


def as_card(names: tuple[str, ...]) -> tuple[str, ...] | str:
    """Names as a card holds them: ImageNet's, of which two are alike, by that word."""
    return IMAGENET if names == imagenet_classes() else names


def _check_count(names: int, classes: int) -> None:
    if names != classes:
        raise InputError(f"The network gives {classes} logits an input, and here are {names} class names: one each is needed.")


def _preprocess_of(
    network: nn.Module, given: Preprocess | Mapping[str, Any] | None, base: Card | None
) -> Preprocess:  # fmt: skip
    """The preprocessing of a network: what is given, what its card says, or what its first convolution takes."""
    if isinstance(given, Preprocess):
        return given
    if isinstance(given, Mapping):
        return Preprocess.from_dict(given)
    if given is not None:
        raise ArgumentTypeError(
            f"preprocess is a torchbcos.pictures.Preprocess, or a dict of its fields, not {type(given).__name__}."
        )
    if base is not None and base.preprocess is not None:
        return Preprocess.from_dict(base.preprocess)
    first, conversion = first_convolution(network), conversion_of(network)
    if conversion is not None and (name := _name_in_timm(given_network(network))) is not None:
        return encoded(preprocess_of(given_network(network).pretrained_cfg, name))  # type: ignore[arg-type]
    if conversion is not None:
        return Preprocess(raw_channels=len(conversion["settings"]["mean"]), axes=2 if first is None else first[1])
    if first is None:
        return Preprocess()
    channels, axes, encodes = first
    raw, odd = divmod(channels, 2)
    if encodes and not odd:
        return Preprocess(encoding="none", raw_channels=raw, axes=axes)
    return Preprocess(encoding="none", raw_channels=channels, axes=axes) if odd else Preprocess(raw_channels=raw, axes=axes)


def _count_classes(module: nn.Module, prepare: Preprocess, names: Sequence[str] | None) -> int:
    """The number of classes of a network: as many as it gives logits; where no usual input suits it, as there are names.

    Raises:
        InputError: it gives none, other ones than there are names, or nobody knows.
    """
    found = outputs_of(module, samples(prepare))
    if not isinstance(found, Exception):
        return check_logits(found[1], found[0], None if names is None else len(names))
    check_channels(module, prepare)
    if names is not None:
        return len(names)
    said = shorten(" ".join(str(found).split()).rstrip("."), 160)
    raise InputError(
        f"How many classes this {type(module).__name__} has could not be found out, as it takes none of the inputs that were "
        f"tried ({type(found).__name__}: {said}): give class_names=…, or preprocess=Preprocess(crop=…), the side of its pictures."
    ) from found


def described(network: nn.Module, builder: Builder | None, options: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """The architecture and options of a card for a network of one's own: the builder that is named, layers as data, or its class.

    Raises:
        InputError: the builder has no name by which it can be imported.
    """
    if isinstance(builder, str) and library_of(builder) is not None:
        return builder, dict(options or {})
    if builder is not None:
        return IMPORT + builder_path(builder), dict(options or {})
    if options:
        raise InputError("options are the arguments of a builder: name it, builder='package.module:function'.")
    try:
        return SEQUENTIAL, describe_sequential(network)
    except InputError:
        pass
    if conversion_of(network) is not None:
        network = given_network(network)
        if (named := _name_in_timm(network)) is not None:
            return named, {}
    try:
        path = class_path(network)
    except InputError:
        path = ""
    somebodys = not type(network).__module__.startswith(("torch.", "torchbcos."))  # theirs need arguments: layers, graphs
    if path and somebodys and can_build(type(network)) and not inspect.isabstract(type(network)):
        return IMPORT + path, {}
    return UNKNOWN + type(network).__name__, {}


def _name_in_timm(network: nn.Module) -> str | None:
    """The source of a network that `timm.create_model` made, as it says itself; None of another."""
    config = getattr(network, "pretrained_cfg", None)
    named = isinstance(config, Mapping) and config.get("architecture") and config.get("input_size")
    return f"timm:{config['architecture']}" if named and type(network).__module__.startswith("timm.") else None  # type: ignore[index]


def _short_name(network: nn.Module, architecture: str) -> str:
    return architecture.rpartition(":")[2].rpartition(".")[2] or type(network).__name__
