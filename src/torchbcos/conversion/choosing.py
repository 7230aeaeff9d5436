"""What a caller of `bcosify` wants, checked, and which B each layer gets."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import hint
from torchbcos.conversion.recording import Recording, Run
from torchbcos.conversion.steps import MOST_BLUR
from torchbcos.functional.numbers import check_exponent
from torchbcos.nn.bcosified import check_biases

__all__ = ["ROLES", "Choices", "asks", "b_of", "check_rules", "role_of", "value_of"]

ROLES = ("stem", "depthwise", "expand", "project", "pointwise", "conv", "attention", "classifier", "linear")
_ASKS = ("qkv", "kv", "qk", "q", "k", "v", "query", "key", "value", "wqkv", "in_proj")  # maps to queries, keys or values


@dataclass(frozen=True)
class Choices:
    """How a network is converted; see `bcosify`.

    Attributes:
        b: a number for all layers but those of attention, or a number for each rule.
        biases: "norm", "keep" or "drop".
        unit_norm: filters get unit norm, and a gain.
        antialias: strided layers are anti-aliased.
        border: what the first layer sees beyond the picture: "repeat" its edge, or the "mean" colour.
        blur: low-passes that filters of convolutions are convolved with: a number for each rule; a number alone is that of
            the first layer.
    """

    b: float | Mapping[str, float] = 2.0
    biases: str = "norm"
    unit_norm: bool = False
    antialias: bool = False
    border: str = "mean"
    blur: int | Mapping[str, int] = 0

    def __post_init__(self) -> None:
        check_biases(self.biases)
        if self.border not in ("repeat", "mean"):
            raise InputError(f"border is 'repeat' or 'mean', not {shorten(repr(self.border), 80)}.")
        for name in ("unit_norm", "antialias"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is True or False, not {shorten(repr(getattr(self, name)), 80)}.")
        for passes in self.passes.values():
            if not isinstance(passes, int) or isinstance(passes, bool) or not 0 <= passes <= MOST_BLUR:
                raise InputError(f"blur is a number of low-passes, 0 to {MOST_BLUR}, not {shorten(repr(passes), 80)}.")
        for name, rules in (("b", self.b), ("blur", self.passes)):
            for rule in rules if isinstance(rules, Mapping) else ():
                if not isinstance(rule, str):
                    raise InputError(
                        f"A rule of {name} is a name, a pattern or what a layer does, not {shorten(repr(rule), 80)}."
                    )
        for value in self.b.values() if isinstance(self.b, Mapping) else [self.b]:
            check_exponent(value)

    @property
    def passes(self) -> dict[str, int]:
        """The low-passes of each rule."""
        return dict(self.blur) if isinstance(self.blur, Mapping) else {} if self.blur == 0 else {"stem": self.blur}

    @property
    def keeps_layers(self) -> bool:
        """Whether every layer is to give what it gave, but for what lies beyond the picture."""
        ones = set(self.b.values()) <= {1} if isinstance(self.b, Mapping) else self.b == 1
        return ones and self.biases == "keep" and not self.antialias and not any(self.passes.values())


def asks(path: str) -> bool:
    """Whether a layer of this name makes queries, keys or values.

    >>> asks("layers.0.attn.q_proj"), asks("layers.0.mlp.fc1")
    (True, False)
    """
    name = path.rpartition(".")[2].lower().removeprefix("to_")
    return name.removesuffix("_proj").removesuffix("_conv") in _ASKS


def role_of(run: Run, recording: Recording) -> str:
    """What a convolution or linear layer does in its network: one of `ROLES`."""
    module: Any = run.module
    if asks(run.path):
        return "attention"
    if run.last:
        return "classifier"
    if isinstance(module, nn.Linear):
        return _wider(module.in_features, module.out_features, "linear")
    if run.x_from == "":
        return "stem"
    if module.groups > 1 and module.groups == module.in_channels:
        return "depthwise"
    if set(module.kernel_size) == {1} and module.groups == 1:
        return _wider(module.in_channels, module.out_channels, "pointwise")
    return "conv"


def _wider(inputs: int, outputs: int, same: str) -> str:
    return "expand" if outputs > inputs else "project" if outputs < inputs else same


def b_of(path: str, role: str, b: float | Mapping[str, float]) -> float:
    """B of a layer: of the rule that is its path, else of the first pattern that fits it, else of its role; else 1."""
    if not isinstance(b, Mapping):
        return 1.0 if role == "attention" else float(b)
    return value_of(path, role, b, 1.0)


def value_of(path: str, role: str, rules: Mapping[str, float], otherwise: float) -> float:
    """What rules say of a layer: the one that is its path, else the first pattern that fits it, else that of its role.

    >>> value_of("layer4.0.conv1", "conv", {"conv": 1.5, "layer4.*": 2}, 1), value_of("fc", "classifier", {"conv": 1.5}, 1)
    (2.0, 1.0)
    """
    if path in rules:
        return float(rules[path])
    for rule, value in rules.items():
        if rule not in ROLES and fnmatch.fnmatchcase(path, rule):
            return float(value)
    return float(rules.get(role, otherwise))


def check_rules(name: str, rules: object, roles: Mapping[str, str]) -> None:
    """Whether every rule is about some layer.

    Args:
        name: of what is chosen by rules.
        rules: as given.
        roles: of each layer, by path.

    Raises:
        InputError: one is about none.
    """
    for rule in rules if isinstance(rules, Mapping) else ():
        if rule not in roles and rule not in roles.values() and not fnmatch.filter(list(roles), rule):
            present = sorted(set(roles.values()))
            raise InputError(
                f"No layer of this network is {shorten(repr(rule), 80)}. A rule of {name} is the name of a layer, a pattern "
                f"('layer4.*'), or what a layer does, here {', '.join(present)}.{hint(str(rule), [*present, *roles])}"
            )
