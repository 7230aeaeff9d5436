"""From any network that can be explained to a B-cos network with its weights, and a report of what became of each layer."""

from torchbcos.conversion.bcosify import bcosify as bcosify
from torchbcos.conversion.replacing import apply_steps as apply_steps
from torchbcos.conversion.report import Line as Line
from torchbcos.conversion.report import Report as Report
from torchbcos.conversion.steps import Step as Step
from torchbcos.conversion.steps import conversion_of as conversion_of
from torchbcos.conversion.steps import given_network as given_network
from torchbcos.conversion.steps import mark as mark
from torchbcos.conversion.steps import steps_from as steps_from

__all__ = [
    "Line", "Report", "Step", "apply_steps", "bcosify", "conversion_of", "given_network", "mark", "steps_from",
]  # fmt: skip
