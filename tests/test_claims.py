"""docs/explanation/claims.md says what benchmarks/paper/claims.json holds, and verdicts follow from numbers."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from torchbcos.training.recipe import find_recipe, read_recipe, with_settings

ROOT = Path(__file__).parents[1]
PAPER, PAGE = ROOT / "benchmarks" / "paper", ROOT / "docs" / "explanation" / "claims.md"


def script(name: str) -> Any:
    """A file of benchmarks/paper that imports none of the others."""
    spec = importlib.util.spec_from_file_location(f"paper_{name}", PAPER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def claims() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PAPER / "claims.json").read_text("utf-8"))["claims"]
    return found


def test_page_is_current(claims: dict[str, Any]) -> None:
    page = script("page")
    written = PAGE.read_text("utf-8")
    assert page.page({"claims": claims}) == written, "run: python benchmarks/paper/page.py"
    changed = {**claims, "f": {**claims["f"], "verdict": "planted"}}
    assert page.page({"claims": changed}) != written  # the test can fail
    pictures = re.findall(r"\]\(\.\./pictures/([^)]+)\)", written)
    assert pictures and all((ROOT / "docs" / "pictures" / name).is_file() for name in pictures)


def test_every_claim_has_what_a_reader_needs(claims: dict[str, Any]) -> None:
    assert list(claims) == list("abcdefghi")
    for claim in claims.values():
        assert (
            claim["verdict"] in ("holds", "fails", "not shown yet") and claim["why"] and claim["published"] and claim["command"]
        )
        assert claim["missing"] or claim["verdict"] != "not shown yet"
        for row in claim["rows"]:
            for cell in row["cells"].values():
                assert cell.get("low") is None or (cell["low"] <= cell["value"] <= cell["high"] and cell["n"] > 0)


def comparison(low: float, high: float, *, other_first: bool = False) -> dict[str, Any]:
    """A comparison of two networks in which the inherent explanation differs so from `rise` on the twin."""
    ours, theirs = ("ours", "inherent"), ("twin", "rise")
    first, second = (theirs, ours) if other_first else (ours, theirs)
    ends = (-high, -low) if other_first else (low, high)
    numbers = {"median": 0.5, "median_low": 0.4, "median_high": 0.6, "n": 9, "undefined": 0, "p5": 0.1}
    return {
        "models": [{"label": "ours", "plain": False}, {"label": "twin", "plain": True}],
        "methods": [
            {"label": "inherent", "kind": "inherent", "dumb": False},
            {"label": "rise", "kind": "perturbation", "dumb": False},
            {"label": "edges", "kind": "fixed", "dumb": True},
        ],
        "metrics": [{"label": "grid-pointing", "name": "grid-pointing", "best": "high"}],
        "rows": [{"model": m, "method": n, "metric": "grid-pointing", **numbers} for m, n in (ours, theirs)],
        "pairs": [{"model": first[0], "method": first[1], "other_model": second[0], "other": second[1],
                   "metric": "grid-pointing", "low": ends[0], "high": ends[1]}],
        "sentences": [],
    }  # fmt: skip


@pytest.mark.parametrize("other_first", [False, True])
@pytest.mark.parametrize(("low", "high", "verdict"), [(0.1, 0.2, "holds"), (-0.1, 0.2, "fails"), (-0.2, -0.1, "fails")])
def test_the_verdict_on_methods_follows_from_paired_differences(low: float, high: float, verdict: str, other_first: bool) -> None:
    found = script("methods").against_twin(comparison(low, high, other_first=other_first))
    assert found["verdict"] == verdict
    assert ("worse than rise" in found["why"]) == (high < 0)


def test_without_a_comparison_nothing_is_shown() -> None:
    assert script("methods").against_others(None)["verdict"] == "not shown yet"


def test_names_of_runs_are_theirs_alone() -> None:
    runs = script("table").RUNS
    assert len({run.name for run in runs}) == len(runs)
    assert {letter for run in runs for letter in run.claims} <= set("abcdefghi")


def test_every_run_is_a_recipe_with_settings_that_exist() -> None:
    table = script("table")
    for run in table.RUNS:
        recipe = read_recipe(ROOT / run.recipe)[0] if run.recipe.endswith(".toml") else find_recipe(run.recipe)
        changed = with_settings(recipe, [f"{key}={value}" for key, value in {**table.MACHINE, **run.settings}.items()])
        assert changed.precision == "32" and changed.plain == ("plain" in run.name)


def test_the_table_of_the_comparison_is_current() -> None:
    embedded = script("embedded")
    written = embedded.PAGE.read_text("utf-8")
    between = written.partition(embedded.BEGIN)[2].partition(embedded.END)[0].strip()
    assert between == embedded.table().strip(), "run: python benchmarks/paper/embedded.py"
    assert between.count("\n") == 30 and "| B-cos network: `inherent` | 0.930 |" in between
