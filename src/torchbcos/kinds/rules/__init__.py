"""The rules: one small function for each way in which an operation treats a linear map that is held."""

from torchbcos.kinds.rules.gates import activation as activation
from torchbcos.kinds.rules.gates import held as held
from torchbcos.kinds.rules.linear import linear_map as linear_map
from torchbcos.kinds.rules.linear import view as view

__all__ = ["activation", "held", "linear_map", "view"]
