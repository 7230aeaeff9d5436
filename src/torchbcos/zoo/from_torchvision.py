"""Networks of torchvision: "torchvision:resnet50"; with the name of its weights, "torchvision:resnet50.IMAGENET1K_V1"."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor, nn

from torchbcos._core.errors import WeightsError
from torchbcos._core.optional import require
from torchbcos.pictures import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from torchbcos.zoo.card import Card, imagenet_classes
from torchbcos.zoo.fields import IMAGENET
from torchbcos.zoo.library import Facts, Library, give_a_file
from torchbcos.zoo.store import fetch

__all__ = ["Torchvision"]

_CLASSES = 1000  # of every network there
_CHANGING = ("googlenet", "inception_v3")
_DENSE = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$")


class Torchvision(Library):
    """torchvision's classifiers of pictures, each with its `Weights` and their transforms."""

    name = "torchvision"
    lists = "torchvision.models.list_models()"
    options: ClassVar[Mapping[str, type]] = {"transform_input": bool, "aux_logits": bool}

    def names(self) -> Sequence[str]:
        """Networks, and networks with the name of their weights."""
        models = _models()
        networks = models.list_models(module=models)
        weights = ((name, one) for name in networks for one in models.get_model_weights(name) if one.meta.get("categories"))
        return [*networks, *(f"{name}.{one.name}" for name, one in weights)]

    def facts(self, network: str, file: Path | None = None) -> Facts:
        """What its weights say: those that the name says, those whose file is called so, else the default ones."""
        weights = _weights(network, file)
        if weights is None:  # torchvision's own, of every classifier that it trained
            usual = Preprocess(resize=256, crop=224, encoding="normalize", mean=IMAGENET_MEAN, std=IMAGENET_STD)
            return Facts(_CLASSES, None, usual)
        transforms = weights.transforms()
        prepare = Preprocess(
            resize=transforms.resize_size[0], crop=transforms.crop_size[0], encoding="normalize", mean=tuple(transforms.mean),
            std=tuple(transforms.std), interpolation=transforms.interpolation.value,
        )  # fmt: skip
        named = tuple(weights.meta.get("categories") or ())
        names = IMAGENET if named == imagenet_classes() else named or None
        known = file is None or file.name == _file_of(weights)
        return Facts(len(named) or _CLASSES, names, prepare, _accuracy(weights) if known else {})

    def build(self, network: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
        """What `torchvision.models.get_model` builds, without weights."""
        name, _ = _split(network)
        quick = {"init_weights": False} if name in _CHANGING else {}  # theirs takes half a minute, and is overwritten
        made: nn.Module = _models().get_model(name, weights=None, num_classes=classes, **quick, **options)
        return made

    def options_for(self, network: str, tensors: Iterable[str]) -> dict[str, Any]:
        """Two old networks change their input before anything else, which only torchvision's weights for them say."""
        if _split(network)[0] not in _CHANGING:
            return {}
        return {"transform_input": True, "aux_logits": any(name.lower().startswith("aux") for name in tensors)}

    def fetch(self, network: str) -> Path:
        """From where torchvision has them, into torch's cache; its hash is checked."""
        source, weights = f"torchvision:{network}", _weights(network, None)
        if weights is None:
            raise give_a_file(source, "torchvision itself has none for it")
        file = _file_of(weights)
        digest = re.search(r"-([0-9a-f]{8,64})\.", file)
        try:
            return fetch(
                Card(name=network, architecture=network, url=weights.url, file=file, sha256=digest[1] if digest else None)
            )
        except WeightsError as error:
            raise give_a_file(source, str(error)) from error

    def converted(self, network: str, fresh: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """The names of the first DenseNets ("norm.1"), under those of today ("norm1")."""
        return {_DENSE.sub(r"\1\2", key): value for key, value in state.items()}


def _models() -> ModuleType:
    return require("torchvision.models", extra="networks", why="A network of torchvision")


def _split(network: str) -> tuple[str, str]:
    """The network and the name of its weights, which may be empty."""
    name, _, tag = network.partition(".")
    return name, tag


def _weights(network: str, file: Path | None) -> Any:
    """The weights of a network that a name or a file's name says, else its default ones; None where it has none."""
    name, tag = _split(network)
    known = _models().get_model_weights(name)
    if tag:
        return known[tag]
    named = (weights for weights in known if file is not None and _file_of(weights) == file.name)
    return next(named, known.__members__.get("DEFAULT"))


def _file_of(weights: Any) -> str:
    """How the file of weights is called."""
    return Path(urllib.parse.urlparse(weights.url).path).name


def _accuracy(weights: Any) -> dict[str, Any]:
    """What torchvision says that its weights reach."""
    for data, found in dict(weights.meta.get("_metrics") or {}).items():
        if {"acc@1", "acc@5"} <= found.keys():
            return {"top1": found["acc@1"], "top5": found["acc@5"], "measured": f"{data} val, says torchvision"}
    return {}
