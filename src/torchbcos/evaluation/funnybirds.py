"""FunnyBirds: a network and its maps, judged on a folder of birds of which pictures without some parts exist."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.numbers import positive_integer
from torchbcos.evaluation.funnybirds_folder import Bird, BirdFolder, open_birds
from torchbcos.judging import ProgressBar
from torchbcos.metrics import (
    BIRD_THRESHOLDS,
    background_independence,
    choose_threshold,
    combined_scores,
    contrasting_classes,
    controlled_data_check,
    deletion_check,
    distractibility,
    important_parts,
    minimal_part_sets,
    part_correlation,
    part_importance,
    preservation_check,
    target_sensitivity,
)
from torchbcos.metrics.parts import subset_codes
from torchbcos.metrics.ranks import levelled
from torchbcos.zoo import Classifier

__all__ = ["evaluate_funnybirds"]

_Function = Callable[[Tensor], Tensor]
_NAMES = ("csdc", "pc", "dc", "d", "bi", "sd", "ts")
_HELD_OUT, _TEST, _PROTOCOL = "held-out", "test", "funnybirds"


@dataclass(frozen=True)
class _Measured:
    """What is needed of one picture; Q parts are the P of the bird and the objects behind it.

    Attributes:
        predicted: the class of the whole picture.
        logit: of the true class.
        without: (Q,) the same without each part.
        importance: (4, Q) for the true class, the predicted one, and the two that share parts with the bird.
        totals: (4,) the sum of each map.
        kept: (2^P,) the class predicted for the bird with these parts only; -1: not needed.
        contrast: (2, 2) see `target_sensitivity`.
    """

    predicted: int
    logit: float
    without: Tensor
    importance: Tensor
    totals: Tensor
    kept: Tensor
    contrast: Tensor


def evaluate_funnybirds(
    model: Classifier | nn.Module | _Function,
    explain: Callable[[Tensor, Tensor], Tensor],
    folder: str | os.PathLike[str],
    *,
    transform: _Function | None = None,
    threshold: float | str = _HELD_OUT,
    protocol: str | None = None,
    split: str = "test",
    limit: int | None = None,
    batch_size: int = 16,
    device: str | torch.device | None = None,
    progress: ProgressBar | None = None,
) -> dict[str, Any]:
    """Measure maps on a folder of FunnyBirds (Hesse et al., ICCV 2023, arXiv 2308.06248).

    A part is important where the map in it exceeds a share of the whole map's sum: the threshold. The literature takes the one of
    80 that is best on the pictures that are judged. By default the pictures are divided into two halves, every second one, and
    each half is judged with the threshold that is best on the other: no picture takes part in the choice of its own.

    Args:
        model: pixels (N, 3, H, W), after `transform`, to logits (N, C).
        explain: (x, targets (N, 4)) -> maps (N, 4, H, W), of the pictures' size, with the same x as the model.
        folder: see `open_birds`.
        transform: pixels (N, 3, H, W) in [0, 1] to what model and `explain` take, of the same size. None: a `Classifier`'s
            encoding; else pixels as they are.
        threshold: "held-out", "test" (chosen on the pictures that are judged), or a number.
        protocol: "funnybirds": as the official code counts. The threshold is chosen on the pictures that are judged; CSDC is 0
            for the last class, of which it finds no set of parts, and where no set suffices; BI is a share of all objects
            together. None: neither.
        split: the word before the names of the folders.
        limit: pictures, spread evenly over all. None: all.
        batch_size: pictures at a time.
        device: where the model runs. None: where its parameters lie.
        progress: wraps the batches, to show how far they are.

    Returns:
        `scores`: `accuracy`, the means of `csdc`, `pc`, `dc`, `d`, `bi`, `sd`, `ts` over the pictures for which they are defined,
        and `completeness`, `correctness`, `contrastivity`; `defined` and `undefined`: how many pictures these are and are not;
        `each`: for each picture its `name`, `class`, `predicted`, `threshold` and results, None where undefined; `thresholds`,
        those used; `pictures`, `classes`, `split`, `threshold`, `protocol`, `notes`.

    Raises:
        MissingFileError: the folder, or a file in it, is not there.
        InputError: a file is broken, or model or `explain` give something else.
    """
    _check_model(model)
    protocol = _checked(protocol)
    threshold = _TEST if protocol is not None else threshold
    shares = BIRD_THRESHOLDS if isinstance(threshold, str) else (_number(threshold),)
    if isinstance(threshold, str) and threshold not in (_HELD_OUT, _TEST):
        raise InputError(f"threshold is {_HELD_OUT!r}, {_TEST!r} or a number, not {threshold!r:.60}.")
    size = positive_integer(batch_size)
    if size is None:
        raise InputError(f"batch_size is a whole number of at least 1, not {batch_size!r:.60}.")
    birds = open_birds(folder, split=split, limit=limit)
    if threshold == _HELD_OUT and len(birds.birds) < 2:
        raise InputError("One picture cannot have a threshold chosen on others: give more, or threshold=0.05, say.")
    network = _Network(model, explain, transform, device, size)
    batches: Iterable[Sequence[Bird]] = [birds.birds[i : i + size] for i in range(0, len(birds.birds), size)]
    if progress is not None:
        batches = progress(batches, math.ceil(len(birds.birds) / size))
    rivals = contrasting_classes(birds.classes)
    seen = [one for batch in batches for one in _measure(network, birds, batch, rivals, shares)]
    results, places = _results(birds, seen, rivals, shares, threshold, protocol)
    report = _report(birds, seen, results, [shares[i] for i in places], protocol)
    return {**report, "threshold": threshold, "protocol": protocol, "notes": _notes(birds, seen)}


class _Network:
    """The given functions with what is asked of them checked."""

    def __init__(
        self, model: Any, explain: Callable[[Tensor, Tensor], Tensor], transform: _Function | None, device: Any, batch_size: int
    ) -> None:
        if isinstance(model, Classifier):
            encode = model.transform.encode
            model, transform = model.model, transform or (lambda x: encode(x, 1))
        first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        self._device = torch.device(device) if device is not None else torch.device("cpu") if first is None else first.device
        self._model, self._explain, self._transform, self._size = model, explain, transform, batch_size

    def inputs(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(self._device)
        return pixels if self._transform is None else self._transform(pixels)

    def logits(self, pixels: Sequence[Tensor], classes: int, name: str) -> Tensor:
        """(N, C) float64 of any number of pictures."""
        found = []
        with torch.no_grad():
            for i in range(0, len(pixels), self._size):
                part = pixels[i : i + self._size]
                logits = self._model(self.inputs(torch.stack(list(part))))
                _check_logits(logits, len(part), classes, name)
                found.append(logits.detach().cpu().double())
        return torch.cat(found)

    def maps(self, pixels: Tensor, targets: Tensor, names: Sequence[str]) -> Tensor:
        """(N, K, H, W) float64."""
        maps = self._explain(self.inputs(pixels), targets.to(self._device))
        if not isinstance(maps, Tensor):
            raise ArgumentTypeError(f"explain must return a tensor of maps (N, K, H, W), not {type(maps).__name__}.")
        wanted = (*targets.shape, *pixels.shape[2:])
        if tuple(maps.shape) != wanted:
            raise InputError(
                f"explain must return maps {wanted}, one for each picture and target, of the pictures' size, "
                f"not {tuple(maps.shape)}."
            )
        maps = maps.detach().cpu().double()
        good = maps.isfinite().flatten(1).all(1)
        if not bool(good.all()):
            raise InputError(f"A map of {names[int((~good).nonzero()[0])]} has numbers that are not finite (NaN or infinity).")
        return maps


def _measure(
    network: _Network, birds: BirdFolder, batch: Sequence[Bird], rivals: Tensor, shares: Sequence[float]
) -> list[_Measured]:
    names, pictures = [birds.name(bird) for bird in batch], [birds.picture(bird) for bird in batch]
    _check_sizes(names, pictures, pictures[0])
    logits = network.logits(pictures, len(birds.classes), names[0])
    truth = torch.tensor([bird.label for bird in batch])
    others = rivals[truth]
    targets = torch.cat([truth[:, None], logits.argmax(1)[:, None], others.where(others >= 0, truth[:, None])], 1)
    maps = network.maps(torch.stack(pictures), targets, names)
    rows = zip(batch, logits, maps, targets, strict=True)
    return [_measure_one(network, birds, bird, a, b, c, shares) for bird, a, b, c in rows]


def _measure_one(
    network: _Network, birds: BirdFolder, bird: Bird, logits: Tensor, maps: Tensor, targets: Tensor, shares: Sequence[float]
) -> _Measured:
    parts, name = len(birds.parts), birds.name(bird)
    masks = birds.masks(bird)
    _check_sizes([f"The map of parts of {name}"], [masks], maps)
    groups = [*birds.regions, *range(parts, parts + bird.objects)]
    importance, totals = part_importance(maps, masks[None], groups=groups), maps.sum((1, 2))
    said = important_parts(importance[1:2, :parts], totals[1:2], shares)
    shared = birds.classes[targets[2:]] == birds.classes[bird.label]
    asked = [2**parts - 1 - (1 << p) for p in range(parts)] + subset_codes(~shared).tolist()
    codes = sorted({*asked, *subset_codes(said).flatten().tolist(), *subset_codes(~said).flatten().tolist()})
    changed = [birds.keeping(bird, code) for code in codes] + [birds.without_object(bird, i) for i in range(bird.objects)]
    _check_sizes([f"A picture of {name} without some parts"] * len(changed), changed, maps)
    found = network.logits(changed, len(birds.classes), name)
    rows = dict(zip(codes, found, strict=False))  # the objects' rows follow
    kept = torch.full((2**parts,), -1)
    kept[torch.tensor(codes)] = found[: len(codes)].argmax(1)
    return _Measured(
        predicted=int(targets[1]), logit=float(logits[bird.label]), importance=importance, totals=totals, kept=kept,
        without=torch.stack([rows[code][bird.label] for code in asked[:parts]] + list(found[len(codes) :, bird.label])),
        contrast=torch.stack([rows[code][targets[2:]] for code in asked[parts:]]),
    )  # fmt: skip


def _results(
    birds: BirdFolder,
    seen: Sequence[_Measured],
    rivals: Tensor,
    shares: Sequence[float],
    threshold: float | str,
    protocol: str | None,
) -> tuple[dict[str, Tensor], list[int]]:
    """Every measure (N,), and the place of each picture's threshold."""
    parts, truth = len(birds.parts), torch.tensor([bird.label for bird in birds.birds])
    logits, predicted = torch.tensor([one.logit for one in seen]).double(), torch.tensor([one.predicted for one in seen])
    without, kept = _padded([one.without for one in seen]), torch.stack([one.kept for one in seen])
    importance, totals = _padded([one.importance[0] for one in seen]), torch.stack([one.totals for one in seen])
    true = important_parts(importance, totals[:, 0], shares)
    said = important_parts(torch.stack([one.importance[1, :parts] for one in seen]), totals[:, 1], shares)
    sets = minimal_part_sets(birds.classes)
    csdc = controlled_data_check(true[:, :, :parts], [sets[label] for label in truth], predicted == truth)
    if protocol is not None:
        unset = torch.tensor([label == len(sets) - 1 or not len(sets[label]) for label in truth])
        csdc = csdc.masked_fill((unset & (predicted == truth))[:, None], 0)
    pc, dc = preservation_check(said, kept, predicted), deletion_check(said, kept, predicted)
    d = distractibility(true, logits, without)
    folds = torch.arange(len(seen)) % 2 if threshold == _HELD_OUT else None
    place = choose_threshold(csdc, pc, dc, d, folds=folds)
    shared = birds.classes[rivals[truth]] == birds.classes[truth][:, None]
    contrast = torch.stack([one.contrast for one in seen]).masked_fill((rivals[truth, 0] < 0)[:, None, None], math.nan)
    results = {name: one.gather(1, place[:, None])[:, 0] for name, one in (("csdc", csdc), ("pc", pc), ("dc", dc), ("d", d))}
    results["bi"] = background_independence(logits, without[:, parts:])
    rounding = 8 * torch.finfo(torch.float32).eps * logits.double().abs()[:, None]  # parts that nobody sees cost nothing
    drops = levelled(logits[:, None].double() - without[:, :parts], rounding)
    results["sd"] = part_correlation(importance[:, :parts], drops)
    results["ts"] = target_sensitivity(torch.stack([one.importance[2:, :parts] for one in seen]), shared, contrast)
    return results, place.tolist()


def _report(
    birds: BirdFolder, seen: Sequence[_Measured], results: dict[str, Tensor], used: Sequence[float], protocol: str | None
) -> dict[str, Any]:
    means = {name: results[name].nanmean() for name in _NAMES}
    if protocol is not None:  # each object counts alike, not each picture
        weights = torch.tensor([float(bird.objects) for bird in birds.birds], dtype=torch.float64)
        means["bi"] = (results["bi"].nan_to_num(0) * weights).sum() / weights.sum()
    defined = {name: int((~results[name].isnan()).sum()) for name in _NAMES}
    hits = sum(one.predicted == bird.label for one, bird in zip(seen, birds.birds, strict=True))
    combined = combined_scores(*(means[name] for name in ("csdc", "pc", "dc", "d", "sd", "ts")))
    columns = {name: [_or_none(value) for value in results[name].tolist()] for name in _NAMES}
    each = [
        {"name": birds.name(bird), "class": bird.label, "predicted": one.predicted, "threshold": share,
         **{name: columns[name][i] for name in _NAMES}}
        for i, (bird, one, share) in enumerate(zip(birds.birds, seen, used, strict=True))
    ]  # fmt: skip
    return {
        "pictures": len(seen), "classes": len(birds.classes), "split": birds.split, "thresholds": sorted(set(used)),
        "scores": {"accuracy": hits / len(seen), **{k: _or_none(float(v)) for k, v in {**means, **combined}.items()}},
        "defined": defined, "undefined": {name: len(seen) - count for name, count in defined.items()}, "each": each,
    }  # fmt: skip


def _notes(birds: BirdFolder, seen: Sequence[_Measured]) -> list[str]:
    """What a reader of the numbers should know."""
    negative = sum(bool((one.totals[:2] < 0).any()) for one in seen)
    told = f"{negative} of {len(seen)} pictures have a map with a negative sum, in which nearly all parts count as important."
    alike = sum(not len(found) for found in minimal_part_sets(birds.classes))
    same = f"{alike} of {len(birds.classes)} classes have all parts in common with another class: CSDC is undefined for them."
    return [*([told] if negative else []), *([same] if alike else [])]


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """(N, most) with NaN at the ends of shorter rows."""
    return torch.nn.utils.rnn.pad_sequence([row.double() for row in rows], batch_first=True, padding_value=math.nan)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _checked(protocol: str | None) -> str | None:
    if protocol not in (None, _PROTOCOL):
        raise InputError(f"There is no protocol {protocol!r:.60} of these pictures: {_PROTOCOL!r}, or None.")
    return protocol


def _number(threshold: object) -> float:
    good = isinstance(threshold, int | float) and not isinstance(threshold, bool) and 0 <= threshold < 1
    if not good or not isinstance(threshold, int | float):
        raise InputError(
            f"threshold is a share of the map's sum, from 0 to 1, {_HELD_OUT!r} or {_TEST!r}, not {threshold!r:.60}."
        )
    return float(threshold)


def _check_model(model: object) -> None:
    if not callable(model) and not isinstance(model, Classifier):
        raise ArgumentTypeError(f"model is a function from pictures to logits, or a network, not {type(model).__name__}.")
    inner = model.model if isinstance(model, Classifier) else model
    if isinstance(inner, nn.Module) and inner.training:
        raise InputError("The model is in training mode, in which a picture's logits depend on others: model.eval() first.")


def _check_logits(logits: object, images: int, classes: int, name: str) -> None:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != images or logits.shape[1] < classes:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"The model must give logits ({images}, C) with C of at least {classes}, the folder's classes, not {found}."
        )
    if not bool(logits.isfinite().all()):
        raise InputError(f"The model's logits for {name}, or one beside it, are not finite: nothing can be measured.")


def _check_sizes(names: Sequence[str], pictures: Sequence[Tensor], like: Tensor) -> None:
    for name, picture in zip(names, pictures, strict=True):
        if picture.shape[-2:] != like.shape[-2:]:
            raise InputError(f"{name} has {tuple(picture.shape[-2:])} pixels (H, W), and others {tuple(like.shape[-2:])}.")
