"""All metrics by name, joined from the files that compute them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torchbcos.metrics import cells, classification, completeness, complexity, funnybirds, likeness, objects, pointing, sanity
from torchbcos.metrics.about import Metric

__all__ = ["METRICS"]

# in the order of the docs: where the evidence lies, what happens to the logit without it, what the map is made of
_FILES = (classification, pointing, objects, cells, completeness, sanity, likeness, complexity, funnybirds)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for file in _FILES for metric in file.METRICS})
