"""The paper's networks, by name and as modules."""

from torchbcos.models.blocks import FeatureInfo as FeatureInfo
from torchbcos.models.blocks import Style as Style
from torchbcos.models.calibration import recalibrate as recalibrate
from torchbcos.models.registry import Architecture as Architecture
from torchbcos.models.registry import build as build
from torchbcos.models.registry import names as names
from torchbcos.models.resnet import ResNet as ResNet

__all__ = ["Architecture", "FeatureInfo", "ResNet", "Style", "build", "names", "recalibrate"]
