"""Deployed twins: the same numbers, no training, and saved as what they are."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import torchbcos
from torchbcos.deployment import is_deployed

REFUSAL = r"This ResNet is a deployed twin, .* does not train: train the network it was made from \(torchbcos\.load\("


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    torchbcos.recalibrate(model, [torch.rand(8, 6, 32, 32)])
    return model


def card_of(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "card.json").read_text("utf-8"))
    return values


def test_the_twin_gives_the_same_numbers_and_leaves_the_model_alone() -> None:
    model, x = network(), torch.rand(2, 6, 32, 32)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    twin = torchbcos.deploy(model)
    assert model.training and all(p.requires_grad for p in model.parameters()) and not is_deployed(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [n for n, _ in twin.named_modules()] == [n for n, _ in model.named_modules()]
    model.eval()
    torch.testing.assert_close(twin(x), model(x))
    ours, theirs = torchbcos.explain(twin, x, 1), torchbcos.explain(model, x, 1)
    torch.testing.assert_close(ours.weights, theirs.weights)
    assert ours.constants.keys() == theirs.constants.keys()
    model.train()  # the original still trains
    assert model.training


def test_a_twin_refuses_to_train_and_stays_as_it_was() -> None:
    twin = torchbcos.deploy(network())
    for call in (twin.train, lambda: twin.train(True), lambda: twin.train(mode=True), torch.nn.Sequential(twin).train):
        with pytest.raises(torchbcos.BcosError, match=REFUSAL) as caught:
            call()
        assert isinstance(caught.value, RuntimeError) and "\n" not in str(caught.value)
        assert not any(m.training for m in twin.modules())
    assert twin.eval() is twin and twin.train(False) is twin


def test_copies_of_a_twin_refuse_for_themselves() -> None:
    twin, x = torchbcos.deploy(network()), torch.rand(1, 6, 32, 32)
    for other in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin)), torchbcos.deploy(twin)):
        assert is_deployed(other) and torch.equal(other(x), twin(x))
        assert vars(other)["train"].twin() is other
        with pytest.raises(torchbcos.BcosError, match=REFUSAL):
            other.train()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without Python's garbage collector: only reference counting frees."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


NAMES = ["cifar10_resnet20", "cifar10_densenet52", "vgg11_bnu", "convnext_atto", "simple_vit_ti_patch16_224", "bwin_tiny"]


COPIES: dict[str, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "itself": lambda twin: twin,
    "a deep copy": copy.deepcopy,
    "a pickle": lambda twin: pickle.loads(pickle.dumps(twin)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", NAMES)
def test_a_twin_is_freed_with_its_last_reference(name: str, how: str, no_collector: None) -> None:
    options = {} if "vit" in name else {"width_factor": 0.125}
    network = torchbcos.create_model(name, num_classes=3, **options)
    torchbcos.recalibrate(network, [torch.rand(4, 6, 32, 32)])  # else nothing is left of the signal behind eight layers
    twin = COPIES[how](torchbcos.deploy(network))
    torchbcos.explain(twin, torch.rand(1, 6, 32, 32), 0)
    twin.eval()
    seen = [weakref.ref(twin), *(weakref.ref(p) for p in twin.parameters())]
    del twin
    assert [ref for ref in seen if ref() is not None] == []


def test_a_loaded_classifier_is_freed_with_its_last_reference(no_collector: None) -> None:
    classifier = torchbcos.load()
    seen = weakref.ref(classifier.model)
    del classifier
    assert seen() is None


def test_a_circle_is_seen(no_collector: None) -> None:
    model = torch.nn.Linear(2, 2)
    model.itself = [model]
    seen = weakref.ref(model)
    del model
    assert seen() is not None


def test_the_train_method_of_a_twin_that_is_gone() -> None:
    train = torchbcos.deploy(network()).train
    with pytest.raises(torchbcos.BcosError, match="This network is a deployed twin"):
        train()
    with pytest.raises(torchbcos.BcosError, match="of a deployed twin that is gone"):
        copy.deepcopy(train)


def test_saved_twins_come_back_as_twins(tmp_path: Path) -> None:
    model, x = network(), torch.rand(2, 6, 32, 32)
    twin = torchbcos.deploy(model)
    torchbcos.save(twin, tmp_path / "twin")
    torchbcos.save(model, tmp_path / "model")
    assert (card_of(tmp_path / "twin")["deployed"], card_of(tmp_path / "model")["deployed"]) == (True, False)
    found = [
        torchbcos.create_model(weights=tmp_path / "twin"),
        torchbcos.load(tmp_path / "twin").model,
        torchbcos.load(tmp_path / "twin", deploy=False).model,
    ]
    for again in found:
        assert torch.equal(again(x), twin(x)) and is_deployed(again)
        with pytest.raises(torchbcos.BcosError, match=REFUSAL):
            again.train()
    whole = torchbcos.load(tmp_path / "model", deploy=False).model
    assert not is_deployed(whole) and whole.train().training
    assert torchbcos.create_model(weights=tmp_path / "model").training


def test_classifiers_say_which_they_hold(tmp_path: Path) -> None:
    for deploy in (True, False):
        folder = tmp_path / str(deploy)
        classifier = torchbcos.load(deploy=deploy)
        assert is_deployed(classifier.model) is deploy and classifier.card.deployed is False
        torchbcos.save(classifier, folder)
        assert card_of(folder)["deployed"] is deploy
        assert is_deployed(torchbcos.load(folder, deploy=False).model) is deploy


@pytest.mark.newest
def test_an_exported_twin_works() -> None:
    twin, x = torchbcos.deploy(network()), torch.rand(1, 6, 32, 32)
    exported = torch.export.export(twin, (x,)).module()
    torch.testing.assert_close(exported(x), twin(x))
