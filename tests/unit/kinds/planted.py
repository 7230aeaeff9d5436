"""The catalogue of planted operations: nobody may get a W from these that is silently another one."""

from __future__ import annotations

from tests.unit.kinds.planted_corners import CORNERS
from tests.unit.kinds.planted_edits import EDITS
from tests.unit.kinds.planted_escapes import ESCAPES
from tests.unit.kinds.planted_factors import FACTORS
from tests.unit.kinds.planted_gates import GATES
from tests.unit.kinds.planted_layers import LAYERS
from tests.unit.kinds.planted_own import OWN
from tests.unit.kinds.planted_signals import SIGNALS
from tests.unit.kinds.planted_state import STATE
from tests.unit.kinds.planting import Case

__all__ = ["CASES"]

CASES: list[Case] = [*FACTORS, *GATES, *LAYERS, *SIGNALS, *EDITS, *ESCAPES, *OWN, *CORNERS, *STATE]
