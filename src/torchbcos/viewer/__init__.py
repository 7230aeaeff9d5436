"""Pages of results that outlive the program: many explanations, a measurement, a training, each in one file."""

from torchbcos.viewer.cortex import draw_cortex as draw_cortex
from torchbcos.viewer.measured import accuracy_page as accuracy_page
from torchbcos.viewer.report import Entry as Entry
from torchbcos.viewer.report import entry_of as entry_of
from torchbcos.viewer.report import failed_entry as failed_entry
from torchbcos.viewer.report import report_page as report_page
from torchbcos.viewer.selection import draw_selection as draw_selection
from torchbcos.viewer.trained import training_page as training_page

__all__ = ["Entry", "accuracy_page", "draw_cortex", "draw_selection", "entry_of", "failed_entry", "report_page", "training_page"]
