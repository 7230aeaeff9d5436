"""Exact explanations: the dynamic linear map W(x), contributions, constants, residual and share."""

from torchbcos.explanation.engine import explain as explain
from torchbcos.explanation.result import Explanation as Explanation

__all__ = ["Explanation", "explain"]
