"""Whoever writes into a weight, and however: predictions and W are those of the weight as it is."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.torch_private import packing
from torchbcos.kernels.seal import Seal

Write = Callable[[nn.Sequential], object]
packs = pytest.mark.skipif(packing.works is False, reason="torch was built without oneDNN")
X = torch.rand(1, 64, 6, 6, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=torch.channels_last)


def network() -> nn.Sequential:
    """Two convolutions that pay to be packed, and a linear layer."""
    torch.manual_seed(0)
    layers = bnn.BcosConv2d(64, 96, 3), bnn.BcosConv2d(96, 352, 1), bnn.GlobalAveragePool(), bnn.BcosLinear(352, 3)
    return nn.Sequential(*layers).eval().to(memory_format=torch.channels_last)


KINDS: dict[str, Callable[[], nn.Sequential]] = {
    "learning": network,
    "without gradients": lambda: network().requires_grad_(False),
    "deployed": lambda: torchbcos.deploy(network()),
}


def weights(model: nn.Module) -> list[nn.Parameter]:
    return [m.weight for m in model.modules() if isinstance(m, bnn.BcosConv2d | bnn.BcosLinear)]


def optimiser(kind: type[torch.optim.Optimizer], **options: object) -> Write:
    """Two steps in eval mode; a deployed twin learns as well, if somebody insists."""

    def write(model: nn.Sequential) -> None:
        before = [p.requires_grad for p in model.parameters()]
        model.requires_grad_(True)
        chosen = kind(model.parameters(), **options)  # type: ignore[arg-type]

        def loss() -> Tensor:
            chosen.zero_grad()
            value = (model(X) - 1).square().sum()
            value.backward()
            return value

        for _ in range(2):
            chosen.step(loss)  # type: ignore[arg-type]
        for p, wanted in zip(model.parameters(), before, strict=True):
            p.requires_grad_(wanted)

    return write


def each(change: Callable[[nn.Parameter], object]) -> Write:
    return lambda model: [change(p) for p in weights(model)]


def other(p: Tensor) -> Tensor:
    return torch.randn_like(p)


def others(model: nn.Module) -> dict[str, Tensor]:
    return {name: other(value) for name, value in model.state_dict().items()}


@torch.no_grad()
def in_place(model: nn.Sequential) -> None:
    model[3].weight[1, 5] = 0.7
    model[1].weight[7, 5].fill_(0.7)


def vector_then_edited(model: nn.Sequential) -> None:
    vector = torch.cat([p.detach().reshape(-1) for p in weights(model)])
    torch.nn.utils.vector_to_parameters(vector, weights(model))
    torchbcos.explain(model, X, 0)
    vector.copy_(torch.randn_like(vector))


def memory_reused(model: nn.Sequential) -> None:
    """Same address, same version: of vectors that differ in one number."""
    count = sum(p.numel() for p in weights(model))
    for k in range(6):
        vector = torch.full((count,), 0.1)
        vector[:: 7 + k] = 1.0
        torch.nn.utils.vector_to_parameters(vector, weights(model))
        torchbcos.explain(model, X, 0)
        del vector


def swap(model: nn.Sequential) -> None:
    for p in weights(model):
        torch.utils.swap_tensors(p, nn.Parameter(other(p), requires_grad=p.requires_grad))


def assign(p: nn.Parameter) -> None:
    p.data = other(p)


def through_memoryview(p: nn.Parameter) -> None:
    numbers = memoryview(p.detach().numpy().ravel("K"))  # in the order of memory: no copy
    numbers[:] = np.ones(p.numel(), np.float32)


def filter_through_data(p: nn.Parameter) -> None:
    p.data[1] = 5.0


def channel_through_data(p: nn.Parameter) -> None:
    p.data[:, -2] = 0.25


SGD, Adam, AdamW, Adagrad = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad
WRITES: dict[str, Write] = {
    "SGD": optimiser(SGD, lr=0.5), "SGD, fused": optimiser(SGD, lr=0.5, fused=True),
    "SGD, momentum, fused": optimiser(SGD, lr=0.5, momentum=0.9, fused=True),
    "Adam": optimiser(Adam, lr=0.5), "Adam, fused": optimiser(Adam, lr=0.5, fused=True),
    "AdamW, foreach": optimiser(AdamW, lr=0.5, foreach=True), "AdamW, fused": optimiser(AdamW, lr=0.5, fused=True),
    "Adagrad": optimiser(Adagrad, lr=0.5), "Adagrad, fused": optimiser(Adagrad, lr=0.5, fused=True),
    "RMSprop": optimiser(torch.optim.RMSprop, lr=0.5), "NAdam": optimiser(torch.optim.NAdam, lr=0.5),
    "Rprop": optimiser(torch.optim.Rprop, lr=0.5),
    "in place": in_place, "replaced": each(lambda p: None),
    "load_state_dict": lambda m: m.load_state_dict(others(m)),
    "load_state_dict, assigned": lambda m: m.load_state_dict(others(m), assign=True),
    "numpy": each(lambda p: np.copyto(p.detach().numpy(), np.random.default_rng(0).standard_normal(p.shape, np.float32))),
    "DLPack": each(lambda p: torch.from_dlpack(p.detach()).copy_(other(p))),
    "memoryview": each(through_memoryview),
    "storage": each(lambda p: p.untyped_storage().copy_(torch.randn(p.numel()).untyped_storage())),
    ".data, copied": each(lambda p: p.data.copy_(other(p))), ".data, assigned": each(assign),
    "a filter through .data": each(filter_through_data), "a channel through .data": each(channel_through_data),
    "detach().set_": each(lambda p: p.detach().set_(other(p))), "a vector, edited later": vector_then_edited,
    "memory used again": memory_reused, "swap_tensors": swap,
    "pruned and removed": each(lambda p: None),
    "reset_parameters": lambda m: [k.reset_parameters() for k in m if isinstance(k, bnn.BcosConv2d | bnn.BcosLinear)],
    "there and back": lambda m: m.double().float(),
}  # fmt: skip


def replaced(model: nn.Sequential) -> None:
    for k in (0, 1, 3):
        model[k].weight = nn.Parameter(other(model[k].weight), requires_grad=model[k].weight.requires_grad)


def pruned(model: nn.Sequential) -> None:
    for k in (0, 1, 3):
        torch.nn.utils.prune.custom_from_mask(model[k], "weight", torch.rand_like(model[k].weight) < 0.3)
        torch.nn.utils.prune.remove(model[k], "weight")


WRITES |= {"replaced": replaced, "pruned and removed": pruned}
SAME = ("there and back", "detach().set_")  # the last gives another tensor other memory


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("write", WRITES)
def test_every_write_is_noticed(write: str, kind: str) -> None:
    model = KINDS[kind]()
    with torch.inference_mode():
        model(X)
        before = model(X)
    explained = torchbcos.explain(model, X, 1).weights
    WRITES[write](model)
    fresh = copy.deepcopy(model)
    with torch.no_grad():
        found, expected = model(X), fresh(X)
    torch.testing.assert_close(found, expected)
    e, wanted = torchbcos.explain(model, X, 1), torchbcos.explain(fresh, X, 1)
    torch.testing.assert_close(e.weights, wanted.weights)
    torch.testing.assert_close(e.values, wanted.values)
    close = [torch.allclose(found, before), torch.allclose(e.weights, explained)]
    exactly = [torch.equal(found, before), torch.equal(e.weights, explained)]
    assert all(close) if write in SAME else not any(exactly)


def packed_of(model: nn.Sequential) -> object:
    return model[1].__dict__["_packed"].ahead.kept


@packs
def test_without_its_seal_a_packed_weight_would_be_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torchbcos.deploy(network())
    before = model(X)
    assert packed_of(model) is not None
    monkeypatch.setattr(Seal, "holds", lambda self, weight: True)
    model[1].weight.mul_(2)
    assert torch.equal(model(X), before)


@packs
def test_what_can_still_be_missed_is_what_the_page_says() -> None:
    """Docs: one number of a deployed twin, through `.data`, is not seen before `eval()`."""
    model = torchbcos.deploy(network())
    before, missed = model(X), 0
    for place in range(1, 40):
        model[1].weight.data.view(-1)[place] += 100
        missed += torch.equal(model(X), before)
    assert missed > 0
    assert not torch.allclose(model.eval()(X), before)


def test_training_keeps_nothing_and_gradients_reach_the_weights() -> None:
    model = network()
    model(X).sum().backward()
    assert packed_of(model) is None
    assert all(p.grad is not None and bool(p.grad.any()) for p in weights(model))
    with torch.no_grad():
        model.train()(X)
        model.requires_grad_(False)(X)
    assert packed_of(model) is None


@packs
def test_a_weight_that_begins_to_learn_is_forgotten() -> None:
    model = torchbcos.deploy(network())
    model(X)
    assert packed_of(model) is not None
    model.requires_grad_(True)(X)
    assert packed_of(model) is None


@packs
def test_what_is_kept_is_neither_pickled_nor_copied() -> None:
    model = torchbcos.deploy(network())
    bare = len(pickle.dumps(model))
    expected = model(X)
    assert packed_of(model) is not None
    assert len(pickle.dumps(model)) == bare
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert packed_of(twin) is None
        assert torch.equal(twin(X), expected)
        assert packed_of(twin) is not None


AFTER: dict[str, Write] = {
    "swap_tensors": swap,
    "double": lambda m: m.double(),
    "to": lambda m: m.to(torch.bfloat16),
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "deepcopy": copy.deepcopy,
    "fx": torch.fx.symbolic_trace,
    "share_memory": lambda m: m.share_memory(),
    "state_dict": lambda m: m.load_state_dict(m.state_dict(), assign=True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("then", AFTER)
def test_an_explanation_stands_in_the_way_of_nothing(then: str, kind: str) -> None:
    model = KINDS[kind]()
    before = [set(vars(m)) for m in model.modules()]
    torchbcos.explain(model, X, 1)
    with torch.no_grad():
        model(X)
    assert [set(vars(m)) for m in model.modules()] == before
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        AFTER[then](model)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


@packs
def test_what_is_kept_keeps_no_old_weight_alive() -> None:
    model = torchbcos.deploy(network())
    model(X)
    old = weakref.ref(model[1].weight.untyped_storage())
    model[1].weight.data = torch.zeros(1)
    assert old() is None  # without the garbage collector
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
