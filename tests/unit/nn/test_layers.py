"""Fast path = slow float64 twin over the whole parameter grid; and the laws and defects of single layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

import torchbcos
from tests.reference import layers as slow
from torchbcos import functional, nn

NORMS = {"batch": nn.BatchNorm, "all": nn.AllNorm, "layer": nn.LayerNorm, "instance": nn.InstanceNorm,
         "group": lambda c, **o: nn.GroupNorm(2, c, **o), "position": nn.PositionNorm}  # fmt: skip
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 6e-3}


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, dict[str, object]]:
    space = draw(st.integers(1, 3))
    groups, max_out = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(space)]
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(space))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(space))
    padding = draw(st.one_of(st.sampled_from(["same", "valid"]), st.tuples(*[st.integers(0, 2)] * space)))
    size = [draw(st.integers(5, 6 if space < 3 else 5)) for _ in range(space)]
    assume(padding != "same" or all(s == 1 for s in stride))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    x = torch.randn(2, 2 * groups, *size, generator=generator, dtype=torch.float64)
    w = torch.randn(2 * groups * max_out, 2, *kernel, generator=generator, dtype=torch.float64)
    options = dict(
        b=draw(st.sampled_from([1, 1.0, 1.3, 2, 2.0, 2.5])), stride=stride, padding=padding, dilation=dilation, groups=groups,
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])), max_out=max_out,
        unit_norm=draw(st.booleans()),
    )  # fmt: skip
    return x, w, options


@given(convolutions(), st.sampled_from(list(TOLERANCE)))
def test_convolution_is_its_twin(case: tuple[torch.Tensor, torch.Tensor, dict[str, object]], dtype: torch.dtype) -> None:
    x, w, options = case
    x, w = x.to(dtype), w.to(dtype)
    expected = slow.bcos_conv(x, w, **options)  # type: ignore[arg-type]
    got = functional.bcos_conv(x, w, **options)  # type: ignore[arg-type]
    assert got.dtype is dtype
    bound = TOLERANCE[dtype] * max(1.0, float(expected.abs().max()))
    assert float((got.double() - expected).abs().max()) <= bound
    learnable = torch.tensor(float(options["b"]), dtype=dtype)  # type: ignore[arg-type]
    if dtype is torch.float64:
        again = functional.bcos_conv(x, w, **{**options, "b": learnable})  # type: ignore[arg-type]
        assert float((again - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))
        one = functional.bcos_conv(x[0], w, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(one, got[0])


@given(convolutions())
def test_convolution_is_linear_once_held(case: tuple[torch.Tensor, torch.Tensor, dict[str, object]]) -> None:
    x, w, options = case
    x.requires_grad_()
    with torchbcos.frozen():
        out = functional.bcos_conv(x, w, **options)  # type: ignore[arg-type]
        (g,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close((g * x).sum(), out.sum(), rtol=1e-9, atol=1e-9)


@given(st.integers(1, 3), st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.booleans(), st.sampled_from(list(TOLERANCE)))
def test_linear_is_its_twin(max_out: int, b: float, unit_norm: bool, dtype: torch.dtype) -> None:
    x, w = torch.randn(4, 7).to(dtype), torch.randn(3 * max_out, 7).to(dtype)
    expected = slow.bcos_linear(x, w, b=b, max_out=max_out, unit_norm=unit_norm)
    got = functional.bcos_linear(x.reshape(2, 2, 7), w, b=b, max_out=max_out, unit_norm=unit_norm).reshape(4, 3)
    assert float((got.double() - expected).abs().max()) <= TOLERANCE[dtype] * max(1.0, float(expected.abs().max()))


@given(st.sampled_from(list(NORMS)), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 3))
def test_norms_are_their_twins(kind: str, centered: bool, affine: bool, bias: bool, space: int) -> None:
    layer = NORMS[kind](4, centered=centered, affine=affine, bias=bias).double()
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(3, 4, *[3] * space, dtype=torch.float64) + 0.7
    expected = slow.norm(x, kind, centered=centered, weight=layer.weight, bias=layer.bias)
    torch.testing.assert_close(layer.train()(x).detach(), expected, rtol=1e-9, atol=1e-9)


def test_batch_norm_tracks_as_torch_and_as_the_official_code() -> None:
    ours, torchs = nn.BatchNorm(4).double(), torch.nn.BatchNorm2d(4).double()
    uncentred = nn.BatchNorm(4, centered=False).double()
    for _ in range(3):
        x = torch.randn(5, 4, 3, 3, dtype=torch.float64) * 2 + 1
        torch.testing.assert_close(ours(x), torchs(x))
        before = uncentred.running_var.clone()
        uncentred(x)
        torch.testing.assert_close(uncentred.running_var, 0.9 * before + 0.1 * x.var((0, 2, 3), correction=0))
    torch.testing.assert_close(ours.running_var, torchs.running_var)
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))
    assert not uncentred.running_mean.any()


def test_attention_is_its_twin_in_both_modes() -> None:
    q, k, v = (torch.randn(2, 2, 5, 4, dtype=torch.float64) for _ in range(3))
    expected = slow.attention(q, k, v)
    torch.testing.assert_close(functional.attention(q, k, v), expected)
    with torchbcos.frozen():
        torch.testing.assert_close(functional.attention(q, k, v), expected)


def test_the_twin_comparison_can_fail() -> None:
    """Norms of zero-padded patches (the official fault) are told apart for circular padding."""
    x, w = torch.rand(1, 2, 5, 5).double() + 1, torch.randn(3, 2, 3, 3).double()
    options = dict(b=2, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, max_out=1, unit_norm=True)  # fmt: skip
    right = slow.bcos_conv(x, w, padding_mode="circular", **options)  # type: ignore[arg-type]
    linear = F.conv2d(F.pad(x, [1] * 4, mode="circular"), functional.unit_norm_weight(w))
    norms = F.conv2d(x.square().sum(1, keepdim=True), torch.ones(1, 1, 3, 3).double(), padding=1)
    assert not torch.allclose(functional.bcos_transform(linear, norms), right, rtol=1e-3)


@pytest.mark.parametrize("b", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(("groups", "max_out"), [(1, 1), (2, 2)])
def test_gradients(b: float, groups: int, max_out: int) -> None:
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4 * max_out, 4 // groups, 3, 3, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return functional.bcos_conv(x, w, b=b, padding=1, groups=groups, max_out=max_out)

    assert torch.autograd.gradcheck(run, (x, w))
    learned = torch.tensor(b, dtype=torch.float64, requires_grad=True)
    if b > 1:
        assert torch.autograd.gradcheck(lambda t: functional.bcos_conv(x, w, b=t, groups=groups, max_out=max_out), (learned,))


def test_a_1x1_convolution_is_a_linear_layer_with_the_same_epsilon() -> None:
    x, w = torch.randn(2, 5, 3, 3).double(), torch.randn(4, 5).double()
    conv = functional.bcos_conv(x, w[:, :, None, None])
    linear = functional.bcos_linear(x.movedim(1, -1), w, eps=1e-6, norm_eps=0.0).movedim(-1, 1)
    torch.testing.assert_close(conv, linear)


def test_defect_20_dilation_with_max_out() -> None:
    assert nn.BcosConv2d(4, 8, 3, padding=2, dilation=(2, 2), max_out=2)(torch.rand(1, 4, 9, 9)).shape == (1, 8, 9, 9)


def test_defect_21_paddings() -> None:
    assert nn.BcosConv2d(4, 8, 3, padding="same")(torch.rand(1, 4, 9, 9)).shape == (1, 8, 9, 9)
    assert nn.BcosConv2d(4, 8, 3, padding=2)(torch.rand(1, 4, 9, 9)).shape == (1, 8, 11, 11)


def test_defect_22_cosines_stay_below_one_for_every_padding() -> None:
    x = torch.rand(1, 3, 8, 8)
    for mode in ("reflect", "replicate", "circular"):
        layer = nn.BcosConv2d(3, 64, 3, padding=1, padding_mode=mode)
        flat = layer(torch.ones_like(x))
        torch.testing.assert_close(flat[..., 0, 0], flat[..., 4, 4])  # a constant image has no border
        assert layer(x).isfinite().all()


def test_defect_23_unbatched_input() -> None:
    layer, x = nn.BcosConv2d(4, 4, 3), torch.randn(4, 5, 5)
    torch.testing.assert_close(layer(x), layer(x[None])[0])


def test_defect_24_zero_filters_give_zero_and_finite_gradients() -> None:
    for layer, x in ((nn.BcosConv2d(4, 4, 1), torch.randn(1, 4, 5, 5)), (nn.BcosLinear(4, 4), torch.randn(1, 4))):
        torch.nn.init.zeros_(layer.weight)
        out = layer(x)
        assert not out.any()
        out.sum().backward()
        assert layer.weight.grad is not None and layer.weight.grad.isfinite().all()


def test_defect_25_unknown_arguments_are_errors() -> None:
    with pytest.raises(TypeError, match="maxout"):
        nn.BcosConv2d(3, 4, 3, maxout=2)  # type: ignore[call-arg]


def test_defect_26_half_precision_neither_overflows_nor_gives_nan() -> None:
    out = nn.BcosConv2d(2048, 8, 1).half()((torch.randn(1, 2048, 4, 4) * 6).half())
    assert out.isfinite().all() and out.any()
    layer = nn.BcosLinear(8, 4).half()
    x = torch.zeros(2, 8, dtype=torch.float16, requires_grad=True)
    layer(x).sum().backward()
    assert not layer(x).any() and x.grad is not None and x.grad.isfinite().all()


def test_defect_27_a_learnable_b_moves_and_prints() -> None:
    layer = nn.BcosConv2d(4, 4, 3, learnable_b=True)
    layer(torch.rand(1, 4, 5, 5)).sum().backward()
    assert isinstance(layer.b, torch.nn.Parameter) and layer.b.grad is not None and layer.b.grad != 0
    assert "b=2" in repr(layer)


def test_defect_28_epsilon_is_an_argument() -> None:
    x = torch.rand(1, 4, 5, 5)
    exact = nn.BcosConv2d(4, 4, 3, eps=0.0)
    torch.testing.assert_close(exact(x * 1e-4) / 1e-4, exact(x), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(nn.BcosConv2d(4, 4, 3)(x * 1e-4) / 1e-4, exact(x), rtol=1e-2)


def test_defect_30_sync_conversion_leaves_our_norms() -> None:
    model = torch.nn.Sequential(nn.BcosConv2d(6, 4, 3), nn.BatchNorm(4, centered=False, sync=True))
    assert type(torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)[1]) is nn.BatchNorm


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: nn.BcosConv2d(3, 4, 3, b=0.5), "b must be a real number of at least 1"),
        (lambda: nn.BcosConv2d(3, 4, 3, padding_mode="mirror"), "padding_mode must be one of"),
        (lambda: nn.BcosConv2d(3, 4, 3, padding="some"), "Did you mean 'same'"),
        (lambda: nn.BcosConv2d(3, 4, 3, stride=2, padding="same"), "needs stride 1"),
        (lambda: nn.BcosConv2d(6, 4, 3)(torch.rand(1, 3, 8, 8)), "add_inverse"),
        (lambda: nn.BcosConv2d(6, 4, 3)(torch.zeros(1, 6, 8, 8, dtype=torch.uint8)), "floating-point"),
        (lambda: nn.BcosConv2d(6, 4, 9)(torch.rand(1, 6, 8, 8)), "too small"),
        (lambda: nn.BcosLinear(6, 4)(torch.rand(1, 5)), r"Expected \(\.\.\., 6\)"),
        (lambda: nn.BatchNorm(4)(torch.rand(4, 4)), r"\(N, C, \*S\)"),
        (lambda: nn.GroupNorm(3, 4), "cannot be divided into 3 groups"),
        (lambda: functional.add_inverse(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)), "float"),
        (lambda: nn.Logits(temperature=0.0), "temperature must be positive"),
    ],
)
def test_messages(call: object, text: str) -> None:
    with pytest.raises(torchbcos.BcosError, match=text):
        call()  # type: ignore[operator]
