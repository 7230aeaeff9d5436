"""Write the table of all methods in docs/benchmark/embedded.md from the JSON beside it.

python benchmarks/paper/embedded.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "benchmark"
PAGE = FOLDER / "embedded.md"
BEGIN, END = "<!-- written by benchmarks/paper/embedded.py -->\n", "<!-- end -->\n"
COLUMNS = (  # metric, what it is called, its file
    ("grid-pointing", "2×2", "embedded.json"), ("grid-pointing:n=3", "3×3", "embedded-3x3.json"),
    ("dipart", "DiPart", "embedded-dipart.json"), ("single-deletion", "single deletion", "embedded.json"),
)  # fmt: skip
MODELS = {"bcos": "B-cos network", "plain": "twin"}


def table() -> str:
    """Mean, median and 5th percentile of each method, the best by 2×2 first; maps without a network are left out."""
    read: dict[str, Any] = {file: json.loads((FOLDER / file).read_text("utf-8")) for _, _, file in COLUMNS}
    rows = {(row["model"], row["method"], row["metric"]): row for found in read.values() for row in found["rows"]}
    methods = [one["label"] for one in read["embedded.json"]["methods"] if not one["dumb"]]
    heads = [f"{name}: {what}" if what == "mean" else what for _, name, _ in COLUMNS for what in ("mean", "median", "5 %")]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for model, name in MODELS.items():
        order = sorted(methods, key=lambda method: -rows[model, method, "grid-pointing"]["mean"])
        for method in order:
            if model == "plain" and method == "inherent":
                continue  # of an ordinary network that is input × gradient
            cells = [f"{rows[model, method, metric][key]:.3f}" for metric, _, _ in COLUMNS for key in ("mean", "median", "p5")]
            lines.append(f"| {name}: `{method}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
