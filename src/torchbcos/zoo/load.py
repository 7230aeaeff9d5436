"""Where names, files and networks meet: create and load."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchbcos import models
from torchbcos._core.errors import ArgumentTypeError, InputError, MissingPackageError, WeightsError, shorten
from torchbcos._core.names import natural_key, quote
from torchbcos.deployment import deploy as twin_of
from torchbcos.deployment import make_twin_
from torchbcos.pictures import Preprocess
from torchbcos.zoo.archive import WeightsFile, open_weights, refuse_foreign
from torchbcos.zoo.bcosification import SOURCE as BCOSIFIED
from torchbcos.zoo.bcosification import open_bcosified, refuse_bcosified
from torchbcos.zoo.build import Code, assemble, builder_of, inputs_of, is_own, remember
from torchbcos.zoo.card import Card, official_card, read_official_cards
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.describe import card_of
from torchbcos.zoo.foreign_sources import Wishes, chosen, is_foreign, open_foreign
from torchbcos.zoo.libraries import library_of
from torchbcos.zoo.probe import differ
from torchbcos.zoo.program import Program
from torchbcos.zoo.recorded import PROGRAM, open_recorded
from torchbcos.zoo.sources import has_card, named, pick_device, places_of, read_carded, read_source
from torchbcos.zoo.store import classes_in, fetch, fill, read_weights

__all__ = ["create_model", "list_models", "load"]


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of networks, in natural order.

    Args:
        pattern: a wildcard such as "resnet*".
        pretrained: only those with official weights.

    >>> list_models("resnet1*")
    ['resnet18', 'resnet101', 'resnet152']
    """
    if not pretrained:
        return models.names(pattern)
    return sorted(fnmatch.filter(read_official_cards(), pattern), key=natural_key)


def create_model(
    name: str | None = None,
    *,
    weights: str | Path | None = None,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_channels: int | None = None,
    plain: bool = False,
    **options: Any,
) -> models.Network:
    """A network, fresh or with weights.

    Args:
        name: one of `list_models()`; may be left out where `weights` has a card.
        weights: an official .pth, a .safetensors, a folder written by `save`, or "hf-hub:org/name[@revision]".
        pretrained: official weights, downloaded once and checked.
        num_classes: with weights of another number of classes, the classifier is fresh. None takes the number that belongs
            to the name, or that the card says. 0: no classifier; the network returns pooled features (N, num_features).
        in_channels: channels as `forward` sees them (6: encoded RGB).
        plain: the ordinary twin.
        **options: of the network; unknown ones are errors.

    Raises:
        InputError, ArgumentTypeError: unknown network or option.
        MissingFileError, WeightsError: the weights are missing, broken, or of another network.

    >>> create_model("resnet18", num_classes=10).num_classes
    10
    """
    if not isinstance(name, str | None):
        raise ArgumentTypeError(f"create_model needs the name of a network, not {type(name).__name__}.")
    if pretrained and weights is not None:
        raise InputError("Give either pretrained=True or weights=..., not both.")
    refuse_foreign(weights)
    asked: dict[str, Any] = {"in_channels": in_channels, "plain": plain}
    if weights is not None and has_card(named(weights, "weights")):
        network = _with_card(*read_carded(weights), name, asked, options, where=str(weights))
    elif name is None:
        raise InputError("create_model needs a network name; torchbcos.list_models() names all.")
    elif pretrained:
        card = official_card(name)
        path = fetch(card)
        network = _with_card(open_weights(path), card, card.architecture, asked, options, where=path.name)
    elif weights is not None:
        network = _with_file(name, Path(weights), {"num_classes": num_classes, **asked, **options})
    else:
        network = models.build(_architecture_of(name), num_classes=num_classes, **asked, **options)
    if num_classes is not None and network.num_classes != num_classes:
        network.reset_classifier(num_classes)
    return network


def _with_card(
    file: WeightsFile, card: Card, name: str | None, asked: Mapping[str, Any], options: Mapping[str, Any], *, where: str
) -> models.Network:
    """The network of weights that have a card, if it is the one that was asked for.

    Raises:
        WeightsError: it is another one.
    """
    if name is not None and name != card.architecture:
        raise WeightsError(f"{where} holds {card.architecture}, not {name}.")
    if asked["in_channels"] not in (None, card.in_channels):
        raise WeightsError(f"{where} has {card.in_channels} input channels, not {asked['in_channels']}.")
    if asked["plain"] and not card.plain:
        raise WeightsError(f"{where} holds a B-cos network, not its plain twin: leave plain=True out.")
    if is_own(card):
        how = "load(…, allow_code=True, deploy=False)" if builder_of(card) else "load(…, deploy=False)"
        raise WeightsError(f"{where} holds a network of somebody's own, none of create_model's: torchbcos.{how}.model is it.")
    network = assemble(card, file, options, where=where)
    if not isinstance(network, models.Network):
        raise WeightsError(f"{where} holds a {type(network).__name__}, none of create_model's networks.")
    return network


def _with_file(name: str, path: Path, options: Mapping[str, Any]) -> models.Network:
    """A network by name with the weights of a file without a card, whose number of classes may be another one."""
    asked = options["num_classes"]
    network = models.build(_architecture_of(name), **{**options, "num_classes": asked or None})  # 0: the file may have classes
    state = read_weights(path)
    refuse_bcosified(name, network, state, where=path.name)
    if asked is not None and (classes := classes_in(network, state)) != network.num_classes:
        network.reset_classifier(classes)
    fill(network, state, where=path.name)
    card = read_official_cards().get(name)
    if card is not None:
        remember(network, card)
    return network


def _architecture_of(name: str) -> str:
    """The network of official weights ("resnet50_long" are weights of a "resnet50"); any other name is one itself."""
    card = read_official_cards().get(name)
    return name if card is None else card.architecture


def load(
    source: str | Path = "default", *, weights: str | Path | None = None, class_names: Sequence[str] | None = None,
    preprocess: Preprocess | Mapping[str, Any] | None = None, device: str = "auto", deploy: bool = True, fit: str | None = None,
    allow_code: bool = False,
) -> Classifier:  # fmt: skip
    """A classifier: network, preprocessing and class names.

    A name means the same wherever it is called: "default", embedded names and names with official weights are never folders.
    A `Path`, and a string with a slash, is always a folder; for a folder that is called as a network is, write "./resnet50".

    Args:
        source: "default", an embedded name ("imagenette"), a name with official weights
            ("resnet50"), a folder written by `save` or `torchbcos train`, or "hf-hub:org/name", also of a branch, tag or
            commit: "hf-hub:org/name@v2". Any other classifier: "timm:NAME" and "torchvision:NAME" (with ".TAG" for weights of
            several), which these installed libraries build; "import:package.module:builder", a function of somebody's that
            returns a network or a `Classifier`; a file FILE.pt2 of `torch.export.save`, which takes pixels in [0, 1]. And
            "bcosification:NAME" (resnet18, resnet50, densenet121, a transformer), with `weights`: their published checkpoint.
        weights: a file of weights (.pth, .safetensors) for a network that the source names. None: its own: those of timm and
            torchvision are downloaded once.
        class_names, preprocess: instead of those that the source has; see `Classifier`.
        device: "auto", "cpu", "cuda", "mps", …
        deploy: use the twin made for inference and explanation, which refuses to train; False gives the network
            itself, unless it was saved as a twin. Of somebody's own network, the twin is used if it gives the same numbers.
        fit: how pictures become squares: "crop" cuts out the centre, "letterbox" keeps the whole picture between bars; None:
            as the card says.
        allow_code: "import:…" and programs are code, and a card may name a module and a function that build its network, which
            are imported and called: code of whoever wrote them. They are looked for in the folder where you work and among what
            Python can import, never in the model's own folder. Without, such a model is refused, in a sentence that names them.

    Raises:
        MissingPackageError: the library that builds the network is not installed.
        InputError: unknown source, device or fit; or the model needs code, and `allow_code` does not say that it may run.
        MissingFileError, WeightsError: weights are missing or broken.

    >>> load().class_names[0]
    'tench'
    """
    if not isinstance(source, str | Path):
        raise ArgumentTypeError(f"load needs a name or a folder, not {type(source).__name__}.")
    named(source, "a model")
    wishes, where = _wishes(weights, preprocess, class_names), pick_device(device)
    if is_foreign(source):
        network, card = open_foreign(source, wishes, Code(allow_code), where)
        return Classifier(network.requires_grad_(not deploy), chosen(card, wishes)).fitted(fit)
    if str(source).startswith(BCOSIFIED):
        network, card = open_bcosified(str(source), wishes.weights)
    elif wishes.weights is not None:
        network, card = _with_weights(source, wishes.weights)
    else:
        file, card = read_source(source)
        network = _assembled(card, file, source, Code(allow_code, places_of(source, file)), where)
    network = network.eval().to(where)
    if deploy and not card.deployed and not isinstance(network, Program):
        network = _own_twin(network, card) if is_own(card) else make_twin_(network, check=False)
    return Classifier(network, chosen(card, wishes)).fitted(fit)


def _assembled(card: Card, file: WeightsFile, source: str | Path, code: Code, device: torch.device) -> nn.Module:
    """The network of a folder; where what builds it is not there, the program beside its weights, if it may run.

    Raises:
        MissingPackageError, InputError: it is not there, and neither is a program; or nobody said that it may run.
    """
    try:
        return assemble(card, file, {}, where=str(source), code=code)
    except (MissingPackageError, InputError) as error:
        if card.program is None or not (file.path.parent / PROGRAM).is_file():
            raise
        if code.allowed:
            return open_recorded(file.path.parent, card, device)
        if isinstance(error, InputError):
            raise
        raise MissingPackageError(
            f"{str(error).rstrip('.')}. Or let the program that lies beside its weights run, {quote(PROGRAM)}, if you trust who "
            "wrote it: load(…, allow_code=True), on the command line --allow-code."
        ) from error


def _wishes(weights: object, preprocess: Any, class_names: Any) -> Wishes:
    """What a caller says beside the source.

    Raises:
        InputError, ArgumentTypeError: `weights` is no path of a file.
    """
    refuse_foreign(weights, "leave it out for those that belong to the source")
    if weights is None:
        return Wishes(None, preprocess, class_names)
    if has_card(named(str(weights), "weights")):
        raise InputError(
            f"weights={shorten(repr(str(weights)), 120)} is a folder, and a file of weights is needed; a model's folder, or one "
            "on the hub, is a source by itself."
        )
    return Wishes(Path(str(weights)), preprocess, class_names)


def _with_weights(source: str | Path, weights: Path) -> tuple[models.Network, Card]:
    """A network of `list_models` with the weights of a file.

    Raises:
        InputError: the source is none, but a model with weights of its own.
    """
    text = str(source)
    if text not in models.names() and text not in read_official_cards():
        raise InputError(
            f"weights={shorten(repr(str(weights)), 120)} goes with the name of a network: one of torchbcos.list_models(), "
            f"timm:NAME, torchvision:NAME or import:package.module:builder. {shorten(repr(text), 120)} is none, or a model that "
            "has its weights."
        )
    with torch.device("meta"):
        classes = classes_in(models.build(_architecture_of(text)), open_weights(weights).entries)
    network = create_model(text, weights=weights, num_classes=classes)
    return network, card_of(network)


def _own_twin(network: nn.Module, card: Card) -> nn.Module:
    """The deployed twin of somebody's own network; the network itself where it has none that gives the same numbers."""
    network = network.requires_grad_(False)
    if library_of(card.architecture) is not None and card.conversion is None:  # there is nothing of ours in it
        return network
    try:
        twin = twin_of(network)
    except Exception:  # of somebody's own code: it cannot be copied, or not without its hooks
        return network
    return twin if builder_of(card) is None or differ(network, twin, inputs_of(card)) is None else network
