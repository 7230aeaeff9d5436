"""Compiled without a graph break, networks of every family predict and train as they do uncompiled."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import torchbcos
from tests.laws.test_networks import FAMILIES, make
from torchbcos import nn as bnn


def gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(model(x), torch.arange(len(x)) % 3).backward()
    return {name.removeprefix("_orig_mod."): p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.newest
@pytest.mark.parametrize("family", FAMILIES)
def test_no_graph_break_in_eval_training_and_the_frozen_state(family: str) -> None:
    torch.compiler.reset()
    model, side = make(family, 3, 2.0, 1), FAMILIES[family][5]
    x = torch.rand(3, 6, side, side, dtype=torch.float64)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    deployed = torchbcos.deploy(model)
    for network, run in ((model, compiled), (deployed, torch.compile(deployed, fullgraph=True, backend="aot_eager"))):
        with torch.no_grad():
            torch.testing.assert_close(run(x), network(x), rtol=1e-9, atol=1e-9)
    leaf = x.clone().requires_grad_()
    with torchbcos.frozen():
        (w,) = torch.autograd.grad(compiled(leaf)[:, 1].sum(), leaf)
    expected = torchbcos.explain(model, x, 1).weights[:, 0]
    assert (w - expected).abs().max() <= 1e-9 * expected.abs().max()
    twin = copy.deepcopy(model).train()
    trained = torch.compile(model.train(), fullgraph=True, backend="aot_eager")
    found, wanted = gradients(trained, x), gradients(twin, x)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert (found[name] - wanted[name]).abs().max() <= 1e-7 * wanted[name].abs().max().clamp_min(1e-6), name
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.newest
@pytest.mark.parametrize(("channels", "side", "product"), [(1024, 7, True), (1024, 9, False), (256, 7, False)])
def test_compiled_convolutions_on_few_positions_are_products_of_the_same_numbers(channels: int, side: int, product: bool) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    layer, x, found = bnn.BcosConv2d(channels, 12, 1).eval().requires_grad_(False), torch.rand(1, channels, side, side), []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        found.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), layer.double()(x.double()).float(), atol=1e-6, rtol=1e-4)
    layer.float()
    assert any("linear" in name for name in found) == product
    assert any("conv" in name for name in found) == (not product)
