"""Networks of two stages against their slow twin: what is selected, logits, scores, losses, gradients and explanations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import selecting as twins
from torchbcos.models import Style
from torchbcos.models.selecting import chosen, without_parts
from torchbcos.models.two_stage import PartEvidence, TwoStage, TwoStageSizes
from torchbcos.training import parts

SEEDS = st.integers(0, 10**6)
few, some = (settings(max_examples=count, deadline=None) for count in (2, 4))
MOMENTS = ((0.5, 0.25, 0.6), (0.2, 0.5, 0.3))
NORMALIZE = "0.5 0.25 0.6 / 0.2 0.5 0.3"


def nano(seed: int, **options: object) -> tuple[TwoStage, twins.Twin, Tensor]:
    """The smallest network that has a name, and pictures of 3 × 3 patches."""
    torch.manual_seed(seed)
    model = torchbcos.create_model("two_stage_nano", num_classes=3, depth=1, depth_where=1, patch=8, parts=2, **options)
    x = torchbcos.functional.add_inverse(torch.rand(2, 3, 24, 24, dtype=torch.float64))
    assert isinstance(model, TwoStage)
    return prepared(model, x)


def small(seed: int, *, normalize: str = "none", **options: object) -> tuple[TwoStage, twins.Twin, Tensor]:
    """Few numbers a token, two encoders a stage, three parts, pictures of 3 × 4 patches whose halves do not add up to 1."""
    torch.manual_seed(seed)
    sizes = TwoStageSizes(dim=16, heads=2, depth=2, depth_where=2, patch=2, parts=3)
    style = Style(norm="layer", norm_centered=True, normalize=normalize)
    model = TwoStage(sizes, style, num_classes=3, **options)  # type: ignore[arg-type]
    return prepared(model, torch.rand(2, 6, 6, 8, dtype=torch.float64), MOMENTS if normalize != "none" else None)


def prepared(model: TwoStage, x: Tensor, moments: tuple | None = None) -> tuple[TwoStage, twins.Twin, Tensor]:
    """Random weights, and part vectors near tokens, so that of each picture something is selected, and something is not."""
    model.double().eval()
    for p in model.parameters():
        nn.init.normal_(p, float(p.dim() == 1), 0.5)
    with torch.no_grad():
        z = model.tokens(x).flatten(0, 2)
        vectors = model.where.parts.vectors
        for _ in range(1000):
            vectors.copy_(z[torch.randperm(len(z))[: len(vectors)]] * (0.2 + 0.3 * torch.rand(len(vectors), 1)))
            a = model.assignment(x).flatten(1, 2)
            margins = a[..., :-1].amax(-1) - a[..., -1]
            if ((margins > 0).any(1) & (margins < 0).any(1)).all() and margins.abs().min() > 1e-6:
                break
        else:
            raise AssertionError("no such vectors were found")
    twin = twins.Twin(
        model.state_dict(), patch=model.sizes.patch, heads=model.sizes.heads, mask=model.mask, moments=moments,
        qkv="linear" if isinstance(model.what.tokens.encoders[0].attn.to_qkv, nn.Linear) else "bcos",
        bias=-math.log(2), temperature=model.logits.temperature or 1.0,
    )  # fmt: skip
    return model, twin, x


def same(ours: Tensor | float, theirs: Tensor | float) -> None:
    """Alike to 1e-9 of the largest number of the twin."""
    a, b = (torch.as_tensor(t, dtype=torch.float64).detach() for t in (ours, theirs))
    assert a.shape == b.shape and float(b.abs().max()) > 1e-6
    assert float((a - b).abs().max()) <= 1e-9 * float(b.abs().max())


def outside(selection: Tensor, patch: int) -> Tensor:
    """(N, H, W) True at the pixels of patches that are not seen."""
    return ~selection.repeat_interleave(patch, 1).repeat_interleave(patch, 2)


# -- the first stage ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [nano, small])
@few
@given(seed=SEEDS)
def test_what_is_selected(make: object, seed: int) -> None:
    model, twin, x = make(seed)  # type: ignore[operator]
    same(model.assignment(x), twin.assignment(x))
    selection = twin.selection(x)
    assert selection.any() and not selection.all() and torch.equal(model.selection(x), selection)
    names = range(model.sizes.parts)
    for keep in itertools.chain.from_iterable(itertools.combinations(names, count) for count in range(len(names) + 1)):
        left = twin.selection(x, [keep] * len(x))
        assert torch.equal(model.selection(x, keep=list(keep)), left) and not (left & ~selection).any()
    each = torch.tensor([[k == 0 for k in names], [k != 0 for k in names]])
    assert torch.equal(model.selection(x, keep=each), twin.selection(x, [[0], [k for k in names if k]]))


@given(table=st.lists(st.integers(0, 2), min_size=24, max_size=24), keep=st.sets(st.integers(0, 2)))
def test_ties_are_selected(table: list[int], keep: set[int]) -> None:
    a = torch.tensor(table, dtype=torch.float64).reshape(1, 2, 3, 4)
    assert torch.equal(chosen(a), twins.selected(a))
    assert torch.equal(chosen(without_parts(a, list(keep))), twins.selected(a, [list(keep)]))


@pytest.mark.parametrize("make", [nano, small])
@few
@given(seed=SEEDS)
def test_scores_of_the_first_stage(make: object, seed: int) -> None:
    model, twin, x = make(seed)  # type: ignore[operator]
    shares = model.assignment(x).softmax(-1)
    same(model.part_scores.means(model.tokens(x), shares), twin.means(x))
    same(model.part_scores(model.tokens(x), shares), twin.scores(x))
    z = 1 + torch.randn_like(model.tokens(x))  # of any tokens, also where their mean is not 0
    pairs = zip(z.flatten(1, 2).numpy(), shares.detach().flatten(1, 2).numpy(), strict=True)
    means = torch.stack([torch.from_numpy(twins.means_of(*pair)) for pair in pairs])
    same(model.part_scores(z, shares), twin.scores_of(means))


# -- the second stage --------------------------------------------------------------------------

OPTIONS = [{}, {"qkv": "linear", "temperature": 0.5}, {"normalize": NORMALIZE}]


@pytest.mark.parametrize("mask", ["hard", "soft", "late"])
@few
@given(seed=SEEDS)
def test_logits(mask: str, seed: int) -> None:
    for make, options in [(nano, {}), *((small, options) for options in OPTIONS)]:
        model, twin, x = make(seed, mask=mask, **options)  # type: ignore[operator]
        same(model(x), twin.logits(x))


@pytest.mark.parametrize("mask", ["hard", "soft", "late"])
@some
@given(seed=SEEDS)
def test_logits_of_other_selections(mask: str, seed: int) -> None:
    model, twin, x = small(seed, mask=mask, normalize=NORMALIZE)
    one_or_none, numbers = torch.rand(2, 3, 4) < 0.3, torch.rand(2, 3, 4, dtype=torch.float64)
    one_or_none[0] = False
    for selection in (one_or_none, numbers, torch.ones(2, 3, 4, dtype=torch.bool)):
        same(model.look(x, selection), twin.logits(x, selection))
    assert model.look(x, one_or_none)[0].tolist() == [-math.log(2)] * 3  # where nothing is seen


@some
@given(seed=SEEDS)
def test_what_is_not_seen_is_not_computed_with(seed: int) -> None:
    model, twin, x = small(seed, normalize=NORMALIZE)
    selection = twin.selection(x)
    other = x.masked_fill(outside(selection, 2)[:, None], 1e200)  # where it were read, its square would not be a number
    assert torch.equal(model.look(other, selection), model(x))
    same(model.look(other, selection), twin.logits(other, selection))


# -- losses ------------------------------------------------------------------------------------


@some
@given(seed=SEEDS, size=st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(2, 5)), count=st.integers(1, 3))
def test_losses_of_drawn_shares(seed: int, size: tuple[int, int, int], count: int) -> None:
    torch.manual_seed(seed)
    shares, turned = (3 * torch.randn(2, *size, count + 1, dtype=torch.float64)).softmax(-1)
    certain = nn.functional.one_hot(shares.argmax(-1), count + 1).double()
    for given_ in (shares, certain.where(torch.rand(*size, 1) < 0.5, shares)):
        for name in ("presence", "total_variation", "entropy", "background_at_border"):
            same(getattr(parts, name)(given_) + 1, getattr(twins, name)(given_) + 1)
    theta = torch.randn(size[0], 2, 3, dtype=torch.float64) / 2  # turned, leaning, moved, larger and smaller
    same(parts.equivariance(shares, turned, theta) + 1, twins.equivariance(shares, turned, theta) + 1)
    line = shares[:, :1]
    same(parts.total_variation(line) + 1, twins.total_variation(line) + 1)
    means = torch.randn(size[0], count + 1, 5, dtype=torch.float64)
    means[0, 0] = 0
    for of in ("parts", "features"):
        same(parts.orthogonality(means, of=of), twins.orthogonality(means, of))


@few
@given(seed=SEEDS)
def test_the_sum_of_all_losses(seed: int) -> None:
    model, twin, x = small(seed, noise="never")
    shares = torch.tensor([twins.softmax(a) for a in twin.assignment(x).flatten(0, 2).numpy()], dtype=torch.float64)
    shares = shares.reshape(2, 3, 4, -1)
    scores, targets = twin.scores(x), torch.tensor([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]], dtype=torch.float64)
    cross = 0.0
    for score, target in zip(scores.tolist(), targets.tolist(), strict=True):
        total = max(score) + math.log(sum(math.exp(s - max(score)) for s in score))
        cross += sum(t * (total - s) for s, t in zip(score, target, strict=True)) / len(scores)
    wanted = (
        2 * cross + 3 * twins.presence(shares) + 5 * twins.orthogonality(twin.means(x)) + 7 * twins.total_variation(shares)
        + 11 * twins.entropy(shares) + 13 * twins.background_at_border(shares)
    )  # fmt: skip
    losses = parts.PartLosses(scores=2, present=3, unlike=5, smooth=7, certain=11, border=13, turned=0)
    same(losses.loss(model, x, targets), wanted)


# -- gradients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["hard", "soft"])
@few
@given(seed=SEEDS)
def test_the_second_stage_teaches_the_first(mask: str, seed: int) -> None:
    """The gradient of logits for part vectors, through the probabilities to be of a part, by central differences of the twin."""
    model, twin, x = small(seed, mask=mask, noise="never", part_drop=0.0)
    model.train()
    logits = model(x)
    same(logits, twin.logits(x))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), model.where.parts.vectors)
    m, vectors = torch.tensor(twin.seen(x), dtype=torch.float64).reshape(2, 3, 4), twin.state["where.parts.vectors"]

    def probabilities() -> Tensor:
        rows = twin.assignment(x).flatten(0, 2).numpy()
        return torch.tensor([sum(twins.softmax(a)[:-1]) for a in rows], dtype=torch.float64).reshape(2, 12)

    step, by_place = 1e-5, torch.zeros(2, 12, dtype=torch.float64)  # how the logit follows m at each place
    for place in range(12):
        change = torch.zeros(2, 12, dtype=torch.float64)
        change[:, place] = step
        up, down = (twin.logits(x, m + sign * change.reshape(m.shape))[:, 0] for sign in (1, -1))
        by_place[:, place] = (up - down) / (2 * step)
    for k, d in ((0, 0), (1, 5), (3, 9)):
        held = vectors[k, d]
        found = []
        for sign in (1, -1):
            vectors[k, d] = held + sign * step
            found.append(probabilities())
        vectors[k, d] = held
        wanted = float((by_place * (found[0] - found[1]) / (2 * step)).sum())
        assert abs(float(gradient[k, d]) - wanted) <= 1e-6 * max(1e-3, float(gradient.abs().max()))


# -- explanations ------------------------------------------------------------------------------


@few
@given(seed=SEEDS)
def test_contributions(seed: int) -> None:
    model, twin, x = nano(seed)
    e = torchbcos.explain(model, x, [[0, 1, 2]] * 2)
    same(e.contributions, twin.contributions(x))
    away = outside(twin.selection(x), 8)[:, None].expand(-1, 3, -1, -1)
    assert away.any() and (e.contributions[away] == 0.0).all() and (e.contributions[~away] != 0.0).float().mean() > 0.9


@pytest.mark.parametrize("mask", ["hard", "soft", "late"])
@pytest.mark.parametrize("options", OPTIONS, ids=["bcos", "linear", "normalized"])
@settings(max_examples=1, deadline=None)
@given(seed=SEEDS)
def test_weights_and_constants(mask: str, options: dict, seed: int) -> None:
    model, twin, x = small(seed, mask=mask, **options)
    e = torchbcos.explain(model, x, [[0, 1, 2]] * 2)
    same(e.weights, twin.weights(x))
    same(e.contributions, twin.contributions(x))
    constants = twin.constants(x)
    assert set(e.constants) == {"what.tokens.embedding.position.position", "logits.bias"}  # none of the first stage
    same(sum(value for name, value in e.constants.items() if name != "logits.bias"), constants)
    same(twin.contributions(x).sum((2, 3)) + constants - math.log(2), twin.logits(x))
    away = outside(twin.selection(x), 2)[:, None].expand(-1, 3, -1, -1)
    assert (e.contributions[away] == 0.0).all() == (mask == "hard")
    assert (e.weights.movedim(2, -1)[away] == 0.0).all() == (mask == "hard")


@few
@given(seed=SEEDS)
def test_why_it_was_selected(seed: int) -> None:
    model, twin, x = small(seed, normalize=NORMALIZE)
    e = torchbcos.explain(PartEvidence(model), x, [[0, 1, 2]] * 2)
    values, maps = twin.evidence(x)
    same(e.values, values)
    same(e.contributions, maps)
