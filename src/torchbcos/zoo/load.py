"""Where names, files and networks meet: create, save and load."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchbcos import models
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, WeightsError, shorten
from torchbcos._core.names import hint, natural_key, quote
from torchbcos._core.pickled import Entry
from torchbcos.deployment import is_deployed, make_twin_
from torchbcos.pictures import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from torchbcos.runs import RunFolder
from torchbcos.zoo.archive import WeightsFile, entry_of, open_weights, refuse_foreign
from torchbcos.zoo.card import Card, official_card, read_official_cards
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.hub import HUB, fetch_folder
from torchbcos.zoo.saveable import check_same, state_of, unwrapped
from torchbcos.zoo.store import CARD, WEIGHTS, check_fit, classes_in, fetch, fill, open_folder, read_weights, write_folder

__all__ = [
    "build_fitting", "card_of", "create_model", "embedded_folder", "embedded_names", "from_card", "list_models", "load",
    "pick_device", "save", "write_model",
]  # fmt: skip

_DEFAULT = "imagenette"
_FACTS = ("preprocess", "probability", "temperature", "terms")  # of a card: a network takes them along


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
    if weights is not None and _has_card(_named(weights, "weights")):
        network = _with_card(*_read_carded(weights), name, asked, options, where=str(weights))
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
    return _assemble(card, file, options, where=where)


def _with_file(name: str, path: Path, options: Mapping[str, Any]) -> models.Network:
    """A network by name with the weights of a file without a card, whose number of classes may be another one."""
    asked = options["num_classes"]
    network = models.build(_architecture_of(name), **{**options, "num_classes": asked or None})  # 0: the file may have classes
    state = read_weights(path)
    if asked is not None and (classes := classes_in(network, state)) != network.num_classes:
        network.reset_classifier(classes)
    fill(network, state, where=path.name)
    card = read_official_cards().get(name)
    if card is not None:
        _remember(network, card)
    return network


def _architecture_of(name: str) -> str:
    """The network of official weights ("resnet50_long" are weights of a "resnet50"); any other name is one itself."""
    card = read_official_cards().get(name)
    return name if card is None else card.architecture


def _assemble(card: Card, file: WeightsFile, options: Mapping[str, Any], *, where: str) -> models.Network:
    """The network of a card with its weights, and what the card says of them."""
    network = build_fitting(card, file.entries, options, where=where)
    fill(network, file.read(), where=where)
    _remember(network, card)
    return network


def build_fitting(card: Card, entries: Mapping[str, Entry], options: Mapping[str, Any], *, where: str) -> models.Network:
    """The network of a card, fresh, if weights like these are its own: nothing is allocated before.

    A card is a stranger's file: it may speak of a billion classes, which its weights do not have.

    Args:
        card: of the weights.
        entries: the dtype and shape of each, by name.
        options: of the caller's, over those of the card.
        where: what the weights are called in messages.

    Raises:
        WeightsError: they belong to another network, or there is none as the card says.
    """
    try:
        with torch.device("meta"):
            network = from_card(card, options)
            twin = make_twin_(network, check=False) if card.deployed else network
    except (BcosError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, BcosError) and options:  # the caller's own
            raise
        reason = shorten(str(error).splitlines()[0] if str(error) else type(error).__name__, 300)
        raise WeightsError(f"{where}: there is no network as its card says: {reason}") from None
    check_fit(twin, entries, where=where)
    network = from_card(card, options)
    return make_twin_(network, check=False) if card.deployed else network  # before its weights: a twin has fewer


def _remember(network: models.Network, card: Card) -> None:
    """Give a network what its card says of its weights: saved again, it says the same."""
    if card.classes is not None and card.num_classes == network.num_classes:
        network.class_names = card.class_names()
    if card.plain == network.plain and card.in_channels == network.in_channels:
        network.facts = {name: copy.deepcopy(getattr(card, name)) for name in _FACTS}


def save(model: nn.Module | Classifier, directory: str | Path) -> None:
    """Write `model.safetensors` and `card.json`; `load` and `create_model(weights=...)` read them.

    A deployed twin is written as such (its card says so): it comes back with the same numbers and refuses to train.

    What is saved is what `load` builds again, with these weights: the network inside `torch.compile`, `DataParallel`,
    `DistributedDataParallel` and `AveragedModel`. Whatever else was changed after `create_model` (other layers or settings,
    parametrised or pruned weights, quantised ones; forward hooks, replaced methods) is refused.

    Args:
        model: a network made by `create_model`, or a classifier.
        directory: created if it does not exist.

    Raises:
        InputError: the network was not made by `create_model`, so its card cannot be written, or it was changed since then.
        WeightsError: it holds NaN or infinite numbers, or tensors that are no plain floating-point ones.
        StateError: the files could not be written; nothing is left half-written.
    """
    if not str(directory):
        raise InputError("save needs a folder; '' is none ('.' is this one).")
    if isinstance(model, Classifier):
        network, card = unwrapped(model.model), model.card
    elif isinstance(model, nn.Module):
        network = unwrapped(model)
        card = card_of(network)
    else:
        raise InputError(f"save needs a network made by torchbcos.create_model, or a classifier, not {type(model).__name__}.")
    write_model(network, card, directory)


def write_model(network: nn.Module, card: Card, directory: str | Path) -> None:
    """Write a model folder with a card of the caller's.

    Raises:
        InputError: the card builds another network.
        WeightsError: the network holds NaN or infinite numbers, or tensors that are no plain floating-point ones.
        StateError: the files could not be written.
    """
    network = unwrapped(network)
    card = dataclasses.replace(card, deployed=is_deployed(network))
    with torch.device("meta"):
        rebuilt = from_card(card, {})
        check_same(network, make_twin_(rebuilt, check=False) if card.deployed else rebuilt)
    state = state_of(network)
    check_fit(rebuilt, {name: entry_of(value) for name, value in state.items()}, where="The network")
    write_folder(Path(directory), state, card)


def load(
    source: str | Path = "default", *, device: str = "auto", deploy: bool = True, fit: str | None = None
) -> Classifier:  # fmt: skip
    """A classifier: network, preprocessing and class names.

    A name means the same wherever it is called: "default", embedded names and names with official weights are never folders.
    A `Path`, and a string with a slash, is always a folder; for a folder that is called as a network is, write "./resnet50".

    Args:
        source: "default", an embedded name ("imagenette"), a name with official weights
            ("resnet50"), a folder written by `save` or `torchbcos train`, or "hf-hub:org/name", also of a branch, tag or
            commit: "hf-hub:org/name@v2".
        device: "auto", "cpu", "cuda", "mps", …
        deploy: use the twin made for inference and explanation, which refuses to train; False gives the network
            itself, unless it was saved as a twin.
        fit: how pictures become squares: "crop" cuts out the centre, "letterbox" keeps the whole picture between bars; None:
            as the card says.

    Raises:
        InputError: unknown source, device or fit.
        MissingFileError, WeightsError: weights are missing or broken.

    >>> load().class_names[0]
    'tench'
    """
    if not isinstance(source, str | Path):
        raise ArgumentTypeError(f"load needs a name or a folder, not {type(source).__name__}.")
    file, card = _read_source(_named(source, "a model"))
    network = _assemble(card, file, {}, where=str(source)).eval().to(pick_device(device))
    return Classifier(make_twin_(network, check=False) if deploy and not card.deployed else network, card).fitted(fit)


def _named(source: str | Path, what: str) -> str | Path:
    """A source that says something: '' would be the current folder.

    Raises:
        InputError: it does not.
    """
    if not str(source).strip():
        raise InputError(f"{str(source)!r} names no {what.removeprefix('a ')}: give a name or a folder; '.' is this folder.")
    return source


def _read_source(source: str | Path) -> tuple[WeightsFile, Card]:
    """The weights and the card of what `load` takes.

    Raises:
        InputError: it is neither a name nor a folder.
        MissingFileError, WeightsError: weights are missing or broken.
    """
    text = str(source)
    if text.startswith(HUB):
        return _read_carded(source)
    embedded, official = embedded_names(), read_official_cards()
    if not _is_path(source):
        name = _DEFAULT if text == "default" else text
        if name in embedded:
            return open_folder(embedded_folder() / name)
        if name in official:
            card = official_card(name)
            return open_weights(fetch(card)), card
    if _is_folder(source):
        return _read_carded(source)
    raise InputError(
        f"There is no model {quote(text)}: expected an embedded name ({', '.join(embedded)}), a name with "
        f"official weights, a folder written by torchbcos.save(), or 'hf-hub:org/name'.{hint(text[:200], [*embedded, *official])}"
    )


def _is_path(source: str | Path) -> bool:
    """Whether a source can only be a path, not a name.

    >>> _is_path("resnet50"), _is_path("./resnet50"), _is_path(Path("resnet50"))
    (False, True, True)
    """
    return not isinstance(source, str) or any(mark in source for mark in (os.sep, os.altsep) if mark)


def embedded_folder() -> Path:
    """The folder of the networks that come with the package."""
    return Path(str(resources.files("torchbcos.zoo") / "embedded"))


def embedded_names() -> list[str]:
    """Names of the networks that come with the package."""
    folder = embedded_folder()
    return sorted(p.name for p in folder.iterdir() if (p / CARD).is_file()) if folder.is_dir() else []


def pick_device(device: str) -> torch.device:
    """A device by name; "auto" takes an accelerator if there is one."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"Unknown device {device!r}.{hint(str(device), ['auto', 'cpu', 'cuda', 'mps'])}") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError("No CUDA device is available here; use device='cpu'.")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("No MPS device (Apple's) is available here; use device='cpu'.")
    return chosen


def _has_card(weights: str | Path) -> bool:
    return str(weights).startswith(HUB) or _is_folder(weights)


def _is_folder(source: str | Path) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # no folder has such a name: too long, say
        return False


def _read_carded(source: str | Path) -> tuple[WeightsFile, Card]:
    """The weights and the card that lie in a folder, or in a repository of the hub."""
    text = str(source)
    if text.startswith(HUB):
        return open_folder(fetch_folder(text, (CARD, WEIGHTS)))
    return open_folder(RunFolder(Path(source)).locate_model(weights=WEIGHTS, card=CARD))


def from_card(card: Card, options: Mapping[str, Any]) -> models.Network:
    """The network that a card describes, fresh."""
    return models.build(
        card.architecture, num_classes=card.num_classes, in_channels=card.in_channels, plain=card.plain,
        **{**card.options, **options},
    )  # fmt: skip


def card_of(model: nn.Module) -> Card:
    """The card of a network made by `create_model`.

    Raises:
        InputError: it was not.
    """
    if not isinstance(model, models.Network) or model.architecture is None:
        raise InputError(
            f"save needs a network made by torchbcos.create_model, not {type(model).__name__}: its card says how to build it."
        )
    made, preprocess = model.architecture, _usual_preprocess(model)
    fields = {
        "preprocess": None if preprocess is None else preprocess.to_dict(),
        "probability": "softmax" if made.plain else "sigmoid",
        **(model.facts or {}),
    }
    return Card(
        name=made.name, architecture=made.name, options=made.options, plain=made.plain, in_channels=model.in_channels,
        classes=model.class_names, num_classes=model.num_classes, parameters=sum(p.numel() for p in model.parameters()), **fields,
    )  # fmt: skip


def _usual_preprocess(network: models.Network) -> Preprocess | None:
    """What pictures go through before a network of this kind; None where its channels are no RGB."""
    resize, crop = network.picture
    if network.in_channels == 6:
        return Preprocess(resize=resize, crop=crop)
    if network.plain and network.in_channels == 3:
        return Preprocess(resize=resize, crop=crop, encoding="normalize", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return None
