"""What can be measured and with what: the records behind `torchbcos evaluate --list`."""

from __future__ import annotations

from typing import Any

from torchbcos.metrics.table import METRICS

__all__ = ["list_metrics"]


def list_metrics() -> list[dict[str, Any]]:
    """A record for each metric: what it is, needs and costs, and what it was checked against.

    >>> [sorted(one) for one in list_metrics()][0]
    ['best', 'blind', 'cost', 'name', 'needs', 'range', 'source', 'summary', 'verified']
    """
    return [
        {
            "name": one.name, "summary": one.summary, "best": one.best, "range": one.range, "needs": one.needs,
            "cost": one.cost, "verified": one.verified, "blind": one.blind, "source": one.source,
        }
        for one in METRICS.values()
    ]  # fmt: skip
