"""Measuring classifiers on labelled data."""

from __future__ import annotations

from torchbcos.evaluation.accuracy import measure_accuracy as measure_accuracy
from torchbcos.evaluation.checkpoints import open_model as open_model

__all__ = ["measure_accuracy", "open_model"]
