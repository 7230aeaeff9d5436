"""What is done to a network, module by module: data that a card can hold, and that makes the same network again.

A card is a stranger's file: its steps name layers and give them numbers. Each is checked, as data by `steps_from`, and against
the network that it is for by `check_step`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from torchbcos._core.errors import InputError, StateError, shorten
from torchbcos.nn.bcosified import BIASES

__all__ = [
    "KINDS", "MOST_BLUR", "OUTPUT_LAYERS", "Step", "check_step", "conversion_of", "given_network", "mark", "prefix_of",
    "steps_from",
]  # fmt: skip

_MARK = "bcosified"  # the attribute of a converted network that says how it came to be
# kinds of attention that see to the layers inside them, and what the one of their output is called
OUTPUT_LAYERS = {"multihead": "out_proj", "windows": "proj", "pooling": "c_proj"}
_MOST_STEPS, _MOST_CHANNELS, _MOST_SIDE = 20_000, 65_536, 4096
MOST_BLUR = 16
_Rule = Callable[[Any], bool]


@dataclass(frozen=True)
class Step:
    """What becomes of one module.

    Attributes:
        path: its name; "" the network itself.
        kind: of `KINDS`.
        settings: of the layer that stands there afterwards.
    """

    path: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


# -- what a network remembers ----------------------------------------------------------------------------------------------


def mark(network: nn.Module, steps: Sequence[Step], settings: Mapping[str, Any]) -> nn.Module:
    """Let a network remember how it was converted, as JSON holds it; copies and pickles of it do, too."""
    remembered = {"steps": [step.to_dict() for step in steps], "settings": dict(settings)}
    setattr(network, _MARK, json.loads(json.dumps(remembered)))
    return network


def conversion_of(network: nn.Module) -> dict[str, Any] | None:
    """The steps and settings with which `bcosify` converted a network, {"steps": […], "settings": {…}}; None where it did not."""
    found = vars(network).get(_MARK)
    return found if isinstance(found, dict) else None


def given_network(network: nn.Module) -> nn.Module:
    """The converted network without the layer that `bcosify` may have put before all of it."""
    steps = (conversion_of(network) or {}).get("steps", ())
    inner = getattr(network, "network", None)
    return inner if isinstance(inner, nn.Module) and any(step["kind"] == "decode" for step in steps) else network


def prefix_of(network: nn.Module) -> str:
    """What the paths of a given network begin with once it is converted: it may stand behind a layer that decodes its input."""
    children = dict(network.named_children())
    return "network." if "decode" in children and "network" in children else ""


# -- steps as data ---------------------------------------------------------------------------------------------------------


def steps_from(records: object) -> tuple[Step, ...]:
    """Steps as `to_dict` gave them, each of its settings looked at.

    Raises:
        InputError: they are none.

    >>> steps_from([{"path": "fc", "kind": "linear", "settings": {"b": 2.0}}])[0].kind
    'linear'
    """
    if not isinstance(records, Sequence) or isinstance(records, str) or len(records) > _MOST_STEPS:
        raise InputError(f"The steps of a conversion are a list, not {shorten(repr(records), 80)}.")
    found = []
    for record in records:
        known = isinstance(record, Mapping) and set(record) <= {"path", "kind", "settings"}
        if not known or not isinstance(record.get("path"), str) or record.get("kind") not in KINDS:
            raise InputError(f"{shorten(repr(record), 200)} is no step of a conversion that this release knows.")
        settings, kind = record.get("settings", {}), record["kind"]
        fault = _fault(settings, _SETTINGS[kind])
        if fault is not None:
            raise InputError(f"The {kind} step at {shorten(record['path'], 80)!r} {fault}.")
        found.append(Step(record["path"], kind, dict(settings)))
    return tuple(found)


def _fault(settings: object, rules: Mapping[str, _Rule]) -> str | None:
    """What is wrong with settings, as the end of a sentence."""
    if not isinstance(settings, Mapping):
        return f"has settings that are no mapping: {shorten(repr(settings), 80)}"
    for name, value in settings.items():
        if name not in rules:
            return f"has a setting {shorten(repr(name), 60)}, which this release does not know"
        if not rules[name](value):
            return f"has {name}={shorten(repr(value), 80)}, which cannot be"
    return None


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _whole(least: int, most: int) -> _Rule:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(least: float, most: float) -> _Rule:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _one_of(*words: str) -> _Rule:
    return lambda value: isinstance(value, str) and value in words


def _list_of(rule: _Rule, most: int) -> _Rule:
    return lambda value: isinstance(value, list | tuple) and 1 <= len(value) <= most and all(map(rule, value))


def _nothing(value: Any) -> bool:
    return value is None


def _axis(value: Any) -> bool:
    return isinstance(value, int) and value in (1, -1)


def _name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 500


def _table(rules: Mapping[str, _Rule]) -> _Rule:
    return lambda value: isinstance(value, Mapping) and set(value) <= set(rules) and _fault(value, rules) is None


def _padding(value: Any) -> bool:
    return _one_of("dynamic", "same", "valid")(value) or _list_of(_whole(0, _MOST_SIDE), 3)(value)


_EXPONENT, _BIASES = _number(1, 100), _one_of(*BIASES)
_MOMENTS: dict[str, _Rule] = {
    "mean": _list_of(_number(-1e6, 1e6), _MOST_CHANNELS), "std": _list_of(_number(math.ulp(0.0), 1e6), _MOST_CHANNELS),
}  # fmt: skip
_WEIGHTED: dict[str, _Rule] = {"biases": _BIASES, "b": _EXPONENT, "bias": _flag, "unit_norm": _flag}
_FOLLOWS: dict[str, _Rule] = {"follows": _list_of(_name, 8)}
_ATTENTION: dict[str, _Rule] = {"biases": _BIASES, "out": _table({"b": _EXPONENT, "unit_norm": _flag})}
_SETTINGS: dict[str, dict[str, _Rule]] = {
    "conv": {**_WEIGHTED, "padding": _padding, "antialias": _flag, "blur": _whole(0, MOST_BLUR),
             "stem": _table({**_MOMENTS, "border": _one_of("repeat", "mean")})},
    "linear": _WEIGHTED,
    "norm": {"biases": _BIASES, "eps": _number(0, 1e3), "affine": _flag, "features": _whole(1, 2**24),
             "kind": _one_of("token", "position", "group", "batch"), "num_groups": _whole(1, 2**24), **_FOLLOWS},
    "folded": {"into": _name, **_FOLLOWS},
    "pool": {"stride": _whole(1, 64)},
    "hardswish": {},
    **dict.fromkeys(OUTPUT_LAYERS, _ATTENTION),
    "decode": _MOMENTS,
    "set": {
        "num_channels": _whole(1, _MOST_CHANNELS), "in_channels": _whole(1, _MOST_CHANNELS),
        **dict.fromkeys(("q_bias", "k_bias", "v_bias"), _nothing),  # which became those of a layer
    },
    "zero": {"names": _list_of(_name, 1000)},
    "shift": {"names": _list_of(_name, 1000), "num_features": _whole(1, 2**24), "channel_dim": _axis},
}  # fmt: skip
KINDS = tuple(_SETTINGS)


# -- steps against a network -----------------------------------------------------------------------------------------------

_CLASSES: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d), "linear": (nn.Linear,), "multihead": (nn.MultiheadAttention,),
    "pool": (nn.MaxPool2d, nn.AvgPool2d), "hardswish": (nn.Hardswish,),
}  # fmt: skip
_VECTORS = ("weight", "bias", "running_var", "running_mean")


def check_step(network: nn.Module, step: Step) -> None:
    """Whether a step is for this network: the module that it names is there, of its class and of its sizes.

    Raises:
        StateError: it is not.
    """
    if step.kind == "decode":
        return
    try:
        old: Any = network.get_submodule(step.path)
    except AttributeError:
        raise StateError(
            f"The network has no module {shorten(repr(step.path), 80)}, which its conversion is about: was it built by another "
            "release of its library?"
        ) from None
    if not isinstance(old, _CLASSES.get(step.kind, nn.Module)) or not _fits(old, step):
        raise StateError(
            f"The {step.kind} step of its conversion is not for the {type(old).__name__} {shorten(repr(step.path), 80)} of this "
            "network: was it built by another release of its library?"
        )


def _fits(old: Any, step: Step) -> bool:
    """Whether sizes and names that a step speaks of are those of its module."""
    settings, children = step.settings, dict(old.named_children())
    follows = all(name in children for name in settings.get("follows", ()))
    if step.kind == "conv" and "stem" in settings:
        return all(len(settings["stem"][name]) == int(old.in_channels) for name in ("mean", "std"))
    if step.kind == "norm":
        sizes = [t.shape for t in (getattr(old, name, None) for name in _VECTORS) if t is not None]
        return follows and all(shape == (settings["features"],) for shape in sizes)
    if step.kind == "set":
        wanted = ((getattr(old, name, None), Tensor if value is None else int) for name, value in settings.items())
        return all(isinstance(there, family) for there, family in wanted)
    if step.kind in ("zero", "shift"):
        return set(settings["names"]) <= set(dict(old.named_parameters(recurse=False)))
    return follows
