"""Two stages: what is not selected cannot act, the selection is the same each time, and the second stage teaches the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import torchbcos
from torchbcos.functional import add_inverse
from torchbcos.models import two_stage
from torchbcos.models.blocks import Style
from torchbcos.models.selecting import Features, describe
from torchbcos.models.two_stage import PartEvidence, TwoStage

SIZES = two_stage.TwoStageSizes(dim=16, heads=2, depth=1, depth_where=1, patch=4, parts=2)
STYLE = Style(norm="layer", norm_centered=True)


def pictures(count: int = 2, sides: tuple[int, int] = (16, 16), seed: int = 1) -> Tensor:
    return add_inverse(torch.rand(count, 3, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


def make(
    seed: int = 0, x: Tensor | None = None, sizes: two_stage.TwoStageSizes = SIZES, style: Style = STYLE, **options: Any
) -> TwoStage:  # fmt: skip
    """A network whose part vectors stand among the tokens of some pictures: it selects some patches and not others."""
    torch.manual_seed(seed)
    model = two_stage.build(sizes, style, num_classes=3, **options).double().eval()
    tokens = model.tokens(pictures() if x is None else x).detach().flatten(0, 2)
    with torch.no_grad():
        model.where.parts.vectors.copy_(tokens[torch.randperm(len(tokens))[: len(model.where.parts.vectors)]] * 0.9)
    return model


def spread(selection: Tensor, patch: int = 4) -> Tensor:
    """(N, 1, H, W) of a selection (N, h, w)."""
    return selection.repeat_interleave(patch, 1).repeat_interleave(patch, 2).unsqueeze(1)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**16), parts=st.integers(1, 4), b=st.sampled_from([1.0, 1.5, 2.0, 2.5]), max_out=st.sampled_from([1, 2]),
    sides=st.sampled_from([(16, 16), (12, 20), (8, 8)]), qkv=st.sampled_from(["bcos", "linear"]),
    normalize=st.sampled_from(["none", "0.4 0.5 0.6 / 0.2 0.3 0.2"]),
)  # fmt: skip
def test_what_is_not_selected_contributes_exactly_nothing_and_cannot_act(
    seed: int, parts: int, b: float, max_out: int, sides: tuple[int, int], qkv: str, normalize: str
) -> None:
    style = Style(norm="layer", norm_centered=True, b=b, max_out=max_out, normalize=normalize)
    sizes = two_stage.TwoStageSizes(dim=16, heads=2, depth=2, depth_where=1, patch=4, parts=parts)
    x = pictures(2, sides, seed)
    model = make(seed, x, sizes, style, qkv=qkv)
    selection = model.selection(x)
    outside = ~spread(selection)
    e = torchbcos.explain(model, x, [[0, 1, 2]] * 2)
    assert float(e.residual.abs().max()) <= 1e-12
    assert not e.contributions.masked_select(outside.expand_as(e.contributions)).any()
    assert not e.weights.masked_select(outside.unsqueeze(1).expand_as(e.weights)).any()
    assert not [name for name in e.constants if name.startswith("where")]
    noise = torch.where(outside, pictures(2, sides, seed + 1), x)
    for i in range(2):  # bits, one picture at a time
        one = slice(i, i + 1)
        assert torch.equal(model.look(noise[one], selection[one]), model.look(x[one], selection[one]))
        spoiled = torch.where(outside[one], torch.nan, x[one])
        assert torch.equal(model(spoiled, selection=selection[one]), model(x[one]))


@pytest.mark.parametrize("mask", ["soft", "late"])
def test_with_soft_and_late_masks_the_rest_does_act(mask: str) -> None:
    x = pictures()
    model = make(mask=mask)
    outside = ~spread(model.selection(x))
    e = torchbcos.explain(model, x, [[0]] * 2)
    assert bool(outside.any()) and float(e.residual.abs().max()) <= 1e-12
    assert float(e.contributions.masked_select(outside.expand_as(e.contributions)).abs().max()) > (0 if mask == "late" else 1e-12)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**16))
def test_others_in_a_batch_change_nothing_and_judging_is_never_drawn(seed: int) -> None:
    x = pictures(4, seed=seed)
    model = make(seed, x)
    together, selected = model(x), model.selection(x)
    assert torch.equal(model(x), together) and 0 < selected.double().mean() <= 1
    for i in range(4):
        assert torch.equal(model.selection(x[i : i + 1])[0], selected[i])
        assert torch.allclose(model(x[i : i + 1])[0], together[i], rtol=0, atol=1e-12)


def test_the_published_noise_changes_what_is_said_of_the_same_picture() -> None:
    x = pictures()
    model = make(noise="always")
    said = [model(x) for _ in range(20)]
    assert any(not torch.equal(one, said[0]) for one in said[1:])


@pytest.mark.parametrize("mask", ["hard", "soft"])
def test_the_loss_of_the_second_stage_moves_the_first_unless_it_is_cut(mask: str) -> None:
    x = pictures(4)
    for cut in (False, True):
        model = make(mask=mask, cut=cut, noise="never", part_drop=0.0).train()
        model(x)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
        found = model.where.parts.vectors.grad
        others = [p.grad for p in model.where.source.parameters()]
        if cut:
            assert found is None and others and all(one is None for one in others)
        else:
            assert found is not None and bool(found.isfinite().all()) and float(found.abs().max()) > 1e-9
            assert any(one is not None and bool(one.any()) for one in others)


def test_in_training_the_second_stage_sees_what_it_sees_when_judging() -> None:
    x = pictures(4)
    model = make(noise="never", part_drop=0.0)
    judged = model(x)
    assert torch.allclose(model.train()(x), judged, rtol=0, atol=1e-12)


def test_parts_are_left_out_in_training_and_taken_away_when_asked() -> None:
    x = pictures(4)
    model = make(part_drop=0.9, noise="never").train()
    shares = [float((model.where(x) > 0).double().mean()) for _ in range(20)]
    assert min(shares) < float(model.eval().selection(x).double().mean())
    whole, alone = model.selection(x), [model.selection(x, keep=[k]) for k in range(2)]
    assert torch.equal(alone[0] | alone[1], whole) and not bool((alone[0] & alone[1]).any())
    assert not model.selection(x, keep=[]).any() and torch.equal(model.selection(x, keep=[0, 1]), whole)
    by_picture = model.selection(x, keep=torch.tensor([[True, False]] * 2 + [[False, True]] * 2))
    assert torch.equal(by_picture, torch.cat([alone[0][:2], alone[1][2:]]))


def test_nothing_and_everything_may_be_selected() -> None:
    x = pictures()
    model = make()
    nothing, everything = (torch.full((2, 4, 4), value) for value in (False, True))
    bias = torchbcos.explain(model, x, [0, 0]).constants["logits.bias"][:, 0]
    assert torch.allclose(model.look(x, nothing)[:, 0], bias, atol=1e-12)
    with torch.no_grad():
        model.where.parts.vectors[:-1] += 100  # far from every token
    assert not model.selection(x).any() and torch.equal(model(x), model.look(x, nothing))
    e = torchbcos.explain(model, x, [0, 0])
    assert not e.contributions.any() and float(e.residual.abs().max()) <= 1e-12
    with torch.no_grad():
        model.where.parts.vectors[-1] += 100
        model.where.parts.vectors[0] = 0
    assert torch.allclose(model(x), model.look(x, everything), atol=1e-12)


def test_the_selection_has_an_explanation_of_its_own() -> None:
    x = pictures()
    model = make()
    e = torchbcos.explain(PartEvidence(model), x, [[0, 1]] * 2)
    found = model.assignment(x)
    for k in range(2):
        of = found.argmax(-1) == k
        margins = (found[..., k] - found[..., -1]) * of
        wanted = margins.sum((1, 2)) / of.sum((1, 2)).clamp_min(1)
        assert torch.allclose(e.values[:, k], wanted, atol=1e-12)
    assert float(e.residual.abs().max()) <= 1e-11 and all(name.startswith("model.where") for name in e.constants)
    assert bool(e.contributions.abs().sum((2, 3)).gt(0).any())


def test_features_of_a_trained_network_stay_as_they_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchbcos.create_model("resnet18", width_factor=0.125, num_classes=3, antialias=True)
    words = describe(network)  # type: ignore[arg-type]
    model = torchbcos.create_model("two_stage_nano", num_classes=2, depth=1, features=words, first_classes=5)
    assert isinstance(model, TwoStage) and isinstance(model.where.source, Features) and words.startswith("resnet18 ")
    model.where.take(network)  # type: ignore[arg-type]
    kept = {name: value.clone() for name, value in model.where.source.state_dict().items()}
    model.train()
    x = add_inverse(torch.rand(2, 3, 32, 32))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(x).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert all(torch.equal(value, kept[name]) for name, value in model.where.source.state_dict().items())
    assert model.part_scores.linear.weight.shape[0] == 5 and model.tokens(x).shape[:3] == (2, 4, 4)
    torchbcos.save(model.eval(), tmp_path / "kept")
    back = torchbcos.load(tmp_path / "kept", deploy=False).model
    assert torch.equal(back(x), model(x))
    with pytest.raises(torchbcos.BcosError, match="do not fit"):
        model.where.take(torchbcos.create_model("resnet18", width_factor=0.25, antialias=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask": "Hard"}, "Did you mean 'hard'|mask must be one of"),
        ({"noise": "judging"}, "noise must be one of"),
        ({"part_drop": 1.5}, "part_drop"),
        ({"parts": 0}, "parts must be a whole number from 1"),
        ({"features": "resnet81"}, "begins with the name of a convolutional network"),
        ({"features": "resnet18 antialias"}, "antialias=true"),
        ({"features": "resnet18 depth=3"}, "cannot be built"),
        ({"qkv": "cos"}, "qkv must be one of"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(torchbcos.BcosError, match=words):
        torchbcos.create_model("two_stage_nano", num_classes=2, **options)


def test_a_selection_of_another_shape_and_a_part_that_is_not_there_are_refused() -> None:
    model, x = make(), pictures()
    with pytest.raises(torchbcos.BcosError, match=r"selection of shape \(2, 4, 4\)"):
        model.look(x, torch.ones(2, 16, 16, dtype=torch.bool))
    with pytest.raises(torchbcos.BcosError, match="numbers from 0"):
        model.look(x, -torch.ones(2, 4, 4))
    with pytest.raises(torchbcos.BcosError, match=r"shape \(2, 2\)"):
        model.selection(x, keep=torch.tensor([True]))
    with pytest.raises(torchbcos.BcosError, match="parts 0 to 1"):
        model.selection(x, keep=[2])
    with pytest.raises(torchbcos.BcosError, match="learns tokens of its own"):
        model.where.take(model)
    with pytest.raises(torchbcos.BcosError, match="convolutional B-cos network"):
        describe(model)
