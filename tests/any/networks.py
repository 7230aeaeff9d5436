"""The architectures of `make any`: a small member of each family, the smallest pictures that it takes.

A line is `SOURCE:NAME SIZE OPTION=VALUE ...`; what has no depth, width or size among its options is as its library registers it.
"""

from __future__ import annotations

import ast
import importlib
from typing import Any, NamedTuple

from torch import Tensor, nn

__all__ = ["ARCHITECTURES", "CLASSES", "Entry", "build", "entry"]

CLASSES = 13  # no layer inside has this many channels: how the heads are found


class Entry(NamedTuple):
    """One architecture: a library, its name there, the side of its pictures, options of its builder."""

    source: str
    name: str
    size: int
    options: dict[str, object]

    @property
    def title(self) -> str:
        return f"{self.source}:{self.name}"

    @property
    def output(self) -> str | None:
        """Which part of its output is explained: networks of transformers give several."""
        return "logits" if self.source == "transformers" and self.name not in _HEADED else None


_LINES = """
torchvision:alexnet 64
torchvision:vgg11 32
torchvision:vgg11_bn 32
torchvision:resnet18 64
torchvision:resnet50 64
torchvision:resnext50_32x4d 64
torchvision:wide_resnet50_2 64
torchvision:densenet121 64
torchvision:squeezenet1_1 64
torchvision:shufflenet_v2_x0_5 64
torchvision:mnasnet0_5 64
torchvision:mobilenet_v2 64
torchvision:mobilenet_v3_small 64
torchvision:efficientnet_b0 64
torchvision:efficientnet_v2_s 64
torchvision:regnet_x_400mf 64
torchvision:regnet_y_400mf 64
torchvision:googlenet 64
torchvision:inception_v3 96
torchvision:convnext_tiny 64
torchvision:swin_t 64
torchvision:swin_v2_t 64
torchvision:maxvit_t 224
torchvision:vit_b_32 64 image_size=64
timm:resnet10t 64
timm:resnetv2_50x1_bit 64
timm:resnetv2_50d_evos 64
timm:resnetv2_50d_frn 64
timm:legacy_seresnet18 64
timm:ecaresnet26t 64
timm:resnetblur50 64
timm:gcresnext26ts 64
timm:bat_resnext26ts 256
timm:gernet_s 64
timm:res2net50_14w_8s 64
timm:resnest14d 64
timm:skresnet18 64
timm:regnetx_002 64
timm:regnety_002 64
timm:regnetz_005 64
timm:densenetblur121d 64
timm:dpn48b 64
timm:dla46_c 64
timm:vovnet39a 64
timm:ese_vovnet19b_dw 64
timm:hrnet_w18_small 64
timm:cspresnet50 64
timm:cs3darknet_s 64
timm:cspnext_tiny 64
timm:hgnetv2_b0 64
timm:selecsls42 64
timm:tresnet_m 64
timm:vgg11_bn 32
timm:repvgg_a0 64
timm:mobileone_s0 64
timm:inception_v4 96
timm:inception_resnet_v2 96
timm:legacy_xception 64
timm:xception41p 64
timm:nasnetalarge 64
timm:pnasnet5large 64
timm:nf_resnet26 64
timm:nf_regnet_b0 64
timm:dm_nfnet_f0 64
timm:eca_nfnet_l0 64
timm:mobilenetv1_100 64
timm:mobilenetv2_035 64
timm:mobilenetv3_small_050 64
timm:mobilenetv4_conv_small 64
timm:mobilenetv4_hybrid_medium 64
timm:mobilenetv5_base 64
timm:efficientnet_b0 64
timm:efficientnet_b0_gn 64
timm:efficientnet_lite0 64
timm:tf_efficientnetv2_b0 64
timm:mixnet_s 64
timm:tinynet_e 64
timm:lcnet_035 64
timm:lcnetv2_small 64
timm:hardcorenas_a 64
timm:fbnetc_100 64
timm:semnasnet_075 64
timm:rexnet_100 64
timm:ghostnet_050 64
timm:ghostnetv2_100 64
timm:ghostnetv3_050 64
timm:repghostnet_050 64
timm:fasternet_t0 64
timm:starnet_s050 64
timm:repvit_m0_9 64
timm:shvit_s1 128
timm:convnext_atto 64
timm:convnextv2_atto 64
timm:inception_next_atto 64
timm:convmixer_768_32 64
timm:rdnet_tiny 64
timm:mambaout_femto 64
timm:focalnet_tiny_srf 64
timm:poolformer_s12 64
timm:poolformerv2_s12 64
timm:convformer_s18 64
timm:caformer_s18 64
timm:edgenext_xx_small 64
timm:mobilevit_xxs 64
timm:mobilevitv2_050 64
timm:fastvit_t8 64
timm:efficientformer_l1 224
timm:efficientformerv2_s0 64 img_size=64
timm:efficientvit_b0 64
timm:efficientvit_m0 64 img_size=64
timm:efficientvim_m1 64
timm:swiftformer_xs 64
timm:nextvit_small 64
timm:iformer_t 64
timm:lowformer_b0 64
timm:cpubone_nano 64
timm:csatv2 64
timm:vit_tiny_patch16_224 64 img_size=64
timm:vit_small_patch14_dinov2 56 img_size=56
timm:vit_small_patch14_reg4_dinov2 56 img_size=56
timm:vit_small_patch16_dinov3 64 img_size=64
timm:vit_base_patch16_siglip_224 64 img_size=64 depth=4
timm:vit_base_patch32_clip_quickgelu_224 64 img_size=64 depth=4
timm:vit_base_patch16_rope_mixed_224 64 img_size=64 depth=4
timm:vit_relpos_small_patch16_224 64 img_size=64
timm:vit_tiny_r_s16_p8_224 64 img_size=64
timm:aimv2_large_patch14_224 56 img_size=56 depth=4
timm:samvit_base_patch16_224 64 img_size=64 depth=4
timm:naflexvit_base_patch16_gap 64 depth=4
timm:deit_tiny_patch16_224 64 img_size=64
timm:deit_tiny_distilled_patch16_224 64 img_size=64
timm:deit3_small_patch16_224 64 img_size=64
timm:beit_base_patch16_224 64 img_size=64 depth=4
timm:eva02_tiny_patch14_224 56 img_size=56
timm:cait_xxs24_224 64 img_size=64
timm:xcit_nano_12_p16_224 64 img_size=64
timm:crossvit_9_240 240
timm:convit_tiny 64 img_size=64
timm:pit_ti_224 64 img_size=64
timm:tnt_s_patch16_224 64 img_size=64
timm:levit_128s 64 img_size=64
timm:tiny_vit_5m_224 64
timm:visformer_tiny 64 img_size=64
timm:volo_d1_224 64 img_size=64
timm:swin_tiny_patch4_window7_224 64 img_size=64 window_size=4
timm:swinv2_tiny_window8_256 64 img_size=64 window_size=4
timm:swinv2_cr_tiny_ns_224 64 img_size=64 window_size=4
timm:maxvit_rmlp_pico_rw_256 64 img_size=64
timm:maxxvitv2_nano_rw_256 64 img_size=64
timm:coatnet_nano_rw_224 64 img_size=64
timm:gcvit_xxtiny 64 img_size=64
timm:davit_tiny 64
timm:nest_tiny 64 img_size=64
timm:twins_pcpvt_small 64
timm:twins_svt_small 64
timm:pvt_v2_b0 64
timm:pvt_v2_b2_li 64
timm:mvitv2_tiny 64 img_size=64
timm:hiera_tiny_224 64 img_size=64
timm:sam2_hiera_tiny 64
timm:vitamin_small_224 64 img_size=64
timm:coat_lite_tiny 64 img_size=64
timm:coat_tiny 64 img_size=64
timm:mixer_s32_224 64 img_size=64
timm:resmlp_12_224 64 img_size=64
timm:gmlp_ti16_224 64 img_size=64
timm:gmixer_12_224 64 img_size=64
timm:sequencer2d_s 64
timm:botnet26t_256 64 img_size=64
timm:halonet26t 256
timm:lambda_resnet26t 64 img_size=64
transformers:vit 64
transformers:deit 64
transformers:swin 64
transformers:convnext 64
transformers:convnextv2 64
transformers:dinov2 56
transformers:segformer 64
transformers:clip 64
transformers:siglip 64
transformers:beit 64
transformers:swinv2 64
transformers:resnet 64
transformers:mobilevit 64
transformers:pvt 64
transformers:focalnet 64
"""


def entry(line: str) -> Entry:
    """One line of a list like the one above; a name with dots is a class within its library."""
    title, size, *options = line.split()
    source, name = title.split(":")
    return Entry(source, name, int(size), {k: ast.literal_eval(v) for k, v in (option.split("=") for option in options)})


ARCHITECTURES = [entry(line) for line in _LINES.strip().splitlines()]


class Headed(nn.Module):
    """An encoder of transformers with a linear head on one of its outputs; maps are averaged over space first."""

    def __init__(self, encoder: nn.Module, width: int, output: str) -> None:
        super().__init__()
        self.encoder, self.output, self.head = encoder, output, nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        feature: Tensor = getattr(self.encoder(x), self.output)
        pooled = feature.mean((2, 3)) if feature.dim() == 4 else feature
        scores: Tensor = self.head(pooled)
        return scores


# name: class of the network, class of its sizes, sizes beyond the picture's and the number of classes
_NETWORKS: dict[str, tuple[str, dict[str, object]]] = {
    "vit": ("ViT", {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192}),
    "deit": ("DeiT", {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192}),
    "beit": ("Beit", {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192}),
    "swin": ("Swin", {"embed_dim": 24, "depths": [2, 2, 2], "num_heads": [2, 4, 8], "window_size": 4}),
    "swinv2": ("Swinv2", {"embed_dim": 24, "depths": [2, 2, 2], "num_heads": [2, 4, 8], "window_size": 4}),
    "convnext": ("ConvNext", {"hidden_sizes": [24, 48, 96, 192], "depths": [2, 2, 4, 2]}),
    "convnextv2": ("ConvNextV2", {"hidden_sizes": [24, 48, 96, 192], "depths": [2, 2, 4, 2]}),
    "dinov2": ("Dinov2", {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}),
    "resnet": ("ResNet", {"embedding_size": 16, "hidden_sizes": [32, 64, 128], "depths": [2, 2, 2]}),
    "mobilevit": ("MobileViT", {}),
    "pvt": ("Pvt", {}),
    "focalnet": ("FocalNet", {"embed_dim": 24, "depths": [2, 2, 2]}),
}
_HEADED = ("segformer", "clip", "siglip")


def _of_transformers(name: str, size: int) -> nn.Module:
    """A network of that library, made small, without weights."""
    library = importlib.import_module("transformers")
    small = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 192, "image_size": size}
    if name == "segformer":
        config = library.SegformerConfig()
        return Headed(library.SegformerModel(config), config.hidden_sizes[-1], "last_hidden_state")
    if name == "clip":
        return Headed(library.CLIPVisionModel(library.CLIPVisionConfig(**small, patch_size=16)), 96, "pooler_output")
    if name == "siglip":
        return Headed(library.SiglipVisionModel(library.SiglipVisionConfig(**small, patch_size=16)), 96, "pooler_output")
    family, sizes = _NETWORKS[name]
    config = getattr(library, f"{family}Config")(image_size=size, num_labels=CLASSES, **sizes)
    network: nn.Module = getattr(library, f"{family}ForImageClassification")(config)
    return network


def _of_class(library: str, name: str, options: dict[str, Any]) -> nn.Module:
    """A network whose sizes are all given."""
    module, _, family = f"{library}.{name}".rpartition(".")
    network: nn.Module = getattr(importlib.import_module(module), family)(num_classes=CLASSES, **options)
    return network


def build(entry: Entry) -> nn.Module:
    """The network with its library's random weights, ready to predict.

    Raises:
        ImportError: the library is not installed.
    """
    network: nn.Module
    library = importlib.import_module(entry.source)
    options: dict[str, Any] = dict(entry.options)
    if "." in entry.name:
        network = _of_class(entry.source, entry.name, options)
    elif entry.source == "timm":
        network = library.create_model(entry.name, num_classes=CLASSES, **options)
    elif entry.source == "torchvision":
        if entry.name in ("googlenet", "inception_v3"):
            options |= {"init_weights": False, "aux_logits": False}
        network = library.models.get_model(entry.name, weights=None, num_classes=CLASSES, **options)
    else:
        network = _of_transformers(entry.name, entry.size)
    return network.eval()
