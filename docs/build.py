"""Write docs/reference/*.md from the docstrings, and what pages print from the code: settings, rules, metrics. `make docs`."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from torchbcos.attribution.page import page_with_methods
from torchbcos.kinds.page import page_with_rules
from torchbcos.metrics.page import page_with_metrics
from torchbcos.metrics.protocols import page_with_protocols
from torchbcos.training.recipe import settings_page

ROOMS = (
    "torchbcos", "torchbcos.nn", "torchbcos.functional", "torchbcos.testing", "torchbcos.rendering", "torchbcos.data",
    "torchbcos.attribution", "torchbcos.metrics", "torchbcos.metrics.running", "torchbcos.training", "torchbcos.evaluation",
)  # fmt: skip


def entry(name: str, thing: object) -> str:
    """One public name: its signature and its docstring."""
    try:
        signature = str(inspect.signature(thing))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        signature = ""
    return f"## `{name}{signature}`\n\n```text\n{inspect.getdoc(thing) or ''}\n```\n"


def main() -> None:
    """One page a room; and, in git, the page of settings, the tables of rules, metrics and protocols."""
    (Path(__file__).parent / "how-to" / "settings.md").write_text(settings_page(), "utf-8")
    pages = {
        "kinds": page_with_rules,
        "methods": page_with_methods,
        "metrics": page_with_metrics,
        "protocols": page_with_protocols,
    }
    for name, printed in pages.items():
        file = Path(__file__).parent / "explanation" / f"{name}.md"
        file.write_text(printed(file.read_text("utf-8")), "utf-8")
    out = Path(__file__).parent / "reference"
    out.mkdir(exist_ok=True)
    for room in ROOMS:
        module = importlib.import_module(room)
        names = [n for n in module.__all__ if not n.startswith("__") and not inspect.ismodule(getattr(module, n))]
        page = [f"# {room}\n\n{inspect.getdoc(module)}\n", *(entry(n, getattr(module, n)) for n in names)]
        (out / f"{room}.md").write_text("\n".join(page))
        print(out / f"{room}.md", len(names))


if __name__ == "__main__":
    main()
