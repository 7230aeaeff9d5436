"""Scores against their float64 twins and counting by hand, and what cannot be scored."""

from __future__ import annotations

import itertools
import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import scores as twin
from torchbcos._core.errors import InputError
from torchbcos.metrics import accuracy, score, score_each


def test_scores_against_plain_counting() -> None:
    logits, y = torch.randn(50, 6), torch.randint(6, (50,))
    found = score(logits, y)
    assert found["top1"] == pytest.approx(100 * float((logits.argmax(1) == y).float().mean()))
    five = sum(int(t) in row.topk(5).indices.tolist() for row, t in zip(logits, y, strict=True))
    assert found["top5"] == pytest.approx(100 * five / 50)
    with pytest.raises(InputError, match="nothing to score"):
        score(logits[:0], y[:0])


@pytest.mark.parametrize("probability", ["sigmoid", "softmax"])
def test_calibration_and_loss_against_plain_counting(probability: str) -> None:
    logits, y = torch.randn(200, 6, dtype=torch.float64), torch.randint(6, (200,))
    found = score(logits, y, probability=probability)
    chances = logits.softmax(1) if probability == "softmax" else 1 / (1 + (-logits).exp())
    shares = chances / chances.sum(1, keepdim=True)
    assert found["loss"] == pytest.approx(-sum(float(shares[i, y[i]].log()) for i in range(200)) / 200, rel=1e-5)
    error = 0.0
    for k in range(15):
        inside = [i for i in range(200) if k / 15 < float(chances[i].max()) <= (k + 1) / 15]
        right = sum(int(chances[i].argmax()) == int(y[i]) for i in inside)
        error += abs(sum(float(chances[i].max()) for i in inside) - right) / 200
    assert found["ece"] == pytest.approx(100 * error, abs=1e-4)


def test_several_labels() -> None:
    logits, y = torch.tensor([[3.0, -3.0], [2.0, 4.0], [-1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = score(logits, y)
    assert list(found) == ["map", "f1", "ece"] and found["map"] == 100.0
    assert found["f1"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert list(score(logits[:, :1], y[:, :1])) == ["map", "f1", "ece"]


def test_accuracy_is_a_part_of_the_score() -> None:
    logits, y = torch.randn(50, 6), torch.randint(6, (50,))
    assert accuracy(logits, y).items() <= score(logits, y).items()


def test_what_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="One class alone"):
        score(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="There are 3 predictions for 2 examples"):
        accuracy(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="one class an example"):
        accuracy(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(InputError, match=r"probability is 'sigmoid' or 'softmax', not 'sofmax'\. Did you mean 'softmax'"):
        score(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), probability="sofmax")


SEEDS, SPREADS = st.integers(0, 10_000), st.sampled_from([0.3, 2.0, 8.0])
PROBABILITIES = st.sampled_from(["sigmoid", "softmax"])


def drawn(seed: int, n: int, classes: int, spread: float) -> Tensor:
    """Logits without ties."""
    return torch.randn(n, classes, generator=torch.Generator().manual_seed(seed)) * spread


@given(seed=SEEDS, n=st.integers(1, 40), classes=st.integers(2, 9), spread=SPREADS, probability=PROBABILITIES)
def test_scores_of_one_class_each(seed: int, n: int, classes: int, spread: float, probability: str) -> None:
    logits = drawn(seed, n, classes, spread)
    targets = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed + 1))
    rows, wanted = logits.double().tolist(), targets.tolist()
    best = [max(range(classes), key=row.__getitem__) for row in rows]
    confidence = [twin.chances(row, probability)[k] for row, k in zip(rows, best, strict=True)]
    expected = {
        "top1": twin.top(rows, wanted, 1),
        "ece": twin.calibration(confidence, [a == b for a, b in zip(best, wanted, strict=True)]),
        "loss": twin.loss(rows, wanted, probability),
    }
    if classes >= 5:
        expected["top5"] = twin.top(rows, wanted, 5)
    assert score(logits, targets, probability=probability) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@given(seed=SEEDS, n=st.integers(4, 40), classes=st.integers(1, 6), spread=SPREADS)
def test_scores_of_several_labels(seed: int, n: int, classes: int, spread: float) -> None:
    logits = drawn(seed, n, classes, spread)
    targets = torch.randint(2, (n, classes), generator=torch.Generator().manual_seed(seed + 1))
    targets[torch.arange(classes) % n, torch.arange(classes)] = 1  # each label at least once
    columns = [[twin.chances([z], "sigmoid")[0] for z in column] for column in logits.double().T.tolist()]
    truths = [[bool(t) for t in column] for column in targets.T.tolist()]
    expected = {
        "map": 100 * sum(map(twin.average_precision, columns, truths)) / classes,
        "f1": 100 * sum(map(twin.f1, columns, truths)) / classes,
        "ece": twin.calibration([*itertools.chain(*columns)], [*itertools.chain(*truths)]),
    }
    assert score(logits, targets.float()) == pytest.approx(expected, rel=1e-4, abs=1e-4)


VALUES = st.sampled_from([0.0, 1.0, math.nan, 0.3, 0.5, 0.7])


@given(seed=SEEDS, n=st.integers(1, 12), classes=st.integers(1, 4), data=st.data())
def test_what_is_not_known_is_left_out_and_soft_labels_are_asked_at_one_half(
    seed: int, n: int, classes: int, data: st.DataObject
) -> None:
    """The numbers of a label are those of the examples that know it, however many others there are."""
    logits = drawn(seed, n, classes, 2.0)
    truth = [[data.draw(VALUES) for _ in range(classes)] for _ in range(n)]
    found, each = score(logits, torch.tensor(truth)), score_each(logits, torch.tensor(truth))
    ap, f1, said, came = [], [], [], []
    for k in range(classes):
        rows = [i for i in range(n) if truth[i][k] == truth[i][k] and truth[i][k] != 0.5]
        chances = [twin.chances([float(logits[i, k].double())], "sigmoid")[0] for i in rows]
        holds = [truth[i][k] > 0.5 for i in rows]
        assert (each[k]["known"], each[k]["positive"]) == (len(rows), sum(holds))
        if any(holds):
            ap.append(100 * twin.average_precision(chances, holds))
            f1.append(100 * twin.f1(chances, holds))
            assert (each[k]["ap"], each[k]["f1"]) == pytest.approx((ap[-1], f1[-1]), rel=1e-4, abs=1e-4)
        hard = [j for j, i in enumerate(rows) if truth[i][k] in (0, 1)]
        said += [chances[j] for j in hard]
        came += [holds[j] for j in hard]
    assert found.get("labels_without_examples", 0) == classes - len(ap)
    expected = {
        "map": sum(ap) / len(ap) if ap else math.nan,
        "f1": sum(f1) / len(f1) if f1 else math.nan,
        "ece": twin.calibration(said, came) if said else math.nan,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-4, abs=1e-4, nan_ok=True)


def test_the_twins_see_a_wrong_score() -> None:
    logits, targets = drawn(0, 30, 6, 2.0), torch.arange(30) % 6
    rows, wanted = logits.double().tolist(), targets.tolist()
    assert twin.loss(rows, wanted, "sigmoid") != pytest.approx(score(logits, targets, probability="softmax")["loss"], rel=1e-2)
    assert twin.top(rows, wanted, 2) != pytest.approx(score(logits, targets)["top1"], abs=1)
    assert twin.average_precision([0.9, 0.8, 0.1], [True, False, True]) == pytest.approx((1 + 2 / 3) / 2)
    assert twin.f1([0.9, 0.8, 0.1], [True, False, True]) == pytest.approx(0.5)
    assert twin.calibration([0.9, 0.9], [True, False]) == pytest.approx(40)


def test_certainty_is_in_the_last_of_the_bins() -> None:
    logits, targets = torch.tensor([[90.0, 0.0], [90.0, 0.0], [3.0, 0.0]]), torch.tensor([1, 0, 0])
    chance = 1 / (1 + math.exp(-3))  # in the last bin, too: what both are wrong by is averaged there
    assert score(logits, targets, probability="softmax")["ece"] == pytest.approx(100 * (2 + chance - 2) / 3)


def test_half_precision_is_scored_as_its_own_numbers() -> None:
    logits, targets = drawn(1, 20, 5, 3.0).half(), torch.arange(20) % 5
    assert score(logits, targets) == score(logits.float(), targets)


def test_probabilities_that_float32_rounds_to_one_keep_their_order() -> None:
    logits, targets = torch.tensor([[18.0], [20.0], [22.0], [-1.0]]), torch.tensor([[0.0], [0.0], [1.0], [0.0]])
    assert score(logits, targets)["map"] == 100.0  # the highest logit is the one positive
    assert score(logits.expand(4, 2), targets.expand(4, 2))["map"] == 100.0


# -- what depends on the order alone ---------------------------------------------------------------------------------

MAPS = {
    "sigmoid": lambda z: 1 / (1 + (-z).exp()), "far away": lambda z: z + 700, "tiny": lambda z: z * 1e-12,
    "huge": lambda z: z * 1e12, "cube": lambda z: z**3, "exponential": lambda z: (z * 5).exp(),
}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, n=st.integers(2, 40), classes=st.integers(1, 6), name=st.sampled_from(sorted(MAPS)))
def test_the_order_alone_decides_about_precision_and_rank(seed: int, n: int, classes: int, name: str) -> None:
    logits = drawn(seed, n, classes, 2.0).double().clamp(-6, 6)
    moved = MAPS[name](logits)
    if any(len(set(column.tolist())) < n for column in moved.T):
        return  # the map rounded two of them to one
    targets = torch.randint(2, (n, classes), generator=torch.Generator().manual_seed(seed + 1))
    targets[0] = 1
    assert score(moved, targets)["map"] == score(logits, targets)["map"]
    if classes > 1:
        wanted = torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed + 2))
        assert accuracy(moved, wanted) == accuracy(logits, wanted)


def test_precision_of_logits_that_every_sigmoid_rounds_to_one() -> None:
    targets = torch.zeros(40, 2)
    targets[:20] = 1
    logits = torch.cat([torch.linspace(300, 400, 20), torch.linspace(180, 280, 20)])[:, None].expand(40, 2)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    for sign, truth in ((1, targets), (-1, 1 - targets)):
        found = score(sign * logits[order], truth[order])
        assert found["map"] == 100.0 and found["f1"] == pytest.approx(200 / 3 if sign > 0 else 0)


def test_equal_logits_stay_equal() -> None:
    truth = torch.tensor([[1], [0], [0], [0]])
    assert score(torch.zeros(4, 1), truth)["map"] == pytest.approx(25)  # no order: all four at once


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_loss_beyond_what_a_probability_can_say(dtype: torch.dtype) -> None:
    logits, targets = torch.tensor([[0.0, 300.0]], dtype=dtype), torch.tensor([0])
    assert score(logits, targets, probability="softmax")["loss"] == pytest.approx(300)
    assert score(-logits, targets.add(1))["loss"] == pytest.approx(300 - math.log(2), rel=1e-3)


# -- numbers that are none -------------------------------------------------------------------------------------------


def test_labels_that_hold_for_no_example_are_left_out_and_counted() -> None:
    logits, truth = torch.tensor([[3.0, 1.0, 2.0], [-3.0, 1.0, -1.0]]), torch.tensor([[1, 0, 0], [0, 0, 1]])
    found = score(logits, truth)
    assert found["map"] == pytest.approx((100 + 50) / 2) and found["f1"] == pytest.approx((100 + 0) / 2)
    assert found["labels_without_examples"] == 1 and list(found) == ["map", "f1", "ece", "labels_without_examples"]
    without = score(logits, torch.zeros(2, 3, dtype=torch.int64))
    assert math.isnan(without["map"]) and math.isnan(without["f1"]) and without["labels_without_examples"] == 3
    assert math.isnan(score(logits[:, :1], torch.zeros(2, 1))["map"]) and not math.isnan(without["ece"])


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_logits_that_are_none_have_no_metrics(broken: float) -> None:
    logits = torch.randn(20, 6)
    logits[3, 2] = broken
    wanted, truth = torch.randint(6, (20,)), torch.ones(20, 6)
    for found in (
        score(logits, wanted),
        accuracy(logits, wanted),
        score(logits, truth),
        score(logits, wanted, probability="softmax"),
    ):
        assert found and all(math.isnan(value) for value in found.values())


def test_nothing_is_said_by_warnings(recwarn: pytest.WarningsRecorder) -> None:
    logits = torch.randn(10, 3)
    for truth in (torch.zeros(10, 3), torch.ones(10, 3), torch.eye(10)[:, :3]):
        score(logits, truth)
        score(logits[:, :1], truth[:, :1])
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, -1, 2]), "A target is -1, and the logits have the classes 0 to 3"),
        (torch.tensor([0, 4, 2]), "A target is 4, and"),
        (torch.tensor([0.0, 1.0, 2.0]), "are numbers of classes, int64, not torch.float32"),
        (torch.tensor([True, False, True]), "not torch.bool"),
        (torch.full((3, 4), 1.25), "and one is 1.25"),
        (torch.full((3, 4), math.inf), "and one is inf"),
        (torch.full((3, 4), -1), "and one is -1"),
        (torch.full((3, 4), 2), "and one is 2"),
        (torch.zeros(3, 5), "a label for every class"),
        (torch.zeros(3, 1), "a label for every class"),
        (torch.zeros(3, 4, 1), "Expected logits"),
        (torch.tensor(1), "Expected logits"),
    ],
)
def test_targets_that_are_none(targets: torch.Tensor, message: str) -> None:
    """torch's own error of an index out of range; or NaN, and soft labels cut down to zero, without a word."""
    with pytest.raises(InputError, match=message):
        score(torch.randn(3, 4), targets)
    if targets.dim() == 1:
        with pytest.raises(InputError, match=message):
            accuracy(torch.randn(3, 4), targets)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_classes_of_any_integer(dtype: torch.dtype) -> None:
    logits, targets = torch.randn(6, 5), torch.arange(6) % 5
    assert score(logits, targets.to(dtype)) == score(logits, targets)


# -- torchmetrics as a black box, which is not needed ------------------------------------------------------------------


LEVELS = st.sampled_from([-30.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 30.0])  # few, so that many examples tie


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(1, 30))
def test_torchmetrics_has_the_same_numbers(data: st.DataObject, n: int) -> None:
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    logits = torch.tensor(data.draw(st.lists(LEVELS, min_size=n, max_size=n)), dtype=torch.float64)
    truth = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    [found] = score_each(logits[:, None], truth[:, None].double())
    if truth.any():
        places = torch.unique(logits, return_inverse=True)[1].double() / 10  # theirs would round a sigmoid of 30 to 1
        assert found["ap"] == pytest.approx(100 * float(theirs.binary_average_precision(places, truth)), rel=1e-5)
        assert found["f1"] == pytest.approx(100 * float(theirs.binary_f1_score((logits > 0).long(), truth)), rel=1e-5)
    chances = logits.sigmoid()
    expected = theirs.binary_calibration_error(chances.clamp(max=1 - 1e-15), truth, n_bins=15)
    assert score(logits[:, None], truth[:, None].double())["ece"] == pytest.approx(100 * float(expected), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 5, 15])
def test_chances_on_the_edge_of_a_bin_fall_where_torchmetrics_has_them(classes: int) -> None:
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    logits = torch.zeros(6, classes, dtype=torch.float64)
    logits[:3, 0] = torch.tensor([1e-9, 0.05, 0.3])
    targets = torch.tensor([0, 1, 0, 1, 1, 0])
    confidence, best = logits.softmax(1).max(1)
    expected = 100 * float(theirs.binary_calibration_error(confidence, (best == targets).long(), n_bins=15))
    assert score(logits, targets, probability="softmax")["ece"] == pytest.approx(expected, rel=1e-12)


def test_scores_need_the_core_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.classification", None)
    assert score(torch.eye(3), torch.arange(3))["top1"] == 100.0 and score(torch.eye(3), torch.eye(3))["map"] == 100.0


def test_the_black_box_sees_a_wrong_score() -> None:
    """Ties that are taken one after the other, as the twin takes them, are another number."""
    [found] = score_each(torch.zeros(4, 1), torch.tensor([[1.0], [0.0], [1.0], [0.0]]))
    assert found["ap"] == pytest.approx(50.0)
    assert 100 * twin.average_precision([0.0] * 4, [True, False, True, False]) == pytest.approx(100 * (1 + 2 / 3) / 2)
