"""Cards: what a set of weights is, and how to use it, as data."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from torchbcos._core.errors import InputError, WeightsError, shorten
from torchbcos._core.names import brief, hint
from torchbcos.zoo.fields import IMAGENET, fault_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Card", "imagenet_classes", "imagenet_wnids", "official_card", "official_cards", "read_official_cards"]

_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything beside the numbers of a set of weights.

    Attributes:
        schema: version of this format, 1.
        name: of the weights; architecture: of the network, a name of `torchbcos.list_models()`. Of somebody's own: "sequential"
            (layers as data, in the options) or "import:package.module:function" (code; see `torchbcos.load`).
        options: of the network.
        plain: the network is the ordinary twin.
        in_channels: channels as `forward` sees them.
        classes: class names in order, or "imagenet" for its 1,000.
        num_classes: number of classes; 0: the network returns pooled features.
        preprocess: resize, crop, encoding, mean, std; see `torchbcos.pictures.Preprocess`.
        probability: "sigmoid" (trained with BCE: each class on its own) or "softmax".
        temperature: T > 0, which divides the logits where they become probabilities, and nowhere else (logits, explanations and
            W stay); fitted on examples that were held out (Guo et al. 2017, arXiv 1706.04599). None: 1.
        file, url, sha256: where official weights are; sha256 may be a prefix.
        licence, terms: what the weights may be used for.
        top1, top5: accuracy in percent; measured: on what.
        parameters: how many.
        recipe: how the weights were trained: of a run of `torchbcos train` its recipe, else what was published.
        deployed: the weights are those of a deployed twin.
        probe: of a network of somebody's own what its code gave when it was saved, {"size": the sides of a made-up input,
            "logits": the first 16}; `load` compares.
        notes: anything else (seed, curve, time).
        conversion: of a network that `bcosify` converted, {"steps": what was done to that of `architecture` and `options`,
            "settings": of the conversion}; `in_channels` and `preprocess` are those of the converted one.
        pruned: of a network that lost channels, how many each layer has left, by its name.
        program: SHA-256 of the program beside the weights, which opens where what builds the network is not installed.
        digest: SHA-256 of the weights beside a saved card: it never goes with others, nor with damaged ones.

    Raises:
        InputError: a field has the wrong type or is out of range, or there are more or fewer classes than `num_classes`.
    """

    name: str
    architecture: str
    schema: int = _SCHEMA
    options: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False
    in_channels: int = 6
    classes: tuple[str, ...] | str | None = None
    num_classes: int = 1000
    preprocess: Mapping[str, Any] | None = None
    probability: str = "sigmoid"
    temperature: float | None = None
    file: str | None = None
    url: str | None = None
    sha256: str | None = None
    licence: str | None = None
    terms: str | None = None
    top1: float | None = None
    top5: float | None = None
    measured: str | None = None
    parameters: int | None = None
    recipe: Any = None
    deployed: bool = False
    notes: Any = None
    digest: str | None = None
    probe: Mapping[str, Any] | None = None
    conversion: Mapping[str, Any] | None = None
    pruned: Mapping[str, Any] | None = None
    program: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.classes, list):
            object.__setattr__(self, "classes", tuple(self.classes))
        fault = fault_of({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        if fault is not None:
            raise InputError(f"The card of {shorten(repr(self.name), 100)}: {fault}.")

    def __repr__(self) -> str:
        known = f"{len(self.classes):,} names of classes" if isinstance(self.classes, tuple) else f"classes {self.classes!r}"
        return f"Card {brief(self.name)!r}: {brief(self.architecture)}, {self.num_classes:,} outputs, {known}; to_dict() has all"

    def class_names(self) -> tuple[str, ...]:
        """Class names; "class 3" where the card has none."""
        if self.classes == IMAGENET:
            return imagenet_classes()
        if isinstance(self.classes, tuple):
            return self.classes
        return tuple(f"class {i}" for i in range(self.num_classes))

    def to_dict(self) -> dict[str, Any]:
        """A dict ready for JSON."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}

    @staticmethod
    def from_dict(values: Mapping[str, Any], *, where: str = "card") -> Card:
        """Read a card, strictly.

        Raises:
            WeightsError: unknown or missing fields, a newer schema, or values that a field cannot have.
        """
        known = {f.name for f in dataclasses.fields(Card)}
        if not isinstance(values, Mapping):
            raise WeightsError(f"{where}: expected a table of fields, not {type(values).__name__}.")
        schema = values.get("schema", _SCHEMA)
        if schema != _SCHEMA or isinstance(schema, bool):
            raise WeightsError(f"{where}: schema {shorten(repr(schema), 60)} is not {_SCHEMA}; a newer torchbcos may read it.")
        for name in values:
            if name not in known:
                word = shorten(str(name), 60)
                raise WeightsError(f"{where}: unknown field {word!r}.{hint(word, known)}")
        for name in ("name", "architecture"):
            if not isinstance(values.get(name), str):
                raise WeightsError(f"{where}: the field {name!r} is missing.")
        fields = {**values, "preprocess": _readable(values.get("preprocess"), values.get("in_channels", 6))}
        fault = fault_of({"num_classes": Card.num_classes, **fields})
        if fault is not None:
            raise WeightsError(f"{where}: {fault}.")
        return Card(**fields)


def _readable(preprocess: Any, channels: Any) -> Any:
    """Preprocessing as a card holds it today.

    Plain networks of other than three channels were once saved with "normalize", which left such arrays as they were.
    """
    if isinstance(preprocess, Mapping) and preprocess.get("encoding") == "normalize" and channels != 3:
        return {**{k: v for k, v in preprocess.items() if k not in ("mean", "std")}, "encoding": "none"}
    return preprocess


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 ImageNet class names in their usual order."""
    text = (resources.files("torchbcos.zoo") / "cards" / "imagenet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The WordNet ids of the 1,000 ImageNet classes in the same order ('n01440764', …)."""
    text = (resources.files("torchbcos.zoo") / "cards" / "imagenet_wnids.txt").read_text("utf-8")
    return tuple(text.splitlines())


def official_cards() -> dict[str, Card]:
    """All official cards by name; a copy, which a caller may change."""
    return copy.deepcopy(read_official_cards())


@cache
def read_official_cards() -> dict[str, Card]:
    """All official cards by name, read once; what is changed in them is changed for everybody."""
    cards = {}
    for file in (resources.files("torchbcos.zoo") / "cards").iterdir():
        if file.name.endswith(".toml"):
            card = Card.from_dict(tomllib.loads(file.read_text("utf-8")), where=file.name)
            cards[card.name] = card
    return cards


def official_card(name: str) -> Card:
    """The card of official weights.

    Raises:
        InputError: there are no official weights of that name.
    """
    cards = read_official_cards()
    if name not in cards:
        raise InputError(f"There are no official weights named {name!r}.{hint(name, cards)}")
    return copy.deepcopy(cards[name])
