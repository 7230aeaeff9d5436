from __future__ import annotations

import math
from typing import Any

import pytest

from tests.compared import comparison, metric, pair, row
from torchbcos.evaluation.findings import across, caveats, lead_sentence, opening, pair_of, standing, standings


def made(means: dict[str, float], pairs: list[dict[str, Any]], best: str = "high", dumb: tuple[str, ...] = ()) -> dict[str, Any]:
    """A comparison of one metric on one model."""
    one = metric("road", best, "pictures", {})
    return {
        "models": [{"label": "m"}], "metrics": [one], "methods": [{"label": name, "dumb": name in dumb} for name in means],
        "rows": [row("m", name, one, mean, 50) for name, mean in means.items()], "pairs": pairs,
    }  # fmt: skip


def test_the_best_is_the_highest_or_the_lowest_mean() -> None:
    means = {"a": 0.1, "b": 0.9, "c": math.nan}
    high, low = (standing(f, "m", f["metrics"][0]) for f in (made(means, []), made(means, [], "low")))
    assert [r["method"] for r in high.ranked] == ["b", "a", "c"] and [r["method"] for r in low.ranked] == ["a", "b", "c"]
    assert high.mark("b") == "good" and low.mark("a") == "good" and high.mark("c") == ""
    neither = made(means, [], "neither")
    assert standing(neither, "m", neither["metrics"][0]).best is None


@pytest.mark.parametrize("best", ["high", "low"])
@pytest.mark.parametrize(("difference", "even"), [(0.2, ()), (0.01, ("b",)), (math.nan, ("b",))])
def test_methods_are_told_apart_by_the_interval_of_the_paired_difference(
    best: str, difference: float, even: tuple[str, ...]
) -> None:
    means, sign = ({"a": 0.9, "b": 0.7}, 1) if best == "high" else ({"a": 0.7, "b": 0.9}, -1)
    for turned in (False, True):
        names = ("b", "a") if turned else ("a", "b")
        facts = made(means, [pair("m", "road", *names, (-1 if turned else 1) * sign * difference, 0.5)], best)
        assert standing(facts, "m", facts["metrics"][0]).even == even


def test_methods_without_a_pair_are_not_told_apart() -> None:
    facts = made({"a": 0.9, "b": 0.7}, [])
    assert standing(facts, "m", facts["metrics"][0]).even == ("b",)


def test_pairs_are_found_from_both_sides() -> None:
    facts = made({"a": 0.9, "b": 0.7}, [pair("m", "road", "a", "b", 0.2, 0.01)])
    there, back = pair_of(facts, "m", "road", "a", "b"), pair_of(facts, "m", "road", "b", "a")
    assert there is not None and back is not None
    assert (back["difference"], back["low"], back["high"]) == (-there["difference"], -there["high"], -there["low"])
    assert (back["better"], back["worse"], back["method"], back["other"]) == (there["worse"], there["better"], "b", "a")
    assert pair_of(facts, "m", "road", "a", "c") is None and pair_of(facts, "m", "other", "a", "b") is None
    assert pair_of(facts, "m", "road", "a", "b", "n") is None


def test_what_does_not_beat_a_map_without_a_network_is_named() -> None:
    facts = made({"a": 0.9, "edges": 0.5, "b": 0.4, "uniform": 0.1}, [], dumb=("edges", "uniform"))
    one = standing(facts, "m", facts["metrics"][0])
    assert one.below == ("b",) and "On m, not surely better than edges (0.500), which looks at no network: b." in caveats(one)
    low = made({"a": 0.9, "edges": 0.5, "b": 0.4}, [], "low", dumb=("edges",))
    assert standing(low, "m", low["metrics"][0]).below == ("a",)
    near = made({"a": 0.51, "edges": 0.5}, [], dumb=("edges",))  # its own interval reaches below the line
    assert standing(near, "m", near["metrics"][0]).below == ("a",)
    near["pairs"] = [pair("m", "road", "a", "edges", 0.06, 0.01)]  # item by item it is better
    assert standing(near, "m", near["metrics"][0]).below == ()


def test_a_map_without_a_network_is_never_trusted() -> None:
    facts = made({"edges": 0.9, "a": 0.8}, [], dumb=("edges",))
    assert opening(facts) == ["On m, a map that looks at no network is best by road: no method says more there."]


def test_sentences() -> None:
    facts = comparison()
    first, second, third = opening(facts)
    assert first.startswith("On embedded, inherent is among the best methods by 2 of 2 metrics: not told apart from the best by")
    assert second.startswith("On plain twin, inherent") and third == "So is input_x_gradient: nothing here decides between them."
    words = lead_sentence(facts, standing(facts, "embedded", facts["metrics"][0]))
    assert words.startswith("On embedded, inherent is highest, which is better: mean 0.90") and "sign test p 0.3." in words
    assert lead_sentence(facts, standing(facts, "embedded", facts["metrics"][2])).endswith("and no value of it is better.")
    assert across(facts) == ["By grid-pointing, inherent on embedded is better than 1 of 1 methods on plain twin."]
    assert len(standings(facts)) == 6


def test_a_clear_winner_and_a_loser() -> None:
    facts = made({"a": 0.9, "b": 0.7}, [pair("m", "road", "a", "b", 0.2, 1e-9)])
    assert opening(facts) == ["On m, a is best by road."]
    other = metric("deletion", "low", "pictures", {})
    facts["metrics"].append(other)
    facts["rows"] += [row("m", "a", other, 0.5, 50), row("m", "b", other, 0.1, 50)]
    facts["pairs"].append(pair("m", "deletion", "b", "a", -0.4, 1e-9))
    lead, rival = opening(facts)
    assert lead == "On m, a is among the best methods by 1 of 2 metrics: best by road; behind b by deletion."
    assert rival == "So is b: nothing here decides between them."


def test_without_numbers_nothing_is_trusted() -> None:
    facts = made({"a": math.nan}, [])
    assert opening(facts) == ["On m no metric ranks the methods: nothing here says which one to trust."]
