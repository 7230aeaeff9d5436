"""Write docs/explanation/claims.md from claims.json, and from nothing else.

python benchmarks/paper/page.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE, JSON = ROOT / "docs" / "explanation" / "claims.md", Path(__file__).with_name("claims.json")
_FIGURES = {
    "c": ("claims-sharpness.png", "Localisation and accuracy against B, beside the published medians"),
    "e": ("claims-deletion.png", "Probability of the label while the least important pixels go"),
    "f": ("claims-neurons.png", "A photo; why its class; what the neurons that matter most in layers 4, 3 and 2 look at"),
    "g": ("claims-checkerboard.png", "Mean power of the maps at each frequency, the lowest in the middle"),
    "i": ("claims-accuracy.png", "Difference of accuracy to the twin, with intervals"),
}
_ABOUT = """\
# The paper's claims, small and in our own numbers

<!-- written by benchmarks/paper/page.py from benchmarks/paper/claims.json: change those -->

What the papers on B-cos networks claim, measured again with small means: small networks, minutes of training on one core, and
numbers that anybody can make again. Small trainings cannot confirm a number of ImageNet. They can show that a claim fails, and
which way things go. A claim that fails here is reported as failing; one that lacks trainings as *not shown yet*.

- **Brackets** hold 95 % bootstrap intervals over pictures (over grids in grid pointing: cells of one grid are not independent).
  They say nothing of other seeds: unless a table says otherwise, every network was trained once, with seed 42.
- **Published** numbers are of other networks and longer trainings, on other data where the table says so. CIFAR-10 here is a JPEG
  copy on which every network scores about ten points less. Look at the order, not at the distance.
- **Trainings** are those of [`benchmarks/paper/table.py`](../../benchmarks/paper/table.py): recipe, settings and time of each.
  CIFAR-10: 5 epochs instead of 100. Imagenette: the embedded network's recipe at 64 px, 12 epochs instead of 60. Processor
  without bfloat16, one thread, float32, torch 2.14.
- **All again:** `python benchmarks/paper/train.py --data DIR --runs DIR`, `claims.py` with the same, `figures.py`, `page.py`.
"""


def page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    claims = found["claims"]
    lines = [_ABOUT, "| claim | | verdict |", "|---|---|---|"]
    for letter, claim in claims.items():
        anchor = f"({letter}) {claim['title']}".lower()
        anchor = "".join(c for c in anchor if c.isalnum() or c in " -").replace(" ", "-")
        lines.append(f"| ({letter}) | [{claim['title']}](#{anchor}) | **{claim['verdict']}** |")
    return "\n".join([*lines, "", *(section(letter, claim) for letter, claim in claims.items())])


def section(letter: str, claim: Mapping[str, Any]) -> str:
    """One claim: verdict, table, figure, remarks, command."""
    parts = [f"## ({letter}) {claim['title']}", f"**{claim['verdict'].capitalize()}.** {claim['why']}"]
    if claim["rows"]:
        parts.append(table(claim))
        if letter in _FIGURES and (letter != "c" or len(claim["rows"]) > 1):
            file, words = _FIGURES[letter]
            parts.append(f"![{words}](../pictures/{file})\n\n*{words}.*")
    remarks = [*(claim["notes"] if claim["rows"] else []), f"Published: {claim['published']}."]
    if claim["missing"]:
        remarks.append(f"Not there yet: {', '.join(claim['missing'])}.")
    parts.append("\n".join(f"- {one}" for one in remarks))
    parts.append(f"```console\n{claim['command']}\n```\n")
    return "\n\n".join(parts)


def table(claim: Mapping[str, Any]) -> str:
    """Rows and columns; a published number stands in a column of its own where any row has one."""
    heads, keys = [""], []
    for column in claim["columns"]:
        cells = [row["cells"].get(column["key"]) for row in claim["rows"]]
        if not any(cells):
            continue
        heads.append(column["name"])
        keys.append((column["key"], "value"))
        if any(one and "published" in one for one in cells):
            heads.append("published")
            keys.append((column["key"], "published"))
    heads.append("n")
    lines = [heads, ["---"] * len(heads)]
    for row in claim["rows"]:
        numbers = {one["n"] for one in row["cells"].values() if one.get("n")}
        written = [written_cell(row["cells"].get(key), part) for key, part in keys]
        lines.append([row["label"], *written, ", ".join(f"{n:,}" for n in sorted(numbers))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def written_cell(cell: Mapping[str, Any] | None, part: str) -> str:
    """A number with its interval; "–" for none."""
    if cell is None or cell.get(part) is None:
        return "–" if part == "value" else ""
    value = written(cell[part])
    if part == "published" or cell.get("low") is None:
        return value
    lost = f"; {cell['undefined']} undefined" if cell.get("undefined") else ""
    return f"{value} ({written(cell['low'])} to {written(cell['high'])}{lost})"


def written(value: float) -> str:
    """As many digits as say something.

    >>> [written(v) for v in (82.04, 0.98765, 0.00001234, 0)]
    ['82.0', '0.988', '1.2e-05', '0.000']
    """
    if value and abs(value) < 0.0005:
        return f"{value:.1e}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def main() -> None:
    PAGE.write_text(page(json.loads(JSON.read_text("utf-8"))), "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
