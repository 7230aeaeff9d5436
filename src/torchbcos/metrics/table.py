"""All metrics by name, joined from the files that compute them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torchbcos.metrics import classification, completeness, complexity, likeness
from torchbcos.metrics.about import Metric

__all__ = ["METRICS"]

# in the order of the docs: where the evidence lies, what happens to the logit without it, what the map is made of
_FILES = (classification, completeness, complexity, likeness)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for file in _FILES for metric in file.METRICS})
