"""What is done to a network, module by module: data that a card can hold, and that makes the same network again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torchbcos._core.errors import InputError, shorten

__all__ = ["KINDS", "Step", "steps_from"]

KINDS = (
    "conv", "linear", "norm", "folded", "pool", "hardswish", "multihead", "windows", "pooling", "decode", "set", "zero",
)  # fmt: skip


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


def steps_from(records: object) -> tuple[Step, ...]:
    """Steps as `to_dict` gave them.

    Raises:
        InputError: they are none.
    """
    if not isinstance(records, Sequence) or isinstance(records, str):
        raise InputError(f"The steps of a conversion are a list, not {shorten(repr(records), 80)}.")
    found = []
    for record in records:
        known = isinstance(record, Mapping) and set(record) <= {"path", "kind", "settings"}
        if not known or not isinstance(record.get("path"), str) or record.get("kind") not in KINDS:
            raise InputError(f"{shorten(repr(record), 200)} is no step of a conversion that this release knows.")
        settings = record.get("settings", {})
        if not isinstance(settings, Mapping):
            raise InputError(f"The settings of the step at {shorten(record['path'], 80)!r} are no mapping.")
        found.append(Step(record["path"], record["kind"], dict(settings)))
    return tuple(found)
