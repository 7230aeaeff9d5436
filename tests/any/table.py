"""Rows as text: one line an architecture on the screen, a page in the documentation."""

from __future__ import annotations

import importlib
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone

from tests.any.examine import LIMITS, Row

__all__ = ["line", "page", "summary"]


def line(row: Row) -> str:
    """One architecture, for a screen."""
    seconds = f"{row.seconds:5.1f} s"
    if row.verdict != "exact":
        return f"{row.name:45} {row.verdict}: {row.note}  {seconds}"
    return (
        f"{row.name:45} exact  outputs {row.outputs:.0e}  residual {row.residual:.0e}  batch {row.batch:.0e}  "
        f"{row.constants:4} constants  share {row.share:6.2f}  {seconds}"
    )


def summary(rows: Sequence[Row]) -> str:
    """How many of what.

    >>> summary([Row("a", 64, "exact"), Row("b", 64, "exact"), Row("c", 64, "refused")])
    '3 architectures: 2 exact, 1 refused'
    """
    found = Counter(row.verdict for row in rows)
    parts = ", ".join(f"{found[verdict]} {verdict}" for verdict in ("exact", "refused", "wrong", "failed") if found[verdict])
    return f"{len(rows)} architectures: {parts}"


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "torchvision", "timm", "transformers"):
        try:
            found.append(f"{name} {importlib.import_module(name).__version__}")
        except ImportError:
            continue
    return ", ".join(found)


_COLUMNS = """| architecture | side | weights | verdict | outputs | residual | batch | constants | share | seconds |
|---|---|---|---|---|---|---|---|---|---|
"""
_HEAD = """# Any network: what was explained

Written by `make any` (`python -m tests.any --markdown FILE`) on {date} with {versions}; float32, one thread of a CPU.

**{summary}.** Each architecture has random weights in which everything counts: all affine parameters, biases, tokens and layer
scales are drawn, norms take their statistics from one batch, the head is scaled until the outputs spread over 10. Two pictures of
smooth noise are explained. *Exact* means:

- the outputs are those of an untouched copy: *outputs* is the largest difference in units of their range, at most {outputs:.0e};
- contributions and named constants add up to the explained output: *residual*, in units of law 1, at most {residual:.0e};
- W does not depend on the input once its factors are held (`verify=True`, in float64);
- a picture alone has the contributions that it has in a batch: *batch*, in units of the largest one, at most {batch:.0e} (in
  float64 where the last bit of float32 turns a gate over, as it does in deep random networks);
- a second call gives the same bits, and nothing is left behind: versions, gradients, flags, hooks, modes, buffers, random
  numbers.

*Refused* names the operation and the module: there no form as a factor exists, or two signals are multiplied and somebody has to
choose (`products=`). *Share* is what the pixels carry of the first picture's explained output; of a random network it says
little.

"""
_PRODUCTS = """
## Products of two signals

The refused ones again with `products="half"`: each factor gets half of the product.

"""


def page(rows: Sequence[Row], halves: Sequence[Row] = ()) -> str:
    """The table as Markdown; `halves` are the refused ones again, with products split in halves."""
    today = datetime.now(timezone.utc).date().isoformat()
    head = _HEAD.format(date=today, versions=_versions(), summary=summary(rows), **LIMITS)
    text = head + _COLUMNS + "".join(_cells(row) for row in rows)
    return text + _PRODUCTS + _COLUMNS + "".join(_cells(row) for row in halves) if halves else text


def _cells(row: Row) -> str:
    first = [row.name, str(row.size), f"{row.parameters / 1e6:.1f} M"]
    if row.verdict != "exact":
        return (
            "| "
            + " | ".join([*first, f"{row.verdict}: {row.note}".replace("|", "\\|"), *[""] * 5, f"{row.seconds:.1f}"])
            + " |\n"
        )
    numbers = [f"{row.outputs:.0e}", f"{row.residual:.0e}", f"{row.batch:.0e}", str(row.constants), f"{row.share:.2f}"]
    return "| " + " | ".join([*first, row.verdict, *numbers, f"{row.seconds:.1f}"]) + " |\n"
