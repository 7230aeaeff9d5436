"""Thin modules over `torchbcos.functional`."""

from typing import NoReturn

from torchbcos.nn.attention import Attention as Attention
from torchbcos.nn.bcosified import BcosifiedConv1d as BcosifiedConv1d
from torchbcos.nn.bcosified import BcosifiedConv2d as BcosifiedConv2d
from torchbcos.nn.bcosified import BcosifiedConv3d as BcosifiedConv3d
from torchbcos.nn.bcosified import BcosifiedLinear as BcosifiedLinear
from torchbcos.nn.bcosified_norm import BcosifiedBatchNorm as BcosifiedBatchNorm
from torchbcos.nn.bcosified_norm import BcosifiedGroupNorm as BcosifiedGroupNorm
from torchbcos.nn.bcosified_norm import BcosifiedPositionNorm as BcosifiedPositionNorm
from torchbcos.nn.bcosified_norm import BcosifiedShift as BcosifiedShift
from torchbcos.nn.bcosified_norm import BcosifiedTokenNorm as BcosifiedTokenNorm
from torchbcos.nn.conv import BcosConv1d as BcosConv1d
from torchbcos.nn.conv import BcosConv2d as BcosConv2d
from torchbcos.nn.conv import BcosConv3d as BcosConv3d
from torchbcos.nn.conv import LowPass as LowPass
from torchbcos.nn.encode import AddInverse as AddInverse
from torchbcos.nn.encode import Decode as Decode
from torchbcos.nn.encode import Normalize as Normalize
from torchbcos.nn.encode import NormalizeEncoded as NormalizeEncoded
from torchbcos.nn.folded import Folded as Folded
from torchbcos.nn.head import GlobalAveragePool as GlobalAveragePool
from torchbcos.nn.head import Logits as Logits
from torchbcos.nn.layer import Layer as Layer
from torchbcos.nn.linear import BcosLinear as BcosLinear
from torchbcos.nn.missing import missing as _missing
from torchbcos.nn.norm import AllNorm as AllNorm
from torchbcos.nn.norm import BatchNorm as BatchNorm
from torchbcos.nn.norm import GroupNorm as GroupNorm
from torchbcos.nn.norm import InstanceNorm as InstanceNorm
from torchbcos.nn.norm import LayerNorm as LayerNorm
from torchbcos.nn.norm import Norm as Norm
from torchbcos.nn.norm import PositionNorm as PositionNorm
from torchbcos.nn.norm import TokenNorm as TokenNorm
from torchbcos.nn.plain import GELU as GELU
from torchbcos.nn.plain import Conv2d as Conv2d
from torchbcos.nn.plain import Hardswish as Hardswish
from torchbcos.nn.plain import Linear as Linear
from torchbcos.nn.plain import ReLU as ReLU
from torchbcos.nn.position import SinCosPosition2d as SinCosPosition2d
from torchbcos.nn.prototypes import Prototypes as Prototypes
from torchbcos.nn.prototypes import Similarity as Similarity
from torchbcos.nn.residual import Residual as Residual
from torchbcos.nn.windows import WindowAttention as WindowAttention

__all__ = [
    "GELU", "AddInverse", "AllNorm", "Attention", "BatchNorm", "BcosConv1d", "BcosConv2d", "BcosConv3d", "BcosLinear",
    "BcosifiedBatchNorm", "BcosifiedConv1d", "BcosifiedConv2d", "BcosifiedConv3d", "BcosifiedGroupNorm", "BcosifiedLinear",
    "BcosifiedPositionNorm", "BcosifiedShift", "BcosifiedTokenNorm", "Conv2d", "Decode", "Folded", "GlobalAveragePool",
    "GroupNorm", "Hardswish", "InstanceNorm", "Layer", "LayerNorm", "Linear", "Logits", "LowPass", "Norm", "Normalize",
    "NormalizeEncoded", "PositionNorm", "Prototypes", "ReLU", "Residual", "Similarity", "SinCosPosition2d",
    "TokenNorm", "WindowAttention",
]  # fmt: skip


def __getattr__(name: str) -> NoReturn:
    """Layers of `torch.nn` that are not here: the error says what stands in their place."""
    raise AttributeError(_missing(name, __all__))
