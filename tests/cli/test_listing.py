"""`torchbcos evaluate --list`: what a newcomer reads, in an empty folder, at any width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from torchbcos.attribution import METHODS
from torchbcos.cli.__main__ import app
from torchbcos.metrics import METRICS


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*words: str, columns: int = 80) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": str(columns), "TERM": "dumb"}).invoke(app, list(words), prog_name="torchbcos")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("columns", [40, 80, 140, 200])
def test_every_metric_is_listed_with_what_it_needs_costs_and_was_checked_against(columns: int, tmp_path: Path) -> None:
    code, out, err = call("evaluate", "--list", columns=columns)
    assert (code, list(tmp_path.iterdir())) == (0, []) and "What each number does not see" in err and "predict: a function" in err
    assert max(map(len, out.splitlines())) <= columns
    begins = {line.split()[0] for line in out.splitlines() if line and line[0] != " "}
    assert {*METHODS, *METRICS} <= begins
    if columns < 140:  # in wider ones the words of a cell stand beside those of the next
        for one in [*METHODS.values(), *METRICS.values()]:
            for said in (one.summary, one.needs, one.cost, one.verified):
                assert squeezed(said) in squeezed(out)


def test_json_has_both_lists() -> None:
    code, out, err = call("evaluate", "--list", "--json")
    found: dict[str, list[dict[str, Any]]] = json.loads(out)
    assert (code, err, sorted(found)) == (0, "", ["methods", "metrics"])
    assert [[one["name"] for one in found[kind]] for kind in ("methods", "metrics")] == [list(METHODS), list(METRICS)]
    for one in found["methods"]:
        assert one == {key: getattr(METHODS[one["name"]], key) for key in one} and "build" not in one and len(one) == 10
    for one in found["metrics"]:
        expected = {key: value for key, value in vars(METRICS[one["name"]]).items() if key != "function"}
        assert one == expected
    assert call("evaluate", "--json", "--list")[1] == out


@pytest.mark.parametrize("words", [("evaluate", "--list", "accuracy", "--data", "nowhere"), ("evaluate", "--list")])
def test_nothing_is_measured_where_a_list_is_asked_for(words: tuple[str, ...]) -> None:
    code, out, err = call(*words)
    assert code == 0 and out.startswith("method") and "nowhere" not in out + err


def test_a_json_that_belongs_elsewhere_is_said() -> None:
    for words in (("evaluate", "--json"), ("evaluate", "--json", "accuracy", "--data", "nowhere")):
        code, _, err = call(*words)
        assert code == 2 and "behind the measurement" in err and err.count("\n") == 1
