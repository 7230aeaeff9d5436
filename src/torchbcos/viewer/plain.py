"""What pages of results share: text of strangers made harmless, and the versions that a result was made with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

from torchbcos._core.letters import printable
from torchbcos._core.version import VERSION

__all__ = ["plain", "versions"]


def plain(value: Any) -> Any:
    """Text of strangers without letters that move a cursor.

    >>> plain({"a": ["b\\u202e"]})
    {'a': ['b\\\\u202e']}
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(k)): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def versions() -> dict[str, object]:
    """Of this library, torch and Python.

    >>> sorted(versions())
    ['Python', 'torch', 'torchbcos']
    """
    return {"torchbcos": VERSION, "torch": torch.__version__, "Python": platform.python_version()}
