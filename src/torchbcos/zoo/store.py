"""Weights on disk and on the network: read strictly, written whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import math
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from safetensors.torch import save_file
from torch import Tensor, nn

from torchbcos._core.claim import claimed
from torchbcos._core.errors import InputError, MissingFileError, StateError, WeightsError, shorten
from torchbcos._core.files import replacing, write_json
from torchbcos._core.names import quote
from torchbcos._core.pickled import Entry
from torchbcos.models import Network
from torchbcos.zoo.archive import WeightsFile, entry_of, is_file, open_weights, pointer_fault
from torchbcos.zoo.card import Card
from torchbcos.zoo.fields import parse_json
from torchbcos.zoo.official import renamed, without_wrappers

__all__ = [
    "CARD", "WEIGHTS", "check_fit", "classes_in", "fault_in", "fetch", "fill", "hash_file", "of_today", "open_folder",
    "read_card", "read_folder", "read_weights", "write_folder",
]  # fmt: skip

WEIGHTS, CARD = "model.safetensors", "card.json"
_TURN = 60.0  # seconds for which who writes a folder waits for another who does

_FLOATS, _INTEGERS = {"float64", "float32", "float16", "bfloat16"}, {"int64", "int32", "int16", "int8", "uint8"}
_LONGEST_CARD = 32 << 20  # bytes: a million classes with names of 30 letters
_ATTEMPTS, _PAUSE = 20, 0.05  # a folder that is being written has its two files exchanged within a moment


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or official .pth file; pickled code is never run.

    Raises:
        MissingFileError: there is no such file.
        WeightsError: empty, truncated, HTML, pickled objects, compressed, or not a state dict.
    """
    return open_weights(path).read()


# -- weights and networks ------------------------------------------------------------------------------------------------


def fill(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict (ours or official) strictly.

    Raises:
        WeightsError: it belongs to another network or another number of classes, has tensors of another kind, or numbers that
            no weights can be (NaN, infinite, a negative variance).
    """
    check_fit(model, {name: entry_of(tensor) for name, tensor in state.items()}, where=where)
    own = model.state_dict()
    given = renamed(model, own, state)
    for key, tensor in given.items():
        if tensor.is_floating_point() and not own[key].is_floating_point() and not _is_whole(tensor, own[key].dtype):
            raise WeightsError(f"{where}: {quote(key)} counts, and holds a number that is not whole: these are no such weights.")
    model.load_state_dict(of_today(given, own))
    fault = fault_in(own)  # as they are on the network: what is finite in float64 may not be in float32
    if fault is not None:
        raise WeightsError(f"{where}: {fault}: these weights are of a training that failed, or damaged.")


def of_today(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A state dict that says that it was written by modules like those that it is for: some read older ones in another way."""
    found = OrderedDict(state)
    found._metadata = getattr(own, "_metadata", {})  # type: ignore[attr-defined]
    return found


def check_fit(model: nn.Module, entries: Mapping[str, Entry], *, where: str, advice: str = "") -> None:
    """Whether tensors like these are the weights of a network; of the network, names, shapes and dtypes are enough ("meta").

    Args:
        model: the network.
        entries: the dtype and shape of each tensor, by name.
        where: what the weights are called in messages.
        advice: what is to be checked where they belong to another network.

    Raises:
        WeightsError: names, shapes or dtypes are others.
    """
    own = model.state_dict()
    given = renamed(model, own, entries)
    missing, extra = sorted(set(own) - set(given)), sorted(set(given) - set(own))
    if missing or extra:
        example = f"{quote(missing[0])} is missing" if missing else f"{quote(extra[0])} is unknown"
        what = advice or (
            "the model name and its options" if isinstance(model, Network) else "what builds it: it may have changed since"
        )
        raise WeightsError(
            f"{where} does not belong to this network ({type(model).__name__}): {len(missing)} tensors are missing, "
            f"{len(extra)} are unknown; {example}. Check {what}."
        )
    for key, entry in given.items():
        wanted = _FLOATS if own[key].is_floating_point() else {"bool"} if own[key].dtype is torch.bool else _INTEGERS
        counts = key.rpartition(".")[2] == "num_batches_tracked"  # converters write {name: tensor.float()}; `fill` looks at it
        if entry.kind not in wanted and not (counts and entry.kind in _FLOATS):
            what = "floating-point numbers" if wanted is _FLOATS else "whole numbers" if wanted is _INTEGERS else "truth values"
            raise WeightsError(f"{where}: the tensor {key!r} is {entry.kind}, the network needs {what}: save it as such.")
        if tuple(entry.shape) != tuple(own[key].shape):
            reason = f"{key} of shape {tuple(entry.shape)}, the network expects {tuple(own[key].shape)}"
            if isinstance(model, Network) and key.rpartition(".")[0] == model.classifier_name:
                reason = _other_classes(model, entries, entry, own[key]) or reason
            raise WeightsError(f"{where} has {reason}.")


def _other_classes(model: Network, entries: Mapping[str, Entry], entry: Entry, own: Tensor) -> str | None:
    """That weights are of another number of classes, as the rest of a sentence; None where more is different than that."""
    if tuple(entry.shape[1:]) != tuple(own.shape[1:]):
        return None
    classes = classes_in(model, entries)
    return (
        f"{classes} classes, the network has {model.num_classes}: create it with num_classes={classes}; with any "
        "other num_classes its classifier is fresh"
    )


def _is_whole(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether a floating-point tensor holds whole numbers that are the same in another dtype."""
    return bool(torch.isfinite(tensor).all()) and torch.equal(tensor.to(dtype).double(), tensor.double())


def fault_in(state: Mapping[str, Tensor]) -> str | None:
    """The first tensor that holds what no weights can be: not finite, or a negative variance; None where there is none.

    One pass over the numbers, without a copy.

    >>> fault_in({"bn.running_var": torch.tensor([1.0, -2.0])})
    "the variance 'bn.running_var' is negative (-2)"
    """
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        least, most = (float(bound) for bound in torch.aminmax(tensor.detach()))  # NaN wherever there is one
        if not (math.isfinite(least) and math.isfinite(most)):
            bad = least if not math.isfinite(least) else most
            return f"the tensor {quote(name)} holds {'NaN' if math.isnan(bad) else 'infinite numbers'}"
        if name.endswith("running_var") and least < 0:
            return f"the variance {quote(name)} is negative ({least:g})"
    return None


_Shaped = TypeVar("_Shaped", Tensor, Entry)


def classes_in(model: Network, state: Mapping[str, _Shaped]) -> int:
    """The number of classes of a state dict (ours or official) for a network like this one, whose own number may differ.

    Where it has no such classifier, the number is the network's: `fill` says then what is wrong.
    """
    key, names = f"{model.classifier_name}.weight", model.state_dict()
    own, given = names[key], renamed(model, names, state).get(key)
    if {name for name in names if not name.startswith(f"{model.classifier_name}.")} == set(without_wrappers(state)):
        return 0  # of a network without a classifier
    # in proportion: with MaxOut, a class has several filters
    if given is None or len(given.shape) < 2 or tuple(given.shape[1:]) != tuple(own.shape[1:]):
        return model.num_classes
    return int(given.shape[0]) * model.num_classes // len(own)


# -- model folders -------------------------------------------------------------------------------------------------------


def write_folder(directory: Path, state: Mapping[str, Tensor], card: Card, beside: Mapping[str, bytes] | None = None) -> None:
    """Write weights and card, and files of other names `beside` them; each file appears whole or not at all.

    The card says to which weights it belongs. Whoever reads while both are exchanged for others finds two that do not belong
    together, and reads again. Of two who write at once, one waits for the other: their files would be mixed.

    Raises:
        WeightsError: a tensor is of a kind that `read_folder` would refuse, or holds NaN or infinite numbers.
        StateError: the files could not be written.
    """
    tensors = {name: _plain(name, tensor) for name, tensor in state.items()}
    fault = fault_in(tensors)
    if fault is not None:
        raise WeightsError(f"This network cannot be saved: {fault}. Its training failed: begin from an earlier state.")
    try:
        with (
            claimed(directory, "saves a model", wait=_TURN),
            replacing(directory / CARD) as new_card,
            replacing(directory / WEIGHTS) as new_weights,
        ):
            save_file(tensors, new_weights, metadata={"format": "pt"})
            write_json(new_card, dataclasses.replace(card, digest=hash_file(new_weights)).to_dict())
            for name, content in (beside or {}).items():
                with replacing(directory / name) as new:
                    new.write_bytes(content)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StateError(f"Could not write to {quote(directory)}: {shorten(reason, 200)}.") from None


def _plain(name: str, tensor: Tensor) -> Tensor:
    """A copy of a weight in memory of its own, if it is a weight that a file can hold."""
    kind = entry_of(tensor).kind
    if kind not in _FLOATS | _INTEGERS | {"bool"}:
        raise WeightsError(f"This network cannot be saved: {quote(name)} is {kind}; weights are plain floating-point tensors.")
    return tensor.detach().cpu().contiguous().clone()


def open_folder(directory: Path) -> tuple[WeightsFile, Card]:
    """Card and weights of a folder written by `torchbcos.save`, the weights looked at but not yet read.

    Raises:
        MissingFileError, WeightsError: a file is missing, damaged, or belongs to another one.
    """
    for _ in range(_ATTEMPTS):
        card = read_card(directory)
        weights = open_weights(directory / WEIGHTS)
        if card.digest is None or hash_file(weights.path).startswith(card.digest):
            return weights, card
        time.sleep(_PAUSE)
    raise WeightsError(
        f"{quote(directory)}: {CARD} was written for other weights than {WEIGHTS}, or these are damaged: copy or save the model "
        "once more. If the card is meant for these weights, take its field 'digest' out."
    )


def read_folder(directory: Path) -> tuple[dict[str, Tensor], Card]:
    """Weights and card of a folder written by `torchbcos.save`."""
    weights, card = open_folder(directory)
    return weights.read(), card


def read_card(directory: Path) -> Card:
    """The card alone.

    Raises:
        MissingFileError: the folder has none.
        WeightsError: it is damaged, or says what no card can say.
    """
    path = directory / CARD
    if not is_file(path):
        raise MissingFileError(f"{quote(directory)} has no {CARD}: it was not written by torchbcos.save().")
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_CARD + 1)
        if len(content) > _LONGEST_CARD:
            raise WeightsError(f"{quote(path)} has more than {_LONGEST_CARD:,} bytes: it is no card.")
        if (fault := pointer_fault(content)) is not None:
            raise WeightsError(f"{quote(path)} {fault}")
        values = parse_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise WeightsError(f"{quote(path)} is not valid JSON in UTF-8: the card is damaged.") from None
    except ValueError as error:
        raise WeightsError(f"{quote(path)} {error}: the card is damaged.") from None
    except OSError as error:
        raise WeightsError(f"{quote(path)} cannot be read: {error.strerror or error}.") from None
    return Card.from_dict(values, where=quote(path))


# -- downloads -----------------------------------------------------------------------------------------------------------


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
        total = answer.headers.get("Content-Length") or ""
        task = bar.add_task(label, total=int(total) if total.isdecimal() else None)
        with path.open("wb") as file:
            while chunk := answer.read(1 << 20):
                file.write(chunk)
                bar.advance(task, len(chunk))
    if total.isdecimal() and path.stat().st_size != int(total):
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
