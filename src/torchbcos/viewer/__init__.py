"""Pages of results that outlive the program: a report of many explanations in one file."""

from torchbcos.viewer.report import Entry as Entry
from torchbcos.viewer.report import entry_of as entry_of
from torchbcos.viewer.report import failed_entry as failed_entry
from torchbcos.viewer.report import report_page as report_page

__all__ = ["Entry", "entry_of", "failed_entry", "report_page"]
