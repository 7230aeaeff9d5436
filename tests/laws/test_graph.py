"""The recorded graph predicts and explains as the network does, exported and compiled too."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
    "bvt": ("bvt_tiny_patch16", {"depth": 2, "prototypes": 2}),
    "bwin": ("bwin_tiny", {"width_factor": 0.125, "window": 3}),
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


FOR_LAW = {
    "axes": st.integers(1, 3), "b": st.sampled_from([1.0, 1.5, 2.0]), "max_out": st.integers(1, 2), "stride": st.integers(1, 2),
    "mode": st.sampled_from(["zeros", "reflect", "circular"]),
    "norm": st.sampled_from([None, bnn.BatchNorm, bnn.LayerNorm, bnn.PositionNorm]),
    "example": st.integers(1, 3), "count": st.integers(1, 8), "top_k": st.integers(1, 2), "portable": st.booleans(),
}  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(drawn=st.fixed_dictionaries(FOR_LAW), seed=st.integers(0, 2**16))
def test_a_graph_explains_any_number_of_images(drawn: dict[str, Any], seed: int) -> None:
    torch.manual_seed(seed)
    axes, layer = drawn["axes"], (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d)[drawn["axes"] - 1]
    norm = [drawn["norm"](4)] if drawn["norm"] else []
    model = nn.Sequential(
        layer(2, 4, 3, padding=1, padding_mode=drawn["mode"], b=drawn["b"], max_out=drawn["max_out"]), *norm,
        layer(4, 3, 3, stride=drawn["stride"]), bnn.GlobalAveragePool(), bnn.Logits(-0.5),
    ).eval()  # fmt: skip
    space = (6,) * axes
    recorded = torchbcos.explanation_graph(
        model, torch.rand(drawn["example"], 2, *space), top_k=drawn["top_k"], portable=drawn["portable"]
    )
    assert recorded.batch is None and recorded.shape == (drawn["example"], 2, *space)
    x = torch.rand(drawn["count"], 2, *space)
    logits, targets, weights, contributions, constants = recorded(x)
    e = torchbcos.explain(model, x, targets)
    for found, expected in ((logits, e.outputs), (weights, e.weights), (contributions, e.contributions)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(contributions.flatten(2).sum(2) + constants.sum(2), e.values, rtol=1e-4, atol=1e-5)


class _ByNumber(nn.Module):
    """It divides by the number of images, or takes another path for three."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.net = kind, nn.Sequential(bnn.BcosConv2d(6, 3, 3), bnn.GlobalAveragePool())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        if self.kind == "divides":
            return out / len(x)
        if self.kind == "branches":
            return out * 2 if len(x) == 3 else out
        if self.kind == "branches elsewhere":
            return out * 2 if len(x) >= 4 else out
        return out.view(1, 3)


def test_a_number_that_is_the_number_of_images_follows_it() -> None:
    model = _ByNumber("divides").eval()
    recorded, x = torchbcos.explanation_graph(model, torch.rand(2, 6, 5, 5)), torch.rand(7, 6, 5, 5)
    torch.testing.assert_close(recorded(x)[2], torchbcos.explain(model, x, batch_size=7).weights)


@pytest.mark.parametrize("kind", ["branches", "alone"])
def test_a_network_that_counts_its_images_gives_a_graph_for_their_number(kind: str) -> None:
    model, x = _ByNumber(kind).eval(), torch.rand(1, 6, 5, 5)
    recorded = torchbcos.explanation_graph(model, x)
    assert recorded.batch == 1
    torch.testing.assert_close(recorded(x)[2], torchbcos.explain(model, x).weights)
    with pytest.raises(InputError, match=r"recorded for input of shape \(1, 6, 5, 5\), not \(2, 6, 5, 5\)"):
        recorded(x.expand(2, -1, -1, -1))


def test_a_network_that_changes_at_a_number_that_was_not_recorded_is_caught() -> None:
    with pytest.raises(StateError, match="gives other logits than explain"):
        torchbcos.explanation_graph(_ByNumber("branches elsewhere").eval(), torch.rand(1, 6, 5, 5))


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
