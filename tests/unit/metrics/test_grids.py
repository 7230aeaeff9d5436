"""Which pictures make grids, how they are set, and maps of windows; laws, closed forms, wrong input, planted faults."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference import places as twin
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.functional import add_inverse
from torchbcos.metrics import choose_grids, compose_grids, grid_pointing, own_cells, window_maps
from torchbcos.metrics import grids as module


def sure(counts: list[int], lost: int = 0) -> tuple[Tensor, Tensor]:
    """Right and sure pictures, `counts[c]` of class c; `lost` more that are wrong or not sure."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    g = torch.Generator().manual_seed(len(labels))
    labels = labels[torch.randperm(len(labels), generator=g)]
    logits = torch.full((len(labels), len(counts)), -3.0).scatter(1, labels[:, None], 1 + torch.rand(len(labels), 1, generator=g))
    wrong = torch.full((lost, len(counts)), -3.0)
    return torch.cat([logits, wrong]), torch.cat([labels, torch.zeros(lost, dtype=torch.int64)])


@settings(max_examples=50)
@given(
    counts=st.lists(st.integers(0, 9), min_size=4, max_size=8).filter(lambda counts: sum(c > 0 for c in counts) >= 4),
    lost=st.integers(0, 3), seed=st.integers(0, 99), limit=st.sampled_from([None, 1, 2]),
)  # fmt: skip
def test_laws_of_choice(counts: list[int], lost: int, seed: int, limit: int | None) -> None:
    """As many grids as there can be, of different classes, no picture twice, the surest first, and only usable ones."""
    logits, labels = sure(counts, lost)
    most = twin.most_grids(tuple(counts), 4)
    g = torch.Generator().manual_seed(seed)
    grids = choose_grids(logits, labels, 2, limit=limit if limit and limit <= most else None, generator=g)
    assert grids.shape == (min(most, limit) if limit and limit <= most else most, 4)
    assert len(grids.unique()) == grids.numel()
    assert int(grids.max()) < sum(counts)  # the lost ones stand behind
    for row in labels[grids].tolist():
        assert len(set(row)) == 4
    for c in range(len(counts)):
        used = grids.flatten()[labels[grids.flatten()] == c]
        best = logits[labels == c, c].sort(descending=True).values[: len(used)]
        assert logits[used, c].tolist() == best.tolist()


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**16), probability=st.sampled_from(["sigmoid", "softmax"]), confidence=st.sampled_from([0.0, 0.3, 0.8])
)
def test_who_may_be_used_equals_the_slow_twin(seed: int, probability: str, confidence: float) -> None:
    g = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(30, 3, generator=g, dtype=torch.float64) * 2, torch.randint(3, (30,), generator=g)
    pools = module._pools(logits, labels, confidence, probability)
    odds = [twin.odds(row, label, probability) for row, label in zip(logits.tolist(), labels.tolist(), strict=True)]
    expected: dict[int, list[int]] = {}
    for image in sorted(range(30), key=lambda i: -odds[i]):
        if odds[image] > -math.inf and 1 / (1 + math.exp(-odds[image])) > confidence:
            expected.setdefault(int(labels[image]), []).append(image)
    assert pools == dict(sorted(expected.items()))


def test_384_pictures_make_96_grids() -> None:
    """The official code makes 71 of them."""
    logits, labels = sure([38] * 6 + [39] * 4)
    assert len(labels) == 384
    assert choose_grids(logits, labels, 2).shape == (96, 4)
    assert len(choose_grids(logits, labels, 2, legacy=True)) < 80


def test_a_class_in_every_grid_is_not_missed() -> None:
    """One class has half of all pictures: the number is reached only if it is in every grid."""
    logits, labels = sure([12, 4, 4, 4])
    assert choose_grids(logits, labels, 2).shape == (4, 4)
    logits, labels = sure([20, 5, 5, 5, 5, 5, 5])
    for seed in range(20):
        grids = choose_grids(logits, labels, 2, generator=torch.Generator().manual_seed(seed))
        assert grids.shape == (10, 4)
        assert bool((labels[grids] == 0).any(1).all())


def test_several_networks_share_what_all_get_right() -> None:
    logits, labels = sure([3] * 4)
    other = logits.clone()
    other[labels == 1] *= -1  # wrong there
    other[(labels == 1).nonzero()[0]] = logits[(labels == 1).nonzero()[0]]
    grids = choose_grids([logits, other], labels, 2, probability=["sigmoid", "softmax"])
    assert grids.shape == (1, 4)
    assert (labels == 1).nonzero()[0].item() in grids[0].tolist()
    with pytest.raises(InputError, match="2 networks and 1 probabilities"):
        choose_grids([logits, other], labels, 2, probability=["sigmoid"])


def test_few_pictures_go_on_with_fewer_grids() -> None:
    logits, labels = sure([2, 1, 1, 1])
    assert choose_grids(logits, labels, 2).shape == (1, 4)
    with pytest.warns(UserWarning, match="allow 1 grids of 2 x 2, not 100: 5 of 7 may be used"):
        grids = choose_grids(*sure([2, 1, 1, 1], lost=2), 2, limit=100)
    assert len(grids) == 1


def test_too_few_classes_have_one_sentence() -> None:
    for legacy, needed in ((False, 9), (True, 10)):
        with pytest.raises(InputError, match=rf"3 x 3 need {needed} classes .* surer than 0.5; there are 3 of 3 classes"):
            choose_grids(*sure([9, 9, 9]), 3, legacy=legacy)
    with pytest.raises(InputError, match="there are 0 of 1 classes"):
        choose_grids(*sure([0, 0, 0, 0], lost=3), 2)


def test_the_same_again_and_no_global_state() -> None:
    logits, labels = sure([9] * 6)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    first = choose_grids(logits, labels, 2)
    assert torch.equal(choose_grids(logits, labels, 2), first)
    legacy = choose_grids(logits, labels, 2, legacy=True)
    assert torch.equal(choose_grids(logits, labels, 2, legacy=True), legacy)
    seeded = choose_grids(logits, labels, 2, legacy=True, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(choose_grids(logits, labels, 2, generator=torch.Generator().manual_seed(1)), first)
    assert not torch.equal(seeded, legacy)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])


def test_a_mature_network_is_sorted_beyond_rounding() -> None:
    """Sigmoids above 17 are all 1 in float32, and softmaxes above 40 in float64."""
    logits = torch.eye(4).repeat(3, 1) * torch.tensor([50.0, 900, 60]).repeat_interleave(4)[:, None]
    for probability in ("sigmoid", "softmax"):
        grids = choose_grids(logits, torch.arange(4).repeat(3), 2, probability=probability)
        assert [sorted(row) for row in grids.tolist()] == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 2, 3]]


def test_defect_49_one_picture_is_lost_after_each_grid() -> None:
    """The quirk alone: of draws ABCD … in line, the second grid starts at the sixth picture and skips classes it has."""
    pools = {c: [10 * c + i for i in range(3)] for c in range(5)}
    grids = module._official(pools, 4, None, None)
    draws, used, listed = np.random.RandomState(42), [0] * 5, []
    while sum(u < 3 for u in used) > 4:
        for c in draws.choice([c for c in range(5) if used[c] < 3], 4, replace=False):
            listed.append(10 * int(c) + used[c])
            used[c] += 1
    assert grids[0] == listed[:4]
    assert all(listed[4] not in grid for grid in grids[:2])
    assert grids[1][0] == listed[5]


def test_defect_50_softmax_has_its_own_confidence() -> None:
    """Logits of 3 and 2.9: both sigmoids are sure, no softmax is."""
    labels = torch.arange(4)
    logits = torch.full((4, 4), 2.9).scatter(1, labels[:, None], 3.0)
    assert choose_grids(logits, labels, 2).shape == (1, 4)
    with pytest.raises(InputError, match="there are 0 of 4 classes"):
        choose_grids(logits, labels, 2, probability="softmax")


def test_defect_51_the_last_classes_are_used() -> None:
    """Where n² classes are left, grids go on; the official rule needs one more."""
    logits, labels = sure([5, 5, 5, 5])
    assert choose_grids(logits, labels, 2).shape == (5, 4)
    with pytest.raises(InputError, match="need 5 classes"):
        choose_grids(logits, labels, 2, legacy=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"n": 0}, "a positive integer, not 0"),
        ({"limit": 0}, "limit is how many grids"),
        ({"confidence": 1}, r"confidence is a probability in \[0, 1\)"),
        ({"confidence": math.nan}, "not nan"),
        ({"probability": "sigmoidal"}, "Did you mean 'sigmoid'"),
        ({"labels": torch.zeros(7, dtype=torch.int64)}, r"not \(8, 4\) and \(7,\)"),
        ({"labels": torch.full((8,), 4)}, "Labels go from 4 to 4, and logits have 4 classes"),
        ({"labels": torch.zeros(8)}, "use labels.long"),
        ({"labels": torch.zeros(8, 4, dtype=torch.int64)}, r"not \(8, 4\) and \(8, 4\)"),
        ({"logits": torch.full((8, 4), math.nan)}, "Logits are not finite"),
        ({"logits": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}, r"not \(0, 4\) and \(0,\)"),
    ],
)
def test_bad_input_of_choice(change: dict[str, Any], text: str) -> None:
    logits, labels = sure([2, 2, 2, 2])
    given = {"logits": logits, "labels": labels, "n": 2, **change}
    with pytest.raises(InputError, match=text):
        choose_grids(**given)


def test_bad_types_of_choice() -> None:
    with pytest.raises(ArgumentTypeError, match="are tensors, not Tensor and list"):
        choose_grids(torch.zeros(1, 4), [0], 2)  # type: ignore[arg-type]
    logits, labels = sure([2] * 5)
    for legacy in (False, True):
        with pytest.raises(ArgumentTypeError, match=r"generator must be a torch\.Generator"):
            choose_grids(logits, labels, 2, legacy=legacy, generator=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not None"):
        choose_grids(logits, labels, 2, probability=None)  # type: ignore[arg-type]
    assert torch.equal(
        choose_grids(logits.half(), labels.int(), 2, confidence=np.float32(0.5)), choose_grids(logits.half(), labels, 2)
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_picture_is_in_its_cell(n: int, order: str) -> None:
    images = torch.arange(2.0 * n * n).view(2, n * n, 1, 1, 1).expand(-1, -1, 6, 3, 5)
    grids = compose_grids(images, n, order=order)
    assert grids.shape == (2, 6, 3 * n, 5 * n)
    for k, cell in enumerate(own_cells(n, order).tolist()):
        row, column = divmod(cell, n)
        part = grids[:, :, 3 * row : 3 * row + 3, 5 * column : 5 * column + 5]
        assert torch.equal(part, images[:, k])
        if order == "column":  # as the official code has it: row k mod n, column k div n
            assert (row, column) == (k % n, k // n)
    own = (grids[0] == images[0, -1, 0, 0, 0]).float()[:1]
    assert grid_pointing(own, own_cells(n, order)[-1:], n=n).item() == 1


def test_rescaling_commutes_with_encoding() -> None:
    rgb = torch.rand(1, 4, 3, 8, 8)
    encoded = add_inverse(rgb, dim=2)
    small = compose_grids(encoded, 2, rescale=True)
    assert small.shape == (1, 6, 8, 8)
    torch.testing.assert_close(small, add_inverse(compose_grids(rgb, 2, rescale=True)))
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        even = compose_grids(torch.full((1, 4, 6, 8, 8), 0.25, dtype=dtype), 2, rescale=True)
        torch.testing.assert_close(even, torch.full((1, 6, 8, 8), 0.25, dtype=dtype))


@pytest.mark.parametrize(
    ("images", "options", "text"),
    [
        (torch.zeros(1, 9, 3, 4, 4), {}, r"made of images \(G, 4, C, H, W\), not \(1, 9, 3, 4, 4\)"),
        (torch.zeros(4, 3, 4, 4), {}, r"not \(4, 3, 4, 4\)"),
        ([torch.zeros(3, 4, 4)], {}, "not list"),
        (torch.zeros(1, 4, 3, 5, 4), {"rescale": True}, "cannot be shrunk to 1/2"),
        (torch.zeros(1, 4, 3, 4, 4, dtype=torch.uint8), {"rescale": True}, "shrunk as floating point, not as torch.uint8"),
        (torch.zeros(1, 4, 3, 4, 4), {"order": "columns"}, "Did you mean 'column'"),
    ],
)
def test_bad_input_of_composing(images: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        compose_grids(images, 2, **options)


@given(
    stride=st.integers(1, 3),
    times=st.integers(1, 3),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    batch=st.integers(1, 5),
)
def test_windows_equal_the_slow_twin(stride: int, times: int, size: tuple[int, int], batch: int) -> None:
    """An explanation of ones counts windows; one that returns its window gives the picture, so many times."""
    sides = (size[0] * stride, size[1] * stride)
    counts = torch.tensor(twin.window_sums(sides, times * stride, stride), dtype=torch.float32)
    assert bool((counts == times**2).all())  # every pixel is in as many windows as any other
    grid = torch.rand(2, 6, *sides)
    options: dict[str, Any] = {"window": times * stride, "stride": stride, "batch_size": batch}
    torch.testing.assert_close(window_maps(lambda x: torch.ones_like(x[:, 0]), grid, **options), counts.expand(2, -1, -1))
    torch.testing.assert_close(window_maps(lambda x: x, grid, **options), grid * counts)


def test_the_published_windows() -> None:
    """25 windows a grid of 448 pixels; six zeros around it, or a colour."""
    seen: list[Tensor] = []
    window_maps(lambda x: (seen.append(x), x[:, 0])[1], torch.ones(1, 6, 8, 8), window=4, stride=2)
    assert sum(map(len, seen)) == 25
    assert torch.cat(seen)[0, :, 0, 0].tolist() == [0] * 6
    seen.clear()
    grid = torch.cat([torch.full((1, 3, 8, 8), 0.2), torch.full((1, 3, 8, 8), 0.8)], 1)
    window_maps(lambda x: (seen.append(x), x[:, 0])[1], grid, window=4, stride=2, replace="grey")
    windows = torch.cat(seen)
    assert windows[0, :, 0, 0].tolist() == [0.5] * 6
    torch.testing.assert_close(windows[:, :3] + windows[:, 3:], torch.ones(25, 3, 4, 4))


def test_bad_input_of_windows() -> None:
    grid = torch.zeros(1, 3, 8, 8)
    for picture, window, stride, text in (
        (grid[0], 4, 2, r"grid must be \(N, C, H, W\), not \(3, 8, 8\)"), (grid, 4, 3, "do not cover 8 x 8 pixels evenly"),
        (grid[..., :7], 4, 2, "do not cover 8 x 7"), (grid, 0, 1, "are positive integers, not 0, 1 and 16"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=text):
            window_maps(lambda x: x[:, 0], picture, window=window, stride=stride)
    with pytest.raises(ArgumentTypeError, match="a function from windows to maps, not int"):
        window_maps(3, grid, window=4, stride=2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"gave \(16, 2, 2\) for 16 windows"):
        window_maps(lambda x: x[:, 0, ::2, ::2], grid, window=4, stride=2)


def test_a_wrong_choice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule that keeps full classes in, pictures run out before their time."""
    monkeypatch.setattr(module, "_with_full", lambda drawn, cells, counts, rest: drawn[:cells])
    with pytest.raises(ValueError, match="expected sequence of length 4"):
        test_a_class_in_every_grid_is_not_missed()
