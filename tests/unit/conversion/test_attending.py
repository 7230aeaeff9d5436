"""Attention modules of ours beside those whose place they take: the same function where B is 1 and biases are kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchbcos
from torchbcos import bcosify
from torchbcos._core.errors import InputError
from torchbcos.conversion import apply_steps, steps_from
from torchbcos.conversion.attending import MultiheadAttention, PooledAttention, WindowAttention, fits_multihead
from torchbcos.conversion.checking import kind_of
from torchbcos.conversion.replacing import replacement
from torchbcos.conversion.steps import Step
from torchbcos.functional import add_inverse

PLAIN: dict[str, Any] = {"biases": "keep", "out": {"b": 1.0}}
PIXELS = torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def alive(module: nn.Module) -> nn.Module:
    """In float64 and eval mode, with weights and biases that matter."""
    module, generator = module.double().eval().requires_grad_(False), torch.Generator().manual_seed(0)
    for t in module.parameters():
        t.normal_(0.0, 0.5, generator=generator)
    return module


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def near(ours: Tensor, theirs: Tensor) -> bool:
    largest = float(theirs.nan_to_num().abs().max())
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=1e-12 * largest, equal_nan=True)


def twin(old: nn.Module, kind: str, ours: type[nn.Module]) -> nn.Module:
    made = replacement(old, Step("it", kind, PLAIN))
    assert type(made) is ours and not made.training
    return made


# -- torch.nn.MultiheadAttention --------------------------------------------------------------------------------------------

_ALLOWED = torch.ones(5, 7).tril(2).bool()
_LATE = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
MASKS: dict[str, dict[str, Tensor]] = {
    "none": {},
    "bool": {"attn_mask": ~_ALLOWED},
    "float": {"attn_mask": drawn(5, 7)},
    "a mask a head": {"attn_mask": drawn(2 * 4, 5, 7)},
    "padding": {"key_padding_mask": _LATE},
    "padding as numbers": {"key_padding_mask": _LATE.double() * -3},
    "both": {"attn_mask": ~_ALLOWED, "key_padding_mask": _LATE},
    "both as numbers": {"attn_mask": drawn(2 * 4, 5, 7), "key_padding_mask": _LATE.double() * -3},
}


@pytest.mark.parametrize("weights", [{"need_weights": False}, {}, {"average_attn_weights": False}])
@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention(batch_first: bool, masks: str, weights: dict[str, bool]) -> None:
    old = alive(nn.MultiheadAttention(8, 4, batch_first=batch_first, bias=masks != "float"))
    new = twin(old, "multihead", MultiheadAttention)
    shapes = [(2, t, 8) if batch_first else (t, 2, 8) for t in (5, 7, 7)]
    query, key, value = (drawn(*shape) + i for i, shape in enumerate(shapes))
    theirs, ours = (module(query, key, value, **MASKS[masks], **weights) for module in (old, new))
    assert near(ours[0], theirs[0])
    assert ours[1] is None if theirs[1] is None else near(ours[1], theirs[1])


@pytest.mark.parametrize("batch_first", [False, True])
def test_multihead_attention_of_one_example(batch_first: bool) -> None:
    old = alive(nn.MultiheadAttention(8, 4, batch_first=batch_first))
    new = twin(old, "multihead", MultiheadAttention)
    x = drawn(5, 8)
    for options in ({}, {"key_padding_mask": torch.tensor([False] * 3 + [True] * 2)}, {"need_weights": False}):
        theirs, ours = old(x, x, x, **options), new(x, x, x, **options)
        assert near(ours[0], theirs[0]) and (theirs[1] is None) == (ours[1] is None)
        assert theirs[1] is None or near(ours[1], theirs[1])


@pytest.mark.parametrize("bias", [False, True])
def test_multihead_attention_whose_keys_and_values_have_sizes_of_their_own(bias: bool) -> None:
    old = alive(nn.MultiheadAttention(8, 4, kdim=3, vdim=6, bias=bias))
    new = twin(old, "multihead", MultiheadAttention)
    theirs, ours = (module(drawn(5, 2, 8), drawn(7, 2, 3), drawn(7, 2, 6)) for module in (old, new))
    assert near(ours[0], theirs[0]) and near(ours[1], theirs[1])


def test_a_causal_hint_needs_its_mask_as_in_torch() -> None:
    old = alive(nn.MultiheadAttention(8, 4))
    new, x = twin(old, "multihead", MultiheadAttention), drawn(5, 2, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    theirs, ours = (m(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0] for m in (old, new))
    assert near(ours, theirs)
    with pytest.raises(InputError, match="needs attn_mask"):
        new(x, x, x, is_causal=True)


def test_its_dropout_drops_in_training_mode_alone() -> None:
    old = alive(nn.MultiheadAttention(8, 4, dropout=0.5))
    new, x = twin(old, "multihead", MultiheadAttention), drawn(5, 2, 8)
    for needed in (True, False):
        assert torch.equal(new(x, x, x, need_weights=needed)[0], new(x, x, x, need_weights=needed)[0])
        new.train()
        assert not torch.equal(new(x, x, x, need_weights=needed)[0], new(x, x, x, need_weights=needed)[0])
        new.eval()


@pytest.mark.parametrize(
    ("fits", "options"),
    [(True, {}), (True, {"bias": False}), (True, {"kdim": 4}), (False, {"add_bias_kv": True}), (False, {"add_zero_attn": True})],
)
def test_which_multihead_attention_fits(fits: bool, options: dict[str, Any]) -> None:
    assert fits_multihead(nn.MultiheadAttention(8, 2, **options)) is fits


class Queries(nn.Module):
    """Torch's encoder, with a mask, and its decoder, whose queries are learned; tokens come first."""

    def __init__(self, norm_first: bool, batch_first: bool) -> None:
        super().__init__()
        options: dict[str, Any] = {"norm_first": norm_first, "batch_first": batch_first}
        self.patch, self.query_token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(2, 1, 8))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, **options), 2, enable_nested_tensor=False)
        self.decoder, self.head = nn.TransformerDecoderLayer(8, 2, 16, **options), nn.Linear(8, 3)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).permute(2, 0, 1)
        asked = self.query_token.expand(-1, len(x), -1)
        if self.batch_first:
            tokens, asked = tokens.transpose(0, 1), asked.transpose(0, 1)
        mask = torch.ones(16, 16, dtype=torch.bool, device=x.device).triu(5)
        found = self.decoder(asked, self.encoder(tokens, mask=mask))
        out: Tensor = self.head(found.mean(1 if self.batch_first else 0))
        return out


@pytest.mark.parametrize(("norm_first", "batch_first"), [(False, True), (True, False)])
def test_transformers_of_torch(norm_first: bool, batch_first: bool) -> None:
    network = alive(Queries(norm_first, batch_first))
    model, report = bcosify(network, b=1, biases="keep", example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert report.kept <= 1e-12 and not report.never_ran and not report.elsewhere
    # the queries ask each other before they see a picture: that depends on none
    asking = {path for path, m in model.named_modules() if isinstance(m, MultiheadAttention)}
    assert asking == {"encoder.layers.0.self_attn", "encoder.layers.1.self_attn", "decoder.multihead_attn"}
    model, report = bcosify(network, b=1, example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert set(report.constants) <= {"query_token", "decoder.added"} and not report.zeroed and report.residual <= 1e-10
    e = torchbcos.explain(model, add_inverse(PIXELS))
    with torch.no_grad():  # where torch's layers go past their modules
        assert torch.allclose(model(add_inverse(PIXELS)), e.outputs, atol=1e-10)


# -- torchvision's windows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("sides", [(8, 8), (10, 7), (4, 12), (3, 3)])
def test_window_attention(second: bool, shift: int, sides: tuple[int, int]) -> None:
    """Windows that tile the picture, that need padding, and that are as large as it is, where nothing is shifted."""
    swin = pytest.importorskip("torchvision").models.swin_transformer
    family = swin.ShiftedWindowAttentionV2 if second else swin.ShiftedWindowAttention
    old = alive(family(8, [4, 4], [shift, shift], 2))
    new = twin(old, "windows", WindowAttention)
    assert near(new(drawn(2, *sides, 8)), old(drawn(2, *sides, 8)))


def test_what_pads_a_window_is_asked_and_answers_as_in_torchvision() -> None:
    """A bias gives padded tokens keys and values: a conversion that left them out would differ."""
    swin = pytest.importorskip("torchvision").models.swin_transformer
    old = alive(swin.ShiftedWindowAttention(8, [4, 4], [0, 0], 2))
    x = drawn(1, 3, 3, 8)
    before = old(x)
    old.qkv.bias.zero_()
    assert not torch.allclose(before, old(x))
    assert near(twin(old, "windows", WindowAttention)(x), old(x))


# -- CLIP's pool ------------------------------------------------------------------------------------------------------------


class AttentionPool2d(nn.Module):
    """As CLIP has it (Radford et al. 2021): four linear layers whose weights a function takes."""

    def __init__(self, side: int, dim: int, heads: int, out: int) -> None:
        super().__init__()
        self.positional_embedding, self.num_heads = nn.Parameter(torch.zeros(side * side + 1, dim)), heads
        self.q_proj, self.k_proj, self.v_proj, self.c_proj = (nn.Linear(dim, n) for n in (dim, dim, dim, out))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(0, keepdim=True), x], 0) + self.positional_embedding[:, None]
        bias = torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias])
        found, _ = F.multi_head_attention_forward(
            query=x[:1], key=x, value=x, embed_dim_to_check=x.shape[-1], num_heads=self.num_heads,
            q_proj_weight=self.q_proj.weight, k_proj_weight=self.k_proj.weight, v_proj_weight=self.v_proj.weight,
            in_proj_weight=None, in_proj_bias=bias, bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0,
            out_proj_weight=self.c_proj.weight, out_proj_bias=self.c_proj.bias, use_separate_proj_weight=True,
            training=False, need_weights=False,
        )  # fmt: skip
        return found.squeeze(0)


def test_pooled_attention() -> None:
    old = alive(AttentionPool2d(3, 8, 2, 5))
    assert near(twin(old, "pooling", PooledAttention)(drawn(2, 8, 3, 3)), old(drawn(2, 8, 3, 3)))
    network = alive(nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), AttentionPool2d(2, 8, 2, 5)))
    _, report = bcosify(network, b=1, biases="keep", example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert report.kept <= 1e-12 and "attention" in {line.became for line in report.lines}
    _, report = bcosify(network, b=1, example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert list(report.kinds) == ["position"] and report.residual <= 1e-10


# -- biases that a module adds to a linear layer ----------------------------------------------------------------------------


class OwnBiases(nn.Module):
    """As BEiT, EVA and Swin V2 have it in timm: the layer's forward never runs, or runs and is added to."""

    def __init__(self, separate: bool) -> None:
        super().__init__()
        self.qkv, self.proj, self.separate = nn.Linear(8, 24, bias=False), nn.Linear(8, 8), separate
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(8)), nn.Parameter(torch.zeros(8))
        self.register_buffer("k_bias", torch.zeros(8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.q_bias is None:
            y = self.qkv(x)
        else:
            bias = torch.cat([self.q_bias, self.k_bias, self.v_bias])  # type: ignore[list-item]
            y = self.qkv(x) + bias if self.separate else F.linear(x, weight=self.qkv.weight, bias=bias)
        q, k, v = y.chunk(3, -1)
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v))
        return out


class Beit(nn.Module):
    def __init__(self, separate: bool) -> None:
        super().__init__()
        self.patch, self.attn, self.head = nn.Conv2d(3, 8, 4, 4), OwnBiases(separate), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.attn(self.patch(x).flatten(2).transpose(1, 2)).mean(1))
        return out


@pytest.mark.parametrize("separate", [False, True])
def test_biases_that_a_module_adds_become_those_of_the_layer(separate: bool) -> None:
    network = alive(Beit(separate))
    for biases in ("keep", "norm"):
        model, report = bcosify(network, b=1, biases=biases, example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
        assert not report.zeroed and not report.elsewhere and report.residual <= 1e-10
        assert (report.kept <= 1e-12) if biases == "keep" else not report.constants
        assert model.get_parameter("attn.qkv.bias").shape == (24,) and model.get_submodule("attn").q_bias is None
    again = apply_steps(Beit(separate).double().eval(), steps_from(json.loads(json.dumps(report.to_dict()["steps"]))))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(add_inverse(PIXELS)), model(add_inverse(PIXELS)))
    plain, _ = bcosify(network, b=1, biases="norm", calibrate=False, example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    wanted = torch.cat([network.attn.q_bias, network.attn.k_bias, network.attn.v_bias])  # type: ignore[union-attr, list-item]
    assert torch.equal(plain.get_parameter("attn.qkv.bias").detach(), wanted)


# -- one module, or one weight, in two places --------------------------------------------------------------------------------


class Shared(nn.Module):
    """A module under two names, and two modules that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.third = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.second, self.third.weight, self.head = self.first, self.first.weight, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.stem, self.first, self.second, self.third):
            x = F.relu(layer(x))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def test_what_stands_in_two_places_is_converted_in_both() -> None:
    network = alive(Shared())
    model, report = bcosify(network, b=1, biases="keep", example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert report.kept <= 1e-12 and not report.elsewhere
    assert model.get_submodule("first") is model.get_submodule("second")
    model, report = bcosify(network, b=2, example=PIXELS, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert not report.constants and not any(type(m) is nn.Conv2d for m in model.modules())


def test_an_input_that_passes_through_dropout_still_finds_its_first_layer() -> None:
    network = alive(nn.Sequential(nn.Dropout(0.1), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)))
    _, report = bcosify(network, b=1, example=PIXELS, mean=(0.4,) * 3, std=(0.2,) * 3)
    assert report.lines[0].role == "stem" and not report.constants


def test_an_input_that_is_read_twice_is_taken_back_without_a_constant() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(torch.cat([self.one(x), self.two(x)], 1).relu().mean((2, 3)))
            return out

    network = alive(Twice())
    _, report = bcosify(network, b=1, biases="keep", example=PIXELS, mean=(0.4,) * 3, std=(0.2,) * 3)
    assert report.kept <= 1e-12 and list(report.kinds) == ["bias"] and min(line.constant for line in report.lines) > 0
    _, report = bcosify(network, b=1, example=PIXELS, mean=(0.4,) * 3, std=(0.2,) * 3)
    assert not report.constants and report.residual <= 1e-10


# -- what a constant is called ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pos_embed", "position"), ("pixel_pos", "position"), ("encoder.pos_embedding", "position"),
        ("embeddings.position_embeddings.weight", "position"), ("pos_embed (added)", "position"), ("cls_token", "token"),
        ("dist_token", "token"), ("head_dist.bias", "bias"), ("blocks.0.token_mixer.bias", "bias"), ("post_norm.shift", "bias"),
        ("pos_block.0.proj.bias", "bias"), ("blocks.0.token_mixer.running_mean", "bias"), ("added", "bias"),
    ],
)  # fmt: skip
def test_the_kind_of_a_constant_is_read_from_its_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


class Places(nn.Module):
    """Positions that a module makes, and an offset of its own, which nothing takes over."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.pos, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(1, 8), nn.Linear(8, 3)
        self.offset, self.pos_drop = nn.Parameter(torch.zeros(8)), nn.Dropout(0.1)
        self.second = nn.Conv2d(3, 8, 4, 4)  # so that the input is read twice

    def forward(self, x: Tensor) -> Tensor:
        tokens = (self.patch(x) + self.second(x)).flatten(2).transpose(1, 2)
        tokens = tokens + self.pos(torch.linspace(-1, 1, 16).to(x)[:, None]).tanh() + self.offset
        out: Tensor = self.head(tokens.mean(1))
        return out


def test_positions_that_a_module_makes_are_named_after_it_and_an_offset_is_dropped() -> None:
    _, report = bcosify(alive(Places()), b=1, example=PIXELS, mean=(0.4,) * 3, std=(0.2,) * 3)
    assert list(report.constants) == ["network.pos (added)"] and list(report.kinds) == ["position"]
    assert report.zeroed == ("offset",)
