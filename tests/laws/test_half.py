"""Half precision gives numbers, never NaN: in every family, with patches of zeros too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchbcos
from tests.laws.test_networks import FAMILIES, make


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_explanations_and_gradients_are_finite(family: str, dtype: torch.dtype) -> None:
    model, side = make(family, 3, 2.0, 1).to(dtype), FAMILIES[family][5]
    x = torch.rand(2, 6, side, side).to(dtype)
    x[0, :, : side // 2] = 0  # patches of zeros
    x[1] = 0
    for network in (model, torchbcos.deploy(model)):
        e = torchbcos.explain(network, x, [0, 1])
        assert e.outputs.dtype == dtype and e.complete.all()
        assert all(bool(t.isfinite().all()) for t in (e.outputs, e.weights, e.values, e.residual))
    loss = nn.functional.cross_entropy(model.train()(x).float(), torch.tensor([0, 1]))
    loss.backward()
    assert bool(loss.isfinite())
    if family == "bwin linear" and dtype == torch.float16:
        # tokens of zeros pass two norms in a row, each with a slope of 1/sqrt(1e-5) there: more than float16 holds (decision 044)
        assert [name for name, p in model.named_parameters() if not bool(p.grad.isfinite().all())] == ["patches.linear.weight"]
        return
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
