"""What can be measured and with what: the records behind `torchbcos evaluate --list`."""

from __future__ import annotations

from typing import Any

from torchbcos.attribution import METHODS
from torchbcos.metrics import METRICS

__all__ = ["list_methods", "list_metrics"]


def list_metrics() -> list[dict[str, Any]]:
    """A record for each metric: what it is, needs and costs, and what it was checked against.

    >>> sorted(list_metrics()[0])
    ['best', 'blind', 'cost', 'name', 'needs', 'range', 'source', 'summary', 'verified']
    """
    keys = ("name", "summary", "best", "range", "needs", "cost", "verified", "blind", "source")
    return [{key: getattr(metric, key) for key in keys} for metric in METRICS.values()]


def list_methods() -> list[dict[str, Any]]:
    """A record for each method: what its maps are, what it needs and costs, and what it was checked against.

    >>> list_methods()[0]["name"]
    'inherent'
    """
    keys = ("name", "summary", "kind", "signed", "complete", "class_specific", "needs", "cost", "verified", "source")
    return [{key: getattr(method, key) for key in keys} for method in METHODS.values()]
