"""Small networks of timm and torchvision, converted as `make convert-zoo` converts the large list."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.conversion.zoo import row_of
from tests.any.networks import entry

# what each of them is here for, and the kinds of constants that norm biases may leave there
SMALL = {
    "timm:test_resnet 64": ("batch norms that are folded", set()),
    "timm:test_byobnet 32": ("squeeze-excite", set()),
    "timm:test_nfnet 32": ("standardised weights, gains in place", set()),
    "timm:models.convnext.ConvNeXt 64 depths=(1,1,1,1) dims=(16,24,32,40) use_grn=True ls_init_value=None": ("GRN", set()),
    "timm:models.metaformer.MetaFormer 64 depths=(1,1,1,1) dims=(16,24,32,40)": ("StarReLU", set()),
    "timm:starnet_s050 32": ("a product with an activation", set()),
    "timm:test_vit 64 img_size=64": ("attention", {"position", "token"}),
    "timm:eva02_tiny_patch14_224 56 img_size=56 depth=2": ("biases of its own beside qkv, SwiGLU", {"position", "token"}),
    "timm:models.swin_transformer_v2.SwinTransformerV2 32 img_size=32 window_size=4 embed_dim=24 depths=(2,2) num_heads=(2,4)":
        ("biases of its own beside qkv", set()),
    "timm:models.efficientvit_mit.EfficientVit 64 widths=(8,16,24) depths=(1,1,1) head_widths=(32,24)":
        ("float32 inside, hardswish, an input that goes through dropout", set()),
    "torchvision:models.vision_transformer.VisionTransformer 32 "
    "image_size=32 patch_size=8 num_layers=2 num_heads=2 hidden_dim=16 mlp_dim=32":
        ("nn.MultiheadAttention", {"position", "token"}),
    "torchvision:models.swin_transformer.SwinTransformer 32 "
    "patch_size=[4,4] embed_dim=16 depths=[2] num_heads=[2] window_size=[3,3]":
        ("windows that are shifted and padded", set()),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _flushed() -> Iterator[None]:
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("line", SMALL, ids=lambda line: f"{line.split()[0].rpartition('.')[2]}")
def test_converted(line: str) -> None:
    pytest.importorskip(line.partition(":")[0])
    row = row_of(entry(line))
    assert (row.verdict, row.note, row.plain) == ("exact", "", [])
    assert set(row.left) <= SMALL[line][1] and row.layers >= 3
