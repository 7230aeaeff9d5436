"""The recorded graph predicts and explains as the network does, exported and compiled too."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, StateError
from torchbcos.explanation import graph
from torchbcos.models import build

pytestmark = pytest.mark.newest

FAMILIES = {
    "resnet": ("cifar10_resnet20", {"antialias": True}),
    "densenet": ("cifar10_densenet52", {}),
    "convnext": ("convnext_atto", {}),
    "vit": ("simple_vit_ti_patch16_224", {}),
}


def twin(family: str, size: int = 32) -> nn.Module:
    name, options = FAMILIES[family]
    model = build(name, num_classes=4, **options)
    torchbcos.recalibrate(model, [torch.rand(4, 6, size, size) for _ in range(2)])
    return torchbcos.deploy(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_explanation_is_the_explanation(family: str) -> None:
    model = twin(family)
    recorded = torchbcos.explanation_graph(model, torch.rand(2, 6, 32, 32), top_k=2)
    x = torch.rand(2, 6, 32, 32)
    e = torchbcos.explain(model, x, top_k=2)
    program = torch.export.export(recorded, (x,)).module()
    for run in (recorded, program):
        logits, targets, weights, contributions, constants = run(x)
        assert torch.equal(targets, e.targets)
        for found, expected in ((logits, e.outputs), (weights, e.weights), (contributions, e.contributions)):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        assert recorded.constants == tuple(e.constants)
        total = contributions.flatten(2).sum(2) + constants.sum(2)
        torch.testing.assert_close(total, e.values, rtol=1e-4, atol=1e-4)


def test_the_graph_of_a_network_that_may_still_learn_runs_with_gradients_on() -> None:
    model, x = build("cifar10_resnet20", num_classes=4).eval(), torch.rand(1, 6, 16, 16)
    recorded = torchbcos.explanation_graph(model, x)
    assert all(p.requires_grad for p in model.parameters())
    weights = recorded(x)[2]
    assert not weights.requires_grad
    torch.testing.assert_close(weights, torchbcos.explain(model, x).weights, rtol=1e-4, atol=1e-6)


def test_given_targets_are_an_input_of_the_graph() -> None:
    model, x = twin("resnet"), torch.rand(2, 6, 32, 32)
    recorded = torchbcos.explanation_graph(model, x, torch.tensor([[0], [1]]))
    asked = torch.tensor([[3], [2]])
    torch.testing.assert_close(recorded(x, asked)[2], torchbcos.explain(model, x, asked).weights, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"takes \(x, targets\)"):
        recorded(x)
    with pytest.raises(InputError, match=r"recorded for input of shape \(N, 6, 32, 32\), not \(2, 6, 32, 31\)"):
        recorded(x[..., 1:], asked)
    with pytest.raises(InputError, match=r"takes 1 targets an image, not targets of shape \(2, 2\)"):
        recorded(x, asked.repeat(1, 2))


def test_a_compiled_graph_explains_the_same() -> None:
    model = nn.Sequential(
        bnn.BcosConv2d(6, 8, 3, padding=1), bnn.BatchNorm(8, centered=False, bias=False), bnn.BcosConv2d(8, 3, 3),
        bnn.GlobalAveragePool(), bnn.Logits(-1.0),
    )  # fmt: skip
    model, x = torchbcos.deploy(model), torch.rand(1, 6, 10, 10)
    compiled = torch.compile(torchbcos.explanation_graph(model, x))
    e = torchbcos.explain(model, x)
    torch.testing.assert_close(compiled(x)[2], e.weights, rtol=1e-4, atol=1e-6)


def operations(recorded: graph.ExplanationGraph) -> list[str]:
    return [str(node.target) for node in recorded.recorded.graph.nodes]  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ["resnet18", "cifar10_densenet52", "simple_vit_ti_patch16_224"])
def test_portable_graphs_hold_no_backward_operation(family: str) -> None:
    options = {"width_factor": 0.25} if family == "resnet18" else {}
    model, x = torchbcos.deploy(build(family, num_classes=3, **options)), torch.rand(1, 6, 64, 64)
    portable = torchbcos.explanation_graph(model, x, portable=True)
    usual = torchbcos.explanation_graph(model, x)
    own = ("convolution_backward", "pool2d_backward", "flash_attention")
    assert not [name for name in operations(portable) if any(part in name for part in own)]
    assert [name for name in operations(usual) if any(part in name for part in own)]
    x = torch.rand(1, 6, 64, 64)
    torch.testing.assert_close(portable(x)[2], torchbcos.explain(model, x).weights, rtol=1e-4, atol=1e-5)


def test_onnx_runs_the_explanation(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="pip install onnx onnxscript onnxruntime")
    runtime = pytest.importorskip("onnxruntime")
    model = torchbcos.deploy(nn.Sequential(bnn.BcosConv2d(6, 8, 3, padding=1), bnn.BcosConv2d(8, 3, 3), bnn.GlobalAveragePool()))
    x = torch.rand(1, 6, 10, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(torchbcos.explanation_graph(model, x, portable=True), (x,), dynamo=True, verbose=False)
    assert program is not None
    program.save(str(tmp_path / "model.onnx"))
    run = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    x = torch.rand(1, 6, 10, 10)
    found = run.run(None, {run.get_inputs()[0].name: x.numpy()})
    e = torchbcos.explain(model, x)
    for array, expected in zip(found, (e.outputs, e.targets, e.weights, e.contributions), strict=False):
        torch.testing.assert_close(torch.from_numpy(array), expected, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_recorded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wild(nn.Module):
        """Its path depends on the picture."""

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(bnn.BcosConv2d(6, 3, 3), bnn.GlobalAveragePool())

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out * 2 if float(x.detach().sum()) > 0 else out

    x = torch.rand(1, 6, 5, 5)
    with pytest.raises(StateError, match="Wild cannot be recorded"):
        torchbcos.explanation_graph(Wild().eval(), x)
    with pytest.raises(StateError, match=r"eval mode"):
        torchbcos.explanation_graph(Wild(), x)
    model = Wild().net.eval()
    real = graph.differentiate

    def wrong(*arguments: object) -> tuple[Tensor, dict[str, Tensor]]:
        weights, constants = real(*arguments)  # type: ignore[arg-type]
        return weights * 1.01, constants

    monkeypatch.setattr(graph, "differentiate", wrong)
    with pytest.raises(StateError, match="gives other weights than explain"):
        torchbcos.explanation_graph(model, x)
