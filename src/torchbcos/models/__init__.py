"""The paper's networks, by name and as modules."""

from torchbcos.models.blocks import Head as Head
from torchbcos.models.blocks import Style as Style
from torchbcos.models.calibration import recalibrate as recalibrate
from torchbcos.models.calibration import refresh_filters as refresh_filters
from torchbcos.models.convnext import ConvNeXt as ConvNeXt
from torchbcos.models.densenet import DenseNet as DenseNet
from torchbcos.models.family import Family as Family
from torchbcos.models.network import Architecture as Architecture
from torchbcos.models.network import FeatureInfo as FeatureInfo
from torchbcos.models.network import Network as Network
from torchbcos.models.registry import axes_of as axes_of
from torchbcos.models.registry import build as build
from torchbcos.models.registry import is_plain as is_plain
from torchbcos.models.registry import names as names
from torchbcos.models.resnet import ResNet as ResNet
from torchbcos.models.swin import Swin as Swin
from torchbcos.models.two_stage import PartEvidence as PartEvidence
from torchbcos.models.two_stage import TwoStage as TwoStage
from torchbcos.models.vgg import VGG as VGG
from torchbcos.models.vit import ViT as ViT

__all__ = [
    "VGG", "Architecture", "ConvNeXt", "DenseNet", "Family", "FeatureInfo", "Head", "Network", "PartEvidence", "ResNet", "Style",
    "Swin", "TwoStage", "ViT", "axes_of", "build", "is_plain", "names", "recalibrate", "refresh_filters",
]  # fmt: skip
