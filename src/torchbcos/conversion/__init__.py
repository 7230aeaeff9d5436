"""From any network that can be explained to a B-cos network with its weights, and a report of what became of each layer."""

from torchbcos.conversion.bcosify import bcosify as bcosify
from torchbcos.conversion.cutting import Cut as Cut
from torchbcos.conversion.cutting import cut_to_size as cut_to_size
from torchbcos.conversion.cutting import cuts_from as cuts_from
from torchbcos.conversion.cutting import mark_cut as mark_cut
from torchbcos.conversion.cutting import pruned_of as pruned_of
from torchbcos.conversion.replacing import apply_steps as apply_steps
from torchbcos.conversion.report import Line as Line
from torchbcos.conversion.report import Report as Report
from torchbcos.conversion.steps import Step as Step
from torchbcos.conversion.steps import conversion_of as conversion_of
from torchbcos.conversion.steps import given_network as given_network
from torchbcos.conversion.steps import mark as mark
from torchbcos.conversion.steps import steps_from as steps_from

__all__ = [
    "Cut", "Line", "Report", "Step", "apply_steps", "bcosify", "conversion_of", "cut_to_size", "cuts_from", "given_network",
    "mark", "mark_cut", "pruned_of", "steps_from",
]  # fmt: skip
