"""Surface transformers: their slow twin, exact zeros off the cortex, batches, prototypes, centring and files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import networks
from tests.reference import spheres as slow
from torchbcos._core.errors import BcosError, InputError
from torchbcos.attribution.locality import locality_share
from torchbcos.models import Style, build
from torchbcos.models.surface import SurfaceSizes, SurfaceViT

SIZES = SurfaceSizes(dim=12, heads=2, depth=2, level=2, coarse=0)
STYLE = Style(norm="layer", norm_centered=True)


def made(seed: int = 0, pool: int = 0, **options: object) -> SurfaceViT:
    """A small network with drawn weights that saw some subjects."""
    torch.manual_seed(seed)
    given: dict[str, Any] = {"prototypes": 2, **options}
    sizes = dataclasses.replace(SIZES, pool=pool)
    model = SurfaceViT(sizes, STYLE, num_classes=3, in_channels=4, logit_bias=-0.5, **given)
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            nn.init.normal_(p, float(p.dim() == 1), 0.5)
    model.train()(model.example(4).double())
    return model.eval()


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), missing=st.sampled_from([0.0, 0.1, 0.45]), pool=st.integers(0, 2))
def test_the_network_is_its_slow_twin(seed: int, missing: float, pool: int) -> None:
    model = made(seed, pool)
    x = model.example(1, missing=missing).double()
    dual = networks.Dual(dict(model.state_dict()))
    pooled = tuple(torchbcos.functional.icosphere(2 - i)[0] for i in range(pool))
    twin = slow.surface_transformer(2, 2, model.patches.table, 3, 2, pooled)
    logits, weights, constants = networks.explain(twin, dual, x, -0.5)
    e = torchbcos.explain(model, x, [[0, 1, 2]])
    torch.testing.assert_close(e.outputs[0], logits, rtol=1e-9, atol=1e-10)
    assert (e.weights[0] - weights).abs().max() <= 1e-9 * weights.abs().max()
    assert float(constants.abs().max()) < 1e-10 and set(e.constants) == {"logits.bias"}
    assert float(e.residual.abs().max()) <= 1e-12


@given(seed=st.integers(0, 10_000), pool=st.integers(0, 2))
def test_what_is_not_there_contributes_and_changes_nothing(seed: int, pool: int) -> None:
    model = made(seed, pool)
    x = model.example(2, missing=0.3).double()
    off = x.abs().sum(1) == 0
    e = torchbcos.explain(model, x, [[0, 1, 2]] * 2)
    assert bool((e.contributions.movedim(1, -1)[off] == 0).all()) and bool((e.weights.movedim((1, 2), (-2, -1))[off] == 0).all())
    other = x.clone()  # as [0, 1 - 0] it is not there, either
    other[:, 2:][off.unsqueeze(1).expand(-1, 2, -1)] = 1
    assert torch.equal(model(other), model(x))
    again = torchbcos.explain(model, other, [[0, 1, 2]] * 2)
    assert torch.equal(again.contributions, e.contributions)


def test_the_rest_of_a_batch_does_not_matter() -> None:
    model = made()
    x = model.example(3).double()
    x[1] = model.example(1, missing=0.5).double()[0]
    whole = torchbcos.explain(model, x, 1)
    for i in range(3):
        alone = torchbcos.explain(model, x[i : i + 1], 1)
        torch.testing.assert_close(alone.contributions[0], whole.contributions[i], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    "options", [{}, {"prototypes": 0}, {"position": True}, {"qkv": "bcos"}, {"template": False}, {"pool": 1}], ids=str
)
def test_each_form_keeps_the_laws(options: dict[str, object], tmp_path: Path) -> None:
    model = made(1, **options)
    x = model.example(2).double()
    torchbcos.testing.check_model(model, x)
    e = torchbcos.explain(model, x, [[0, 1, 2]] * 2)
    assert float(e.residual.abs().max()) <= 1e-12
    assert ("embedding.position.position" in e.constants) == ("position" in options)
    twin = torchbcos.explain(torchbcos.deploy(model), x, [[0, 1, 2]] * 2)
    torch.testing.assert_close(twin.weights, e.weights, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))
    single = torchbcos.explain(model.float(), x.float(), [[0, 1, 2]] * 2)
    assert float(single.residual.abs().max()) <= 1e-5


@pytest.mark.newest
def test_it_is_exported_as_it_is() -> None:
    model = made(2)
    x = model.example(2).double()
    program = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(program(x), model(x))


def test_named_networks_save_and_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchbcos.create_model("surface_vit_nano", num_classes=3, depth=1)
    model.train()(model.example(2))
    model.eval()
    assert model.num_classes == 3 and torchbcos.create_model("surface_vit_nano", depth=1).num_classes == 2
    x = model.example(2)
    assert x.shape == (2, 6, 10_242)
    model.project(model.example(12), torch.arange(12) % 3)
    torchbcos.save(model, tmp_path / "m")
    again = torchbcos.load(tmp_path / "m", deploy=False).model
    torch.testing.assert_close(again(x), model(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(again.classifier.examples, model.classifier.examples)
    plain = torchbcos.create_model("surface_vit_nano", plain=True, depth=1, prototypes=0)
    assert plain(plain.example(1)).shape == (1, 2) and plain.in_channels == 3
    with torch.device("meta"):
        whole = build("surface_vit_tiny")
    assert whole.patches.table.shape == (320, 153) and whole.vertices == 40_962


def test_centring_follows_training_and_leaves_no_constant() -> None:
    model = made(3)
    before = model.centring.mean.clone()
    x = model.example(5).double()
    torchbcos.explain(model.train(), x, 0)
    assert torch.equal(model.centring.mean, before)  # explanations learn nothing
    model(x)
    assert not torch.equal(model.centring.mean, before)
    seen = torch.cat([x])
    fresh = SurfaceViT(SIZES, STYLE, num_classes=2, in_channels=4).double().train()
    fresh(x[:2])
    fresh(x[2:])
    torch.testing.assert_close(fresh.centring.mean, (seen[:, :2] * fresh.there(seen).unsqueeze(1)).mean(0))


def test_a_score_is_the_sum_of_evidence_at_places_and_locality_a_part_of_it() -> None:
    model = made(4)
    x = model.example(2).double()
    share = locality_share(model, x, 1)
    evidence = model.classifier.similarity(model.forward_features(x)).reshape(2, 20, 3, 2).sum(3)
    torch.testing.assert_close(evidence.mean(1) - 0.5, model(x))
    place, table = 3, model.patches.table
    e = torchbcos.explain(model, x, [[2, 3]] * 2, at="classifier.similarity", position=(place,))
    own = e.contributions.sum(1)[:, table[place]].sum(1)
    torch.testing.assert_close(share[:, place], own / evidence[:, place, 1])
    alone = made(4)  # without attention a token knows its own vertices only
    with torch.no_grad():
        for name, p in alone.named_parameters():
            if "to_out" in name:
                p.zero_()
    torch.testing.assert_close(locality_share(alone, x, 1), torch.ones(2, 20, dtype=torch.float64), rtol=1e-8, atol=1e-8)


def test_errors_say_what_is_expected() -> None:
    model = made()
    with pytest.raises(InputError, match="features of 162 vertices, got 200"):
        model(torch.rand(1, 4, 200).double())
    with pytest.raises(BcosError, match="prototypes to project"):
        made(0, prototypes=0).project(model.example(2).double(), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="from 0 to 2, not 3"):
        locality_share(model, model.example(1).double(), 3)
    with pytest.raises(InputError, match="surface network with prototypes"):
        locality_share(nn.Identity(), torch.zeros(1), 0)
    with pytest.raises(InputError, match="features of 162 vertices, got 100"):
        model(torch.rand(1, 4, 100).double())
    for wrong, text in (
        ({"missing": 2}, "missing must be a number from 0 to 1"),
        ({"count": "a"}, "count must be a whole number"),
    ):
        with pytest.raises(InputError, match=text):
            model.example(**wrong)
    with pytest.raises(InputError, match="batch_size must be a whole number"):
        model.project(model.example(6).double(), torch.arange(6) % 3, batch_size=0)
    with pytest.raises(BcosError, match="empty batch"):
        model.project(model.example(6).double()[:0], torch.arange(0))
    with pytest.raises(InputError, match="in_channels must be even"):
        build("surface_vit_nano", in_channels=5)
    with pytest.raises(InputError, match="takes the mean from each vertex"):
        build("surface_vit_nano", normalize="0.5 0.5 0.5")
    with pytest.raises(InputError, match="from 0 to that of the mesh"):
        build("surface_vit_nano", level=1, coarse=2)


def test_gradients_reach_the_input() -> None:
    model = made()
    x: Tensor = model.example(2).double().requires_grad_()
    e = torchbcos.explain(model, x, 0, create_graph=True)
    e.contributions.abs().sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all()) and bool(x.grad.any())
