"""Weights on disk and on the network: read strictly, written whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import json
import pickle
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from safetensors.torch import load_file, save_file
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError, StateError, WeightsError, shorten
from torchbcos._core.files import replacing, write_json
from torchbcos.models import Network
from torchbcos.zoo.card import Card
from torchbcos.zoo.official import from_official

__all__ = [
    "CARD", "WEIGHTS", "classes_in", "fetch", "fill", "hash_file", "read_card", "read_folder", "read_weights", "write_folder",
]  # fmt: skip

# What readers of damaged files were seen to raise.
_READ_ERRORS = (
    safetensors.SafetensorError, RuntimeError, EOFError, ValueError, LookupError, OSError, zipfile.BadZipFile,
    AttributeError, TypeError, AssertionError, ArithmeticError, MemoryError,
)  # fmt: skip
WEIGHTS, CARD = "model.safetensors", "card.json"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or official .pth file; pickled code is never run.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: empty, truncated, HTML, pickled objects, or not a state dict.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no weights file {str(path)!r}.")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise WeightsError(f"{path.name} is empty: download it again.")
    if head.lstrip()[:1] == b"<":
        raise WeightsError(f"{path.name} is a web page, not weights: the download was redirected; fetch the file itself.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of old pickle protocols
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error)
        if "Unsupported" in reason or "global" in reason.lower() or "Weights only" in reason:
            raise WeightsError(
                f"{path.name} holds Python objects or code beside tensors, which torchbcos does not run: save its "
                "state_dict alone, or use the official file."
            ) from None
        raise WeightsError(f"{path.name} is damaged or no weights file: download it again.") from None
    except _READ_ERRORS:
        raise WeightsError(f"{path.name} is truncated or damaged: download it again.") from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path.name} is not a state dict (names with tensors).")
    return {str(k): v for k, v in state.items()}


def fill(model: Network, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict (ours or official) strictly.

    Raises:
        WeightsError: it belongs to another network or another number of classes.
    """
    own = model.state_dict()
    given = dict(state) if set(state) == set(own) else from_official(model, state)
    missing, extra = sorted(set(own) - set(given)), sorted(set(given) - set(own))
    if missing or extra:
        example = f"'{missing[0]}' is missing" if missing else f"'{extra[0]}' is unknown"
        raise WeightsError(
            f"{where} does not belong to this network ({type(model).__name__}): {len(missing)} tensors are missing, "
            f"{len(extra)} are unknown; {example}. Check the model name and its options."
        )
    for key, value in given.items():
        if value.shape != own[key].shape:
            last = key.rpartition(".")[0] == model.classifier_name and value.shape[1:] == own[key].shape[1:]
            classes = classes_in(model, state)
            reason = (
                f"{classes} classes, the network has {model.num_classes}: create it with num_classes={classes}; with any "
                "other num_classes its classifier is fresh" if last
                else f"{key} of shape {tuple(value.shape)}, the network expects {tuple(own[key].shape)}"
            )  # fmt: skip
            raise WeightsError(f"{where} has {reason}.")
    model.load_state_dict(given)


def classes_in(model: Network, state: Mapping[str, Tensor]) -> int:
    """The number of classes of a state dict (ours or official) for a network like this one, whose own number may differ.

    Where it has no such classifier, the number is the network's: `fill` says then what is missing.
    """
    key = f"{model.classifier_name}.weight"
    own, given = model.state_dict()[key], state.get(key, from_official(model, state).get(key))
    # in proportion: with MaxOut, a class has several filters
    return model.num_classes if given is None or not given.dim() else len(given) * model.num_classes // len(own)


def write_folder(directory: Path, state: Mapping[str, Tensor], card: Card) -> None:
    """Write weights and card; each file appears whole or not at all."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
        with replacing(directory / WEIGHTS) as partial:
            save_file(tensors, partial, metadata={"format": "pt"})
        write_json(directory / CARD, card.to_dict())
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StateError(f"Could not write to {str(directory)!r}: {shorten(reason, 200)}.") from None


def read_folder(directory: Path) -> tuple[dict[str, Tensor], Card]:
    """Weights and card of a folder written by `torchbcos.save`."""
    card = read_card(directory)
    return read_weights(directory / WEIGHTS), card


def read_card(directory: Path) -> Card:
    """The card alone."""
    path = directory / CARD
    if not path.is_file():
        raise MissingFileError(f"{str(directory)!r} has no {CARD}: it was not written by torchbcos.save().")
    try:
        values = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise WeightsError(f"{str(path)!r} is not valid JSON: the card is damaged.") from None
    except OSError as error:
        raise WeightsError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from None
    return Card.from_dict(values, where=str(path))


def fetch(card: Card, *, progress: bool = True) -> Path:
    """The official file, from the torch hub cache or the network; its hash is checked.

    Two processes at once are safe: each downloads to its own partial file and moves it into
    place whole.

    Raises:
        WeightsError: no network, or the hash does not match.
    """
    if card.url is None or card.file is None:
        raise InputError(f"{card.name} has no official weights to download.")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / card.file
    if target.is_file() and _is_official(target, card):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            _download_patiently(card.url, partial, card.file, progress)
            if not hash_file(partial).startswith(card.sha256 or ""):
                raise WeightsError(f"The download of {card.file} does not have the hash {card.sha256}…: try again.")
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise WeightsError(
            f"No connection for {card.file}: download {card.url} elsewhere and put it at {str(target)!r}."
        ) from error
    except OSError as error:
        raise StateError(f"Could not write {str(target)!r}: {error.strerror or error}.") from None
    return target


def _download_patiently(url: str, path: Path, label: str, progress: bool) -> None:
    """Download, starting again up to twice where the connection broke off on the way."""
    for last in (False, False, True):
        try:
            return _download(url, path, label, progress)
        except (ConnectionError, http.client.HTTPException):
            if last:
                raise


def _download(url: str, path: Path, label: str, progress: bool) -> None:
    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    request = urllib.request.Request(url, headers={"User-Agent": "torchbcos"})
    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    with urllib.request.urlopen(request, timeout=30) as answer, Progress(*columns, console=console, disable=hidden) as bar:
        total = answer.headers.get("Content-Length")
        task = bar.add_task(label, total=int(total) if total else None)
        with path.open("wb") as file:
            while chunk := answer.read(1 << 20):
                file.write(chunk)
                bar.advance(task, len(chunk))
    if total and path.stat().st_size != int(total):
        raise ConnectionError("the download broke off")


# (path, size, time of change, inode) of files whose hash was seen, with that hash: to hash 100 MB takes longer than to
# read them. A file that is written again gets another time or inode and is hashed again.
_HASHES: dict[tuple[str, int, int, int], str] = {}


def _is_official(path: Path, card: Card) -> bool:
    """Whether a file has the hash of the card; it is read once a process, and again when it changed."""
    stat = path.stat()  # before it is read: what changes meanwhile is another file the next time
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if key not in _HASHES:
        _HASHES[key] = hash_file(path)
    return _HASHES[key].startswith(card.sha256 or "")


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
