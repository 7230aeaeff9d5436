"""Write what pages print from the code, in git: lists of public names, settings, rules, methods, metrics. `make docs`."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from torchbcos.attribution.page import page_with_methods
from torchbcos.kinds.page import page_with_rules
from torchbcos.metrics.page import page_with_metrics
from torchbcos.metrics.protocols import page_with_protocols
from torchbcos.training.recipe import settings_page

# the door first: a name that two rooms show is described where it comes first
ROOMS = (
    "torchbcos", "torchbcos.nn", "torchbcos.functional", "torchbcos.models", "torchbcos.kinds", "torchbcos.conversion",
    "torchbcos.attribution", "torchbcos.metrics", "torchbcos.metrics.running", "torchbcos.rendering", "torchbcos.pictures",
    "torchbcos.data", "torchbcos.training", "torchbcos.evaluation", "torchbcos.search", "torchbcos.service", "torchbcos.viewer",
    "torchbcos.testing",
)  # fmt: skip


def shown(room: str) -> dict[str, object]:
    """The public names of a room, and what they are; rooms inside it have pages of their own."""
    module = importlib.import_module(room)
    things = {name: getattr(module, name) for name in module.__all__ if not name.startswith("_")}
    return {name: thing for name, thing in things.items() if not inspect.ismodule(thing)}


def reference() -> dict[str, str]:
    """Every page of the reference: file name -> text. mkdocstrings fills it with signatures and docstrings."""
    home: dict[int, str] = {}
    pages: dict[str, str] = {}
    for room in ROOMS:
        elsewhere: list[str] = []
        values: list[str] = []
        page = [f"# {room}\n", inspect.getdoc(importlib.import_module(room)) or "", ""]
        for name, thing in shown(room).items():
            if not (inspect.isclass(thing) or inspect.isfunction(thing)):
                values.append(f"`{name}`")
                continue
            first = home.setdefault(id(thing), room)
            if first == room:
                page.append(f"::: {room}.{name}\n")
            else:
                elsewhere.append(f"[`{name}`]({first}.md)")
        if values:
            page.append(f"Values and types: {', '.join(values)}.\n")
        if elsewhere:
            page.append(f"Shown here, described elsewhere: {', '.join(elsewhere)}.\n")
        pages[f"{room}.md"] = "\n".join(page)
    return pages


def main() -> None:
    """Write each page anew."""
    here = Path(__file__).parent
    (here / "how-to" / "settings.md").write_text(settings_page(), "utf-8")
    pages = {
        "kinds": page_with_rules,
        "methods": page_with_methods,
        "metrics": page_with_metrics,
        "protocols": page_with_protocols,
    }
    for name, printed in pages.items():
        file = here / "explanation" / f"{name}.md"
        file.write_text(printed(file.read_text("utf-8")), "utf-8")
    (here / "api").mkdir(exist_ok=True)
    for file_name, text in reference().items():
        (here / "api" / file_name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
