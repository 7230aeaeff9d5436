"""Where names, files and networks meet: create, save and load."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from torchbcos import models
from torchbcos._core.errors import ArgumentTypeError, InputError, MissingFileError, WeightsError
from torchbcos._core.names import hint, natural_key
from torchbcos._core.optional import require
from torchbcos.deployment import is_deployed, make_twin_
from torchbcos.pictures import Preprocess
from torchbcos.runs import RunFolder
from torchbcos.zoo.card import Card, official_card, official_cards
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.store import CARD, WEIGHTS, fetch, fill, read_folder, read_weights, write_folder

DEFAULT = "imagenette"
HUB = "hf-hub:"


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
    return sorted(fnmatch.filter(official_cards(), pattern), key=natural_key)


def create_model(
    name: str | None = None,
    *,
    weights: str | Path | None = None,
    pretrained: bool = False,
    num_classes: int | None = None,
    in_channels: int | None = None,
    plain: bool = False,
    **options: Any,
) -> nn.Module:
    """A network, fresh or with weights.

    Args:
        name: one of `list_models()`; may be left out where `weights` has a card.
        weights: an official .pth, a .safetensors, a folder written by `save`, or "hf-hub:org/name".
        pretrained: official weights, downloaded once and checked.
        num_classes: with weights of another number of classes, the classifier is fresh.
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
    if weights is not None and _has_card(weights):
        state, card = _read_source(weights)
        if name is not None and name != card.architecture:
            raise WeightsError(f"{weights} holds {card.architecture}, not {name}.")
        model = from_card(card, options)
        model = make_twin_(model, check=False) if card.deployed else model  # before its weights: it has fewer
        fill(model, state, where=str(weights))
        if in_channels not in (None, card.in_channels):
            raise WeightsError(f"{weights} has {card.in_channels} input channels, not {in_channels}.")
    else:
        if name is None:
            raise InputError("create_model needs a network name; torchbcos.list_models() names all.")
        card = official_card(name) if pretrained or name in official_cards() else None  # type: ignore[assignment]
        architecture = card.architecture if card is not None else name
        merged = {**(card.options if card is not None and pretrained else {}), **options}
        given = weights is not None or pretrained
        model = models.build(
            architecture, num_classes=None if given and pretrained else num_classes, in_channels=in_channels, plain=plain,
            **merged,
        )  # fmt: skip
        path = fetch(card) if pretrained else (Path(weights) if weights is not None else None)
        if path is not None:
            fill(model, read_weights(path), where=path.name)
        if card is not None and given:
            model.class_names = card.class_names()  # type: ignore[assignment]
    if num_classes is not None and model.num_classes != num_classes:
        cast(Any, model).reset_classifier(num_classes)
    return model


def save(model: nn.Module | Classifier, directory: str | Path) -> None:
    """Write `model.safetensors` and `card.json`; `load` and `create_model(weights=...)` read them.

    A deployed twin is written as such (its card says so): it comes back with the same numbers and refuses to train.

    Args:
        model: a network made by `create_model`, or a classifier.
        directory: created if it does not exist.

    Raises:
        InputError: the network was not made by `create_model`, so its card cannot be written.
        StateError: the files could not be written; nothing is left half-written.
    """
    if isinstance(model, Classifier):
        network, card = model.model, model.card
    else:
        network, card = model, card_of(model)
    write_model(network, card, directory)


def write_model(network: nn.Module, card: Card, directory: str | Path) -> None:
    """Write a model folder with a card of the caller's.

    Raises:
        StateError: the files could not be written.
    """
    write_folder(Path(directory), network.state_dict(), dataclasses.replace(card, deployed=is_deployed(network)))


def load(source: str | Path = "default", *, device: str = "auto", deploy: bool = True) -> Classifier:
    """A classifier: network, preprocessing and class names.

    Args:
        source: "default", an embedded name ("imagenette"), a name with official weights
            ("resnet50"), a folder written by `save` or `torchbcos train`, or "hf-hub:org/name".
        device: "auto", "cpu", "cuda", "mps", …
        deploy: use the twin made for inference and explanation, which refuses to train; False gives the network
            itself, unless it was saved as a twin.

    Raises:
        InputError: unknown source or device.
        MissingFileError, WeightsError: weights are missing or broken.

    >>> load().class_names[0]
    'tench'
    """
    if not isinstance(source, str | Path):
        raise ArgumentTypeError(f"load needs a name or a folder, not {type(source).__name__}.")
    text = str(source)
    name = DEFAULT if text == "default" else text
    if name in embedded_names():
        state, card = read_folder(embedded_folder() / name)
    elif text.startswith(HUB) or Path(source).is_dir():
        state, card = _read_source(source)
    elif name in official_cards():
        card = official_card(name)
        state = read_weights(fetch(card))
    else:
        known = [*embedded_names(), *official_cards()]
        raise InputError(
            f"There is no model {text!r}: expected an embedded name ({', '.join(embedded_names())}), a name with "
            f"official weights, a folder written by torchbcos.save(), or 'hf-hub:org/name'.{hint(text, known)}"
        )
    network = from_card(card, {})
    if card.deployed:
        network = make_twin_(network, check=False)  # before its weights: a twin has fewer
    fill(network, state, where=text)
    network.class_names = card.class_names()  # type: ignore[assignment]
    network = network.eval().to(pick_device(device))
    return Classifier(make_twin_(network, check=False) if deploy and not card.deployed else network, card)


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
    return str(weights).startswith(HUB) or Path(weights).is_dir()


def _read_source(source: str | Path) -> tuple[dict[str, torch.Tensor], Card]:
    text = str(source)
    if not text.startswith(HUB):
        return read_folder(RunFolder(Path(source)).locate_model(weights=WEIGHTS, card=CARD))
    hub = require("huggingface_hub", extra="hub", why="hf-hub: sources")
    repository = text[len(HUB) :]
    try:
        paths = [Path(hub.hf_hub_download(repository, name)) for name in (WEIGHTS, CARD)]
    except (OSError, ValueError) as error:
        raise WeightsError(f"Could not fetch {repository!r} from the hub: {str(error).splitlines()[0]}") from error
    if not all(p.is_file() for p in paths):
        raise MissingFileError(f"{repository!r} has no {WEIGHTS} and {CARD}.")
    return read_folder(paths[0].parent)


def from_card(card: Card, options: Mapping[str, Any]) -> nn.Module:
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
    made = getattr(model, "architecture", None)
    if not isinstance(made, models.Architecture):
        raise InputError(
            f"save needs a network made by torchbcos.create_model, not {type(model).__name__}: its card says how to build it."
        )
    network = cast(Any, model)
    names = getattr(model, "class_names", None)
    encoding = "normalize" if made.plain else "add_inverse"
    channels = network.in_channels
    rgb = channels == (3 if made.plain else 6)
    moments = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)} if made.plain else {}
    preprocess = Preprocess(resize=256, crop=224, encoding=encoding, **moments).to_dict() if rgb else None  # type: ignore[arg-type]
    return Card(
        name=made.name, architecture=made.name, options=made.options, plain=made.plain, in_channels=channels,
        classes=tuple(names) if names is not None else None, num_classes=network.num_classes, preprocess=preprocess,
        probability="softmax" if made.plain else "sigmoid", parameters=sum(p.numel() for p in model.parameters()),
    )  # fmt: skip
