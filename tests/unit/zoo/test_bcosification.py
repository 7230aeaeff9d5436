"""Checkpoints of B-cosification: random weights in their layout open, and give the numbers of a twin of its description."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import torchbcos
from tests.reference import bcosification as twin
from torchbcos._core.errors import InputError, MissingFileError, StateError, WeightsError
from torchbcos.functional import add_inverse
from torchbcos.models import build
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Classifier, store
from torchbcos.zoo.bcosification import bcosified_names, bcosified_options
from torchbcos.zoo.card import imagenet_classes

WIDTHS, NARROW = (64, 128, 256, 512), (8, 16, 32, 64)
TINY = {"dim": 192, "heads": 3, "mlp": 768, "classes": 7}

# name -> options beside those of B-cosification, layout, twin, pixels
NETWORKS: dict[str, tuple[dict[str, Any], Callable[[], twin.State], Callable[[twin.State, Tensor], Tensor], int]] = {
    "resnet18": (
        {"width_factor": 0.125},
        lambda: twin.resnet_layout((2, 2, 2, 2), NARROW, bottleneck=False, classes=7, stem=8), twin.resnet, 40,
    ),
    "resnet50": (
        {"width_factor": 0.125},
        lambda: twin.resnet_layout((3, 4, 6, 3), NARROW, bottleneck=True, classes=7, stem=8), twin.resnet, 40,
    ),
    "densenet121": (
        {"width_factor": 0.125}, lambda: twin.densenet_layout((6, 12, 24, 16), 4, 8, 7), twin.densenet, 40,
    ),
    "simple_vit_ti_patch16_224": (
        {}, lambda: twin.transformer_layout(depth=12, patch=16, stem=(), **TINY),  # type: ignore[arg-type]
        lambda s, x: twin.transformer(s, x, heads=3, patch=16), 48,
    ),
    "vitc_ti_patch1_14": (
        {}, lambda: twin.transformer_layout(depth=11, patch=1, stem=(24, 48, 96, 192), **TINY),  # type: ignore[arg-type]
        lambda s, x: twin.transformer(s, x, heads=3, patch=1), 48,
    ),
}  # fmt: skip


def pictures(side: int, n: int = 2) -> Tensor:
    return add_inverse(torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(5)))


@functools.cache
def layout_of(name: str) -> twin.State:
    """Random weights for one of them, made once."""
    return NETWORKS[name][1]()


@functools.cache
def whole() -> twin.State:
    """Those of a ResNet-18 of its full size."""
    return twin.resnet_layout((2, 2, 2, 2), WIDTHS, bottleneck=False, classes=1000, stem=64)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, torchbcos.models.Network]:
    """Each network with random weights, from a checkpoint."""
    name: str = request.param
    more = NETWORKS[name][0]
    file = tmp_path_factory.mktemp(name) / "last.ckpt"
    torch.save(twin.lightning(layout_of(name)), file)
    found = torchbcos.create_model(name, weights=file, num_classes=7, **bcosified_options(name), **more)
    return name, found.eval()


def test_logits_are_those_of_the_twin(network: tuple[str, Any]) -> None:
    name, net = network
    _, _, run, side = NETWORKS[name]
    x = pictures(side)
    wanted = run(layout_of(name), x)
    with torch.no_grad():
        found = net(x)
    spread = (wanted - twin.BIAS).abs().max()
    assert spread > 0.5 and (found.double() - wanted).abs().max() < 1e-4 * spread
    assert torch.allclose(net.double()(x.double()), wanted, rtol=0, atol=1e-10 * float(spread))
    net.float()


def test_explanations_are_complete_and_name_their_constants(network: tuple[str, Any]) -> None:
    name, net = network
    e = torchbcos.explain(net, pictures(NETWORKS[name][3]), verify=True)
    assert bool((e.residual.abs() <= 1e-5 * e.values.abs().clamp_min(1)).all()) and bool(e.complete.all())
    position = {"positional_embedding.position"} if "vit" in name else set()
    assert set(e.constants) == {"logits.bias"} | position  # the normalisation leaves none


@pytest.mark.parametrize("change", [
    {"activation": "none"}, {"unit_norm": True}, {"normalize": "none"}, {"classifier_first": False}, {"activation": "relu"},
])  # fmt: skip
def test_each_option_matters(change: dict[str, Any]) -> None:
    """What is not told from the file: a network without one of them takes the same weights, and gives other numbers."""
    name = "vitc_ti_patch1_14"
    x = pictures(32, 1)
    torch.manual_seed(0)
    nets = [build(name, num_classes=7, **{**bcosified_options(name), **more}).eval() for more in ({}, change)]
    store.fill(nets[0], layout_of(name), where="weights")
    nets[1].load_state_dict(nets[0].state_dict())
    with torch.no_grad():
        assert float((nets[0](x) - nets[1](x)).abs().max()) > 1e-2


# -- torchbcos.load -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 of its full size, with what trainers note beside the weights."""
    file = tmp_path_factory.mktemp("resnet18") / "last.ckpt"
    state = whole()
    where = {"ModelCheckpoint{'monitor': 'val_acc1'}": {"dirpath": pathlib.PurePosixPath("experiments") / "resnet_18"}}
    torch.save({**twin.lightning(state), "callbacks": where}, file)
    return file


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> Classifier:
    return torchbcos.load("bcosification:resnet18", weights=checkpoint, device="cpu")


def test_load_gives_a_classifier_with_their_preprocessing_and_names(loaded: Classifier, checkpoint: Path) -> None:
    x, card = pictures(64, 1), loaded.card
    assert loaded.class_names == imagenet_classes() and card.probability == "sigmoid" and card.deployed is False
    assert (card.name, card.architecture) == ("bcosified_resnet18", "resnet18") and "non-commercial" in str(card.terms)
    prepare = Preprocess.from_dict(card.preprocess or {})
    assert (prepare.resize, prepare.crop, prepare.encoding, prepare.channels) == (256, 224, "add_inverse", 6)
    wanted = twin.resnet(whole(), x)
    with torch.no_grad():
        found = loaded.model(x).double()  # of the twin, whose norms are folded into filters that have no unit norm
    assert float((found - wanted).abs().max()) < 1e-4 * float((wanted - twin.BIAS).abs().max())
    with pytest.raises(StateError, match="deployed twin"):
        loaded.model.train()


def test_saved_it_is_a_model_of_its_own(loaded: Classifier, tmp_path: Path) -> None:
    torchbcos.save(loaded, tmp_path / "mine")
    again, x = torchbcos.load(tmp_path / "mine", device="cpu"), pictures(64, 1)
    assert torch.equal(again.model(x), loaded.model(x)) and again.class_names == loaded.class_names
    assert dict(again.card.options) == bcosified_options("resnet18") and again.card.terms == loaded.card.terms


def test_a_state_dict_alone_and_other_prefixes(tmp_path: Path) -> None:
    """As `strip_checkpoints` writes it, from the wrapper alone, and from anybody's trainer."""
    name = "resnet18"
    more, _, _, side = NETWORKS[name]
    state, options = layout_of(name), {**bcosified_options(name), **more, "num_classes": 7}
    found = []
    for prefix in ("", "model.", "model.model.", "learner.net."):
        torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "weights.pth")
        net = torchbcos.create_model(name, weights=tmp_path / "weights.pth", **options)
        found.append(net.eval()(pictures(side)))
    assert all(torch.equal(found[0], other) for other in found[1:])


def missing(state: twin.State) -> None:
    del state["layer2.0.bn1.weight"]


def unknown(state: twin.State) -> None:
    state["fc.linear.bias"] = torch.zeros(1000)


def broken(state: twin.State) -> None:
    state["bn1.running_var"] = -torch.ones(64)


def other(state: twin.State) -> None:
    state["conv1.linear.weight"] = torch.zeros(64, 3, 7, 7)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            missing,
            "1 tensors are missing, 0 are unknown; 'layer2.0.bn1.weight' is missing. Check that it is B-cosification's resnet18",
        ),
        (unknown, "0 tensors are missing, 1 are unknown; 'model.model.fc.linear.bias' is unknown. .* without biases"),
        (broken, "the variance 'bn1.running_var' is negative"),
        (other, "conv1.weight of shape"),
    ],
)
def test_other_weights_are_refused_in_one_sentence(spoil: Callable[[twin.State], None], said: str, tmp_path: Path) -> None:
    state = dict(whole())
    spoil(state)
    torch.save(twin.lightning(state), tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match=said) as caught:
        torchbcos.load("bcosification:resnet18", weights=tmp_path / "last.ckpt", device="cpu")
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize("name", NETWORKS)
def test_the_b_cos_network_of_the_same_name_does_not_take_them(name: str, tmp_path: Path) -> None:
    """It would: the names are its own, but for a prefix; and the numbers would be others."""
    more = NETWORKS[name][0]
    torch.save(twin.lightning(layout_of(name)), tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match=f"load\\('bcosification:{name}', weights=FILE\\)") as caught:
        torchbcos.create_model(name, weights=tmp_path / "last.ckpt", num_classes=7, **more)
    assert len(str(caught.value)) <= 500
    torch.save(layout_of(name), tmp_path / "weights.pth")
    if not name.startswith("resnet"):  # of which nothing tells the two
        with pytest.raises(WeightsError, match="does not belong to this network"):
            torchbcos.create_model(name, weights=tmp_path / "weights.pth", num_classes=7, **more)


class Runs:
    """A pickle of it calls a function."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_requests_that_make_no_sense(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"download that of resnet18 from https://github.com/shrebox/.* weights=FILE"):
        torchbcos.load("bcosification:resnet18")
    with pytest.raises(
        InputError, match=r"no checkpoint of 'resnet_18'. Did you mean .*resnet18.* It has some of resnet18, "
    ) as caught:
        torchbcos.load("bcosification:resnet_18", weights=checkpoint)
    assert len(str(caught.value)) <= 500
    with pytest.raises(MissingFileError, match="There is no weights file"):
        torchbcos.load("bcosification:resnet18", weights=tmp_path / "none.ckpt")
    with pytest.raises(WeightsError, match="that it is B-cosification's resnet50"):
        torchbcos.load("bcosification:resnet50", weights=checkpoint)
    torch.save({"state_dict": {"a": torch.ones(1)}, "callback": Runs(tmp_path / "ran")}, tmp_path / "code.ckpt")
    with pytest.raises(WeightsError, match="holds Python objects or code beside tensors"):
        torchbcos.load("bcosification:resnet18", weights=tmp_path / "code.ckpt")
    assert not (tmp_path / "ran").exists()
    assert len(bcosified_names()) == 11 and set(bcosified_names()) <= set(torchbcos.list_models())
