"""A budget of time: what is spared is said, stays the same when a comparison goes on, and is never everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.coloured import classifier, folder
from torchbcos._core.errors import InputError
from torchbcos.evaluation import budget, compare
from torchbcos.evaluation.units import Worker

METHODS = ["inherent", "rise:samples=64", "random"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("budget") / "data", 3)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """Method -> seconds of its maps and scores: a clock of our own."""
    found = {"inherent": (0.1, 0.1), "rise:samples=64": (1.0, 0.1), "random": (0.0, 0.1)}
    monkeypatch.setattr(budget, "_cost", lambda worker, method: found.get(method.label, (0.0, 0.0)))
    return found


def items(found: Any) -> dict[str, int]:
    return {name: one["count"] for name, one in found.facts["items"].items()}


def samples(found: Any) -> Any:
    return found.facts["methods"][1]["settings"].get("samples")


@pytest.mark.parametrize(
    ("seconds", "divided", "count"),
    [
        (1000.0, 1, 15),  # all of it
        (90.0, 1, 9),  # 81 seconds for 8.4 an item: an eighth of the samples takes 1 of them
        (20.0, 4, 7),
        (0.01, 8, 1),  # over already: what is done is enough
    ],
)
def test_what_is_spared(
    seconds: float, divided: int, count: int, data: Path, costs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_ENOUGH", 5)
    monkeypatch.setattr("torchbcos.evaluation.comparing.time.monotonic", lambda: 0.0)
    found = compare([classifier()], METHODS, ["gini"], data, budget=seconds)
    assert items(found) == {"pictures": count} and samples(found) == 64 // divided
    said = " ".join(found.sentences)
    assert (f"{count} of 15 pictures" in said) == (count < 15)
    assert (f"rise:samples=64 {64 // divided} of 64" in said) == (divided > 1)


@pytest.mark.parametrize(("given", "kept"), [(64, 32), (20, 20), (1000, 125)])
def test_what_needs_samples_to_be_defined_keeps_them(
    given: int, kept: int, data: Path, costs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    costs |= {f"lime:samples={given}": (1.0, 0.1)}
    monkeypatch.setattr("torchbcos.evaluation.comparing.time.monotonic", lambda: 0.0)
    found = compare([classifier()], ["inherent", f"lime:samples={given}"], ["gini"], data, budget=0.01)
    assert samples(found) == kept and not found.rows[1]["undefined"]


def test_time_that_is_over_counts(data: Path, costs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *[50.0] * 100])
    monkeypatch.setattr("torchbcos.evaluation.comparing.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(budget, "_ENOUGH", 1)
    assert items(compare([classifier()], METHODS, ["gini"], data, budget=90.0)) == {"pictures": 3}, "31 seconds are left"


def test_one_that_goes_on_decides_the_same(data: Path, tmp_path: Path, costs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"budget": 40.0, "out": tmp_path}
    first = compare([classifier()], METHODS, ["gini", "grid-pointing"], data, **asked)
    costs.update(dict.fromkeys(costs, (1.0, 1.0)))  # a slower machine
    units: list[int] = []
    run = Worker.run
    monkeypatch.setattr(Worker, "run", lambda self, unit: (units.append(1), run(self, unit))[1])
    again = compare([classifier()], METHODS, ["gini", "grid-pointing"], data, **asked)
    assert json.dumps(first.to_dict()) == json.dumps(again.to_dict())
    other = compare([classifier()], METHODS, ["gini", "grid-pointing"], data, budget=5.0, out=tmp_path)
    assert items(other) != items(first)


def test_the_real_clock(data: Path) -> None:
    found = compare([classifier()], ["inherent", "random"], ["gini"], data, budget=600)
    assert items(found) == {"pictures": 15} and not [text for text in found.sentences if "budget" in text]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "60", True, None.__class__])
def test_what_is_no_time(seconds: Any, data: Path) -> None:
    with pytest.raises(InputError, match="budget is seconds"):
        compare([classifier()], ["random"], ["gini"], data, budget=seconds)
