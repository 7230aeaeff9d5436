"""Every gate gives one W: explained eagerly, around compiled code, inside compiled code, and exported.

One network has a channel of input for each gate: `logit = Σ_i v · f_i(filters_i * x_i)`. Its W is known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos.kinds.rules import gates
from torchbcos.kinds.table import TABLE

pytestmark = pytest.mark.newest

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "leaky_relu": F.leaky_relu, "rrelu": F.rrelu, "relu6": F.relu6, "gelu": F.gelu, "silu": F.silu,
    "mish": F.mish, "gelu, tanh": lambda h: F.gelu(h, approximate="tanh"), "hardswish": F.hardswish, "elu": F.elu, "celu": F.celu,
    "selu": F.selu, "prelu": lambda h: F.prelu(h, torch.full((1,), 0.3, dtype=h.dtype)), "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "clamp": lambda h: h.clamp(-0.2, 0.3), "clamp_min": lambda h: h.clamp_min(-0.1), "clamp_max": lambda h: h.clamp_max(0.2),
    "clip": lambda h: h.clip(-0.2, 0.3), "softplus": F.softplus, "softsign": F.softsign, "tanhshrink": F.tanhshrink,
    "hardshrink": lambda h: F.hardshrink(h, 0.1), "softshrink": lambda h: F.softshrink(h, 0.1), "logsigmoid": F.logsigmoid,
    "threshold": lambda h: F.threshold(h, 0.1, 0.0), "relu, in place": lambda h: F.relu(h.clone(), inplace=True),
    "silu, in place": lambda h: F.silu(h.clone(), inplace=True), "hardswish, in place": lambda h: F.hardswish(h.clone(), True),
}  # fmt: skip
HELD: dict[str, Callable[[Tensor], Tensor]] = {  # which may only multiply a signal
    "sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid, "softmax": lambda h: h.softmax(-1),
    "quick gelu": lambda h: torch.sigmoid(1.702 * h), "expit": torch.special.expit,
}  # fmt: skip


NAMES = [*GATES, *HELD, "glu", "ours"]


class Gates(nn.Module):
    """A channel for each gate."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.filters = nn.Conv2d(len(NAMES), len(NAMES), 3, groups=len(NAMES), bias=False)
        self.filters.weight.data = torch.randn(len(NAMES), 1, 3, 3, generator=generator) / 2
        self.ours = bnn.Hardswish()
        self.last = nn.Parameter(torch.randn(1, 5, 5, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        each = self.filters(x).split(1, 1)
        found = [f(h) for f, h in zip(GATES.values(), each, strict=False)]
        found += [h * f(h) for f, h in zip(HELD.values(), each[len(GATES) :], strict=False)]
        found += [F.glu(torch.cat([each[-2], each[-2]], 1), 1), self.ours(each[-1])]
        return (torch.cat(found, 1) * self.last).sum((1, 2, 3)).unsqueeze(1)


def wanted(model: Gates, x: Tensor) -> Tensor:
    """(N, gates, H, W): the filters turned back on `v · (f(h) - f(0)) / h`."""
    h = model.filters(x)
    functions = [*GATES.values(), *(lambda h, f=f: h * f(h) for f in HELD.values()), F.silu, F.hardswish]
    apart = zip(functions, h.split(1, 1), strict=True)
    factors = torch.cat([(f(t) - f(torch.zeros_like(t))) / t for f, t in apart], 1)
    return F.conv_transpose2d(model.last * factors, model.filters.weight, groups=len(NAMES)).detach()


def test_the_list_has_every_gate_of_the_table() -> None:
    """Comparisons and the like have no slope, and are no gates: nothing of the signal passes."""
    named = {name for row in TABLE if row.rule in (gates.rectifier, gates.activation) for name in row.names.split()}
    assert named == {name.partition(",")[0] for name in GATES} | {"log_sigmoid"}  # which is logsigmoid in a recorded graph


def test_every_gate_gives_one_w_eager_compiled_and_exported() -> None:
    torch.compiler.reset()
    model = Gates().double().eval().requires_grad_(False)
    x = torch.rand(2, len(NAMES), 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = wanted(model, x)
    eager = torchbcos.explain(model, x).weights
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-12, atol=1e-12)  # it is compiled by now
    around = torchbcos.explain(compiled, x).weights
    graph = torchbcos.explanation_graph(model, x)
    inside = torch.compile(graph, fullgraph=True, backend="aot_eager")(x)[2]
    exported = torch.export.export(graph, (x,)).module()(x)[2]
    program = torchbcos.explain(torch.export.export(model, (x,)).module(), x).weights
    for way, found in {"eager": eager, "compiled": around, "inside": inside, "graph": exported, "program": program}.items():
        wrong = (found[:, 0] - expected).abs().amax((0, 2, 3)).tolist()
        assert max(wrong) <= 1e-10, (way, {name: size for name, size in zip(NAMES, wrong, strict=True) if size > 1e-10})


def test_our_hardswish_is_held_by_compiled_code_where_torchs_is_not() -> None:
    """`frozen()` reaches our own layers, compiled too: `bcosify` puts ours in the place of torch's for this reason."""
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    slopes = []
    for layer in (bnn.Hardswish(), nn.Hardswish()):
        torch.compiler.reset()
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        with torchbcos.frozen():
            slopes.append(torch.autograd.grad(compiled(x).sum(), x)[0])
    gate = F.hardsigmoid(x).detach()
    torch.testing.assert_close(slopes[0], gate, rtol=0, atol=1e-14)
    assert float((slopes[1] - gate).abs().max()) > 1e-2  # else ours would not be needed
