"""What an operation does to a linear map that is held: kinds of tensors, and a table of rules (docs/explanation/kinds.md)."""

from torchbcos.kinds import rules as rules
from torchbcos.kinds.call import Call as Call
from torchbcos.kinds.kind import Kind as Kind
from torchbcos.kinds.named import OneByOne as OneByOne
from torchbcos.kinds.table import TABLE as TABLE
from torchbcos.kinds.table import register_rule as register_rule
from torchbcos.kinds.trace import Met as Met
from torchbcos.kinds.trace import Trace as Trace
from torchbcos.kinds.trace import trace as trace
from torchbcos.kinds.watch import Watch as Watch

__all__ = ["TABLE", "Call", "Kind", "Met", "OneByOne", "Trace", "Watch", "register_rule", "rules", "trace"]
