"""Networks of timm: "timm:resnet18", with the tag of its weights if need be: "timm:resnet18.a1_in1k"."""

from __future__ import annotations

import functools
import math
import re
import urllib.parse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from torchbcos._core.errors import InputError, WeightsError
from torchbcos._core.optional import require
from torchbcos.pictures import Preprocess
from torchbcos.zoo.card import Card
from torchbcos.zoo.fields import IMAGENET
from torchbcos.zoo.hub import HUB, fetch_folder
from torchbcos.zoo.library import Facts, Library, give_a_file, squared
from torchbcos.zoo.store import fetch

__all__ = ["Timm", "preprocess_of"]

_FITS = {"center": "crop", "squash": "squash"}
_FILES = ("model.safetensors", "pytorch_model.bin")
# layers of a block in the package efficientnet_pytorch, and here: with an expansion before the depthwise convolution, and without
_EXPANDED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
             "_bn2": "bn3"}  # fmt: skip
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_BLOCK = re.compile(r"_blocks\.(\d+)\.([a-z_0-9]+)\.(\w+)")


class Timm(Library):
    """timm, by Ross Wightman and others: over a thousand networks, each with its `pretrained_cfg`."""

    name = "timm"
    lists = "timm.list_models()"

    def names(self) -> Sequence[str]:
        """Networks, and networks with the tag of their weights."""
        return _names(_timm())

    def facts(self, network: str, file: Path | None = None) -> Facts:
        """What its `pretrained_cfg` says.

        Raises:
            InputError: its pictures are cut in a way that is unknown here.
        """
        timm, config = _timm(), _config(network)
        prepare = preprocess_of(config, f"timm:{network}")
        classes = int(config["num_classes"])
        licence = {} if file is not None or not config.get("license") else {"licence": str(config["license"])}
        return Facts(classes, _class_names(timm, config, classes), prepare, card=licence)

    def build(self, network: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
        """What `timm.create_model` builds."""
        made: nn.Module = _timm().create_model(network, pretrained=False, num_classes=classes)
        return made

    def fetch(self, network: str) -> Path:
        """From the hub of Hugging Face, else from where timm says; the caches are those of huggingface_hub and torch."""
        config, source = _config(network), f"timm:{network}"
        try:
            if config.get("hf_hub_id"):
                return _from_hub(config["hf_hub_id"], config.get("hf_hub_filename"))
            if config.get("url"):
                return fetch(_card_of_url(network, config["url"]))
        except WeightsError as error:
            raise give_a_file(source, str(error)) from error
        raise give_a_file(source, "timm itself has none for it")

    def converted(self, network: str, fresh: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """By the names of efficientnet_pytorch, or by what timm itself converts original checkpoints with."""
        if "_conv_stem.weight" in state and "_fc.weight" in state:
            return _from_efficientnet_pytorch(network, fresh, state)
        given = {"state_dict": dict(state), "custom_load": False, "source": ""}
        try:
            made: nn.Module = _timm().create_model(network, pretrained=True, pretrained_cfg_overlay=given)
        except Exception:  # of any class: these weights are none that it knows, and the caller says in what they differ
            return None
        return made.state_dict()


def preprocess_of(config: Mapping[str, Any], source: str) -> Preprocess:
    """How pictures become the input of a network with this `pretrained_cfg`.

    Raises:
        InputError: they are cut in a way, or to a shape, that is not known here.
    """
    data = _timm().data.resolve_data_config(pretrained_cfg=dict(config))
    if data["crop_mode"] not in _FITS:
        raise InputError(f"{source} cuts pictures by crop_mode={data['crop_mode']!r}, which is not known here.")
    side = squared(source, data["input_size"])
    return Preprocess(
        resize=math.floor(side / data["crop_pct"]), crop=side, encoding="normalize", mean=tuple(data["mean"]),
        std=tuple(data["std"]), interpolation=data["interpolation"], fit=_FITS[data["crop_mode"]],  # type: ignore[arg-type]
    )  # fmt: skip


def _timm() -> ModuleType:
    return require("timm", extra="networks", why="A network of timm")


@functools.cache
def _names(timm: ModuleType) -> tuple[str, ...]:
    return (*timm.list_models(), *timm.list_models(pretrained=True))


def _config(network: str) -> dict[str, Any]:
    """The `pretrained_cfg` of a network that there is."""
    found = _timm().get_pretrained_cfg(network)
    return {} if found is None else dict(found.to_dict())


def _class_names(timm: ModuleType, config: Mapping[str, Any], classes: int) -> tuple[str, ...] | str | None:
    """ImageNet's names in their standard order, those of its larger sets, or none."""
    if classes == 1000:
        return IMAGENET
    subset = timm.data.infer_imagenet_subset(dict(config))
    if subset is None:
        return None
    info = timm.data.ImageNetInfo(subset)
    if info.num_classes() != classes:
        return None
    names = [str(info.index_to_description(i)) for i in range(classes)]
    often = Counter(names)
    return tuple(f"{name} ({info.index_to_label_name(i)})" if often[name] > 1 else name for i, name in enumerate(names))


def _from_hub(repository: str, name: str | None) -> Path:
    """A file of a repository of the hub; of the two that timm writes the first that is there."""
    files = (name,) if name else _FILES
    for file in files[:-1]:
        try:
            return fetch_folder(HUB + repository, (file,)) / file
        except WeightsError as error:
            if "no such repository" not in str(error):
                raise
    return fetch_folder(HUB + repository, files[-1:]) / files[-1]


def _card_of_url(network: str, url: str) -> Card:
    """What `fetch` needs: the file's name, whose end is the beginning of its hash."""
    file = Path(urllib.parse.urlparse(url).path).name
    digest = re.search(r"-([0-9a-f]{8,64})\.", file)
    return Card(name=network, architecture=network, url=url, file=file, sha256=digest[1] if digest else None)


def _from_efficientnet_pytorch(network: str, fresh: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights of the package efficientnet_pytorch, and of what was made from it, under timm's names.

    Raises:
        InputError: the network is none of TensorFlow's, whose padding and epsilon these weights were trained with.
    """
    if not network.startswith("tf_efficientnet"):
        raise InputError(
            "These weights have the names of the package efficientnet_pytorch, which computes as TensorFlow does: their network "
            f"is one of timm:tf_efficientnet_…, not timm:{network}, whose padding and epsilon are others."
        )
    inside = (key.split(".") for key in fresh.state_dict() if key.startswith("blocks."))
    places = list(dict.fromkeys(f"{stage}.{block}" for _, stage, block, *_ in inside))  # in their order
    found = {}
    for key, value in state.items():
        match = _BLOCK.fullmatch(key)
        if match is None:
            layer, _, leaf = key.partition(".")
            found[f"{_AROUND.get(layer, layer)}.{leaf}"] = value
            continue
        number, layer, leaf = int(match[1]), match[2], match[3]
        layers = (_EXPANDED if f"_blocks.{number}._expand_conv.weight" in state else _PLAIN) | _SQUEEZE
        place = places[number] if number < len(places) else str(number)
        found[f"blocks.{place}.{layers.get(layer, layer)}.{leaf}"] = value
    return found
