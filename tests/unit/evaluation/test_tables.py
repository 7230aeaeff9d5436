from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import torch

from tests.compared import METHODS, MODELS, comparison, cost
from torchbcos.evaluation.tables import (
    ROW_COLUMNS,
    VALUE_COLUMNS,
    comparison_csv,
    comparison_markdown,
    items_words,
    write_values,
)


def test_rows_come_back_from_csv_with_all_their_digits() -> None:
    facts = comparison()
    facts["rows"][1]["mean"] = math.nan
    rows = list(csv.DictReader(io.StringIO(comparison_csv(facts))))
    assert len(rows) == len(facts["rows"]) and list(rows[0]) == list(ROW_COLUMNS)
    assert float(rows[0]["mean"]) == facts["rows"][0]["mean"] and rows[1]["mean"] == ""
    assert rows[0]["same_as"] == "input_x_gradient" and rows[0]["undefined"] == "0"


def test_no_field_is_a_formula() -> None:
    facts = comparison()
    for row, method in zip(facts["rows"], ("=1+1", "+1", "-1", "@a", "a=1"), strict=False):
        row["method"] = method
    rows = list(csv.DictReader(io.StringIO(comparison_csv(facts))))
    assert [row["method"] for row in rows[:5]] == ["'=1+1", "'+1", "'-1", "'@a", "a=1"]
    facts["rows"][0]["mean"] = -0.5
    assert next(csv.DictReader(io.StringIO(comparison_csv(facts))))["mean"] == "-0.5"  # a number is none


def cells(line: str) -> int:
    """Columns of a line of a table."""
    return line.replace("\\|", "").count("|") - 1


def test_tables_are_whole() -> None:
    facts = comparison()
    facts["rows"][0]["note"] = "a|b\nc"
    facts["methods"][0]["label"] = facts["rows"][0]["method"] = "in|herent\nnext"
    lines = comparison_markdown(facts, cost()).splitlines()
    tables = [i for i, line in enumerate(lines) if line.startswith("| ---")]
    assert len(tables) == len(MODELS) + len(facts["metrics"]) + 3  # at a glance, metrics, pairs, rankings, costs
    for i in tables:
        end = lines.index("", i) if "" in lines[i:] else len(lines)
        rows = [lines[i - 1], *lines[i + 1 : end]]
        assert {cells(line) for line in rows} == {cells(lines[i])}, lines[i - 1]


def test_what_it_says_stands_first_with_marks() -> None:
    text = comparison_markdown(comparison(), cost())
    assert text.startswith("# Which explanation to trust: 6 methods by 3 metrics on 2 models\n")
    assert "| inherent | **0.90" in text and " ≈ |" in text and " ▽ |" in text
    assert text.index("On embedded, inherent is among the best") < text.index("| method |") < text.index("## grid-pointing")
    assert "Its limits: What grid-pointing does not see." in text
    assert "| lime | plain twin | – | – |" in text and "nan" not in text and "None" not in text


def test_markdown_keeps_names_as_they_are() -> None:
    facts = comparison()
    facts["sentences"] = ["<b>a</b> [x](y) *z* `w` _v_ input_x_gradient # 1"]
    line = next(line for line in comparison_markdown(facts).splitlines() if "z" in line and "v" in line and line.startswith("- "))
    assert line == "- &lt;b&gt;a&lt;/b&gt; \\[x\\](y) \\*z\\* \\`w\\` \\_v\\_ input_x_gradient # 1"


def test_every_method_is_at_a_glance() -> None:
    text = comparison_markdown(comparison()).partition("**Bold**")[0]
    assert all(text.count(f"| {method} |") == len(MODELS) for method in METHODS)
    assert "gini" not in text  # no value of it is better


def test_numbers_of_items_are_a_table_of_their_own(tmp_path: Path) -> None:
    facts = {
        "metrics": [{"label": "gini", "items": "pictures"}, {"label": "game", "items": "grids-2"}],
        "items": {
            "pictures": {"names": ["a,1.png", "=b"], "classes": ["x", "-y"]},
            "grids-2": {"names": [["a", "b\n", "c", "d"]], "classes": [["w", "x", "y", "z"]]},
        },
    }
    values = {
        ("m", "rise", "gini"): torch.tensor([[0.1], [math.nan]], dtype=torch.float64),
        ("=m", "rise", "game"): torch.tensor([[0.25, 0.5, 0.125, 0.125]], dtype=torch.float64),
    }
    write_values(tmp_path / "v.csv", facts, values)
    with (tmp_path / "v.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == VALUE_COLUMNS
    assert rows[1:3] == [["m", "rise", "gini", "1", "a,1.png", "x", "0.1"], ["m", "rise", "gini", "2", "'=b", "'-y", ""]]
    assert [row[3:] for row in rows[3:]] == [
        ["1", "a", "w", "0.25"], ["1", "b\\n", "x", "0.5"], ["1", "c", "y", "0.125"], ["1", "d", "z", "0.125"],
    ]  # fmt: skip
    assert all(row[0] == "'=m" for row in rows[3:])


def test_sets_are_called_what_they_are() -> None:
    assert items_words("boxes", {"count": 2}) == "2 pictures with boxes"
    assert items_words("boxes", {"count": 1}) == "1 picture with boxes"
    assert items_words("grids-3", {"n": 3, "count": 1}) == "1 grid of 3 x 3"
    text = comparison_markdown(comparison(), cost())
    assert "grids-2" not in text
