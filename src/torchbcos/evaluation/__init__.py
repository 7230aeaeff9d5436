"""Measuring classifiers on labelled data."""

from __future__ import annotations

from torchbcos.evaluation.accuracy import measure_accuracy as measure_accuracy
from torchbcos.evaluation.checkpoints import open_model as open_model
from torchbcos.evaluation.funnybirds import evaluate_funnybirds as evaluate_funnybirds
from torchbcos.evaluation.randomised import randomised as randomised

__all__ = ["evaluate_funnybirds", "measure_accuracy", "open_model", "randomised"]
