"""What the official package gets wrong, by the number of the list in docs/explanation/differences.md; and that list itself.

Defects of layers, pictures and rendering have their tests beside the tests of those rooms.
"""

from __future__ import annotations

import copy
import importlib.metadata
import inspect
import math
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import torchbcos
from tests.reference import rendering as reference
from torchbcos import functional
from torchbcos import nn as bnn
from torchbcos.kernels import conv, linear
from torchbcos.models import build
from torchbcos.models.resnet import ResNet, ResNetSizes, Style

ROOT = Path(__file__).parents[2]
EXTRAS = ["lightning", "timm", "torchvision", "torchmetrics", "captum", "sklearn", "matplotlib", "tensorboard", "huggingface_hub"]


def small(**options: object) -> nn.Module:
    torch.manual_seed(1)
    model = build("cifar10_resnet20", num_classes=4, **options)
    torchbcos.recalibrate(model, [torch.rand(8, 6, 16, 16) for _ in range(2)])
    return model.double().eval()


def vit_of(classes: int) -> nn.Module:
    torch.manual_seed(1)
    return build("simple_vit_ti_patch16_224", num_classes=classes).eval()


def pictures(n: int = 2, channels: int = 6) -> Tensor:
    return torch.rand(n, channels, 16, 16, dtype=torch.float64)


def test_defect_01_results_are_not_overwritten_by_later_calls() -> None:
    model, x = small(), pictures(1)
    first = torchbcos.explain(model, x, 0)
    kept = first.weights.clone()
    second = torchbcos.explain(model, x, 1)
    assert torch.equal(first.weights, kept)
    assert first.weights.data_ptr() != second.weights.data_ptr()


def test_defect_02_the_documented_picture_can_be_made(tmp_path: Path) -> None:
    clf = torchbcos.load()
    e = clf.explain(np.asarray(Image.new("RGB", (40, 30), (200, 30, 60))))
    e.save(tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.size[0] > 100
    assert not e.contributions.requires_grad
    assert e.contributions.numpy().shape == (1, 1, *e.inputs.shape[2:])


def test_defect_03_the_callers_tensor_is_left_alone() -> None:
    model, x = small(), pictures()
    torchbcos.explain(model, x, 0)
    assert not x.requires_grad and x.grad is None
    x.requires_grad_()
    x.grad = torch.full_like(x, 2.0)
    torchbcos.explain(model, x, 0)
    assert torch.equal(x.grad, torch.full_like(x, 2.0))
    assert all(p.grad is None for p in model.parameters())


def test_defect_04_batches_and_several_targets() -> None:
    model, x = small(), pictures(3)
    e = torchbcos.explain(model, x, [[0, 1], [2, 3], [1, 1]])
    assert e.weights.shape == (3, 2, 6, 16, 16)
    one = torchbcos.explain(model, x[1:2], 3)
    torch.testing.assert_close(e.weights[1:2, 1:], one.weights)
    for wrong in (-1, 4):
        with pytest.raises(torchbcos.BcosError, match="from 0 to 3"):
            torchbcos.explain(model, x, wrong)


def test_defect_05_inference_mode() -> None:
    model, x = small(), pictures()
    with torch.inference_mode():
        inside = torchbcos.explain(model, pictures(1) * 0 + x[:1], 0)
    torch.testing.assert_close(inside.weights.clone(), torchbcos.explain(model, x[:1], 0).weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_defect_06_half_precision_is_explained_and_drawn(dtype: torch.dtype) -> None:
    model, x = small(), pictures()
    e = torchbcos.explain(model.to(dtype), x.to(dtype), 0)
    assert e.weights.dtype == dtype and bool(torch.isfinite(e.weights).all())
    expected = reference.rgba(*(t.double().numpy() for t in (e.weights[0, 0], e.inputs[0])), smooth=3, percentile=99.5)
    assert np.abs(e.rgba(0, 0, smooth=3) - expected).max() < 1e-4
    assert e.panel().width == 4 * 320 + 3 * 24 + 2 * 36  # all four tiles


def test_defect_07_the_frozen_state_nests() -> None:
    model, x = small(), pictures(1).requires_grad_()
    expected = torchbcos.explain(model, x, 0).weights[:, 0]
    with torchbcos.frozen():
        with torchbcos.frozen():
            pass
        torchbcos.explain(model, x, 1)
        (after,) = torch.autograd.grad(model(x)[0, 0], x)
    torch.testing.assert_close(after, expected)


def test_defect_08_an_error_leaves_the_model_as_it_was() -> None:
    model, x = small(), pictures(1).requires_grad_()
    before = torch.autograd.grad(model(x)[0, 0], x)[0]
    handle = model.get_submodule("layer2").register_forward_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("stop")))
    with pytest.raises(RuntimeError, match="stop"):
        torchbcos.explain(model, x.detach(), 0)
    handle.remove()
    assert torch.equal(torch.autograd.grad(model(x)[0, 0], x)[0], before)
    centred = small(norm_centered=True).train()
    assert torchbcos.explain(centred, x.detach(), 0).residual.abs().max() < 1e-9


def test_defect_11_the_frozen_state_is_a_decorator() -> None:
    model, x = small(), pictures(1).requires_grad_()

    @torchbcos.frozen()
    def value() -> Tensor:
        out: Tensor = model(x)[0, 0]
        return out

    torch.testing.assert_close(torch.autograd.grad(value(), x)[0], torchbcos.explain(model, x, 0).weights[:, 0])


def test_defect_12_explaining_in_training_mode_changes_no_statistics() -> None:
    model, x = small().train(), pictures()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torchbcos.explain(model, x, 0)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


EVERY_NAME = f"""
import sys
for extra in {EXTRAS!r}:
    sys.modules[extra] = None  # from here on importing it fails
import torchbcos, types
rooms = [torchbcos, *(v for name in torchbcos.__all__ if isinstance(v := getattr(torchbcos, name), types.ModuleType))]
print(len([getattr(room, name) for room in rooms for name in room.__all__]))
"""


def test_defect_13_every_name_of_the_package_can_be_used() -> None:
    """Each name of the door and of the rooms behind it, in an interpreter that has none of the extras."""
    done = subprocess.run([sys.executable, "-c", EVERY_NAME], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100  # names that were looked up


def test_defect_14_plain_networks_and_vits_are_explained() -> None:
    plain = build("cifar10_resnet20", num_classes=4, plain=True).double().eval()
    assert torchbcos.explain(plain, pictures(1, 3), 0).residual.abs().max() < 1e-9
    vit = vit_of(4).double()
    assert torchbcos.explain(vit, torch.rand(1, 6, 32, 32).double(), 0).residual.abs().max() < 1e-9
    for model in (plain, vit):
        assert model.forward_features(torch.rand(1, model.in_channels, 32, 32).double()).dim() == 4
        model.reset_classifier(7)
        assert model.num_classes == 7


def test_defect_15_nan_is_an_error() -> None:
    x = pictures()
    x[0, 0, 3, 3] = math.nan
    with pytest.raises(torchbcos.BcosError, match="NaN"):
        torchbcos.explain(small(), x, 0)


def test_defect_17_constants_are_named_and_the_rest_is_reported() -> None:
    model, x = small(norm_bias=True, norm_centered=True), pictures()
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(p)
    e = torchbcos.explain(model, x, 0)
    assert {"bn1.bias", "bn1.running_mean", "logits.bias"} <= set(e.constants)
    assert e.residual.abs().max() < 1e-9
    pixels = e.contributions.flatten(2).sum(2)
    assert (pixels - (e.values - e.constants["logits.bias"])).abs().max() > 0.1  # what is not reported elsewhere
    vit = vit_of(4).double()
    e = torchbcos.explain(vit, torch.rand(1, 6, 32, 32).double(), 0)
    assert [name for name in e.constants if "position" in name or "embedding" in name]
    assert e.residual.abs().max() < 1e-9 and float(e.share) < 0.99


def test_defect_18_traced_networks_explain_the_same() -> None:
    model, x = small(), pictures()
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(torchbcos.explain(traced, x, 0).weights, torchbcos.explain(model, x, 0).weights)


def test_defect_19_no_strided_layer_is_left_with_antialias() -> None:
    def strides(model: nn.Module) -> set[tuple[int, ...]]:
        return {m.stride for m in model.modules() if isinstance(m, bnn.BcosConv2d)}

    for name in ("resnet18", "densenet121", "vgg11_bnu", "convnext_atto"):
        assert strides(build(name, num_classes=3, antialias=True)) == {(1, 1)}, name
    assert (2, 2) in strides(build("resnet18", num_classes=3))


def test_defect_29_uncentred_norms_divide_by_the_spread_about_the_mean() -> None:
    norm = bnn.BatchNorm(1, centered=False, bias=False, eps=1e-5).double()
    x = torch.full((4, 1, 3, 3), 3.0, dtype=torch.float64)
    assert float(norm(x)[0, 0, 0, 0].detach()) == pytest.approx(3 / math.sqrt(1e-5))  # as the weights were trained: 948.7
    x = torch.randn(4, 1, 3, 3, dtype=torch.float64) + 5
    torch.testing.assert_close(norm(x).detach(), x / (x.var(correction=0) + 1e-5).sqrt())
    assert "about the" in (inspect.getdoc(bnn.Norm) or "")


def test_defect_32_an_explanation_keeps_no_gradient_of_parameters_and_never_normalises(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = small(), pictures(1)
    plain = copy.deepcopy(model)
    for layer in [m for m in plain.modules() if isinstance(m, bnn.BcosConv2d)]:
        layer.weight = nn.Parameter(functional.unit_norm_weight(layer.weight.detach()))
        layer.unit_norm = False
    expected = torchbcos.explain(plain, x, 0).weights
    assert sum(isinstance(m, bnn.BcosConv2d) for m in model.modules()) > 10

    def refuse(weight: torch.Tensor) -> torch.Tensor:
        raise AssertionError("filters were written out at unit norm")

    for module in (conv, linear):
        monkeypatch.setattr(module, "unit_norm", refuse)
    found = torchbcos.explain(model, x, 0).weights
    with torch.no_grad():
        model(x)
    torch.testing.assert_close(found, expected)
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(AssertionError, match="unit norm"):
        model(x)  # with gradients of the weights they are


BIASES = [(4, 0.0, 0.0), (1, None, None), (2, "auto", 0.0), (10, "auto", -math.log(9))]


@pytest.mark.parametrize(("classes", "given", "bias"), BIASES)
def test_defect_33_logit_biases(classes: int, given: float | str | None, bias: float | None) -> None:
    model = build("cifar10_resnet20", num_classes=classes, logit_bias=given)
    assert model.logits.bias == (pytest.approx(bias) if bias is not None else None)
    assert build("cifar10_resnet20", num_classes=1)(torch.rand(1, 6, 8, 8)).shape == (1, 1)


@pytest.mark.parametrize("name", ["resnet18", "simple_vit_ti_patch16_224"])
def test_defect_34_the_logit_bias_follows_the_classes(name: str) -> None:
    model = torchbcos.create_model(name, num_classes=10)
    assert model.logits.bias == pytest.approx(-math.log(9))
    model.reset_classifier(5)
    assert (model.logits.bias, model.num_classes) == (pytest.approx(-math.log(4)), 5)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bnu", "vgg13", "vgg16_bnu"])
def test_defect_35_vggs_can_be_built(name: str) -> None:
    with torch.device("meta"):
        model = torchbcos.create_model(name, num_classes=3)
    assert model.num_classes == 3
    if name == "vgg11":
        net = build("vgg11_bnu", num_classes=3, norm_affine=False).eval()
        assert net(torch.rand(1, 6, 32, 32)).shape == (1, 3)
        with pytest.raises(torchbcos.BcosError, match="at least 32 x 32"):
            net(torch.rand(1, 6, 24, 24))


def test_defect_36_depths_are_checked_and_short_networks_work() -> None:
    with pytest.raises(torchbcos.BcosError, match="cifar10_densenet52"):
        torchbcos.create_model("cifar10_densenet55")
    for depths, widths in (((1,), (8,)), ((1, 1), (8, 16))):
        sizes = ResNetSizes(depths=depths, widths=widths, expansion=1, small=True, stem=8)
        net = ResNet(sizes, Style(), num_classes=3, stochastic_depth=0.1).eval()
        assert net(torch.rand(1, 6, 8, 8)).shape == (1, 3)


def test_defect_38_preprocessing_belongs_to_one_model() -> None:
    one, other = torchbcos.load(), torchbcos.load()
    with pytest.raises((AttributeError, TypeError)):
        one.card.preprocess = None  # type: ignore[misc]
    picture = torch.rand(3, 200, 200)
    before = other.preprocess(picture)
    changed = dict(one.card.preprocess or {})
    changed["crop"] = 32
    vars(one.card)["preprocess"] = changed  # by force
    for clf in (other, torchbcos.load()):
        assert torch.equal(clf.preprocess(picture), before)


def test_defect_39_construction_looks_at_no_stack_and_any_multiple_of_the_patch_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("inspected")

    monkeypatch.setattr(inspect, "stack", refuse)
    vit = vit_of(3)
    assert vit(torch.rand(1, 6, 48, 32)).shape == (1, 3)
    with pytest.raises(torchbcos.BcosError, match="16"):
        vit(torch.rand(1, 6, 50, 32))


def test_defect_40_pickled_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"conv1.linear.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(torchbcos.BcosError):
        torchbcos.create_model("resnet18", weights=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_defect_41_the_package_declares_what_it_needs() -> None:
    needs = " ".join(importlib.metadata.requires("torchbcos") or [])
    for name in ("torch", "numpy", "pillow", "safetensors", "typer", "rich"):
        assert re.search(rf"\b{name}\b", needs)


def rows_of(text: str) -> dict[int, str]:
    """The last cell of each numbered row."""
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", text, flags=re.MULTILINE)
    return {int(number): cell for number, cell in rows}


def missing_from(text: str, known: set[str]) -> list[str]:
    """Numbers without a line, lines without a test or a reason, and tests that do not exist."""
    rows = rows_of(text)
    wrong = [f"no line {n}" for n in range(1, 49) if n not in rows]
    for number, cell in rows.items():
        names = re.findall(r"test_\w+", cell)
        if not names and len(cell) < 20:
            wrong.append(f"{number} has neither test nor reason")
        wrong += [f"{number}: {name}" for name in names if not any(k.startswith(name) for k in known)]
    return wrong


def test_every_defect_has_its_line_and_every_named_test_exists() -> None:
    known = {n for p in (ROOT / "tests").rglob("test_*.py") for n in re.findall(r"def (test_\w+)", p.read_text("utf-8"))}
    text = (ROOT / "docs" / "explanation" / "differences.md").read_text("utf-8")
    assert missing_from(text, known) == []
    assert missing_from(text.replace("| 17 |", "| x |"), known) == ["no line 17"]  # it can fail
    assert missing_from(text.replace("test_defect_05", "test_defekt_05"), known) == ["5: test_defekt_05"]
