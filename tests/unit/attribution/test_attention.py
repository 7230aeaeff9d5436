"""Rollout, raw attention, gradient times attention: twins, closed forms, any way in which a network attends."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import attribution_attention as reference
from torchbcos._core.errors import ExplanationWarning, InputError, StateError
from torchbcos.attribution import GradientAttention, RawAttention, Rollout
from torchbcos.attribution.attention import _relevance
from torchbcos.models.vit import STYLES, ViT, ViTSizes

METHODS = ("rollout", "raw_attention", "gradient_attention")
WAYS = ("fused", "module", "module without weights", "heads in the batch", "softmax of a module")


class Mixer(nn.Module):
    """Attention in one of the ways in which networks write it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.all = way, nn.MultiheadAttention(8, 2, batch_first=True)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.way.startswith("module"):
            out: Tensor = self.all(x, x, x, need_weights=self.way == "module")[0]
            return out
        parts = F.linear(x, self.all.in_proj_weight, self.all.in_proj_bias)
        q, k, v = parts.unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        if self.way == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.way == "heads in the batch":  # (N · heads, T, d)
            q, k, v = (t.flatten(0, 1) for t in (q, k, v))
            mixed = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)) / 2, 2), v).unflatten(0, (-1, 2))
        elif self.way == "softmax of a module":
            mixed = torch.einsum("nhts,nhsd->nhtd", nn.Softmax(-1)(torch.einsum("nhtd,nhsd->nhts", q, k) / 2), v)
        else:
            shares = (q @ k.transpose(-2, -1) / 2).softmax(dim=-1)
            self.seen.append(shares)
            mixed = shares @ v
        return self.all.out_proj(mixed.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Patches, blocks, and a classifier of the first token or of the mean."""

    def __init__(self, way: str = "written", token: bool = True, extra: int = 0, depth: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.token = nn.Conv2d(3, 8, 4, 4), token
        self.first = nn.Parameter(torch.randn(1, extra + token, 8))
        self.mixers = nn.ModuleList(Mixer(way) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(depth + 1))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        for mixer, norm in zip(self.mixers, self.norms, strict=False):
            x = x + mixer(norm(x) * 3)
        x = self.norms[-1](x)
        return self.head(x[:, 0] if self.token else x[:, self.first.shape[1] :].mean(1))


def pictures(n: int = 2) -> Tensor:
    return torch.rand(n, 3, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def attention(net: Transformer, x: Tensor, k: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Matrices (N, heads, T, T) that a network wrote out itself, and their gradients."""
    for mixer in net.mixers:
        mixer.seen.clear()
    value = net(x)[:, k].sum()
    seen = [mixer.seen[0] for mixer in net.mixers]
    gradients = torch.autograd.grad(value, seen)
    return [a.detach().numpy() for a in seen], [g.numpy() for g in gradients]


def quietly(net: nn.Module, x: Tensor, targets: object, **options: object) -> torchbcos.attribution.Attribution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplanationWarning)
        return torchbcos.attribute(net, x, targets, **options)  # type: ignore[arg-type]


def large(small: Tensor) -> Tensor:
    """(N, 2 · 3) at the size of the picture."""
    return F.interpolate(small.reshape(len(small), 1, 2, 3), (8, 12), mode="bilinear")[:, 0]


@pytest.mark.parametrize(("token", "extra"), [(True, 0), (True, 2), (False, 0), (False, 3)])
def test_twins_give_the_same(token: bool, extra: int) -> None:
    net, x = Transformer(token=token, extra=extra).double().eval(), pictures()
    prefix = extra + token
    rows = slice(0, 1) if token else slice(prefix, None)
    for k in (0, 3):
        layers, gradients = attention(net, x, k)
        found = {
            GradientAttention(): [
                reference.gradient_attention([a[i] for a in layers], [g[i] for g in gradients]) for i in range(2)
            ],
            RawAttention(): [reference.joined(layers[-1][i]) for i in range(2)],
            RawAttention(layer=0, heads="min"): [reference.joined(layers[0][i], "min") for i in range(2)],
            Rollout(): [reference.rollout([a[i] for a in layers]) for i in range(2)],
            Rollout(heads="max", skip=0.25): [reference.rollout([a[i] for a in layers], "max", 0.25) for i in range(2)],
        }
        for method, flows in found.items():
            small = torch.as_tensor(np.stack([flow[rows].mean(0)[prefix:] for flow in flows]))
            assert torch.allclose(quietly(net, x, k, method=method).maps[:, 0], large(small), atol=1e-12), method


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("token", [True, False])
def test_every_way_of_attending_gives_the_same(way: str, token: bool) -> None:
    net, other, x = Transformer(way, token).double().eval(), Transformer(token=token).double().eval(), pictures()
    other.load_state_dict(net.state_dict())
    assert torch.allclose(net(x), other(x), atol=1e-12)
    for method in METHODS:
        one, two = (quietly(n, x, [[0, 1], [3, 2]], method=method) for n in (net, other))
        assert torch.allclose(one.maps, two.maps, atol=1e-12) and torch.allclose(one.outputs, net(x), atol=1e-12)
        with torch.inference_mode():
            assert torch.equal(quietly(net, x, [[0, 1], [3, 2]], method=method).maps, one.maps)


def test_uniform_attention_gives_a_uniform_map() -> None:
    net, x = Transformer(extra=1).double().eval(), pictures()
    with torch.no_grad():
        for mixer in net.mixers:
            mixer.all.in_proj_weight[:16], mixer.all.in_proj_bias[:16] = 0, 0
    raw, roll = (quietly(net, x, 1, method=method).maps for method in ("raw_attention", "rollout"))
    assert torch.allclose(raw, torch.full_like(raw, 1 / 8), atol=1e-12)  # six places and two tokens before them
    one = torch.full((8, 8), 1 / 16) + torch.eye(8) / 2
    assert torch.allclose(roll, torch.linalg.matrix_power(one.double(), 3)[0, 7].expand_as(roll), atol=1e-12)


def test_one_layer_is_its_raw_attention() -> None:
    net, x = Transformer(depth=1).double().eval(), pictures()
    raw = quietly(net, x, 1, method="raw_attention").maps
    assert torch.allclose(quietly(net, x, 1, method=Rollout(skip=0)).maps, raw, atol=1e-12)
    assert torch.allclose(quietly(net, x, 1, method="rollout").maps, raw / 2, atol=1e-12)
    layers, gradients = attention(net, x, 1)
    small = torch.as_tensor(layers[0] * gradients[0]).clamp_min(0).mean(1)[:, 0, 1:]
    assert torch.allclose(quietly(net, x, 1, method="gradient_attention").maps[:, 0], large(small), atol=1e-12)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(tokens=st.integers(1, 4), heads=st.integers(1, 3), depth=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_twin_over_drawn_matrices(tokens: int, heads: int, depth: int, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    shape = (1, heads, tokens, tokens)
    layers = [torch.rand(shape, generator=drawn, dtype=torch.float64) for _ in range(depth)]
    gradients = [torch.randn(shape, generator=drawn, dtype=torch.float64) for _ in range(depth)]
    twin = reference.gradient_attention([a[0].numpy() for a in layers], [g[0].numpy() for g in gradients])
    assert np.allclose(_relevance(layers, gradients)[0], twin, atol=1e-12)
    if depth > 1 and tokens > 1 and heads > 1:  # planted: cut after the mean over heads, and layers in the other order
        wrong = torch.eye(tokens, dtype=torch.float64)
        for shares, gradient in zip(layers[::-1], gradients[::-1], strict=True):
            wrong = wrong + (shares * gradient).mean(1)[0].clamp_min(0) @ wrong
        assert not np.allclose(wrong - torch.eye(tokens), twin, atol=1e-6)


def test_it_warns_that_targets_make_no_difference() -> None:
    net, x = Transformer().double().eval(), pictures()
    for method in METHODS[:2]:
        with pytest.warns(ExplanationWarning, match="same map") as caught:
            found = torchbcos.attribute(net, x, [[0, 1], [2, 3]], method=method, batch_size=1)
        assert len(caught) == 1 and len(str(caught[0].message)) <= 500
        assert found.passes <= 2 and torch.equal(found.maps[:, 0], found.maps[:, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = torchbcos.attribute(net, x, [[0, 1], [2, 3]], method="gradient_attention")
    assert found.passes == 3 and not torch.allclose(found.maps[:, 0], found.maps[:, 1])


@pytest.mark.parametrize("method", METHODS)
def test_one_image_or_many_one_target_or_many(method: str) -> None:
    net, x = Transformer("fused").double().eval(), pictures(3)
    targets = torch.tensor([[0, 1, 3], [3, 2, 1], [0, 0, 2]])
    runs: list[int] = []
    handle = net.register_forward_hook(lambda *_: runs.append(1))
    whole = quietly(net, x, targets, method=method)
    handle.remove()
    assert len(runs) == 1 and whole.passes == (4 if method == "gradient_attention" else 1)
    for size in (1, 2):
        assert torch.allclose(quietly(net, x, targets, method=method, batch_size=size).maps, whole.maps, atol=1e-12)
    one = quietly(net, x[1:2], [[2]], method=method)
    assert torch.allclose(one.maps[0, 0], whole.maps[1, 1], atol=1e-12)


def state(net: nn.Module) -> tuple[object, ...]:
    return (
        [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()],
        [m.training for m in net.modules()], [p.grad for p in net.parameters()], [p.requires_grad for p in net.parameters()],
        torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.overrides._get_current_function_mode_stack(),
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_behind(method: str) -> None:
    net, x = Transformer("module without weights").double().eval(), pictures()
    before = state(net)
    quietly(net, x, 1, method=method)
    with pytest.raises(InputError):
        quietly(net, x, 9, method=method)
    broken = nn.Sequential(net, nn.Flatten(5)).eval()
    with pytest.raises(IndexError):
        quietly(broken, x, 0, method=method)
    assert state(net) == before
    stuck = Transformer().double().eval()
    stuck.norms[-1] = nn.Sequential(stuck.norms[-1], Sticks())
    with pytest.raises(RuntimeError, match="stuck") as caught:  # whoever keeps the error keeps its frames, too
        quietly(stuck, x, 0, method="gradient_attention")
    assert caught.value is not None and torch.is_grad_enabled() and state(net) == before


class Stuck(torch.autograd.Function):
    """Raises in its backward."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        raise RuntimeError("stuck")


class Sticks(nn.Module):
    """A layer without a derivative that works."""

    def forward(self, x: Tensor) -> Tensor:
        return Stuck.apply(x)


def test_another_thread_attends_as_ever() -> None:
    net, x, found = Transformer("fused").double().eval(), pictures(), []
    whole = quietly(net, x, 1, method="rollout").maps

    def other() -> None:
        for _ in range(5):
            found.append(net(x + 1))

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(5):
        assert torch.equal(quietly(net, x, 1, method="rollout").maps, whole)
    thread.join()
    assert all(torch.equal(one, net(x + 1)) for one in found)


def small(plain: bool) -> ViT:
    torch.manual_seed(0)
    style = STYLES["simple_vit_ti_patch16_224"]
    sizes = ViTSizes(dim=8, heads=2, mlp=8, depth=2, patch=4, head_dim=4)
    return ViT(sizes, style.as_plain("gelu") if plain else style, num_classes=5, in_channels=3 if plain else 6)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("twin", [False, True])
def test_transformers_of_this_library(plain: bool, twin: bool) -> None:
    net = small(plain).eval()
    x = pictures().float()
    x = x if plain else torch.cat([x, 1 - x], 1)
    if twin:
        net = torchbcos.deploy(net)
    q, k = [], []
    tokens = net.positional_embedding(net.to_patch_embedding(x))
    for encoder in net.transformer:
        parts = encoder.attn.to_qkv(encoder.attn.norm(tokens)).flatten(1, 2).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        q.append(parts[0]), k.append(parts[1])
        tokens = encoder(tokens)
    shares = [(a @ b.transpose(-2, -1) / 2).softmax(-1).mean(1).detach() for a, b in zip(q, k, strict=True)]
    raw, roll = (quietly(net, x, 1, method=method).maps[:, 0] for method in METHODS[:2][::-1])
    assert torch.allclose(raw, large(shares[-1].mean(1)), atol=1e-6)
    flow = (shares[1] + torch.eye(6)) @ (shares[0] + torch.eye(6)) / 4
    assert torch.allclose(roll, large(flow.mean(1)), atol=1e-6)
    found = quietly(net, x, [[0, 1], [2, 3]], method="gradient_attention")
    assert not torch.allclose(found.maps[:, 0], found.maps[:, 1], rtol=1e-3) and float(found.maps.min()) >= 0


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "vit_medium_patch16_reg4_gap_256"])
def test_timm(name: str) -> None:
    torch.manual_seed(0)
    options = {"img_size": (32, 48), "depth": 2, "embed_dim": 16, "num_heads": 2, "num_classes": 5}
    net = timm.create_model(name, **options).double().eval()
    x = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    fused = [quietly(net, x, [[0, 1], [2, 3]], method=method).maps for method in METHODS]
    for block in net.blocks:
        block.attn.fused_attn = False
    for method, maps in zip(METHODS, fused, strict=True):
        assert torch.allclose(quietly(net, x, [[0, 1], [2, 3]], method=method).maps, maps, atol=1e-9)
        assert maps.shape == (2, 2, 32, 48) and bool((maps.amax((2, 3)) > maps.amin((2, 3))).all())


def test_torchvision() -> None:
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(32, 16, 2, 2, 16, 16, num_classes=5).double().eval()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    assert not bool(net.heads.head.weight.any())  # a fresh one has a classifier of zeros, which says nothing of what it reads
    flat = quietly(net, x, [[0, 1], [2, 3]], method="raw_attention").maps
    nn.init.normal_(net.heads.head.weight)
    assert torch.equal(quietly(net, x, [[0, 1], [2, 3]], method="raw_attention").maps, flat)
    shares = []
    for i, block in enumerate(net.encoder.layers):
        tokens = block.ln_1(_before(net, x, i))
        shares.append(block.self_attention(tokens, tokens, tokens, need_weights=True)[1].detach())
    row = shares[-1][:, 0, 1:].reshape(2, 1, 2, 2)
    assert torch.allclose(flat[:, :1], F.interpolate(row, (32, 32), mode="bilinear"), atol=1e-9)


def _before(net: nn.Module, x: Tensor, i: int) -> Tensor:
    tokens = net._process_input(x)
    tokens = torch.cat([net.class_token.expand(len(x), -1, -1), tokens], 1) + net.encoder.pos_embedding
    return net.encoder.layers[:i](tokens)


@pytest.mark.parametrize("token", [True, False])
def test_tokens_before_images(token: bool) -> None:
    """As `torch.nn.TransformerEncoder` has them by default, and with its shortcuts for inference."""

    class Net(nn.Module):
        def __init__(self, first: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=not first)
            self.patch, self.encoder = nn.Conv2d(3, 8, 4, 4), nn.TransformerEncoder(layer, 2)
            self.token, self.head, self.first = nn.Parameter(torch.randn(1, int(token), 8)), nn.Linear(8, 4), first

        def forward(self, x: Tensor) -> Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
            x = self.encoder(x.transpose(0, 1)).transpose(0, 1) if self.first else self.encoder(x)
            return self.head(x[:, 0] if token else x.mean(1))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of nested tensors
        nets = [Net(first).double().eval() for first in (False, True)]
    x = pictures()
    for method in METHODS:
        for given_x in (x, x[:1]):
            one, two = (quietly(net, given_x, [[0, 1]] * len(given_x), method=method).maps for net in nets)
            assert torch.allclose(one, two, atol=1e-12) and bool(one.any())


class Channels(nn.Module):
    """Attention over channels, as XCiT's."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.linear, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(self.patch(x).flatten(2).transpose(1, 2))
        x = x @ (x.transpose(1, 2) @ x).softmax(-1)
        return self.head(x.mean(1))


def test_networks_whose_attention_cannot_be_followed() -> None:
    swin = torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=5)
    fewer = nn.Sequential(nn.Conv2d(3, 8, 4, 4), Pools(), nn.Linear(8, 4))
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3), torchbcos.nn.GlobalAveragePool(), nn.Softmax(-1))
    for net, size, words in [
        (swin, (32, 48), "windows"), (cnn, (9, 9), "no attention"), (Channels(), (8, 12), "channels"),
        (fewer, (8, 12), "1 over 6"),
    ]:  # fmt: skip
        for method in METHODS:
            with pytest.raises(StateError, match=words) as caught:
                torchbcos.attribute(net.eval(), torch.rand(2, 3, *size), 0, method=method)
            assert len(str(caught.value)) <= 500
    with pytest.raises(InputError, match="live"):
        torchbcos.attribute(Transformer().eval(), pictures().float(), 0, method="gradient_attention", scales="frozen")
    for method, words in [
        (Rollout(heads="median"), "heads"), (Rollout(skip=1.0), "skip"), (RawAttention(layer=3), "from -3 to 2"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=words):
            torchbcos.attribute(Transformer().eval(), pictures().float(), 0, method=method)


class Pools(nn.Module):
    """One query over all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(x.mean(1, keepdim=True), x, x)[:, 0]


@pytest.mark.parametrize("method", ["gradient_attention", "guided_backprop"])
def test_a_call_inside_a_hook_of_another_changes_nothing(method: str) -> None:
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(16, 8, 2, 2, 16, 16, num_classes=4).eval()
    net.heads = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    inner = torchvision.models.VisionTransformer(16, 8, 1, 2, 16, 16, num_classes=4).eval()
    x = torch.rand(1, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplanationWarning)
        usual = torchbcos.attribute(net, x, 1, method=method).maps
        net.encoder.register_forward_hook(lambda *_: torchbcos.attribute(inner, x, 1, method=method) and None)
        assert torch.equal(torchbcos.attribute(net, x, 1, method=method).maps, usual)
