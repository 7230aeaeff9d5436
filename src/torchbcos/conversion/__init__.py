"""From any network that can be explained to a B-cos network with its weights, and a report of what became of each layer."""

from torchbcos.conversion.bcosify import bcosify as bcosify
from torchbcos.conversion.pages import report_page as report_page
from torchbcos.conversion.report import Line as Line
from torchbcos.conversion.report import Report as Report
from torchbcos.conversion.replacing import apply_steps as apply_steps
from torchbcos.conversion.steps import Step as Step
from torchbcos.conversion.steps import steps_from as steps_from

__all__ = ["Line", "Report", "Step", "apply_steps", "bcosify", "report_page", "steps_from"]
