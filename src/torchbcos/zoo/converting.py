"""Classifiers converted: a network, its preprocessing and its card become those of a B-cos network."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, TypeVar

from torch import Tensor, nn

from torchbcos import conversion
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, StateError, shorten
from torchbcos._core.numbers import positive_integer
from torchbcos.conversion import Report, conversion_of
from torchbcos.data import open_labelled
from torchbcos.deployment import is_deployed
from torchbcos.pictures import Range
from torchbcos.zoo.build import builder_of
from torchbcos.zoo.card import Card
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.describe import UNKNOWN, as_converted
from torchbcos.zoo.probe import moved
from torchbcos.zoo.saveable import unwrapped
from torchbcos.zoo.sequential import SEQUENTIAL, describe_sequential

__all__ = ["bcosify", "card_around_converted", "pixels_of"]

_M = TypeVar("_M", nn.Module, Classifier)
_LIMIT = 64  # pictures that layers are fitted to


def bcosify(
    model: _M, *, b: float | Mapping[str, float] = 2.0, biases: str = "norm", example: Any = None,
    mean: Sequence[float] | None = None, std: Sequence[float] | None = None, unit_norm: bool = False, antialias: bool = False,
    border: str = "mean", blur: int | Mapping[str, int] = 0, calibrate: bool | None = None, output: str | int | None = None,
    limit: int = _LIMIT,
) -> tuple[_M, Report]:  # fmt: skip
    """Convert a network, or a classifier with its preprocessing and its card: the same weights, explained exactly.

    Convolutions and linear layers become B-cos layers that keep the norms of their filters (B-cosification, Arya et al. 2024,
    arXiv 2411.00715). Biases become norm biases, `bias · ‖patch‖ / unit`, which are linear in the input once directions are held;
    batch norms are folded into the layer before them. What only makes gates (squeeze and excitation, queries and keys of their
    own) stays. The input becomes [x, 1 - x]. Each replacement is proved on what its layer took and gave, the whole by one
    explanation; nothing is trained: see the report for what the conversion costs.

    Args:
        model: a network with logits (N, classes), or a classifier (`torchbcos.load(…, deploy=False)`); it is left as it is.
        b: exponent B of convolutions and linear layers (queries, keys and values stay linear), or a number for each rule: the
            name of a layer, a pattern ("layer4.*"), or what layers do ("stem", "expand", "depthwise", "project", "pointwise",
            "conv", "linear", "classifier", "attention"); layers without a rule get 1.
        biases: "norm"; "keep": named constants of explanations; "drop": none.
        example: a few dozen of what the network is for, to which layers are fitted. Of a network (N, C, *S) pixels in [0, 1], or
            encoded as [x, 1 - x]; of a classifier also whatever its `predict` takes: a folder of pictures. None: noise, and a
            worse fit.
        mean, std: of a network: numbers a channel that its input was normalised with. None: those of its `pretrained_cfg`. A
            classifier knows them.
        unit_norm: filters get unit norm, and a gain each.
        antialias: strided layers and pools convolve at every position and down-sample by a low-pass (arXiv 2507.16761).
        border: what the padding of the first layer looks like: the "mean" colour, as in the given network, or "repeat", the
            edge of the picture.
        blur: low-passes [1, 2, 1]/4 that the filters of the first layer are convolved with, which grow by 2 a pass, or a number
            for each rule, as of b: less speckle in W, at the price of the finest detail. Of a strided layer it is anti-aliasing
            that costs next to nothing.
        calibrate: fit each layer to the given network's values on `example`. None: unless the function stays the same.
        output: entry of the output that holds the logits, where it is no tensor.
        limit: of a classifier: how many pictures of `example` are read.

    Returns:
        Of a network, it converted, in eval mode, on encoded input (N, 2C, *S); of a classifier, one around that, whose card says
        how it came to be, so that `save` and `load` keep it. And a `Report`.

    Raises:
        InputError, ArgumentTypeError: an argument does not fit, or it is not known how the input was normalised.
        StateError: the network cannot be explained, or its conversion cannot.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    >>> moments = {"encoding": "normalize", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    >>> clf = Classifier(net, class_names=("cat", "dog"), preprocess={"resize": 16, "crop": 16, **moments})
    >>> made, report = bcosify(clf)
    >>> made.preprocess(torch.rand(3, 20, 30)).shape, report.constants
    (torch.Size([1, 6, 16, 16]), {})
    """
    options: dict[str, Any] = {
        "b": b, "biases": biases, "unit_norm": unit_norm, "antialias": antialias, "border": border, "blur": blur,
        "calibrate": calibrate, "output": output,
    }  # fmt: skip
    if not isinstance(model, Classifier):
        return conversion.bcosify(model, example=example, mean=mean, std=std, **options)
    if mean is not None or std is not None:
        raise InputError("A classifier knows what its input was normalised with: leave mean and std out.")
    moments = _moments_of(model)
    pixels = None if example is None else pixels_of(model, example, limit=limit)
    network, report = conversion.bcosify(unwrapped(model.model), example=pixels, mean=moments[0], std=moments[1], **options)
    return Classifier(network, _card_of(model.card, network, report)), report  # type: ignore[return-value]


def _moments_of(classifier: Classifier) -> tuple[Sequence[float], Sequence[float]]:
    """What a classifier's input is normalised with, a number a channel.

    Raises:
        InputError: it is encoded as [x, 1 - x] already.
        StateError: it is a deployed twin.
    """
    prepare = classifier.transform
    if prepare.encoding == "add_inverse":
        what = "was converted already" if conversion_of(classifier.model) is not None else "is of B-cos networks already"
        raise InputError(f"{shorten(repr(classifier.card.name), 80)} takes pixels as [x, 1 - x]: it {what}.")
    if is_deployed(classifier.model):
        raise StateError("A deployed twin is not converted: its layers are folded. Use torchbcos.load(…, deploy=False).")
    channels = prepare.raw_channels
    return prepare.mean or (0.0,) * channels, prepare.std or (1.0,) * channels


def pixels_of(classifier: Classifier, images: Any, *, limit: int = _LIMIT, value_range: Range | None = None) -> Tensor:
    """Pixels (N, C, *S) in [0, 1] of some examples, cut as this classifier cuts them, on its device.

    Args:
        classifier: before its conversion.
        images: whatever its `predict` takes, or labelled data (`torchbcos.data.open_labelled`), whose labels are not looked at.
        limit: how many are read: of files, spread evenly over all of them, otherwise the first.
        value_range: the numbers of black and white, see `Classifier.preprocess`.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    count = positive_integer(limit)
    if count is None:
        raise InputError(f"limit must be a positive integer, not {limit!r}.")
    pixels, _ = classifier.transform.look(_chosen(classifier, images, count), value_range=value_range, encode=False)
    return moved(pixels, classifier.model)


def _chosen(classifier: Classifier, images: Any, count: int) -> list[tuple[str, Any]]:
    """So many examples, not yet read, and what messages call them."""
    if not isinstance(images, str | os.PathLike):
        return list(itertools.islice(classifier.transform.items(images), count))
    try:
        items = list(classifier.transform.items(images))
    except InputError as error:
        if not os.path.isdir(images) and not str(images).endswith(".csv"):
            raise
        try:
            split = open_labelled(images).train
        except BcosError:
            raise error from None
        return [split.item(i) for i in _spread(len(split), count)]
    return [items[i] for i in _spread(len(items), count)]


def _spread(total: int, count: int) -> list[int]:
    """So many places, evenly, of a row of `total`.

    >>> _spread(10, 3), _spread(2, 3)
    ([0, 3, 6], [0, 1])
    """
    return [i * total // count for i in range(count)] if total > count else list(range(total))


def card_around_converted(card: Card, network: nn.Module) -> Card:
    """A card with the steps that a converted network remembers; of a row of layers, with its layers.

    Raises:
        ArgumentTypeError: it was not converted.
    """
    remembered = conversion_of(network)
    if remembered is None:
        raise ArgumentTypeError("A converted network remembers how it was converted; this one does not.")
    card = as_converted(card, remembered, network)
    if card.architecture == SEQUENTIAL:
        card = dataclasses.replace(card, options=describe_sequential(network))
    elif card.architecture == UNKNOWN + nn.Sequential.__name__:
        with contextlib.suppress(InputError):  # its layers may all be known now: weight norm is gone, attention is ours
            card = dataclasses.replace(card, architecture=SEQUENTIAL, options=describe_sequential(network))
    return card


def _card_of(card: Card, network: nn.Module, report: Report) -> Card:
    """The card of a converted network: what was measured of the given one is not its own."""
    card = card_around_converted(card, network)
    same = report.settings["b"] == 1.0 and not report.settings["calibrated"] and report.kept <= 1e-4
    kept: dict[str, Any] = {} if same else {"temperature": None, "top1": None, "top5": None, "measured": None}
    return dataclasses.replace(card, file=None, url=None, sha256=None, digest=None, deployed=False, notes=_notes(card), **kept)


def _notes(card: Card) -> dict[str, Any]:
    """The notes of a card, and which release of a package builds its network."""
    notes = dict(card.notes) if isinstance(card.notes, Mapping) else {} if card.notes is None else {"given": card.notes}
    builder = builder_of(card)
    if builder is not None:
        package = builder.partition(".")[0].partition(":")[0]
        found = metadata.packages_distributions().get(package, ())
        notes |= {name: metadata.version(name) for name in found[:1]}
    return notes
