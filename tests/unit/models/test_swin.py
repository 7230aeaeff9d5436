"""B-cos aligned transformers: every linear map is a B-cos layer, any size and window is exact; plain twins have usual sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError
from torchbcos.models import Network, Swin, ViT, build
from torchbcos.models.swin import SwinSizes

ALIGNED = ["bvt_tiny_patch8", "bvt_tiny_patch16", "bvt_small_patch8", "bvt_small_patch16", "bwin_tiny"]


def bare(name: str, **options: object) -> Network:
    """A network without memory for its weights."""
    with torch.device("meta"):
        return build(name, **options)


@pytest.mark.parametrize("name", ALIGNED)
def test_every_linear_map_is_a_bcos_layer_and_nothing_is_an_activation(name: str) -> None:
    model = bare(name)
    maps = {path for path, m in model.named_modules() if isinstance(m, bnn.BcosLinear)}
    weights = {path.rpartition(".")[0] for path, p in model.named_parameters() if p.dim() > 1 and "relative_position" not in path}
    assert maps == weights and {(m.b, m.max_out) for m in model.modules() if isinstance(m, bnn.BcosLinear)} == {(2, 2)}
    kinds = ("to_qkv", "to_out", "linear1", "linear2")
    blocks = sum(isinstance(m, bnn.Attention) for m in model.modules())
    assert all(sum(path.endswith(kind) for path in maps) == blocks for kind in kinds)
    ends = (
        {"to_patch_embedding.linear", "linear_head.linear"}
        if isinstance(model, ViT)
        else {"patches.linear", "head_layers.linear"}
    )
    merging = 0 if isinstance(model, ViT) else 3
    assert ends <= maps and len(maps) == 4 * blocks + 2 + merging
    known = (bnn.BcosLinear, bnn.TokenNorm, bnn.Attention, bnn.SinCosPosition2d, bnn.Logits, nn.Sequential, nn.Identity)
    others = {type(m).__name__ for m in model.modules() if not isinstance(m, known)}
    assert others <= {"ViT", "Swin", "Encoder", "SwinBlock", "FeedForward", "Patches", "Merge", "StochasticDepth"}
    assert not any(isinstance(m, nn.ReLU | nn.GELU | bnn.ReLU | bnn.GELU | nn.Linear) for m in model.modules())
    assert [m.bias for m in model.modules() if isinstance(m, bnn.TokenNorm)] == [None] * (2 * blocks + 2 + merging)


def test_the_walk_can_fail() -> None:
    model = bare("bvt_tiny_patch16", qkv="linear")
    assert sum(isinstance(m, nn.Linear) for m in model.modules()) == 12


@pytest.mark.parametrize("name", ALIGNED)
def test_plain_twins_have_the_papers_sizes(name: str) -> None:
    plain = bare(name.replace("bvt", "vit").replace("bwin", "swin"))
    assert plain.plain and not any(isinstance(m, bnn.BcosLinear) for m in plain.modules())
    assert any(isinstance(m, bnn.GELU) for m in plain.modules())
    count = sum(p.numel() for p in plain.parameters())
    if name == "bwin_tiny":  # torchvision's Swin-T has biases in queries, keys, values and outputs, too
        widths = [w for w, depth in zip((96, 192, 384, 768), (2, 2, 6, 2), strict=True) for _ in range(depth)]
        assert count == 28_288_354 - sum(4 * w for w in widths)
    aligned = sum(p.numel() for p in bare(name).parameters())
    assert 1.9 * count < aligned < 2.1 * count  # every linear map has two filters for one


@pytest.mark.parametrize("window", [7, 8])
@pytest.mark.parametrize("size", [(56, 64), (45, 61)])
def test_any_size_and_window_is_exact(window: int, size: tuple[int, int]) -> None:
    torch.manual_seed(window)
    sizes = SwinSizes(dim=12, depths=(2, 2), heads=(2, 2), patch=3, window=window, mlp=2)
    style = torchbcos.models.Style(norm="layer", norm_centered=True, max_out=2)
    model = Swin(sizes, style, num_classes=3).double().eval()
    for p in model.parameters():
        nn.init.normal_(p, float(p.dim() == 1), 0.5)
    assert {m.shift for m in model.modules() if isinstance(m, bnn.WindowAttention)} == {0, window // 2}
    x = torchbcos.functional.add_inverse(torch.rand(2, 3, *size, dtype=torch.float64))
    torchbcos.testing.check_model(model, x)
    e = torchbcos.explain(model, x, [[0, 1]] * 2)
    assert float(e.residual.abs().max()) <= 1e-12 and set(e.constants) == {"logits.bias"}
    assert torch.equal(e.share, torch.ones_like(e.share))
    single = torchbcos.explain(model.float(), x.float(), [[0, 1]] * 2)
    assert float(single.residual.abs().max()) <= 1e-5


def test_options_are_measured_choices() -> None:
    one = bare("bwin_tiny", max_out=1)
    assert sum(p.numel() for p in one.parameters()) < 0.52 * sum(p.numel() for p in bare("bwin_tiny").parameters())
    assert not isinstance(
        bare("bvt_tiny_patch8", qkv="linear").get_submodule("transformer.encoder_0.attn.to_qkv"), bnn.BcosLinear
    )
    assert len(bare("bvt_tiny_patch8", depth=3).feature_info) == 3
    assert next(iter(bare("bwin_tiny", window=8).get_submodule("layers.stage_0").children())).attn.window == 8
    for options, text in (
        ({"qkv": "linaer"}, "qkv must be one of linear, bcos, not 'linaer'. Did you mean 'linear'"),
        ({"depth": 0}, "depth must be a whole number from 1, not 0"),
        ({"prototypes": -1}, "prototypes must be a whole number from 0, not -1"),
    ):
        with pytest.raises(BcosError, match=text):
            bare("bvt_tiny_patch8", **options)
    with pytest.raises(BcosError, match="window must be a whole number from 1, not 0"):
        bare("bwin_tiny", window=0)
    with pytest.raises(BcosError, match="stochastic depth must be in"):
        bare("bwin_tiny", stochastic_depth=1.0)


def test_rollout_says_why_it_cannot_follow_windows() -> None:
    model = build("swin_tiny", num_classes=2, width_factor=0.125).eval()
    with pytest.raises(BcosError, match="windows"):
        torchbcos.attribute(model, torch.rand(1, 3, 64, 64), 0, method="rollout")
