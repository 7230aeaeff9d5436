"""The equations: tensors in, tensors out; one formula, one place."""

from torchbcos.functional.attention import attention as attention
from torchbcos.functional.attention import gelu as gelu
from torchbcos.functional.attention import hardswish as hardswish
from torchbcos.functional.attention import relu as relu
from torchbcos.functional.conv import bcos_conv as bcos_conv
from torchbcos.functional.conv import low_pass as low_pass
from torchbcos.functional.encode import add_inverse as add_inverse
from torchbcos.functional.icosphere import icosphere as icosphere
from torchbcos.functional.icosphere import sphere_neighbours as sphere_neighbours
from torchbcos.functional.icosphere import sphere_patches as sphere_patches
from torchbcos.functional.length import patch_length as patch_length
from torchbcos.functional.length import vector_length as vector_length
from torchbcos.functional.linear import bcos_linear as bcos_linear
from torchbcos.functional.norm import group_norm as group_norm
from torchbcos.functional.norm import instance_norm as instance_norm
from torchbcos.functional.norm import layer_norm as layer_norm
from torchbcos.functional.norm import position_norm as position_norm
from torchbcos.functional.norm import token_norm as token_norm
from torchbcos.functional.position import sin_cos_2d as sin_cos_2d
from torchbcos.functional.replace import noisy as noisy
from torchbcos.functional.replace import replacement as replacement
from torchbcos.functional.similarity import similarity as similarity
from torchbcos.functional.transform import bcos_transform as bcos_transform
from torchbcos.functional.transform import unit_norm_weight as unit_norm_weight

__all__ = [
    "add_inverse", "attention", "bcos_conv", "bcos_linear", "bcos_transform", "gelu", "group_norm", "hardswish",
    "icosphere", "instance_norm", "layer_norm", "low_pass", "noisy", "patch_length", "position_norm", "relu", "replacement",
    "similarity", "sin_cos_2d", "sphere_neighbours", "sphere_patches", "token_norm", "unit_norm_weight", "vector_length",
]  # fmt: skip
