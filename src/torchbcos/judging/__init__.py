"""The one engine that predicts a labelled split and scores the predictions."""

from __future__ import annotations

from torchbcos.judging.calibration import Calibration as Calibration
from torchbcos.judging.calibration import calibrate as calibrate
from torchbcos.judging.predict import Outputs as Outputs
from torchbcos.judging.predict import ProgressBar as ProgressBar
from torchbcos.judging.predict import predict_split as predict_split
from torchbcos.judging.saved import SavedOutputs as SavedOutputs
from torchbcos.judging.saved import fingerprint as fingerprint
from torchbcos.judging.score import Metric as Metric
from torchbcos.judging.score import judge as judge

__all__ = [
    "Calibration", "Metric", "Outputs", "ProgressBar", "SavedOutputs", "calibrate", "fingerprint", "judge", "predict_split",
]  # fmt: skip
