"""LIME and KernelSHAP: twins, closed forms, Captum, any batch, any number of targets, any segments, and what they refuse."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models.model import Model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import attribution_perturbation as twin
from torchbcos._core.errors import InputError, StateError
from torchbcos.attribution import METHODS, Explainer, KernelShap, Lime, surrogate

TABLES = st.integers(1, 4).flatmap(lambda m: st.lists(st.floats(-3, 3), min_size=2**m, max_size=2**m))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain() -> nn.Module:
    """A small ordinary network in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(net, nn.Linear(6, 4)).double().eval()


def of_table(table: list[float]) -> tuple[Callable[[Tensor], Tensor], twin.Game, int]:
    """A number for each coalition of m players: as a function of pictures of m pixels that are 0 or 1, and as a game."""
    m = (len(table) - 1).bit_length()
    asked: set[frozenset[int]] = set()

    def net(x: Tensor) -> Tensor:
        codes = (x.flatten(1).round().long() * 2 ** torch.arange(m)).sum(1)
        asked.update(frozenset(i for i in range(m) if code >> i & 1) for code in codes.tolist())
        return torch.tensor(table, dtype=x.dtype)[codes].unsqueeze(1)

    return net, lambda shown: table[sum(2**i for i in shown)], m


# -- numbers -----------------------------------------------------------------------------------------------------------


@given(table=TABLES)
def test_all_coalitions_give_shapley_values(table: list[float]) -> None:
    """Of any game: what the definition says, and what weighted least squares says."""
    net, game, m = of_table(table)
    a = torchbcos.attribute(
        net, torch.ones(1, 1, m, dtype=torch.float64), 0, method=KernelShap(segments=m, samples=14), baseline=0.0
    )
    wanted = twin.shapley(game, m)
    assert a.maps[0, 0].tolist() == pytest.approx(wanted, abs=1e-9) and a.passes == 2**m
    some = [frozenset(c) for z in range(1, m) for c in itertools.combinations(range(m), z)]
    weights = [(m - 1) / (len(list(itertools.combinations(range(m), len(c)))) * len(c) * (m - len(c))) for c in some]
    assert twin.kernel_shap(game, some, weights, m) == pytest.approx(wanted, abs=1e-9)
    assert a.delta is not None and float(a.delta.abs().max()) < 1e-12


class Watched:
    """A function of pictures that remembers which pixels, which are 1 or covered with 0, it has seen."""

    def __init__(self, net: Callable[[Tensor], Tensor]) -> None:
        self.net, self.seen = net, list[frozenset[int]]()

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.extend(frozenset(row.nonzero().flatten().tolist()) for row in x.flatten(1))
        return self.net(x)


def bent(x: Tensor) -> Tensor:
    """A function with interactions of all its pixels; of three too: pairs alone leave KernelSHAP's answer to any weights."""
    at = torch.arange(1, x[0].numel() + 1, dtype=x.dtype)
    one = (x.flatten(1) * at.sin()).sum(1)
    return torch.stack([one + one.square() / 3 + one.pow(3), one.cos()], 1)


def game(shown: frozenset[int], pixels: int) -> float:
    x = torch.zeros(1, pixels, dtype=torch.float64)
    x[0, list(shown)] = 1
    return float(bent(x)[0, 0])


@given(pixels=st.integers(6, 9), samples=st.integers(48, 61), seed=st.integers(0, 5))
def test_drawn_coalitions_have_their_twins_numbers(pixels: int, samples: int, seed: int) -> None:
    """What the network was asked, solved again from the paper: KernelSHAP by elimination, LIME by its normal equations."""
    against_their_twins(pixels, samples, seed)


def against_their_twins(pixels: int, samples: int, seed: int) -> None:
    for method in (KernelShap(segments=pixels, samples=samples), Lime(segments=pixels, samples=samples, width=0.4, ridge=0.3)):
        net, x = Watched(bent), torch.ones(1, 1, pixels, dtype=torch.float64)
        draws = torch.Generator().manual_seed(seed)
        a = torchbcos.attribute(net, x, 0, method=method, baseline=0.0, generator=draws, batch_size=999)
        everything = frozenset(range(pixels))
        if method.name == "lime":
            asked = net.seen[:samples]
            wanted = twin.lime(lambda shown: game(shown, pixels), asked, pixels, 0.4, 0.3)
        else:
            asked = [shown for shown in net.seen if shown not in (frozenset(), everything)]
            weights = shapley_weights(asked, pixels)
            wanted = twin.kernel_shap(lambda shown: game(shown, pixels), asked, weights, pixels)
        assert a.maps[0, 0].tolist() == pytest.approx(wanted, abs=1e-8)
        assert a.passes == len(net.seen) <= samples + 2


def shapley_weights(asked: list[frozenset[int]], m: int) -> list[float]:
    """Of sizes that are there whole and once: the kernel; the other sizes share what is left of it."""
    mass = {z: 1 / (z * (m - z)) for z in range(1, m)}
    groups = {z: [c for c in asked if len(c) == z] for z in mass}
    number = {z: len(list(itertools.combinations(range(m), z))) for z in mass}
    whole: list[int] = []  # from the outside in, until a size is not whole
    for z in range(1, m // 2 + 1):
        pair = {z, m - z}
        if any(len(groups[y]) != number[y] or len(set(groups[y])) != number[y] for y in pair):
            break
        whole += pair
    rest = sum(mass[z] for z in mass if z not in whole)
    drawn = sum(len(groups[z]) for z in mass if z not in whole)
    return [mass[len(c)] / number[len(c)] if len(c) in whole else rest / drawn for c in asked]


COALITIONS, PAINTED = surrogate._coalitions, surrogate._painted
FAULTS = {
    "every coalition weighs as much": (
        "_coalitions",
        lambda *a: (COALITIONS(*a)[0], torch.ones(len(COALITIONS(*a)[0])).double()),
    ),
    "the map is mirrored": ("_painted", lambda found, numbers, *rest: PAINTED(found, numbers.flip(-1), *rest)),
    "LIME knows no ridge": ("_sound", lambda a, _: a - 0.3 * torch.eye(len(a), dtype=torch.float64)),
    "values of the picture are zero": ("values_of", lambda subject: torch.zeros_like(subject.values)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    against_their_twins(8, 50, 0)
    where, fault = FAULTS[name]
    monkeypatch.setattr(surrogate, where, fault)
    with pytest.raises(AssertionError):
        against_their_twins(8, 50, 0)


def test_drawn_coalitions_come_with_their_complements() -> None:
    net, x = Watched(bent), torch.ones(1, 1, 11, dtype=torch.float64)
    torchbcos.attribute(net, x, 0, method=KernelShap(segments=11, samples=201), baseline=0.0)
    everything = frozenset(range(11))
    assert sorted(map(sorted, net.seen)) == sorted(sorted(everything - shown) for shown in net.seen)
    assert {len(shown) for shown in net.seen} == set(range(12))
    for size in (1, 10):
        assert len({shown for shown in net.seen if len(shown) == size}) == 11  # all of them


def test_an_additive_network_has_one_answer() -> None:
    """KernelSHAP of any number of samples, and LIME without a penalty: what each segment adds."""
    x, base = drawn(2, 3, 6, 8), drawn(2, 3, 6, 8, seed=1)
    weight = drawn(3, 6, 8, seed=2) - 0.5
    cells = (weight * (x - base)).sum(1).unfold(1, 2, 2).unfold(2, 2, 2).sum((-1, -2))
    net = lambda x: (x * weight).flatten(1).sum(1, keepdim=True)
    wide = cells.repeat_interleave(2, 1).repeat_interleave(2, 2)
    for method in (KernelShap(segments=(3, 4), samples=120), Lime(segments=(3, 4), samples=60, ridge=0.0, width=2.0)):
        shared = torchbcos.attribute(net, x, 0, method=method, baseline=base)
        assert torch.allclose(shared.maps[:, 0], wide / 4, atol=1e-10)
        whole = torchbcos.attribute(net, x, 0, method=type(method)(segments=(3, 4), samples=120, spread=False), baseline=base)
        if method.name == "kernel_shap":
            assert torch.allclose(whole.maps[:, 0], wide, atol=1e-10)
            assert torch.allclose(shared.maps.flatten(2).sum(2), net(x) - net(base), atol=1e-12)
            for a in (shared, whole):
                assert a.delta is not None and float(a.delta.abs().max()) < 1e-12
        else:
            assert shared.delta is None


def test_shapley_values_come_near_with_samples() -> None:
    """Of a network with interactions, against all coalitions: the error falls, and is small beside the values."""
    net, x = plain(), drawn(1, 3, 9, 12)
    exact = torchbcos.attribute(net, x, 1, method=KernelShap(segments=3, samples=600)).maps
    errors = [
        float((torchbcos.attribute(net, x, 1, method=KernelShap(segments=3, samples=n)).maps - exact).norm() / exact.norm())
        for n in (36, 120, 500)
    ]
    assert errors[2] < errors[0] < 0.2 and errors[2] < 0.03


# -- Captum ------------------------------------------------------------------------------------------------------------


class Solver(Model):  # type: ignore[misc]
    """Captum's place for a regression; scikit-learn's is not installed: weighted ridge by numpy."""

    def __init__(self, ridge: float) -> None:
        self.ridge = ridge

    def fit(self, train_data: object, **_: object) -> dict[str, object]:
        z, y, w = (torch.cat(part).double().numpy() for part in zip(*train_data, strict=True))  # type: ignore[call-overload]
        z, root = np.concatenate([z, np.ones((len(z), 1))], 1), np.sqrt(w)
        penalty = np.eye(z.shape[1])[:-1] * np.sqrt(self.ridge)
        rows = np.concatenate([z * root[:, None], penalty])
        found = np.linalg.lstsq(rows, np.concatenate([y * root, np.zeros(len(penalty))]), rcond=None)[0]
        self.found = torch.from_numpy(found[:-1])
        return {}

    def representation(self) -> Tensor:
        return self.found[None]

    def __call__(self, x: Tensor) -> Tensor:
        return x


def through_captum(net: nn.Module, x: Tensor, coalitions: Tensor, weight: Callable[[Tensor], float], ridge: float) -> Tensor:
    """The map of Captum's LimeBase for 2 x 3 segments, with these coalitions in this order."""
    mask = torch.arange(6).reshape(2, 3).repeat_interleave(4, 0).repeat_interleave(4, 1)[None, None].expand(1, 3, 8, 12)

    def rows(*_: object, **__: object) -> Iterator[Tensor]:
        yield from coalitions.double().split(1)

    base = captum.attr.LimeBase(
        net, Solver(ridge), lambda _x, _p, z, **_: weight(z), rows, True,
        lambda z, original, **_: torch.where(z[0][mask].bool(), original, torch.full_like(original, 0.5)), None,
    )  # fmt: skip
    found = base.attribute(x, target=2, n_samples=len(coalitions))
    spread: Tensor = found[0][mask[0, 0]]
    return spread


def test_captum_gives_the_same_lime() -> None:
    net, x = plain(), drawn(1, 3, 8, 12)
    seen: list[Tensor] = []
    ours = torchbcos.attribute(
        lambda p: (seen.append(p), net(p))[1], x, 2, method=Lime(segments=(2, 3), samples=40, spread=False, ridge=0.7)
    )  # fmt: skip
    shown = (torch.cat(seen)[:40] == x).all(1)[:, ::4, ::4].flatten(1)
    coalitions = torch.cat([torch.ones(1, 6, dtype=torch.bool), shown])
    near = captum.attr._core.lime.get_exp_kernel_similarity_function("cosine", 0.25)
    theirs = through_captum(net, x, coalitions, lambda z: near(torch.ones(1, 6), z.float(), z), 0.7)
    assert torch.allclose(ours.maps[0, 0], theirs, atol=1e-6 * float(theirs.abs().max()))  # its distances are in float32


def test_captum_gives_the_same_kernel_shap() -> None:
    """Its two ends have a large weight instead of a constraint."""
    net, x = plain(), drawn(1, 3, 8, 12)
    ours = torchbcos.attribute(net, x, 2, method=KernelShap(segments=(2, 3), samples=62, spread=False))
    rows = torch.tensor(list(itertools.product([0, 1], repeat=6)), dtype=torch.bool)
    number = [1, 6, 15, 20, 15, 6, 1]

    def weight(z: Tensor) -> float:
        size = int(z.sum())
        return 1e6 if size in (0, 6) else 5 / (number[size] * size * (6 - size))

    theirs = through_captum(net, x, rows, weight, 0.0)
    assert torch.allclose(ours.maps[0, 0], theirs, atol=1e-5 * float(theirs.abs().max()))


# -- images, targets, segments -----------------------------------------------------------------------------------------

ALL: list[Explainer] = [Lime(segments=3, samples=40), KernelShap(segments=3, samples=60)]
BOTH = pytest.mark.parametrize("method", ALL, ids=lambda method: str(method.name))
KINDS = pytest.mark.parametrize("kind", [Lime, KernelShap], ids=lambda kind: str(kind.name))


def some_segments() -> Tensor:
    """Of three images: nine, four and two segments, with odd numbers."""
    rows = torch.arange(9)[:, None] // 3
    columns = torch.arange(11)[None] // 4
    nine = rows * 3 + columns
    return torch.stack([nine * 7 - 5, (rows > 0) * 2 + (columns > 1) + 100, (columns > 0) + 0 * rows])


@BOTH
@pytest.mark.parametrize("own", [False, True])
def test_one_image_or_many_one_target_or_ten(method: Explainer, own: bool) -> None:
    net, x = plain(), drawn(3, 3, 9, 11)
    given_ = some_segments() if own else 3
    build = type(method)
    settings = build(segments=given_, samples=60)
    targets = torch.tensor([[0, 1, 3, 2, 2, 1, 0, 0, 1, 3], [3, 2, 1, 0, 1, 2, 3, 3, 3, 3], [0, 0, 2, 1, 3, 2, 1, 0, 1, 2]])
    calls: list[int] = []
    net.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    whole = torchbcos.attribute(net, x, targets, method=settings)
    assert whole.passes == sum(calls) / 3
    for k in (0, 4, 9):
        calls.clear()
        one = torchbcos.attribute(net, x, targets[:, k], method=settings)
        assert torch.equal(one.maps[:, 0], whole.maps[:, k]) and one.passes == whole.passes == sum(calls) / 3
    for size in (1, 2, 16):
        again = torchbcos.attribute(net, x, targets, method=settings, batch_size=size)
        assert torch.allclose(again.maps, whole.maps, atol=1e-12) and again.passes == whole.passes
    for i in range(3):
        part = build(segments=given_[i] if isinstance(given_, Tensor) else given_, samples=60)
        alone = torchbcos.attribute(net, x[i : i + 1], targets[i : i + 1], method=part)
        assert torch.allclose(alone.maps[0], whole.maps[i], atol=1e-12)


@KINDS
def test_segments_of_any_names_and_kinds_are_the_same(kind: type[Lime] | type[KernelShap]) -> None:
    net, x, grid = plain(), drawn(2, 3, 9, 12), torch.arange(9)[:, None] // 3 * 3 + torch.arange(12) // 4
    wanted = torchbcos.attribute(net, x, 1, method=kind(segments=3, samples=60)).maps
    for names in (
        grid, grid.expand(2, 9, 12), grid.int() * 5 - 2, grid.double() / 3, (grid + 9).numpy().astype(np.uint16),
        grid.numpy()[:, ::-1][:, ::-1], grid.numpy() / 2, [3, 3], np.stack([grid.numpy()] * 2),
    ):  # fmt: skip
        assert torch.equal(torchbcos.attribute(net, x, 1, method=kind(segments=names, samples=60)).maps, wanted)
    unequal = torchbcos.attribute(net, x, 1, method=kind(segments=(grid > 3) + 1 * (grid > 7), samples=60, spread=False)).maps
    assert [len(one.unique()) for one in unequal[:, 0]] == [3, 3]


@BOTH
@pytest.mark.parametrize("space", [(7,), (5, 8), (3, 4, 5), (1, 1)])
def test_signals_pictures_volumes_and_functions(method: Explainer, space: tuple[int, ...]) -> None:
    x = drawn(2, 2, *space).float()
    a = torchbcos.attribute(lambda x: x.flatten(1), x, [[0, 1], [1, 0]], method=method.name, samples=80)
    assert a.maps.shape == (2, 2, *space) and a.maps.dtype == torch.float32 and bool(a.maps.isfinite().all())


@BOTH
def test_encoded_pictures_stay_encoded_and_segments_tie_channels(method: Explainer) -> None:
    x, seen = drawn(2, 3, 9, 11).float(), []
    x = torch.cat([x, 1 - x], 1)

    def net(points: Tensor) -> Tensor:
        hidden = (points == 0.5).repeat(1, 1, 1, 1)
        seen.append((float((points[:, :3] + points[:, 3:] - 1).abs().max()), bool((hidden.all(1) | ~hidden.any(1)).all())))
        return points.flatten(1)

    torchbcos.attribute(net, x, 0, method=method)
    assert len(seen) > 1 and max(off for off, _ in seen) < 1e-6 and all(tied for _, tied in seen)


@BOTH
def test_the_usual_settings_cost_what_the_record_says(method: Explainer) -> None:
    record = METHODS[method.name]
    for shape in ((1, 3, 14, 21), (2, 1, 3, 2), (1, 2, 9), (1, 1, 5, 5)):
        a = torchbcos.attribute(lambda x: x.flatten(1), torch.rand(shape), [[0, 1]] * shape[0], method=method.name)
        assert a.passes == record.passes(shape, 2)


# -- what they refuse --------------------------------------------------------------------------------------------------

REFUSED: list[tuple[Explainer, str]] = [
    (Lime(samples=0), "samples must be a positive integer, not 0"),
    (Lime(probability=1.0), "probability must be a number between 0 and 1, both excluded, not 1.0"),
    (Lime(width=0.0), "width must be more than 0"),
    (Lime(ridge=-1.0), "ridge must be a number of at least 0, not -1.0"),
    (Lime(segments=4, samples=15), "samples=15 cannot tell 16 segments apart: take at least 16, or fewer segments"),
    (Lime(segments=4, samples=16, ridge=0.0, probability=0.05), "The 16 samples do not tell all 16 segments apart: take"),
    (KernelShap(segments=4, samples=29), "samples=29 cannot tell 16 segments apart: take at least 30, or fewer segments"),
    (KernelShap(segments=0), "segments must be a positive integer, or one an axis, not 0"),
    (KernelShap(segments="slic"), "segments must be a positive integer, or one an axis, not 'slic'"),  # type: ignore[arg-type]
    (KernelShap(segments=(2, 2, 2)), r"segments=\(2, 2, 2\) has 3 numbers, and the picture 2 axes"),
    (KernelShap(segments=torch.ones(8, 11)), r"Segments of shape \(8, 11\) do not fit 2 pictures of 8 x 12: give one"),
    (KernelShap(segments=np.ones((3, 8, 12))), r"Segments of shape \(3, 8, 12\) do not fit 2 pictures of 8 x 12"),
    (KernelShap(segments=np.full((8, 12), "sky")), "Segments are numbers, not an array of <U3"),
    (KernelShap(segments=torch.full((8, 12), float("nan"))), "Segments have NaN or infinite numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "words"), REFUSED)
def test_what_they_refuse(method: Explainer, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        torchbcos.attribute(lambda x: x.flatten(1), torch.rand(2, 1, 8, 12), 0, method=method)
    assert len(str(caught.value)) <= 500


def test_numbers_of_numpy() -> None:
    net, x = plain(), drawn(1, 3, 8, 12)
    for ours, theirs in (
        (Lime(samples=np.int64(40), width=np.float32(0.5), ridge=np.float64(2), segments=np.int32(2)),  # type: ignore[arg-type]
         Lime(samples=40, width=0.5, ridge=2, segments=2)),
        (KernelShap(samples=np.int16(40), segments=[np.uint8(2), 3]), KernelShap(samples=40, segments=[2, 3])),  # type: ignore
    ):  # fmt: skip
        assert torch.equal(torchbcos.attribute(net, x, 1, method=ours).maps, torchbcos.attribute(net, x, 1, method=theirs).maps)


@BOTH
def test_a_table_too_large_for_memory(method: Explainer) -> None:
    build = type(method)
    with pytest.raises(InputError, match=r"200,000 samples of 1,024 segments need too much memory: take fewer segments"):
        torchbcos.attribute(lambda x: x.flatten(1), torch.rand(1, 1, 32, 32), 0, method=build(segments=32, samples=200_000))


@BOTH
def test_inputs_without_places_and_outputs_that_are_not_finite(method: Explainer) -> None:
    with pytest.raises(InputError, match=r"\(N, C\) inputs have none: give \(N, C, \*S\)"):
        torchbcos.attribute(lambda x: x, torch.rand(1, 5), 0, method=method)
    with pytest.raises(StateError, match=r"not finite .* where parts of the picture are covered: try another baseline"):
        torchbcos.attribute(lambda x: 1 / (x.flatten(1) - 0.5), torch.zeros(1, 1, 5, 5), 0, method=method)


def test_too_few_samples_for_a_grid_are_no_map_of_one_colour() -> None:
    x = torch.rand(1, 1, 8, 8)
    with pytest.raises(InputError, match="samples=12 are too few for a grid of segments: take 16 or more"):
        torchbcos.attribute(lambda x: x.flatten(1), x, 0, method="kernel_shap", samples=12)
    assert torchbcos.attribute(lambda x: x.flatten(1), x, 0, method="kernel_shap", samples=16).maps.unique().numel() > 1
