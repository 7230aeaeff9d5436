"""What `load` takes: names of networks with weights, folders, and models of the hub."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import torch

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import hint, nearby, quote
from torchbcos.runs import RunFolder
from torchbcos.zoo.archive import WeightsFile, open_weights
from torchbcos.zoo.card import Card, official_card, read_official_cards
from torchbcos.zoo.hub import HUB, fetch_folder
from torchbcos.zoo.store import CARD, WEIGHTS, fetch, open_folder

__all__ = ["embedded_folder", "embedded_names", "has_card", "named", "pick_device", "places_of", "read_carded", "read_source"]

_DEFAULT = "imagenet"
_WEIGHTS_ALONE = (".pt", ".pth", ".safetensors", ".bin", ".ckpt", ".tar", ".pkl")


def named(source: str | Path, what: str) -> str | Path:
    """A source that says something: '' would be the current folder.

    Raises:
        InputError: it does not.
    """
    if not str(source).strip():
        raise InputError(f"{str(source)!r} names no {what.removeprefix('a ')}: give a name or a folder; '.' is this folder.")
    return source


def read_source(source: str | Path) -> tuple[WeightsFile, Card]:
    """The weights and the card of what `load` takes.

    Raises:
        InputError: it is neither a name nor a folder.
        MissingFileError, WeightsError: weights are missing or broken.
    """
    text = str(source)
    if text.startswith(HUB):
        return read_carded(source)
    embedded, official = embedded_names(), read_official_cards()
    if not _is_path(source):
        name = _DEFAULT if text == "default" else text
        if name in embedded:
            return open_folder(embedded_folder() / name)
        if name in official:
            card = official_card(name)
            return open_weights(fetch(card)), card
    if _is_folder(source):
        return read_carded(source)
    if os.path.isfile(text):
        raise InputError(f"There is no model {quote(text)}: {_file_in_words(text)}")
    if _is_path(text):
        kinds = "a run's folder, one written by torchbcos.save(), or 'hf-hub:org/name'"
        raise InputError(f"There is no model {quote(text)}: there is no such folder. Expected {kinds}.{nearby(text)}")
    raise InputError(
        f"There is no model {quote(text)}: expected an embedded name ({', '.join(embedded)}), a name with "
        f"official weights, a folder written by torchbcos.save(), or 'hf-hub:org/name'.{hint(text[:200], [*embedded, *official])}"
    )


def _file_in_words(text: str) -> str:
    """What to do with a file where a model is expected, which is a folder."""
    name, folder = os.path.basename(text), os.path.dirname(text) or "."
    if name in (WEIGHTS, CARD):
        return f"it is a file: name the folder that holds it, {quote(folder if folder != '.' else './')}."
    suffix = os.path.splitext(name)[1].lower()
    if suffix in (".onnx", ".pt2"):
        return "it is an exported file, which runs without this library; a model is a run's folder, or one of torchbcos.save()."
    if suffix in _WEIGHTS_ALONE:
        return (
            "it is a file of weights alone, without a card that says which network, classes and preprocessing: "
            f"torchbcos.create_model(NAME, weights={shorten(repr(text), 120)}) builds the network, torchbcos.Classifier(network, "
            "class_names=…) the classifier. A whole model is a folder, of a run or written by torchbcos.save()."
        )
    return "it is a file; a model is a name, or a folder, of a run or written by torchbcos.save()."


def _is_path(source: str | Path) -> bool:
    """Whether a source can only be a path, not a name.

    >>> _is_path("resnet50"), _is_path("./resnet50"), _is_path(Path("resnet50"))
    (False, True, True)
    """
    return not isinstance(source, str) or any(mark in source for mark in (os.sep, os.altsep) if mark)


def has_card(weights: str | Path) -> bool:
    """Whether weights are a folder or a repository of the hub, which have a card beside them."""
    return str(weights).startswith(HUB) or _is_folder(weights)


def _is_folder(source: str | Path) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # no folder has such a name: too long, say
        return False


def read_carded(source: str | Path) -> tuple[WeightsFile, Card]:
    """The weights and the card that lie in a folder, or in a repository of the hub."""
    text = str(source)
    if text.startswith(HUB):
        return open_folder(fetch_folder(text, (CARD, WEIGHTS)))
    return open_folder(RunFolder(Path(source)).locate_model(weights=WEIGHTS, card=CARD))


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


def places_of(source: str | Path, file: WeightsFile) -> tuple[Path, ...]:
    """The folders that came with a model: its own, and that of the run around it.

    Args:
        source: what `load` was given.
        file: the weights that were found there.
    """
    return (file.path.parent, Path(source)) if has_card(source) and not str(source).startswith(HUB) else (file.path.parent,)
