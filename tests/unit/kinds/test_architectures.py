"""Small architectures of timm and torchvision, which together need almost every rule; `make any` has the large list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from tests.any.calibrate import calibrate, pictures
from tests.any.examine import examine, row_of
from tests.any.networks import CLASSES, entry

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
    "torchvision:models.vision_transformer.VisionTransformer 32 image_size=32 patch_size=8 num_layers=2 num_heads=2 hidden_dim=16 mlp_dim=32":
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
