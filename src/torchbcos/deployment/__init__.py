"""Twins for inference and explanation."""

from torchbcos.deployment.fold import deploy as deploy
from torchbcos.deployment.fold import is_deployed as is_deployed
from torchbcos.deployment.fold import make_twin_ as make_twin_
from torchbcos.deployment.pairs import not_of_unit_norm as not_of_unit_norm
from torchbcos.deployment.pairs import pairs_of as pairs_of

__all__ = ["deploy", "is_deployed", "make_twin_", "not_of_unit_norm", "pairs_of"]
