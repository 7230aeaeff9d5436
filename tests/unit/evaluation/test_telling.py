"""What a reader of a comparison is told: each sentence, when it is said, and when it is not."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from torchbcos._core.files import finite_or_null
from torchbcos.evaluation.statistics import pair, rank_agreements, row
from torchbcos.evaluation.telling import sentences

Facts = dict[str, Any]


def facts(
    values: dict[str, dict[str, torch.Tensor]], *, best: str = "high", dumb: tuple[str, ...] = (), model: str = "net"
) -> Facts:
    """A comparison of one model from values of metrics and methods, as JSON has it, every two methods paired."""
    rule, rows, pairs = "zero" if best == "high" else "skip", [], []
    for metric, methods in values.items():
        for name, one in methods.items():
            rows.append(
                {"model": model, "method": name, "metric": metric, **row(one, undefined=rule, samples=200), "same_as": []}
            )
            for other, two in methods.items():
                if other > name:
                    numbers = pair(one, two, lower=best == "low", samples=200)
                    pairs.append(
                        {"model": model, "other_model": model, "metric": metric, "method": name, "other": other, **numbers}
                    )
    methods = {name: None for one in values.values() for name in one}
    found = {
        "models": [{"label": model, "plain": False, "top1": 71.04}],
        "methods": [{"label": name, "dumb": name in dumb} for name in methods],
        "metrics": [{"label": metric, "best": best, "lines": {"oracle": 1.0} if best == "high" else {}} for metric in values],
        "items": {"grids": {"count": 100}}, "rows": rows, "pairs": pairs, "rankings": [],
    }  # fmt: skip
    return json.loads(json.dumps(finite_or_null(found)))  # type: ignore[no-any-return]


def numbers(mean: float, spread: float = 0.1, seed: int = 0, items: int = 100) -> torch.Tensor:
    """Numbers of exactly this mean, up to rounding."""
    noise = torch.randn(items, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return mean + spread * (noise - noise.mean())


def test_the_first_and_how_far_ahead() -> None:
    found = sentences(facts({"grid-pointing": {"rise": numbers(0.5), "inherent": numbers(0.8, seed=1)}}))
    assert len(found) == 1
    assert found[0].startswith(
        "inherent is first in grid-pointing on net (mean 0.8, n = 100), 0.3 ahead of rise (paired, 95 % between 0.2"
    )


def test_one_that_is_not_told_apart() -> None:
    values = {"rise": numbers(0.5), "inherent": numbers(0.505, seed=1), "lime": numbers(0.2, seed=2)}
    [text] = sentences(facts({"road": values}))
    assert text.startswith(
        "inherent is first in road on net (mean 0.505, n = 100), but not told apart from rise (paired difference to rise 0.005"
    )
    [text] = sentences(facts({"road": {**values, "far": numbers(0.46, 3.0, seed=3), "inherent": numbers(0.6, seed=1)}}))
    assert "0.1 ahead of rise (paired, 95 % between 0.0" in text and text.endswith("), but not told apart from far.")


def test_a_low_number_may_be_good() -> None:
    [text] = sentences(facts({"deletion": {"rise": numbers(0.5), "inherent": numbers(0.2, seed=1)}}, best="low"))
    assert text.startswith(
        "inherent is first in deletion on net (mean 0.2, n = 100), 0.3 ahead of rise (paired, 95 % between 0.2"
    )
    turned = facts({"deletion": {"inherent": numbers(0.2, seed=1), "zeta": numbers(0.5)}}, best="low")
    assert sentences(turned)[0].startswith("inherent is first in deletion on net (mean 0.2, n = 100), 0.3 ahead of zeta")


def test_metrics_that_say_neither_rank_nothing() -> None:
    assert sentences(facts({"gini": {"a": numbers(0.5), "b": numbers(0.2)}}, best="neither")) == []


def test_without_pairs_nothing_is_sure() -> None:
    given = facts({"road": {"rise": numbers(0.5), "inherent": numbers(0.8, seed=1)}})
    given["pairs"] = []
    assert sentences(given) == [
        "inherent is first in road on net (mean 0.8, n = 100), before rise (mean 0.5); how surely is not known."
    ]
    single = facts({"road": {"rise": numbers(0.5, items=1), "inherent": numbers(0.8, items=1)}})  # null intervals
    assert sentences(single) == [
        "inherent is first in road on net (mean 0.8, n = 1), before rise (mean 0.5); how surely is not known."
    ]


def test_methods_that_edges_beat() -> None:
    values = {"inherent": numbers(0.8), "saliency": numbers(0.305, seed=1), "edges": numbers(0.3, seed=2), "random": numbers(0.2)}
    unsure = "saliency is not surely better in road on net than edges, a map without a network (mean 0.3); n = 100."
    found = sentences(facts({"road": values}, dumb=("edges", "random")))
    assert found[1:] == [unsure] and found[0].startswith("inherent is first")
    assert len(sentences(facts({"road": values}))) == 1
    values["lime"] = numbers(0.2, seed=4)
    found = sentences(facts({"road": values}, dumb=("edges", "random")))
    worse = "lime is no better in road on net than edges, a map without a network (mean 0.3): it says nothing here."
    assert found[1:] == [worse, unsure]
    values["rise"] = numbers(0.1, seed=5)
    found = sentences(facts({"road": values}, dumb=("edges", "random")))
    assert found[1].startswith("lime and rise are no better") and found[1].endswith("they say nothing here.")


def test_without_pairs_the_interval_of_a_method_is_compared() -> None:
    values = {"inherent": numbers(0.8), "saliency": numbers(0.305, seed=1), "edges": numbers(0.3, seed=2)}
    for best, sign in (("high", 1), ("low", -1)):
        given = facts({"road": {name: sign * one for name, one in values.items()}}, best=best, dumb=("edges",))
        given["pairs"] = []
        line = f"than edges, a map without a network (mean {sign * 0.3:g}); n = 100."
        assert sentences(given)[1:] == [f"saliency is not surely better in road on net {line}"]
        for one in given["rows"]:
            one["mean_low"] = one["mean_high"] = None  # of one item there is no interval: its mean must do
        assert sentences(given)[1:] == []


def test_a_map_without_a_network_may_be_first() -> None:
    values = {"inherent": numbers(0.2), "random": numbers(0.0, 0.0)}
    found = sentences(facts({"max-sensitivity": values}, best="low", dumb=("random",)))
    assert found == [
        "random, a map without a network, is first in max-sensitivity on net (mean 0, n = 100): no method says more there."
    ]


def test_methods_that_are_one() -> None:
    given = facts(
        {
            "road": {"a": numbers(0.5), "b": numbers(0.5), "c": numbers(0.2, seed=1)},
            "idsds": {"a": numbers(0.5), "b": numbers(0.5)},
        }
    )
    for one in given["rows"]:
        one["same_as"] = {"a": ["b"], "b": ["a"]}.get(one["method"], [])
    found = sentences(given)
    assert found[1:] == ["a and b give the same maps on net: they are one method there, not several that agree."]
    assert found[0].startswith("a is first in road on net (mean 0.5, n = 100), 0.3 ahead of c")  # and b is no rival


def test_a_median_that_separates_nothing() -> None:
    full = torch.ones(100, 1, dtype=torch.float64)
    high, both = full.clone(), full.clone()
    high[:20], both[:10] = 0.25, 0.5
    found = sentences(facts({"grid-pointing": {"inherent": high, "occlusion": both, "rise": 0.5 * full}}))
    assert found[1] == (
        "grid-pointing is saturated on net: the best median is 1 of 1. "
        "Look at the 5th percentiles: 0.5 (occlusion) and 0.25 (inherent)."
    )
    found = sentences(facts({"grid-pointing": {"inherent": high, "rise": 0.97 * full}}))
    assert found[1:] == [
        "grid-pointing is saturated on net: the best median is 1 of 1. Look at the 5th percentile: 0.25 (inherent)."
    ]
    assert len(sentences(facts({"grid-pointing": {"inherent": 0.97 * high, "rise": 0.5 * full}}))) == 1
    near = {"inherent": 0.985 * high, "edges": 0.99 * both, "centre": 0.99 * both, "rise": 0.5 * full}
    assert (
        "the best median is 0.985 of 1. Look at the 5th percentile: 0.246 (inherent)."
        in sentences(facts({"grid-pointing": near}, dumb=("edges", "centre")))[-1]
    )
    assert len(sentences(facts({"insertion": {"inherent": high, "rise": 0.5 * full}}, best="low"))) == 1  # no best value is known


def test_numbers_that_are_undefined() -> None:
    values = {
        "inherent": numbers(0.8),
        "grad_cam": numbers(0.5, seed=1),
        "lime": numbers(0.2, seed=2),
        "lrp": numbers(0.1, seed=3),
    }
    values["grad_cam"][:30], values["lime"][:4], values["lrp"][:] = math.nan, math.nan, math.nan
    found = sentences(facts({"road": values}))
    assert found[1:] == ["Numbers are undefined in road on net, and count as 0: 30 of 100 of grad_cam."]
    assert "left out: 30 of 100 of grad_cam" in sentences(facts({"road": values}, best="low"))[1]


def test_few_items() -> None:
    given = facts({})
    for count, expected in (
        (5, ["There are few grids (n = 5): the intervals are wide, and still too narrow, for they know no others."]),
        (1, ["There is one item in grids (n = 1): there is no interval, and nothing follows from its numbers."]),
        (30, []),
    ):  # fmt: skip
        given["items"]["grids"]["count"] = count
        assert sentences(given) == expected
    given["items"] = {"grids-3": {"count": 9, "n": 3}, "pictures": {"count": 1}}
    assert [text.split(":")[0] for text in sentences(given)] == [
        "There are few grids of 3 x 3 (n = 9)", "There is one picture (n = 1)",
    ]  # fmt: skip


def test_metrics_that_rank_differently() -> None:
    given = facts({})
    up = torch.arange(4.0)[:, None].expand(4, 9)
    given["rankings"] = [
        {"model": "net", **one} for one in rank_agreements({"deletion": up, "grid-pointing": -up, "road": up}, samples=20)
    ]
    assert sentences(given) == [
        "On net, deletion and grid-pointing rank the methods differently (τ-b -1.00, 95 % between -1.00 and -1.00).",
        "On net, grid-pointing and road rank the methods differently (τ-b -1.00, 95 % between -1.00 and -1.00).",
    ]


def test_two_kinds_of_networks() -> None:
    given = facts({})
    given["models"].append({"label": "twin", "plain": True, "top1": 76.4})
    assert sentences(given) == [
        "twin is a plain network, and net is not: do not rank their medians in one column; read the paired differences, and the "
        "accuracy of each (twin 76.4, net 71)."
    ]
    given["models"][0]["top1"] = given["models"][1]["top1"] = None
    assert sentences(given)[0].endswith("(not measured here).")
    given["models"][0]["plain"] = True
    assert sentences(given) == []


def test_pairs_of_other_models_are_not_taken_for_those_of_one() -> None:
    given = facts({"road": {"rise": numbers(0.5), "inherent": numbers(0.8, seed=1)}})
    given["pairs"].append({**given["pairs"][0], "other_model": "twin", "difference": 9.0, "low": 8.0, "high": 10.0})
    given["rows"] += [{**one, "model": "twin"} for one in given["rows"]]
    found = sentences(given)
    assert (
        "0.3 ahead of rise" in found[0] and found[1].startswith("inherent is first in road on twin") and "not known" in found[1]
    )


def test_names_command_no_terminal_and_lists_end() -> None:
    values = {f"m{i}\x1b[2J": numbers(0.5, seed=i) for i in range(9)}
    text = "\n".join(sentences(facts({"road\n": values}, model="net\x1b")))
    assert text.isprintable() and "net\\x1b" in text and "road\\n" in text
    assert "\\x1b[2J and 2 others" in text


@pytest.mark.parametrize("missing", ["models", "methods", "metrics", "items", "rows", "pairs", "rankings"])
def test_what_is_missing_is_not_spoken_of(missing: str) -> None:
    given = facts({"road": {"rise": numbers(0.5), "inherent": numbers(0.8, seed=1)}})
    whole = sentences(given)
    del given[missing]
    assert len(sentences(given)) == (0 if missing in ("metrics", "rows") else 1) and len(whole) == 1
    assert (sentences(given) == whole) == (missing not in ("metrics", "rows", "pairs"))


def test_each_sentence_is_one_line_that_ends() -> None:
    values = {"inherent": torch.ones(9, 4), "edges": torch.rand(9, 4), "rise": torch.rand(9, 4)}
    given = facts({"grid-pointing": values, "road": values}, dumb=("edges",))
    given["items"]["grids"]["count"] = 9
    found = sentences(given)
    assert len(found) >= 5
    assert {text[-1] for text in found} == {"."} and max(map(len, found)) < 400 and len(set(found)) == len(found)
