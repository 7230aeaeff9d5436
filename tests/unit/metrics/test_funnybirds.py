"""The measures of FunnyBirds on tensors, against plain loops and by hand; planted faults are found."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import birds as twin
from torchbcos._core.errors import InputError
from torchbcos.metrics import (
    background_independence,
    choose_threshold,
    combined_scores,
    controlled_data_check,
    deletion_check,
    distractibility,
    funnybirds,
    part_correlation,
    preservation_check,
    target_sensitivity,
)
from torchbcos.metrics.parts import subset_codes
from torchbcos.metrics.ranks import pearson

whole = st.integers(-4, 4).map(float)  # few values: many are equal
nan = math.nan


def rows_of(count: int, values: st.SearchStrategy[float] = whole) -> st.SearchStrategy[list[float]]:
    return st.lists(values, min_size=count, max_size=count)


def said(*rows: list[int]) -> Tensor:
    """(1, T, P)."""
    return torch.tensor([rows]).bool()


def same(found: Tensor, wanted: list[float]) -> None:
    assert found.tolist() == pytest.approx(wanted, nan_ok=True, abs=1e-12)


# -- SD ------------------------------------------------------------------------------------------------------------------


def test_rankings_by_hand() -> None:
    """A perfect one is 1, a reversed one 0, a constant one undefined."""
    drops = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.5]] * 4)
    maps = torch.stack([drops[0] ** 3, -drops[0], torch.ones(5), torch.tensor([1.0, nan, 0.0, 2.0, 3.0])])
    same(part_correlation(maps, drops), [1.0, 0.0, nan, nan])
    same(part_correlation(drops[:1], torch.zeros(1, 5)), [nan])


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(rows_of(n), rows_of(n))))
def test_correlation_equals_the_twin(pair: tuple[list[float], list[float]]) -> None:
    a, b = (torch.tensor([row]) for row in pair)
    same(part_correlation(a, b), [twin.spearman(*pair)])
    same(part_correlation(b, a), [twin.spearman(*pair)])  # symmetric
    same(part_correlation(-a, b), [1 - twin.spearman(*pair)])
    same(part_correlation(3 * a + 1, b), [twin.spearman(*pair)])  # an order has no scale


def test_correlation_of_scipy() -> None:
    scipy = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(0, 4, (20, 5), generator=generator).double() for _ in range(2))
    wanted = [
        nan if len(set(x)) == 1 or len(set(y)) == 1 else (scipy.spearmanr(x, y)[0] + 1) / 2
        for x, y in zip(a.tolist(), b.tolist(), strict=True)
    ]
    same(part_correlation(a, b), wanted)


# -- CSDC, PC, DC --------------------------------------------------------------------------------------------------------


def test_controlled_data_check_by_hand() -> None:
    sets = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1]]).bool()
    important = said([1, 0, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]).expand(3, -1, -1)
    found = controlled_data_check(important, [sets, sets, sets[:0]], torch.tensor([True, False, True]))
    same(found[0], [1 / 2, 2 / 3, 0, 1])
    assert bool(found[1:].isnan().all())  # the network is wrong; no set suffices


def test_preservation_and_deletion_by_hand() -> None:
    """The class is 1 with part 0, else 0 with part 1 or 2, and 2 with none; of parts 1 and 2 together nobody asked."""
    kept, whole_bird = torch.tensor([[2, 1, 0, 1, 0, 1, -1, 1]]), torch.tensor([1])
    important = said([1, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 0])
    same(preservation_check(important, kept, whole_bird)[0], [1, 0, nan, 1])
    same(deletion_check(important, kept, whole_bird)[0], [nan, 0, 0, 1])


@given(st.data())
def test_checks_equal_the_twin(data: st.DataObject) -> None:
    parts, names = 3, {"0", "1", "2"}
    codes = data.draw(st.lists(st.integers(0, 7), min_size=2, max_size=4))
    important = torch.tensor([[[code >> p & 1 for p in range(parts)] for code in codes]]).bool()
    kept = data.draw(st.lists(st.integers(-1, 2), min_size=8, max_size=8))
    predicted = data.draw(st.integers(0, 2))
    wanted: dict[str, list[float]] = {"pc": [], "dc": [], "csdc": []}
    sets = [{"0", "1"}, {"2"}]
    for code in codes:
        chosen = {str(p) for p in range(parts) if code >> p & 1}
        stay, left = kept[code], kept[sum(1 << int(p) for p in names - chosen)]
        wanted["pc"].append(nan if stay < 0 else float(stay == predicted))
        wanted["dc"].append(nan if left < 0 else float(left != predicted))
        wanted["csdc"].append(twin.csdc(chosen, sets))
    table, answer = torch.tensor([kept]), torch.tensor([predicted])
    same(preservation_check(important, table, answer)[0], wanted["pc"])
    same(deletion_check(important, table, answer)[0], wanted["dc"])
    same(controlled_data_check(important, [torch.tensor([[1, 1, 0], [0, 0, 1]]).bool()], torch.tensor([True]))[0], wanted["csdc"])


# -- D, BI ---------------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.tuples(whole, rows_of(n, st.sampled_from([-9.0, -4.0, -3.9, -0.1, 0.0, 0.1, 3.81, 4.0])), st.integers(0, 31))
    )
)
def test_irrelevant_parts_equal_the_twin(drawn: tuple[float, list[float], int]) -> None:
    logit, without, code = drawn
    named = {str(q): value for q, value in enumerate(without)}
    idle = twin.irrelevant(logit, named)
    important = torch.tensor([[[code >> q & 1 for q in range(len(without))]]]).bool()
    found = {str(q) for q in range(len(without)) if code >> q & 1}
    logits, rows = torch.tensor([logit]).double(), torch.tensor([without]).double()
    same(distractibility(important, logits, rows)[0], [twin.distraction(found, idle)])
    same(background_independence(logits, rows), [len(idle) / len(without)])
    # a part that is not there changes nothing
    wider = torch.cat([rows, torch.tensor([[nan]])], 1)
    same(distractibility(torch.cat([important, ~important[..., :1]], 2), logits, wider)[0], [twin.distraction(found, idle)])
    same(background_independence(logits, wider), [len(idle) / len(without)])


def test_without_irrelevant_parts_and_without_objects_nothing_is_defined() -> None:
    same(distractibility(said([1, 0]), torch.tensor([10.0]), torch.tensor([[1.0, nan]]))[0], [nan])
    same(background_independence(torch.tensor([10.0, 10.0]), torch.tensor([[nan, nan], [1.0, nan]])), [nan, 0.0])
    same(background_independence(torch.tensor([10.0]), torch.zeros(1, 0)), [nan])


def test_a_rise_is_irrelevant() -> None:
    same(background_independence(torch.tensor([10.0]), torch.tensor([[20.0, 9.0]])), [0.5])


def test_a_fall_of_just_the_share_is_relevant() -> None:
    same(background_independence(torch.tensor([10.0, -10.0]), torch.tensor([[9.5, 9.6], [-10.5, -10.4]])), [0.5, 0.5])


# -- TS ------------------------------------------------------------------------------------------------------------------


def test_target_sensitivity_by_hand() -> None:
    shared = torch.tensor([[[1, 1, 0, 0], [0, 0, 1, 1]]]).bool().expand(5, -1, -1)
    lost = torch.tensor([[[0.0, 3.0], [3.0, 0.0]]]).repeat(5, 1, 1)
    lost[3, 0, 0], lost[4] = 3.0, nan  # the network itself loses nothing of the first class; nobody asked
    first, second = [2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0]
    maps = torch.tensor([[first, second], [second, first], [first, [3.0, 0.0, 0.5, 0.5]], [first, second], [first, second]])
    same(target_sensitivity(maps, shared, lost), [1.0, 0.0, 0.5, nan, nan])
    same(target_sensitivity(maps[:1, :1].expand(-1, 2, -1), shared[:1], lost[:1]), [0.0])  # the same map for both classes


# -- threshold -----------------------------------------------------------------------------------------------------------

columns = st.integers(2, 6).flatmap(
    lambda n: st.lists(rows_of(4, st.sampled_from([0.0, 0.5, 1.0, nan])), min_size=4 * n, max_size=4 * n)
)


@given(columns)
def test_thresholds_equal_the_twin(values: list[list[float]]) -> None:
    count = len(values) // 4
    names = ("csdc", "pc", "dc", "d")
    rows = [dict(zip(names, values[4 * i : 4 * i + 4], strict=True)) for i in range(count)]
    tensors = [torch.tensor([row[name] for row in rows]).double() for name in names]
    assert choose_threshold(*tensors).tolist() == [twin.best(rows)] * count
    folds = torch.arange(count) % 2
    wanted = [twin.best([row for j, row in enumerate(rows) if j % 2 != i % 2]) for i in range(count)]
    assert choose_threshold(*tensors, folds=folds).tolist() == wanted


def test_undefined_pictures_have_no_say_in_the_choice() -> None:
    csdc = torch.tensor([[0.5, 0.4], [nan, nan], [nan, nan]])
    d = torch.tensor([[0.5, 0.6], [0.5, nan], [0.5, nan]])  # means .5 and .6, not .5 and .2
    flat = torch.zeros(3, 2)
    assert choose_threshold(csdc, flat, flat, d).tolist() == [1, 1, 1]
    assert choose_threshold(csdc, flat, flat, flat).tolist() == [0, 0, 0]


def test_a_held_out_threshold_does_not_see_its_own_pictures() -> None:
    flat = torch.zeros(4, 3)
    own = flat.clone()
    own[0, 2] = 1  # moves the threshold of the others alone
    found = choose_threshold(own, flat, flat, flat, folds=torch.tensor([0, 1, 0, 1]))
    assert found.tolist() == [0, 2, 0, 2]


def test_combined_scores_of_the_paper() -> None:
    """The numbers of the authors' example: ResNet-50, input × gradient."""
    numbers = [torch.tensor(v, dtype=torch.float64) for v in (0.7353, 0.602, 0.532, 0.54372, 0.54592, 0.806)]
    found = combined_scores(*numbers)
    assert found["completeness"].item() == pytest.approx(0.583410, abs=1e-6)
    assert (found["correctness"].item(), found["contrastivity"].item()) == (0.54592, 0.806)


# -- planted faults ------------------------------------------------------------------------------------------------------


def _ranks_of_their_own(a: Tensor, b: Tensor) -> Tensor:
    return pearson(a.argsort(1).argsort(1).double(), b.argsort(1).argsort(1).double())


def _rises_count(logits: Tensor, without: Tensor, share: float) -> Tensor:
    return (logits[:, None] - without).abs() >= share * logits[:, None].abs()


def _more_than_the_share(logits: Tensor, without: Tensor, share: float) -> Tensor:
    return logits[:, None] - without > share * logits[:, None].abs()


def _other_way_round(members: Tensor) -> Tensor:
    return subset_codes(members.flip(-1))


def _unasked_is_an_answer(answer: Tensor, found: Tensor) -> Tensor:
    return answer.double()


def _undefined_is_nought(columns: list[Tensor]) -> int:
    return int(torch.stack([one.nan_to_num(0).mean(0) for one in columns]).sum(0).argmax())


FAULTS: list[tuple[str, Callable[..., object], Callable[[], None]]] = [
    ("spearman", _ranks_of_their_own, test_correlation_of_scipy),
    ("spearman", pearson, test_rankings_by_hand),
    ("_relevant", _rises_count, test_a_rise_is_irrelevant),
    ("_relevant", _more_than_the_share, test_a_fall_of_just_the_share_is_relevant),
    ("subset_codes", _other_way_round, test_preservation_and_deletion_by_hand),
    ("_known", _unasked_is_an_answer, test_preservation_and_deletion_by_hand),
    ("_best", _undefined_is_nought, test_undefined_pictures_have_no_say_in_the_choice),
]


@pytest.mark.parametrize(("name", "fault", "guard"), FAULTS)
def test_a_fault_is_found(
    name: str, fault: Callable[..., object], guard: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(choose_threshold.__globals__, name, fault)
    with pytest.raises(AssertionError):
        guard()


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_an_image_does_not_see_its_neighbours(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    importance, logits = torch.randn(5, 2, 4, generator=generator), torch.randn(5, generator=generator)
    without, important = torch.randn(5, 4, generator=generator), torch.rand(5, 3, 4, generator=generator) < 0.5
    shared, lost = torch.rand(5, 2, 4, generator=generator) < 0.5, torch.randn(5, 2, 2, generator=generator)
    calls: list[Callable[[slice], Tensor]] = [
        lambda s: part_correlation(importance[s, 0], without[s]),
        lambda s: distractibility(important[s], logits[s], without[s]),
        lambda s: background_independence(logits[s], without[s]),
        lambda s: target_sensitivity(importance[s], shared[s], lost[s]),
    ]
    for call in calls:
        assert torch.equal(call(slice(None))[2:3].nan_to_num(9), call(slice(2, 3)).nan_to_num(9))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: part_correlation(torch.ones(2, 3), torch.ones(2, 4)), "importance and drops"),
    (lambda: controlled_data_check(torch.ones(1, 2, 3), [], torch.ones(1).bool()), "of bool, not .1, 2, 3. of torch.float32"),
    (lambda: controlled_data_check(said([1, 0]), [], torch.ones(1).bool()), "1 images, 0 lists"),
    (lambda: preservation_check(said([1, 0]), torch.zeros(1, 3).long(), torch.zeros(1).long()), r"kept \(1, 4\)"),
    (lambda: distractibility(said([1, 0]), torch.ones(1), torch.ones(1, 3)), r"without \(1, 2\)"),
    (lambda: background_independence(torch.ones(2), torch.ones(1, 3)), "logits"),
    (lambda: target_sensitivity(torch.ones(1, 2, 3), torch.ones(1, 3, 2).bool(), torch.ones(1, 2, 2)), "shared"),
    (lambda: target_sensitivity(torch.ones(1, 2, 3), torch.ones(1, 2, 3).bool(), torch.ones(1, 4)), "without"),
    (lambda: choose_threshold(*[torch.ones(0, 3)] * 4), "CSDC, PC, DC and D"),
    (lambda: choose_threshold(*[torch.ones(2, 3)] * 4, folds=torch.zeros(2).long()), "two parts or more"),
])  # fmt: skip
def test_what_cannot_be_is_said(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert len(str(caught.value)) <= 500


def test_the_record() -> None:
    (metric,) = funnybirds.METRICS
    assert (metric.name, metric.best) == ("funnybirds", "high")
