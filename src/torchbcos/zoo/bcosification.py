"""Checkpoints of B-cosification (Arya et al., NeurIPS 2024, arXiv 2411.00715): which network each file is of.

Ordinary networks of torchvision, and the plain transformers of the official package, were made B-cos networks there and trained
on. What differs from the B-cos networks of the same names: activations stay, filters have no unit norm, pictures are normalised
inside, transformers average the scores of their tokens. The files say none of this: a person does, "bcosification:resnet18".
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from torchbcos import models
from torchbcos._core.errors import InputError, WeightsError, shorten
from torchbcos._core.letters import printable
from torchbcos._core.names import hint, quote
from torchbcos.zoo.archive import open_weights
from torchbcos.zoo.build import remember
from torchbcos.zoo.card import Card, imagenet_classes
from torchbcos.zoo.describe import card_of
from torchbcos.zoo.fields import IMAGENET
from torchbcos.zoo.store import check_fit, classes_in, fill

__all__ = ["SOURCE", "bcosified_names", "bcosified_options", "open_bcosified", "refuse_bcosified"]

SOURCE = "bcosification:"
_RELEASE = "https://github.com/shrebox/B-cosification/releases/tag/v0.0.1-checkpoints"
_WRAPPED = "model.model."  # the network in a wrapper, and that in a trainer: what the names of their checkpoints begin with
_BIAS = -6.906754778648554  # -ln 999, also for other numbers of classes
_CONVOLUTIONAL = ("resnet18", "resnet50", "densenet121")
_TRANSFORMERS = ("simple_vit_*_patch16_224", "vitc_*_patch1_14")


def bcosified_names() -> list[str]:
    """The networks of which there are checkpoints.

    >>> bcosified_names()[:3]
    ['resnet18', 'resnet50', 'densenet121']
    """
    known = [name for pattern in _TRANSFORMERS for name in fnmatch.filter(models.names(), pattern)]
    return [*_CONVOLUTIONAL, *known]


def bcosified_options(name: str) -> dict[str, Any]:
    """What `create_model` builds the network of such a checkpoint with.

    Raises:
        InputError: there are no checkpoints of that name.

    >>> bcosified_options("resnet18")["activation"]
    'relu'
    """
    known = bcosified_names()
    if name not in known:
        raise InputError(
            f"B-cosification has no checkpoint of {quote(shorten(printable(name), 80))}.{hint(name, known)} It has some of "
            f"{', '.join(known)}."
        )
    options: dict[str, Any] = {"activation": "relu", "unit_norm": False, "normalize": "imagenet", "logit_bias": _BIAS}
    return options if name in _CONVOLUTIONAL else {**options, "activation": "gelu", "classifier_first": True}


def refuse_bcosified(name: str, network: models.Network, keys: Iterable[str], *, where: str) -> None:
    """Refuse a checkpoint of B-cosification for the B-cos network of the same name, which would take it and give other numbers.

    Raises:
        WeightsError: the names are those of such a file.
    """
    if name in bcosified_names() and network.head.style.unit_norm and any(key.startswith(_WRAPPED) for key in keys):
        raise WeightsError(
            f"{where} has the names of a checkpoint of B-cosification, whose {name} is another network (activations, filters as "
            f"they are): torchbcos.load('{SOURCE}{name}', weights=FILE). If it is none of theirs, save its state_dict without "
            f"{_WRAPPED!r}."
        )


def open_bcosified(source: str, weights: Path | None) -> tuple[models.Network, Card]:
    """The network of a checkpoint, with its weights, and its card.

    Args:
        source: "bcosification:NAME".
        weights: the checkpoint, as it is published, or its state dict alone.

    Raises:
        InputError: no such name, or no file.
        MissingFileError, WeightsError: the file is missing, broken, or another network's.
    """
    name = source.removeprefix(SOURCE)
    options = bcosified_options(name)
    if weights is None:
        raise InputError(
            f"The checkpoints of B-cosification are not fetched: download that of {name} from {_RELEASE} and give the file, "
            f"load({source!r}, weights=FILE), on the command line --weights FILE."
        )
    file = open_weights(weights)
    where, advice = file.path.name, f"that it is B-cosification's {name}, without biases"
    with torch.device("meta"):
        network = models.build(name, **options)
        classes = classes_in(network, file.entries)
        check_fit(models.build(name, num_classes=classes, **options), file.entries, where=where, advice=advice)
    network = models.build(name, num_classes=classes, **options)
    fill(network, file.read(), where=where)
    card = dataclasses.replace(
        card_of(network), name=f"bcosified_{name}", classes=IMAGENET if classes == len(imagenet_classes()) else None,
        licence="Apache-2.0", terms="trained on ImageNet: non-commercial research and education",
        notes={"weights": shorten(printable(file.path.name), 200), "source": "B-cosification, arXiv 2411.00715"},
    )  # fmt: skip
    remember(network, card)
    return network, card
