"""All metrics by name, joined from the files that compute them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torchbcos.metrics.about import Metric
from torchbcos.metrics.cells import METRICS as _CELLS
from torchbcos.metrics.classification import METRICS as _CLASSIFICATION
from torchbcos.metrics.completeness import METRICS as _COMPLETENESS
from torchbcos.metrics.complexity import METRICS as _COMPLEXITY
from torchbcos.metrics.debiased import METRICS as _ROAD
from torchbcos.metrics.deleting import METRICS as _DELETION
from torchbcos.metrics.faithfulness import METRICS as _FAITHFULNESS
from torchbcos.metrics.funnybirds import METRICS as _FUNNYBIRDS
from torchbcos.metrics.likeness import METRICS as _LIKENESS
from torchbcos.metrics.objects import METRICS as _OBJECTS
from torchbcos.metrics.pointing import METRICS as _POINTING
from torchbcos.metrics.sanity import METRICS as _SANITY
from torchbcos.metrics.stability import METRICS as _STABILITY

__all__ = ["METRICS"]

# in the order of the docs: where the evidence lies, what happens to the logit without it, what the map is made of
_ALL = (
    *_CLASSIFICATION, *_POINTING, *_OBJECTS, *_DELETION, *_CELLS, *_ROAD, *_FAITHFULNESS, *_STABILITY, *_COMPLETENESS, *_SANITY,
    *_LIKENESS, *_COMPLEXITY, *_FUNNYBIRDS,
)  # fmt: skip

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
