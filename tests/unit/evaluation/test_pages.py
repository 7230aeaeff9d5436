from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.compared import METHODS, comparison, cost, pair
from tests.pages import page_faults, read_page
from torchbcos._core.errors import InputError, MissingFileError, StateError
from torchbcos._core.files import finite_or_null
from torchbcos.evaluation import pages
from torchbcos.evaluation.aggregate import aggregate
from torchbcos.evaluation.cases import Average, Case, Cases
from torchbcos.evaluation.pages import comparison_page, metric_figure, write_comparison
from torchbcos.rendering.draw import draw
from torchbcos.rendering.page import Html, Section, document
from torchbcos.rendering.svg import svg

EVIL = "<script>alert(1)</script>\"'&\x1b[2J\u202e|`=1+1"


def words(page: str) -> str:
    return " ".join(" ".join(read_page(page).words).split())


def cases(name: str = "dog.jpg") -> list[Cases]:
    grey = np.full((8, 8, 3), 0.5)
    best = [Case(name, 0.9 - i / 10, grey, grey, "sure") for i in range(2)]
    bins = aggregate(torch.rand(20, 8, 8), torch.linspace(0, 1, 20), edges=(0, 5, 100))
    averages = [Average(one, one.worst, one.best, grey) for one in bins]
    return [Cases("embedded", "inherent", "grid-pointing", best, best[::-1], averages)]


def curves() -> dict[tuple[str, str, str], dict[str, torch.Tensor]]:
    return {("embedded", method, "deletion"): {"most": torch.rand(5, 9)} for method in METHODS[:3]}


def test_the_page_is_one_file_in_which_every_part_stands() -> None:
    page = comparison_page(comparison(), cost(), cases(), curves())
    assert page_faults(page) == []
    heads = ["What it says", "grid-pointing", "deletion", "gini", "Best, worst and average cases", "All rows"]
    heads += ["Paired differences", "Do they agree?", "Settings, data and costs"]
    found = [text for text in read_page(page).words if text in heads]
    assert list(dict.fromkeys(found)) == heads
    assert page.count("<img") == 2 * 4 + 2 and len(comparison_page(comparison(), cost()).encode()) < 150_000


def test_a_reader_is_told_first_what_to_trust_and_what_is_not_seen() -> None:
    page = words(comparison_page(comparison(), cost()))
    order = ["On embedded, inherent is among the best methods", "Its limits. What grid-pointing does not see.", "All rows"]
    places = [page.rindex(text) if text == "All rows" else page.index(text) for text in order]
    assert places == sorted(places)
    assert "On embedded, not told apart from inherent: input_x_gradient." in page
    assert "On embedded, not surely better than edges" in page and "Not read, and in no number (1): val/broken.jpg." in page
    assert page.index("Before you trust a number") < page.index("grid-pointing and deletion rank the methods alike.")


def test_missing_numbers_are_a_dash_and_undefined_ones_are_counted() -> None:
    page = comparison_page(finite_or_null(comparison()), cost())
    assert "nan" not in words(page).lower().split() and "None" not in words(page)
    assert "undefined for all" in page
    assert "lime on plain twin: 800 of 800 values are undefined." in words(page)
    assert "rise on embedded: 3 of 800 values are undefined, and count as 0." in words(page)


def test_a_comparison_with_the_least_there_can_be() -> None:
    facts = comparison()
    for name in ("rows", "pairs", "rankings", "sentences"):
        facts[name] = []
    assert page_faults(comparison_page(facts)) == []
    facts["models"], facts["methods"], facts["metrics"] = facts["models"][:1], [], []
    assert page_faults(comparison_page(facts)) == []


def test_names_of_strangers_stay_text_in_every_file(tmp_path: Path) -> None:
    facts: dict[str, Any] = json.loads(json.dumps(comparison()).replace("inherent", "NAME").replace("plain twin", "MODEL"))
    text = json.dumps(facts).replace("NAME", json.dumps(EVIL)[1:-1]).replace("MODEL", json.dumps(EVIL + "m")[1:-1])
    facts = json.loads(text)
    write_comparison(facts, cost(), tmp_path, "a", cases(EVIL), curves())
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page_faults(page) == [] and sum(tag == "script" for tag, _ in read_page(page).elements) == 1
    for name in ("a.html", "a.md", "a.csv"):
        assert not {"\x1b", "\u202e"} & set((tmp_path / name).read_text("utf-8")), name
    assert "<script>" not in (tmp_path / "a.md").read_text("utf-8")


def test_five_files_are_written_and_say_the_same_twice(tmp_path: Path) -> None:
    files = write_comparison(comparison(), cost(), tmp_path / "new", "compare", cases(), {})
    assert sorted(file.name for file in files) == sorted(os.listdir(tmp_path / "new"))
    assert {file.name.partition(".")[2] for file in files} == {"json", "cost.json", "csv", "md", "html"}
    first = {file: file.read_bytes() for file in files}
    write_comparison(comparison(), cost(), tmp_path / "new", "compare", cases(), {})
    assert {file: file.read_bytes() for file in files} == first
    facts = json.loads((tmp_path / "new" / "compare.json").read_text("utf-8"))
    assert facts == comparison()
    write_comparison(facts, cost(), tmp_path / "new", "compare", cases(), {})  # from its JSON again
    assert {file: file.read_bytes() for file in files} == first


def test_all_files_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_comparison(comparison(), cost(), tmp_path, "a")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    facts = comparison() | {"seed": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(StateError, match="No space left on device"):
            write_comparison(facts, cost(), tmp_path, "a")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    write_comparison(facts, cost(), tmp_path, "a")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} != before


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a\\b", "a\nb", "x" * 300])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name of a comparison"):
        write_comparison(comparison(), cost(), tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    for folder in (tmp_path / "file", tmp_path / "no" / "such"):
        with pytest.raises(MissingFileError, match="is no folder, and cannot become one"):
            write_comparison(comparison(), cost(), folder, "a")


def test_the_test_of_strangers_names_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "paragraph", lambda *parts: Html("<p>" + "".join(parts) + "</p>"))
    facts = comparison()
    facts["metrics"][0]["summary"] = "<script>1</script>"
    assert page_faults(comparison_page(facts)) != []
    assert page_faults(document("a", [Section("b", ["<script>1</script>"])])) == []


def test_a_figure_is_made_from_the_json_alone() -> None:
    facts = json.loads(json.dumps(finite_or_null(comparison())))
    drawing = metric_figure(facts, "grid-pointing")
    assert svg(drawing) in comparison_page(facts) and draw(drawing, scale=1).width == 852
    with pytest.raises(
        InputError, match=r"no metric 'grid-poynting'\. Did you mean 'grid-pointing'\? It has grid-pointing, deletion, gini"
    ):
        metric_figure(facts, "grid-poynting")


def test_numbers_that_no_axis_can_hold_leave_a_page() -> None:
    facts = comparison()
    for row, value in zip(facts["rows"], (math.inf, -math.inf, 1e300, -1e300, 1e-300, 0.0), strict=False):
        row |= {"mean": value, "median": value, "p5": value, "p75": value}
    facts["pairs"].append(pair("embedded", "deletion", "rise", "lime", math.nan, math.nan))
    assert page_faults(comparison_page(facts, cost())) == []
