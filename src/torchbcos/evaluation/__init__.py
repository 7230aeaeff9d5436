"""Measuring classifiers on labelled data, and the networks on grids that measure methods."""

from __future__ import annotations

from torchbcos.evaluation.accuracy import measure_accuracy as measure_accuracy
from torchbcos.evaluation.calibration import calibrate_model as calibrate_model
from torchbcos.evaluation.checkpoints import open_model as open_model
from torchbcos.evaluation.comparing import Comparison as Comparison
from torchbcos.evaluation.comparing import Options as Options
from torchbcos.evaluation.comparing import compare as compare
from torchbcos.evaluation.comparing import evaluate as evaluate
from torchbcos.evaluation.dumb import DUMB as DUMB
from torchbcos.evaluation.funnybirds import evaluate_funnybirds as evaluate_funnybirds
from torchbcos.evaluation.pages import write_comparison as write_comparison
from torchbcos.evaluation.pointing import cell_targets as cell_targets
from torchbcos.evaluation.pointing import difull as difull
from torchbcos.evaluation.pointing import dipart as dipart
from torchbcos.evaluation.randomised import randomised as randomised

__all__ = [
    "Comparison",
    "DUMB",
    "Options",
    "calibrate_model",
    "cell_targets",
    "compare",
    "evaluate",
    "difull",
    "dipart",
    "evaluate_funnybirds",
    "measure_accuracy",
    "open_model",
    "randomised",
    "write_comparison",
]
