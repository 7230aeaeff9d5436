"""The laws of B-cos networks, for third parties: `check_layer` and `check_model`."""

from torchbcos.testing.laws import LawBroken as LawBroken
from torchbcos.testing.laws import check_layer as check_layer
from torchbcos.testing.laws import check_model as check_model

__all__ = ["LawBroken", "check_layer", "check_model"]
