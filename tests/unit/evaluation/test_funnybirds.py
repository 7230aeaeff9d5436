"""FunnyBirds on a made-up folder: scores known exactly, a second program over the same files, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.birds import Birds, Reader
from tests.reference import birds as twin
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError
from torchbcos.evaluation import evaluate_funnybirds
from torchbcos.metrics import BIRD_THRESHOLDS

BIRDS = Birds()
MEASURES = ("csdc", "pc", "dc", "d", "bi", "sd", "ts")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BIRDS.write(tmp_path_factory.mktemp("birds") / "FunnyBirds")


def column(result: dict[str, Any], name: str) -> list[float | None]:
    return [row[name] for row in result["each"]]


# -- by hand ---------------------------------------------------------------------------------------------------------------


def test_the_maps_that_the_network_deserves(folder: Path) -> None:
    """Weights 4, 3, 2.5, 1 of beak, eye, tail, wing. At a threshold of 0.25 the beak is important, of 12.7 in all, and the eye,
    too, where the objects add little (10.5, 10.7)."""
    network = Reader(BIRDS)
    result = evaluate_funnybirds(network, network.explain, folder, threshold=0.25)
    # class 0 is told by {beak, tail}, {beak, wing} or {eye, tail}, {eye, wing}
    assert column(result, "csdc") == [0.5, 0.5, 0.5, 1.0, 0.5]
    # with the beak alone, classes 0 and 1 look alike, as 2 and 3 do, and the first wins
    assert column(result, "pc") == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert column(result, "dc") == [0.0, 0.0, 0.0, 1.0, 0.0]
    # objects add 0.2 (irrelevant), 3 (relevant) and -1 (irrelevant): none is important; without objects no part is irrelevant
    assert column(result, "d") == [1.0, None, 1.0, 1.0, 1.0]
    assert column(result, "bi") == pytest.approx([2 / 3, None, 0.5, 1.0, 2 / 3])
    assert column(result, "sd") == pytest.approx([1.0] * 5)
    assert column(result, "ts") == [1.0, 1.0, None, None, 1.0]
    assert result["scores"]["accuracy"] == 1.0
    assert result["scores"]["completeness"] == pytest.approx(((0.6 + 0.6 + 0.2) / 3 + 1) / 2)
    assert (result["scores"]["correctness"], result["scores"]["contrastivity"]) == pytest.approx((1.0, 1.0))
    assert result["defined"] == {"csdc": 5, "pc": 5, "dc": 5, "d": 4, "bi": 4, "sd": 5, "ts": 3}
    assert result["undefined"] == {"csdc": 0, "pc": 0, "dc": 0, "d": 1, "bi": 1, "sd": 0, "ts": 2}
    assert result["notes"] == []


def test_reversed_and_constant_maps(folder: Path) -> None:
    network = Reader(BIRDS)
    result = evaluate_funnybirds(network, network.saying(torch.neg), folder)
    assert (result["scores"]["correctness"], result["scores"]["contrastivity"]) == pytest.approx((0.0, 0.0))
    assert result["notes"] == ["5 of 5 pictures have a map with a negative sum, in which nearly all parts count as important."]
    assert set(column(result, "d")) == {0.0, None}  # objects without any evidence are important, too
    result = evaluate_funnybirds(network, network.saying(torch.ones_like), folder, threshold=0.05)
    assert result["scores"]["correctness"] is None and result["undefined"]["sd"] == 5
    assert column(result, "csdc") == [1.0] * 5 and result["scores"]["d"] == 1.0  # a map of the bird is complete
    result = evaluate_funnybirds(network, network.saying(torch.zeros_like, behind=1.0), folder, threshold=0.05)
    assert (result["scores"]["csdc"], result["scores"]["d"]) == (0.0, 0.0)


def test_a_wrong_network_has_no_csdc_and_a_blind_one_no_ts(folder: Path) -> None:
    network = Reader(BIRDS)
    wrong = evaluate_funnybirds(lambda x: -network(x), network.explain, folder, threshold=0.25)
    assert wrong["scores"]["accuracy"] == 0.0 and wrong["scores"]["csdc"] is None and wrong["undefined"]["csdc"] == 5
    assert wrong["scores"]["completeness"] is None
    blind = evaluate_funnybirds(Reader(BIRDS, weights=(0.0,) * 4), network.explain, folder, threshold=0.25)
    assert blind["undefined"]["ts"] == 5 and blind["undefined"]["sd"] == 5


def test_the_protocol_of_the_official_code(folder: Path) -> None:
    network = Reader(BIRDS)
    ours = evaluate_funnybirds(network, network.explain, folder, threshold="test")
    theirs = evaluate_funnybirds(network, network.explain, folder, protocol="funnybirds")
    assert (theirs["threshold"], theirs["protocol"]) == ("test", "funnybirds")
    assert column(theirs, "csdc")[:4] == column(ours, "csdc")[:4] and column(theirs, "csdc")[4] == 0.0 < column(ours, "csdc")[4]
    assert theirs["scores"]["bi"] == pytest.approx((2 + 1 + 1 + 2) / 9)
    assert ours["scores"]["bi"] == pytest.approx((2 / 3 + 1 / 2 + 1 + 2 / 3) / 4)


def test_classes_with_the_same_parts_are_told(tmp_path: Path) -> None:
    twins = Birds(classes=((0, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1)), labels=(0, 2, 1), objects=(1, 0, 0))
    place, network = twins.write(tmp_path / "FunnyBirds"), Reader(twins)
    ours = evaluate_funnybirds(network, network.explain, place, threshold=0.25)
    assert ours["notes"] == ["2 of 3 classes have all parts in common with another class: CSDC is undefined for them."]
    assert column(ours, "csdc") == [None, 1.0, None] and ours["undefined"]["ts"] == 3
    assert column(evaluate_funnybirds(network, network.explain, place, protocol="funnybirds"), "csdc") == [0.0, 0.0, None]


# -- a second program --------------------------------------------------------------------------------------------------------


def second(folder: Path, network: Reader, explain: Callable[[Tensor, Tensor], Tensor], held_out: bool) -> dict[str, Any]:
    def tensor(image: np.ndarray) -> Tensor:
        return (torch.from_numpy(image).permute(2, 0, 1).float() / 255)[None]

    return twin.measure(
        folder,
        lambda image: network(tensor(image))[0].tolist(),
        lambda image, label: explain(tensor(image), torch.tensor([[label]]))[0, 0].double().tolist(),
        BIRD_THRESHOLDS[::8],
        held_out,
    )


weights = st.lists(st.sampled_from([-1.0, 0.5, 1.0, 2.0, 3.5]), min_size=4, max_size=4).map(tuple)
behind = st.lists(st.sampled_from([-1.0, 0.01, 0.3, 2.0]), min_size=3, max_size=3).map(tuple)


@settings(max_examples=10)
@given(weights, behind, weights, st.booleans())
def test_the_folder_equals_the_twin(folder: Path, parts: Any, objects: Any, drawn: Any, held_out: bool) -> None:
    network = Reader(BIRDS, parts, objects)
    explain = Reader(BIRDS, drawn, objects[::-1]).explain
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(evaluate_funnybirds.__globals__, "BIRD_THRESHOLDS", BIRD_THRESHOLDS[::8])
        found = evaluate_funnybirds(network, explain, folder, threshold="held-out" if held_out else "test")
    wanted = second(folder, network, explain, held_out)
    for mine, other in zip(found["each"], wanted["each"], strict=True):
        assert (mine["predicted"], mine["threshold"]) == (other["predicted"], other["threshold"])
        for name in MEASURES:
            value = math.nan if mine[name] is None else mine[name]
            assert value == pytest.approx(other["chosen"][name], nan_ok=True, abs=1e-9), name
    for name in MEASURES:
        value = math.nan if found["scores"][name] is None else found["scores"][name]
        assert value == pytest.approx(wanted["means"][name], nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("fault", ["true class", "kept parts", "own half", "objects"])
def test_a_fault_is_found(fault: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a slip in the wiring would do, which no measure sees by itself."""
    inside = evaluate_funnybirds.__globals__
    network, like = Reader(BIRDS, (4.0, 3.0, 0.1, 1.0), (1.0, 3.0, -1.0)), Reader(BIRDS, (1.0, 3.5, 2.0, 0.5), (0.1, 1.0, 3.0))
    wanted = evaluate_funnybirds(network, like.explain, folder)["each"]
    if fault == "true class":  # maps of the first target for all
        explain: Callable[[Tensor, Tensor], Tensor] = lambda x, t: like.explain(x, t[:, :1].expand_as(t))
    else:
        explain = like.explain
    if fault == "kept parts":
        plain = inside["BirdFolder"].keeping
        monkeypatch.setattr(inside["BirdFolder"], "keeping", lambda self, bird, code: plain(self, bird, 15 - code))
    if fault == "own half":
        monkeypatch.setitem(inside, "choose_threshold", lambda *columns, folds: torch.zeros(5, dtype=torch.int64))
    if fault == "objects":
        monkeypatch.setattr(inside["BirdFolder"], "without_object", lambda self, bird, number: self.picture(bird))
    assert evaluate_funnybirds(network, explain, folder)["each"] != wanted


# -- use -------------------------------------------------------------------------------------------------------------------


def test_batches_change_nothing_and_each_picture_is_asked_once(folder: Path) -> None:
    network = Reader(BIRDS)
    whole = evaluate_funnybirds(network, network.explain, folder)
    passes = sum(network.calls)
    assert max(network.calls) <= 16 and passes <= 5 * (1 + 16 + 3)
    for size in (1, 2):
        network.calls.clear()
        assert evaluate_funnybirds(network, network.explain, folder, batch_size=size) == whole
        assert max(network.calls) == size and sum(network.calls) == passes


def test_no_picture_chooses_its_own_threshold(folder: Path) -> None:
    """The map of the first picture moves the thresholds of the second and fourth only."""
    network = Reader(BIRDS)

    def other(x: Tensor, targets: Tensor) -> Tensor:
        maps = network.explain(x, targets)
        maps[0] = network.drawn(torch.tensor([[[0.4, 0.3, 0.2, 0.1]]]).expand(1, 4, 4), torch.full((1, 3), 0.2))[0]
        return maps

    before, after = (column(evaluate_funnybirds(network, e, folder), "threshold") for e in (network.explain, other))
    assert before[0::2] == after[0::2] and before[1::2] != after[1::2]


def test_limit_spreads_over_the_folder(folder: Path) -> None:
    network = Reader(BIRDS)
    names = column(evaluate_funnybirds(network, network.explain, folder, limit=2), "name")
    assert names == ["test/0/000000.png", "test/1/000002.png"]
    assert evaluate_funnybirds(network, network.explain, folder, limit=99)["pictures"] == 5
    with pytest.raises(InputError, match="One picture cannot have a threshold"):
        evaluate_funnybirds(network, network.explain, folder, limit=1)
    assert evaluate_funnybirds(network, network.explain, folder, limit=1, threshold=0.1)["thresholds"] == [0.1]


def test_a_network_of_ours_sees_encoded_pictures(folder: Path) -> None:
    from torchbcos import nn as bnn
    from torchbcos.zoo import Classifier

    torch.manual_seed(0)
    net = nn.Sequential(bnn.BcosConv2d(6, 4, 3), bnn.GlobalAveragePool())

    def explain(x: Tensor, targets: Tensor) -> Tensor:
        assert x.shape[1] == 6 and bool((x[:, :3] + x[:, 3:] == 1).all())
        return x.sum(1)[:, None].expand(-1, targets.shape[1], -1, -1)

    told: list[int] = []

    def progress(batches: Any, count: int) -> Any:
        told.append(count)
        return batches

    result = evaluate_funnybirds(Classifier(net), explain, folder, batch_size=2, progress=progress)
    assert result["pictures"] == 5 and told == [3]
    same = evaluate_funnybirds(net, explain, folder, transform=lambda x: torch.cat([x, 1 - x], 1))
    assert [row["predicted"] for row in same["each"]] == column(result, "predicted")


REFUSED: dict[str, tuple[type[BcosError], dict[str, Any], str]] = {
    "no model": (ArgumentTypeError, {"model": 3}, "model is a function"),
    "training": (InputError, {"model": nn.Flatten()}, r"model\.eval\(\)"),
    "few classes": (InputError, {"model": lambda x: torch.zeros(len(x), 3)}, "C of at least 4, the folder's classes, not .5, 3."),
    "logits": (InputError, {"model": lambda x: [1.0]}, "not list"),
    "not finite": (InputError, {"model": lambda x: torch.full((len(x), 4), torch.nan)}, "not finite"),
    "no map": (ArgumentTypeError, {"explain": lambda x, t: None}, "not NoneType"),
    "map size": (InputError, {"explain": lambda x, t: torch.ones(*t.shape, 8, 8)}, r"maps \(5, 4, 24, 32\)"),
    "map of NaN": (InputError, {"explain": lambda x, t: torch.full((*t.shape, 24, 32), torch.nan)}, "test/0/000000.png"),
    "threshold": (InputError, {"threshold": "best"}, "'held-out', 'test' or a number, not 'best'"),
    "percent": (InputError, {"threshold": 5}, "from 0 to 1"),
    "true": (InputError, {"threshold": True}, "from 0 to 1"),
    "protocol": (InputError, {"protocol": "official"}, "'funnybirds', or None"),
    "batch": (InputError, {"batch_size": 0}, "batch_size"),
    "limit": (InputError, {"limit": 0}, "limit"),
    "split": (InputError, {"split": "../test"}, "split is the word"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_said(case: str, folder: Path) -> None:
    error, changed, message = REFUSED[case]
    network = Reader(BIRDS)
    given_here = {"model": network, "explain": network.explain, **changed}
    with pytest.raises(error, match=message) as caught:
        evaluate_funnybirds(folder=folder, **given_here)
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


def test_parts_that_nobody_sees_are_tied(folder: Path) -> None:
    """The wing and the tail weigh nothing, and the network rounds differently in each batch, as they do."""
    generator = torch.Generator().manual_seed(0)
    network = Reader(BIRDS, weights=(4.0, 3.0, 0.0, 0.0))

    def rounding(x: Tensor) -> Tensor:
        found = network(x)
        return found + 2e-7 * found.abs() * torch.rand(found.shape, generator=generator)

    exact = evaluate_funnybirds(network, network.explain, folder, threshold=0.25)
    again = evaluate_funnybirds(rounding, network.explain, folder, threshold=0.25)
    assert column(again, "sd") == column(exact, "sd")
    assert column(exact, "sd") == pytest.approx([1.0] * 5)
