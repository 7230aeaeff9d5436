"""Write docs/benchmark/convert-zoo.md from the JSON of zoo.py: python benchmarks/conversion/zoo_page.py convert-zoo.json"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "benchmark" / "convert-zoo.md"
_HEAD = """# Conversion of many architectures

`make convert-zoo` converts architectures of four libraries ([how to convert one's own](../how-to/convert.md)). Their weights
are random, and everything in them counts: norms have the statistics of a batch; biases, tokens, gains and layer scales are
drawn. Each is converted twice, in float64 on one thread: with B = 1 and biases kept, which must be the same function, and
with B = 1 and norm biases, calibrated, where only positions and tokens may stay as constants. Random weights say whether a
conversion is right; what it costs a trained network, [the guide](../how-to/convert.md) says.
"""
_COLUMNS = """
"Same" is the largest difference of logits to the given network, in units of their range (B = 1, biases kept). "Adds up" is
what contributions and constants leave of the logit, in units of the largest logit. "Constants" are the kinds that the given
network has, as parts of all magnitudes of the highest logit; "left" is what norm biases leave of them; "zeroed" are biases
that no layer could take over.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    args.page.write_text(page(list(json.loads(args.json.read_text("utf-8")).values())), "utf-8")


def page(rows: list[dict[str, Any]]) -> str:
    """The page of these rows, in Markdown."""
    exact = [row for row in rows if row["verdict"] == "exact"]
    refused = [row for row in rows if row["verdict"] == "refused"]
    others = [row for row in rows if row["verdict"] not in ("exact", "refused")]
    parts = [_HEAD, _summary(rows, exact)]
    if refused:
        parts.append("## Refused, by name\n\n" + "\n".join(f"- `{row['name']}`: {row['note']}" for row in refused) + "\n")
    if others:
        parts.append("## Faults\n\n" + "\n".join(f"- `{row['name']}`: {row['verdict']}. {row['note']}" for row in others) + "\n")
    zeroed = [row for row in exact if row["zeroed"]]
    if zeroed:
        named = ", ".join(f"`{row['name']}` ({row['zeroed']})" for row in zeroed)
        few = "one network" if len(zeroed) == 1 else f"{len(zeroed)} networks"
        parts.append(
            f"## Biases that are set to zero\n\nOf {few} norm biases cannot take over all that is added: it stands inside a "
            f"function that is no sum. The report names them; what they gave is lost until training: {named}.\n"
        )
    parts += ["## All of them", _COLUMNS, _table(exact)]
    return "\n".join(parts)


def _summary(rows: list[dict[str, Any]], exact: list[dict[str, Any]]) -> str:
    lines = [
        "| library | tried | converted | same function: median, largest | adds up: largest | nothing left | something left |",
        "|---|---|---|---|---|---|---|",
    ]
    for library in dict.fromkeys(row["name"].partition(":")[0] for row in rows):
        here, tried = ([row for row in some if row["name"].startswith(f"{library}:")] for some in (exact, rows))
        wide = [row for row in here if row["precision"] == "float64"]
        same = f"{statistics.median(_of(wide, 'same')):.0e}, {max(_of(wide, 'same')):.0e}" if wide else "–"
        sums = f"{max(_of(wide, 'adds_up')):.0e}" if wide else "–"
        free = sum(not row["left"] for row in here)
        lines.append(f"| {library} | {len(tried)} | {len(here)} | {same} | {sums} | {free} | {len(here) - free} |")
    narrow = [row for row in exact if row["precision"] != "float64"]
    words = [f"\n{len(exact)} of {len(rows)} are converted. The numbers are of networks that compute in float64 throughout."]
    if narrow:
        words.append(f"{len(narrow)} cast to float32 inside, and agree to {max(_of(narrow, 'same')):.0e}.")
    rough = [row for row in exact if row["precision"] == "float64" and row["same"] > 1e-12]
    for row in rough:
        words.append(
            f"`{row['name']}` differs by {row['same']:.0e}: deep random networks enlarge rounding, and changed last bits of the "
            f"picture change the given network itself by {row['last_bit']:.0e}."
        )
    return "\n".join(lines) + "\n" + "\n".join(words) + "\n"


def _of(rows: Iterable[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows]


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| architecture | layers | same | adds up | constants | left | zeroed |", "|---|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: row["name"].lower()):
        numbers = f"{row['same']:.0e} | {row['adds_up']:.0e} | {_kinds(row['kinds'])} | {_kinds(row['left'])}"
        lines.append(f"| `{row['name']}` | {row['layers']} | {numbers} | {row['zeroed'] or ''} |")
    return "\n".join(lines) + "\n"


def _kinds(shares: dict[str, float]) -> str:
    return ", ".join(f"{kind} {share:.0%}" for kind, share in sorted(shares.items(), key=lambda one: -one[1])) or "none"


if __name__ == "__main__":
    main()
