"""Planted layers of other libraries: attention of torch.nn, linear maps in disguise, and the layers of the package `bcos`."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.kinds.planting import Case, twins

__all__ = ["LAYERS", "official_cases"]


def tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H·W, C)."""
    return x.flatten(2).transpose(1, 2)


def back(t: Tensor, x: Tensor) -> Tensor:
    """Tokens in the shape of the picture."""
    return t.transpose(1, 2).reshape(x.shape)


class _Attention(nn.Module):
    """`nn.MultiheadAttention` of the pixels to each other, as it is called in many ways."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(8, 2, batch_first=True), weights

    def forward(self, x: Tensor) -> Tensor:
        t = tokens(x)
        return back(self.attention(t, t, t, need_weights=self.weights)[0], x)


def attended(a: nn.MultiheadAttention, t: Tensor) -> Tensor:
    """Attention of tokens (N, T, C) to each other with its queries and keys held."""
    n, count, width = t.shape
    q, k, v = F.linear(t, a.in_proj_weight, a.in_proj_bias).view(n, count, 3, a.num_heads, -1).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1).detach()
    out: Tensor = a.out_proj((weights @ v).transpose(1, 2).reshape(n, count, width))
    return out


def _attention_held(m: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(m, _Attention)
    return back(attended(m.attention, tokens(x)), x)


class _Encoder(nn.Module):
    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", norm_first=norm_first, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return back(self.layer(tokens(x)), x)


def normed(norm: nn.Module, t: Tensor) -> Tensor:
    """Layer norm with its spread held."""
    assert isinstance(norm, nn.LayerNorm)
    centred = t - t.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt().detach() * norm.weight + norm.bias


def _encoder_held(m: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(m, _Encoder)
    layer, t = m.layer, tokens(x)

    def mixed(t: Tensor) -> Tensor:
        h = layer.linear1(t)
        out: Tensor = layer.linear2(h * (0.5 * (1 + torch.erf(h / 2**0.5))).detach())
        return out

    if layer.norm_first:
        t = t + attended(layer.self_attn, normed(layer.norm1, t))
        return back(t + mixed(normed(layer.norm2, t)), x)
    t = normed(layer.norm1, t + attended(layer.self_attn, t))
    return back(normed(layer.norm2, t + mixed(t)), x)


def _sdpa(x: Tensor) -> Tensor:
    return back(F.scaled_dot_product_attention(tokens(x), tokens(x).roll(1, -1), tokens(x)), x)


def _sdpa_held(x: Tensor) -> Tensor:
    t = tokens(x)
    return back((t @ t.roll(1, -1).transpose(1, 2) / 8**0.5).softmax(-1).detach() @ t, x)


def _biased(x: Tensor) -> Tensor:
    t = tokens(x)
    return back(F.scaled_dot_product_attention(t.detach(), t.detach(), t, attn_mask=t @ t.transpose(1, 2) * 0.1), x)


def _biased_held(x: Tensor) -> Tensor:
    t = tokens(x)
    s = t @ t.transpose(1, 2)
    return back((s / 8**0.5 + 0.1 * s).softmax(-1).detach() @ t, x)


def _spectrum(x: Tensor) -> Tensor:
    filters = torch.linspace(1, 2, 24).view(6, 4)
    return torch.fft.irfft2(torch.fft.rfft2(x) * filters, s=(6, 6))


_MASK = torch.arange(288).view(8, 6, 6) % 3 == 0
_LINEAR = {  # nothing is held: these are linear maps, and either answer is honest
    "a filter of the spectrum": _spectrum,
    "real part of the spectrum": lambda x: torch.fft.fft2(x).real / 6,
    "rotary, by complex numbers": lambda x: (
        torch.view_as_real(
            torch.view_as_complex(x.unflatten(1, (4, 2)).movedim(2, -1).contiguous())
            * torch.polar(torch.ones(6), torch.arange(6.0))
        )
        .movedim(-1, 2)
        .flatten(1, 2)
    ),
    "cumsum": lambda x: x.cumsum(2) / 6,
    "diff": lambda x: x.diff(dim=3),
    "a triangle": lambda x: x.tril(),
    "a kronecker product": lambda x: torch.kron(x, torch.tensor([[0.5, 1.0]])),
    "a sparse product": lambda x: torch.stack([torch.sparse.mm(torch.eye(8).to_sparse(), t.flatten(1)).view(8, 6, 6) for t in x]),
    "written by a mask": lambda x: torch.zeros_like(x).masked_scatter(_MASK.expand(2, 8, 6, 6), x),
    "written by setitem": lambda x: _written(x),
    "copied into a fresh tensor": lambda x: torch.zeros_like(x).copy_(x),
    "a product with a detached constant": lambda x: x * torch.ones(6).detach() * 0.7,
    "there and back to float32's grid": lambda x: x.mul(2).div_(4),
    "a lone choice of rows": lambda x: x[:, torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])],
    "index_add": lambda x: torch.zeros_like(x).index_add(1, torch.tensor([0, 1, 2, 3, 3, 2, 1, 0]), x),
    "pixel_unshuffle and back": lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2),
    "upsampled": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "reflected": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "trapezoid": lambda x: torch.trapezoid(x, dim=3).unsqueeze(3),
    "tensordot": lambda x: torch.tensordot(x, torch.eye(8)[:4].repeat(2, 1), ([1], [0])).movedim(-1, 1),
    "a jvp along the signal": lambda x: torch.func.jvp(lambda t: 3 * t, (torch.zeros_like(x),), (x,))[1],
}


def _written(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, ::2] = x[:, 1::2]
    y[:, 1::2] = -x[:, ::2]
    return y


LAYERS: list[Case] = [
    Case("nn.MultiheadAttention", lambda: _Attention(False), _attention_held, ("attention",), constants=True, expect="explained"),
    Case(
        "nn.MultiheadAttention with weights",
        lambda: _Attention(True),
        _attention_held,
        ("attention",),
        constants=True,
        expect="explained",
    ),
    Case("nn.TransformerEncoderLayer", lambda: _Encoder(True), _encoder_held, ("attention",), constants=True, expect="explained"),
    Case(
        "nn.TransformerEncoderLayer, norm last",
        lambda: _Encoder(False),
        _encoder_held,
        ("attention",),
        constants=True,
        expect="explained",
    ),
    *twins({"scaled_dot_product_attention": _sdpa}, _sdpa_held, "attention", expect="explained"),
    *twins({"attention with a moving mask": _biased}, _biased_held, "attention"),
    *(c for name, f in _LINEAR.items() for c in twins({name: f}, f, "")),
]


def official_cases() -> list[Case]:
    """Layers of the package `bcos`, whose twins run in its own explanation mode; the package is imported."""
    modules, common = importlib.import_module("bcos.modules"), importlib.import_module("bcos.common")

    def held(m: nn.Module, x: Tensor) -> Tensor:
        with common.explanation_mode(m):
            out: Tensor = m(x)
        return out

    makers: dict[str, Callable[[], nn.Module]] = {
        "bcos.BcosConv2d": lambda: modules.BcosConv2d(8, 8, 3, padding=1),
        "bcos.BcosConv2d, b = 1.5": lambda: modules.BcosConv2d(8, 8, 3, padding=1, b=1.5),
        "bcos.BcosConv2d, two maps": lambda: modules.BcosConv2d(8, 8, 3, padding=1, max_out=2),
        "bcos.BcosLinear": lambda: _PixelLinear(modules.BcosLinear(8, 8)),
        "bcos.AllNormUncentered2d": lambda: modules.AllNormUncentered2d(8),
        "bcos.BatchNormUncentered2d": lambda: modules.BatchNormUncentered2d(8),
        "bcos.DetachableLayerNorm": lambda: modules.DetachableLayerNorm(6),
        "bcos.PositionNormUncentered2d": lambda: modules.PositionNormUncentered2d(8),
    }
    return [Case(name, make, held, ("bcos",), constants=True) for name, make in makers.items()]


class _PixelLinear(nn.Module):
    """A layer of tokens at every pixel."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return back(self.layer(tokens(x)), x)
