"""Searches: the journal of one that was stopped, its front, and how candidates are judged."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.reference import pruning as slow
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, StateError
from torchbcos.functional import add_inverse
from torchbcos.search import Candidate, Group, Judge, Pruner, Search, count_flops, search
from torchbcos.search.searching import AIMS, front_of

# -- a search of numbers alone, which counts what is asked ---------------------------------------------------------------------


class Counting(Judge):
    """Judges steps by a formula, without a network, and counts how often."""

    asked: list[tuple[int, ...]]

    def look(self, pruner: Any, steps: tuple[int, ...]) -> Candidate:
        self.asked.append(steps)
        flops = sum(steps) / (8 * len(steps))
        wrong = sum((8 - s) ** 2 * (1 + i % 3) for i, s in enumerate(steps)) / (150.0 * len(steps))
        localisation = sum(s * ((i * 7) % 5) for i, s in enumerate(steps)) / (40.0 * len(steps)) if self.grids else None
        return Candidate(steps, flops, round(1 - wrong / 3, 2), localisation)


def counting(grids: int = 4, pictures: int = 5) -> Counting:
    judge = Counting(torch.zeros(pictures, 1), torch.zeros(pictures), grids=grids)
    object.__setattr__(judge, "asked", [])
    return judge


def pruner_of(groups: int = 6, **other: Any) -> Any:
    """What a search asks of a pruner, but for networks."""
    found = [Group(f"layer{i}", 16, (), (f"layer{i + 1}",)) for i in range(groups)]
    return SimpleNamespace(groups=found, repair="norms", ranking="magnitude", digest="", **other)


def run(journal: Path | None, judge: Counting, pruner: Any = None, **other: Any) -> Search:
    options: dict[str, Any] = {"population": 6, "evaluations": 20, "seed": 3, **other}
    return search(pruner_of() if pruner is None else pruner, judge, journal=journal, **options)


@pytest.mark.parametrize("control", [False, True])
def test_a_search_is_repeated_and_written_down(control: bool, tmp_path: Path) -> None:
    judge, path = counting(), tmp_path / "a" / "b" / "candidates.jsonl"  # folders are made
    told: list[tuple[Candidate, int]] = []
    found = run(path, judge, control=control, told=lambda one, number: told.append((one, number)))
    assert len(found.candidates) == 20 == len(set(judge.asked)) and [one.steps for one in found.candidates] == judge.asked
    assert told == [(one, i) for i, one in enumerate(found.candidates, 1)]
    header, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert header["population"] == 6 and header["control"] is control
    assert [Candidate(**{**row, "steps": tuple(row["steps"])}) for row in rows] == list(found.candidates)
    assert run(None, counting(), control=control) == found
    assert run(None, counting(), control=not control) != found and run(None, counting(), control=control, seed=4) != found
    longer = run(path, judge, control=control, evaluations=30)
    assert longer.candidates[:20] == found.candidates and len(judge.asked) == 30  # a search goes on from what is known


@pytest.mark.parametrize("control", [False, True])
def test_a_search_that_was_stopped_anywhere_comes_to_the_same(control: bool, tmp_path: Path) -> None:
    path = tmp_path / "whole.jsonl"
    whole = run(path, counting(), control=control, evaluations=13)
    text = path.read_text()
    ends = [i + 1 for i, letter in enumerate(text) if letter == "\n"]
    cuts = [end + more for end in ends[::3] for more in (-1, 0, 1, 40) if ends[0] <= end + more <= len(text)]
    assert len(ends) == 14 and len(cuts) > 15
    for at in cuts:
        other, judge = tmp_path / "cut.jsonl", counting()
        other.write_text(text[:at])
        assert run(other, judge, control=control, evaluations=13) == whole
        there = text[:at].count("\n") - 1
        assert len(judge.asked) in (13 - there, 12 - there)  # a line that lacks its end alone may be whole
        again = counting()
        assert run(other, again, control=control, evaluations=13) == whole and again.asked == []
        assert other.read_text() == text


@pytest.mark.parametrize("at", [0, 1, 30, -1])
def test_a_search_that_was_stopped_in_the_first_line_begins_anew(at: int, tmp_path: Path) -> None:
    path, other = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    whole = run(path, counting())
    text = path.read_text()
    other.write_text(text.splitlines()[0][:at] if at >= 0 else text.splitlines()[0])
    for asked in (20, 0):
        judge = counting()
        assert run(other, judge) == whole and len(judge.asked) == asked
    assert other.read_text() == text


ODD = '{"steps": [[1], 2], "flops": 1, "accuracy": 1, "localisation": null}'
LINES = [ODD, "", "{}", "[]", "3", '{"steps": 3}', "\x00", '{"steps": [[1], 2]}', "né"]


@settings(max_examples=10)
@given(spoiled=st.integers(1, 20), line=st.sampled_from(LINES))
def test_a_spoiled_line_and_what_follows_is_scored_again(
    spoiled: int, line: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("journal") / "a.jsonl"
    whole = run(path, counting())
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{one}\n" for one in [*lines[:spoiled], line, *lines[spoiled:]]), encoding="utf-8")
    judge = counting()
    assert run(path, judge) == whole and len(judge.asked) == 21 - spoiled
    assert path.read_text().splitlines() == lines


def test_a_journal_that_is_killed_holds_whole_lines(tmp_path: Path) -> None:
    """What was scored before an error is on the disk, and nothing else."""
    path = tmp_path / "a.jsonl"

    class Failing(Counting):
        def look(self, pruner: Any, steps: tuple[int, ...]) -> Candidate:
            if len(self.asked) == 11:
                raise KeyboardInterrupt
            return super().look(pruner, steps)

    judge = Failing(torch.zeros(5, 1), torch.zeros(5), grids=4)
    object.__setattr__(judge, "asked", [])
    with pytest.raises(KeyboardInterrupt):
        run(path, judge)
    assert len(path.read_text().splitlines()) == 12
    later = counting()
    assert run(path, later) == run(None, counting()) and len(later.asked) == 9


@pytest.mark.parametrize(
    "other",
    [
        {"population": 7}, {"seed": 4}, {"control": True}, {"pruner": pruner_of(5)}, {"judge": counting(grids=5)},
        {"judge": counting(pictures=6)}, {"judge": counting(grids=0)},
    ],
    ids=str,
)  # fmt: skip
def test_a_journal_of_another_search_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    run(path, counting())
    before = path.read_text()
    with pytest.raises(StateError, match="is of another search: give another folder, or the arguments that it was begun with"):
        run(path, **{"judge": counting(), **other})
    assert path.read_text() == before


def line_of_layers(seed: int = 0, b: float = 2) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), bnn.BcosLinear(16, 16, b=b), nn.ReLU(), nn.Linear(16, 3)).eval()


@pytest.mark.parametrize(
    ("change", "pruner", "judge"),
    [
        ("ranking", {"ranking": "contribution"}, {}),
        ("repair", {"repair": "norms"}, {}),
        ("gain", {"free_gain": False}, {}),
        ("exponent", {"network": line_of_layers(b=1.5)}, {}),
        ("network", {"network": line_of_layers(1)}, {}),
        ("pictures", {"x": torch.rand(20, 4) + 1}, {}),
        ("judge's pictures", {}, {"x": torch.rand(30, 4) + 1}),
        ("labels", {}, {"y": torch.zeros(30, dtype=torch.long)}),
    ],
)
def test_scores_of_another_network_or_of_other_pictures_are_not_taken(
    change: str, pruner: dict[str, Any], judge: dict[str, Any], tmp_path: Path
) -> None:  # fmt: skip
    """A journal holds scores: of whatever they were given for, and of nothing else."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(30, 4, generator=generator), torch.randint(3, (30,), generator=generator)

    def begun(pruner: dict[str, Any], judge: dict[str, Any]) -> Search:
        given_ = {"network": line_of_layers(), "x": x[:20], **pruner}
        made = Pruner(given_.pop("network"), given_.pop("x"), **given_)
        judged: Any = {"x": x, "y": y, "grids": 0, **judge}
        return search(made, Judge(**judged), population=4, evaluations=6, journal=tmp_path / "a.jsonl")

    begun({}, {})
    with pytest.raises(StateError, match="is of another search"):
        begun(pruner, judge)
    assert change


@pytest.mark.parametrize(
    "text", ["nonsense\n", "nonsense", "[1]\n", "[1]", "3\n{}\n", '{"groups": []}\n', '{"groups": []}', "\x00\x01\n"]
)
def test_what_is_no_journal_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(StateError, match=r"is of another search|is no journal of a search: give another folder"):
        run(path, counting())
    assert path.read_text() == text


@pytest.mark.parametrize(("population", "evaluations"), [(3, 20), (8, 7), (0, 0), (-4, 4)])
def test_numbers_that_are_too_small_are_refused(population: int, evaluations: int) -> None:
    text = f"population of at least 4 and as many evaluations, not {population} and {evaluations}"
    with pytest.raises(InputError, match=text):
        run(None, counting(), population=population, evaluations=evaluations)


@pytest.mark.parametrize("population", [4, 7, 16, 40])
def test_the_first_generation_is_as_large_as_asked(population: int) -> None:
    class Otherwise(Counting):
        def look(self, pruner: Any, steps: tuple[int, ...]) -> Candidate:
            return Candidate(steps, 1 - sum(steps) / 100, super().look(pruner, steps).flops, 0.5)

    judges = [kind(torch.zeros(5, 1), torch.zeros(5), grids=4) for kind in (Counting, Otherwise)]
    for judge in judges:
        object.__setattr__(judge, "asked", [])
        run(None, judge, pruner_of(9), population=population, evaluations=population + 10)
    first, other = (judge.asked[:population] for judge in judges)
    assert first == other and judges[0].asked != judges[1].asked  # it alone does not depend on scores
    uniform = [one[0] for one in first if len(set(one)) == 1]
    assert uniform[0] == 8 and uniform[-1] == 1 and uniform == sorted(set(uniform), reverse=True)
    assert len(uniform) == min(population, 8)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_network_of_few_groups_is_searched_to_its_end(groups: int) -> None:
    found = run(None, counting(), pruner_of(groups), population=16, evaluations=200)
    assert len(found.candidates) == 8**groups


# -- fronts --------------------------------------------------------------------------------------------------------------------


def candidates(whole: list[tuple[int, int, int]]) -> list[Candidate]:
    return [Candidate((i + 1,), a / 8, b / 8, c / 8) for i, (a, b, c) in enumerate(whole)]


NUMBERS = st.lists(st.tuples(st.integers(1, 8), st.integers(0, 5), st.integers(0, 8)), min_size=1, max_size=12)


@given(whole=NUMBERS, three=st.booleans())
def test_the_front_is_what_no_other_beats(whole: list[tuple[int, int, int]], three: bool) -> None:
    aims = AIMS if three else AIMS[:2]
    given_ = candidates(whole)
    found = Search(tuple(given_), aims).front()
    assert found == front_of(given_, aims) and [one.flops for one in found] == sorted(one.flops for one in found)
    numbers = [(one.flops, -one.accuracy, -(one.localisation or 0))[: len(aims)] for one in given_]
    assert {one.steps for one in found} == {given_[i].steps for i in slow.fronts(numbers)[0]}
    assert front_of([], aims) == []


@settings(max_examples=100)
@given(whole=NUMBERS, three=st.booleans(), most=st.integers(1, 8))
def test_the_best_is_the_most_accurate_that_is_small_enough(
    whole: list[tuple[int, int, int]], three: bool, most: int
) -> None:  # fmt: skip
    found = Search(tuple(candidates(whole)), AIMS if three else AIMS[:2])
    fitting = [one for one in candidates(whole) if one.flops <= most / 8]
    if not fitting:
        least = min(one.flops for one in found.candidates)
        with pytest.raises(StateError, match=f"No candidate does with {most / 8:.0%} .* the smallest needs {least:.0%}"):
            found.best(most / 8)
        return
    best = found.best(most / 8)
    assert best in found.front() and best.flops <= most / 8
    score = (lambda one: one.accuracy + one.localisation) if three else (lambda one: one.accuracy)
    assert score(best) == max(score(one) for one in fitting)


def test_aims_are_minimised() -> None:
    one = Candidate((1,), 0.25, 0.75, 0.5)
    assert one.aims() == (0.25, 0.25, 0.5) and one.aims(("flops", "accuracy")) == (0.25, 0.25)
    assert Candidate((1,), 0.25, 0.75).aims() == (0.25, 0.25, 1.0)
    search_ = run(None, counting(grids=0))
    assert search_.aims == ("flops", "accuracy") and {one.localisation for one in search_.candidates} == {None}
    assert run(None, counting()).aims == AIMS


# -- judging -------------------------------------------------------------------------------------------------------------------


class Colours(nn.Module):
    """A network that says of which of four colours a picture is, by its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(4, 4, 1, bias=False)
        self.look.weight.data = torch.eye(4)[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.look(x)
        return out.mean((2, 3))


def coloured(classes: list[int]) -> Tensor:
    x = torch.zeros(len(classes), 4, 6, 6)
    for i, c in enumerate(classes):
        x[i, c] = 1
    return x


def test_pictures_are_judged_by_their_classes_and_grids_by_their_cells() -> None:
    y = torch.arange(120) % 4
    judge = Judge(coloured(y.tolist()), y, grids=30)
    assert judge.accuracy(Colours()) == 1 and judge.localisation(Colours()) == pytest.approx(1)
    wrong = y.clone()
    wrong[:30] = (wrong[:30] + 1) % 4
    assert Judge(coloured(y.tolist()), wrong).accuracy(Colours()) == pytest.approx(0.75)
    blind = Colours()
    blind.look.weight.data = torch.ones(4, 4, 1, 1)  # sees all cells alike
    assert judge.localisation(blind) == pytest.approx(0.25)
    half = Colours()
    half.look.weight.data = half.look.weight.data + 1  # of its own cell 2, of three others 1 each
    assert judge.localisation(half) == pytest.approx(2 / 5)
    assert Judge(coloured(y.tolist()), y, grids=0).localisation(Colours()) is None


def test_grids_are_of_four_classes_and_drawn_by_the_seed() -> None:
    y = torch.tensor([0, 0, 2, 2, 3, 3, 5, 5, 7])
    drawn = [Judge(torch.zeros(9, 1), y, grids=200, seed=seed)._drawn() for seed in (0, 0, 1)]
    assert torch.equal(drawn[0][0], drawn[1][0]) and not torch.equal(drawn[0][0], drawn[2][0])
    for numbers, cells in drawn:
        assert numbers.shape == (200, 4) and {len(set(y[row].tolist())) for row in numbers} == {4}
        assert set(numbers.flatten().tolist()) == set(range(9)) and set(cells.tolist()) == {0, 1, 2, 3}
    with pytest.raises(InputError, match="Grids need pictures of four classes, and these are of 3: leave localisation out"):
        Judge(torch.zeros(3, 1), torch.tensor([0, 1, 2])).localisation(nn.Identity())


def test_a_small_network_is_searched(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(6, 16, 3), nn.ReLU(), nn.Conv2d(16, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 1), nn.ReLU(), nn.Conv2d(8, 5, 1)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x = add_inverse(torch.rand(60, 3, 8, 8))
    y = network(x).argsort(1)[:, -1]
    y[:20] = torch.arange(20) % 5
    pruner = Pruner(network, x[:16])
    judge = Judge(x, y, grids=6)
    found = search(pruner, judge, population=8, evaluations=14, journal=tmp_path / "a.jsonl")
    for one in found.candidates[:4]:
        small = pruner.build(one.steps)
        assert one.flops == pytest.approx(count_flops(small, x[:1]) / count_flops(network, x[:1]))
        assert one.accuracy == pytest.approx(float((small(x).argmax(1) == y).double().mean()))
        assert one.localisation == judge.localisation(small) and 0 <= one.localisation <= 1
    assert found.candidates[0].flops == 1 and found.candidates[0].steps == (8, 8, 8)
    assert search(pruner, judge, population=8, evaluations=14, journal=tmp_path / "a.jsonl") == found
