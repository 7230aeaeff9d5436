"""Small architectures of timm and torchvision, which together need almost every rule; `make any` has the large list."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from tests.any.calibrate import calibrate, pictures
from tests.any.examine import examine, row_of
from tests.any.networks import CLASSES, entry
from torchbcos.kinds import table
from torchbcos.kinds.call import Rule
from torchbcos.kinds.operation import key_of

# what each of them is here for: the rules that it needs beyond convolutions, norms and activations
EXACT = {
    "timm:test_resnet 64": "max pool",
    "timm:resnet10t 32 act_layer='prelu'": "PReLU",
    "timm:test_byobnet 64": "squeeze-excite",
    "timm:mobilenetv3_small_050 64": "hardswish, hardsigmoid",
    "timm:test_nfnet 64": "standardised weights, gains in place",
    "timm:test_convnext 64": "layer scales",
    "timm:models.convnext.ConvNeXt 64 depths=(1,1,1,1) dims=(16,24,32,40) use_grn=True ls_init_value=None act_layer='mish'":
        "GRN: norm, mean, addcmul; Mish",
    "timm:models.metaformer.MetaFormer 64 depths=(1,1,1,1) dims=(16,24,32,40)": "StarReLU; x - pool(x)",
    "timm:test_mambaout 64": "gated convolutions",
    "timm:starnet_s050 64": "a product with an activation",
    "timm:test_vit 64 img_size=64": "attention, class token",
    "timm:eva02_tiny_patch14_224 56 img_size=56 depth=2": "SwiGLU, rotary positions",
    "timm:models.swin_transformer.SwinTransformer 32 img_size=32 window_size=4 embed_dim=24 depths=(2,2) num_heads=(2,4)":
        "shifted windows",
    "timm:models.swin_transformer_v2.SwinTransformerV2 32 img_size=32 window_size=4 embed_dim=24 depths=(2,2) num_heads=(2,4)":
        "cosine attention",
    "timm:models.cait.Cait 64 img_size=64 embed_dim=48 depth=2 num_heads=4": "talking heads, class attention",
    "timm:models.xcit.Xcit 64 img_size=64 embed_dim=48 depth=2 num_heads=4": "attention across channels",
    "timm:models.volo.VOLO 64 img_size=64 layers=(1,1,1,1) embed_dims=(16,32,32,32) num_heads=(2,4,4,4)":
        "outlook attention: unfold, fold; a maximum over positions",
    "timm:models.nest.Nest 32 img_size=32 num_levels=2 embed_dims=(24,48) num_heads=(2,4) depths=(1,1) pad_type='same'":
        "a max pool padded by -inf",
    "torchvision:models.vision_transformer.VisionTransformer 32 "
    "image_size=32 patch_size=8 num_layers=2 num_heads=2 hidden_dim=16 mlp_dim=32":
        "nn.MultiheadAttention",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _flushed() -> Iterator[None]:
    """As in `make any`."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("line", EXACT, ids=lambda line: f"{line.split()[0].rpartition('.')[2]}")
def test_exact(line: str) -> None:
    pytest.importorskip(line.partition(":")[0])
    row = row_of(entry(line))
    assert (row.verdict, row.note) == ("exact", "")


def test_a_product_of_two_signals_is_refused_by_name_or_split() -> None:
    pytest.importorskip("timm")
    network = entry("timm:models.focalnet.FocalNet 32 embed_dim=16 depths=(1,1,1,1)")
    row = row_of(network)
    assert (row.verdict, row.note) == ("refused", "mul in layers.0.blocks.0.modulation (FocalModulation)")
    for products in ("half", "first", "second"):
        row = row_of(network, products)
        assert (row.verdict, row.note) == ("exact", "")


def test_an_error_that_is_not_ours_is_a_fault() -> None:
    pytest.importorskip("timm")

    def breaks(*_args: object, **_options: object) -> torchbcos.Explanation:
        raise IndexError("out of range")

    row = row_of(entry("timm:test_vit 64 img_size=64"), explain=breaks)
    assert (row.verdict, row.note) == ("wrong", "IndexError: out of range")


class Small(nn.Module):
    """A convolution, an operation, and a head."""

    def __init__(self, operation: Callable[[Tensor], Tensor] = nn.functional.gelu) -> None:
        super().__init__()
        self.first, self.operation = nn.Conv2d(3, 8, 3), operation
        self.head = nn.Linear(8, CLASSES)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.operation(self.first(x)).mean((2, 3)))
        return scores


def verdict(explain: Callable[..., torchbcos.Explanation], operation: Callable[[Tensor], Tensor] = nn.functional.gelu) -> str:
    torch.manual_seed(0)
    model = Small(operation).eval()
    calibrate(model, 16)
    row = examine(model, pictures(16), explain=explain)
    return f"{row.verdict}: {row.note}"


def changed(**changes: Callable[[torchbcos.Explanation], object]) -> Callable[..., torchbcos.Explanation]:
    """`explain`, its explanation spoiled in one place."""

    def explain(model: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> torchbcos.Explanation:
        e = torchbcos.explain(model, x, *args, **kwargs)
        return dataclasses.replace(e, **{name: change(e) for name, change in changes.items()})

    return explain


def alive(model: nn.Module, x: Tensor, targets: Tensor | None = None, **kwargs: Any) -> torchbcos.Explanation:
    """`explain`, but the gates live: W is the gradient."""
    e = torchbcos.explain(model, x, targets, **kwargs)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf).gather(1, e.targets).sum(), leaf)
    return dataclasses.replace(e, weights=gradient[:, None])


def leaves(model: Any, x: Tensor, *args: Any, **kwargs: Any) -> torchbcos.Explanation:
    """`explain`, but something stays behind."""
    model.seen += 1
    return torchbcos.explain(model, x, *args, **kwargs)


def restless(model: Any, x: Tensor, *args: Any, **kwargs: Any) -> torchbcos.Explanation:
    """`explain`, but another W every time."""
    e = torchbcos.explain(model, x, *args, **kwargs)
    counter[0] += 1
    return dataclasses.replace(e, weights=e.weights * (1 + 1e-6 * counter[0]))


counter = [0]
PLANTED: dict[str, tuple[Callable[..., torchbcos.Explanation], str]] = {
    "nothing": (torchbcos.explain, "exact: "),
    "a gate lives": (alive, "wrong: residual"),
    "a constant has no name": (
        changed(constants=lambda e: {k: v for k, v in e.constants.items() if k != "first.bias"}), "wrong: residual",
    ),
    "other outputs": (changed(outputs=lambda e: e.outputs * 1.001), "wrong: outputs"),
    "a picture of the batch": (changed(weights=lambda e: e.weights.flip(0)), "wrong: residual"),
    "a buffer": (leaves, "wrong: left behind"),
    "numbers that change": (restless, "wrong: a second call"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_seen(fault: str) -> None:
    explain, expected = PLANTED[fault]
    assert verdict(explain).startswith(expected)


def hypotenuse(t: Tensor) -> Tensor:
    """An operation that the table does not have, of degree 1: its gradient adds up, and is no held map."""
    return torch.hypot(t, t.roll(1, 1) + 0.5 * t)


def test_what_has_no_rule_is_refused_by_name() -> None:
    assert verdict(torchbcos.explain, hypotenuse) == "refused: hypot in Small"


WRONG: dict[str, tuple[Rule, str]] = {
    "a gate lives": (lambda call: call.linear(call.args[0] * call.args[0].sigmoid()), "does not add up"),
    "a constant has no name": (lambda call: call.linear(call.args[0] + 1), "does not add up"),
    "a factor of degree 0 lives": (lambda call: call.linear(call.run(*call.args)), "Linear once held"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_rule_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, expected = WRONG[fault]
    monkeypatch.setattr(table, "_registered", {**table._registered, key_of(torch.hypot): rule})
    note = verdict(torchbcos.explain, hypotenuse)
    assert note.startswith(("wrong: ", "refused: The explanation")) and expected in note
