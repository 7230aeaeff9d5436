"""Surface transformers: triangles of a sphere as tokens, and prototypes of the same place as a classifier.

The encoder is that of SiT (Dahan et al. 2022, arXiv 2203.16414): the vertices of each large triangle of an icosphere are one
token. The decoder is in the spirit of X-SiT (Bongratz, Wolf et al. 2025, arXiv 2506.20267): a place is compared with prototypes
of that place. Neither their number nor the losses of X-SiT were to be had, so that part is our design: likeness is the B-cos
transform, and contributions of vertices add up to the logit.

A vertex whose features are all 0 is not there, as the medial wall of a cortex: it contributes exactly 0, tokens without vertices
are masked in attention, and the others count by the share of their vertices that is there.

Shapes: N subjects, 2F channels (each feature u as u and 1 - u), V vertices, P places, D of the tokens.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos.functional.icosphere import icosphere, sphere_patches
from torchbcos.functional.numbers import check_rate, check_whole
from torchbcos.models.blocks import Head, Style
from torchbcos.models.family import Family
from torchbcos.models.mesh import MeshLowPass, PlacePosition, Present, SurfacePatches, Template
from torchbcos.models.network import FeatureInfo, Network
from torchbcos.models.tokens import TokenHead, make_linear, make_token_norm
from torchbcos.models.vit import Encoder, ViTSizes

__all__ = ["FAMILY", "SIZES", "STYLES", "SurfaceSizes", "SurfaceViT", "build", "check_vertices"]


@dataclass(frozen=True, kw_only=True)
class SurfaceSizes:
    """What tells one surface transformer from another.

    Attributes:
        dim: D of the tokens.
        heads: of the attention.
        depth: number of encoders.
        level: of the mesh: 10 · 4^level + 2 vertices.
        coarse: of the mesh whose 20 · 4^coarse triangles are the tokens.
        pool: levels that are averaged away before tokens are cut (`MeshLowPass`).
    """

    dim: int
    heads: int
    depth: int = 12
    level: int = 6
    coarse: int = 2
    pool: int = 0


SIZES = {
    "surface_vit_nano": SurfaceSizes(dim=96, heads=3, depth=4, level=5, coarse=1, pool=2),  # for fsaverage5, on two cores
    "surface_vit_tiny": SurfaceSizes(dim=192, heads=3),
    "surface_vit_small": SurfaceSizes(dim=384, heads=6),
}
STYLES = {name: Style(norm="layer", norm_centered=True) for name in SIZES}


class SurfaceViT(Network):
    """A transformer over features of the vertices of a sphere (a cortex, registered): (N, 2F, V).

    Its stages are tokens (N, P, D): channels last. The last is normed, and scaled by the share a of its vertices that is there:
    `score_c = (1 / P) Σ_i a_i Σ_k |cos(z_i, p_ick)|^(B-1) · p̂_ick·z_i`.

    Args:
        sizes: widths, depth, mesh and patches.
        style: how layers are made.
        num_classes, in_channels: of the classifier and of the input (6: three features, each u as u and 1 - u).
        logit_bias: added to every logit; "auto" is -ln(classes - 1); None adds nothing.
        temperature: divides the logits.
        prototypes: K, prototypes a class at each place; 0: a linear layer reads the mean token instead.
        position: a learned vector a place is added to its token. It carries a part of the logit that is no vertex's.
        qkv: the map to queries, keys and values: "linear" or "bcos".
        template: features are taken less the mean of their vertex over training subjects (`Template`), exactly. Without it, a
            B-cos layer sees what all people have in common, and little else.
    """

    classifier_name = "classifier"
    axes = ("V",)
    channel_dim = -1

    def __init__(
        self,
        sizes: SurfaceSizes,
        style: Style,
        *,
        num_classes: int = 2,
        in_channels: int = 6,
        logit_bias: float | str | None = "auto",
        temperature: float | None = None,
        prototypes: int = 3,
        position: bool = False,
        qkv: str = "linear",
        template: bool = True,
    ) -> None:
        super().__init__()
        if min(sizes.dim, sizes.heads, sizes.depth) < 1 or sizes.dim % sizes.heads:
            raise InputError(f"Sizes of a transformer must be positive, and its heads divide its channels: {sizes}.")
        self.in_channels = in_channels
        if style.normalize != "none":
            raise InputError("normalize is for pictures: a surface network takes the mean from each vertex (template=True).")
        if in_channels % 2 and not style.plain:
            raise InputError(f"in_channels must be even, each feature u and 1 - u, not {in_channels}.")
        self.vertices = 10 * 4**sizes.level + 2
        self.centring = Template(in_channels // 2, self.vertices) if template and not style.plain else nn.Identity()
        self.places = sphere_patches(sizes.level, sizes.coarse)
        if not 0 <= sizes.pool <= sizes.level - sizes.coarse:
            raise InputError(f"pool must be from 0 to level - coarse, {sizes.level - sizes.coarse}, not {sizes.pool}.")
        self.pooling = nn.Sequential(*(MeshLowPass(sizes.level - i) for i in range(sizes.pool)))
        self.patches = SurfacePatches(sizes.level - sizes.pool, sizes.coarse)
        places, length = self.patches.table.shape
        embedding = OrderedDict(
            linear=make_linear(style, in_channels * length, sizes.dim), norm=make_token_norm(style, sizes.dim),
            position=PlacePosition(places, sizes.dim) if position else nn.Identity(),
        )  # fmt: skip
        self.embedding = nn.Sequential(embedding)
        of_encoder = ViTSizes(dim=sizes.dim, heads=sizes.heads, mlp=4 * sizes.dim, head_dim=sizes.dim // sizes.heads)
        self.transformer = nn.Sequential(
            OrderedDict((f"encoder_{i}", Encoder(style, of_encoder, qkv)) for i in range(sizes.depth))
        )
        self.norm, self.present = make_token_norm(style, sizes.dim), Present()
        self.feature_info = (
            *(FeatureInfo(f"transformer.encoder_{i}", sizes.dim, length) for i in range(sizes.depth)),
            FeatureInfo("present", sizes.dim, length),
        )
        self.head: Head = TokenHead(
            style, sizes.dim, num_classes, logit_bias=logit_bias, temperature=temperature, places=places,
            prototypes=check_whole(prototypes, "prototypes", least=0),
        )  # fmt: skip
        self.classifier = self.head.make_classifier()
        self.logits = self.head.make_logits()

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the tokens (N, P, D) after every encoder, and those that the classifier reads."""
        check_vertices(x, self.vertices)
        there = self.there(x)
        seen = self.patches.seen(self.pooling(there.unsqueeze(1)).squeeze(1))
        features = self.pooling(self.centring(x * there.unsqueeze(1)))
        tokens, mask = self.embedding(self.patches(features)), seen > 0
        for encoder in self.transformer:
            tokens = encoder(tokens, mask)
            yield tokens
        yield self.present(self.norm(tokens), seen)

    def there(self, x: Tensor) -> Tensor:
        """(N, V): 1 for the vertices that are there, 0 for those whose features u are all 0."""
        features = x if self.plain else x[:, : self.in_channels // 2]
        return (features != 0).any(1).to(x.dtype)

    def example(self, count: int = 1, *, missing: float = 0.08, generator: torch.Generator | None = None) -> Tensor:
        """Random subjects (N, 2F, V): each feature u of a vertex as u and 1 - u; a cap of the sphere is not there.

        Args:
            count: N.
            missing: part of the vertices that is not there, as the medial wall of a cortex is not, from 0 to less than 1.
            generator: draws.

        Raises:
            InputError: a number is out of range.
        """
        count = check_whole(count, "count")
        check_rate(missing, "missing")
        halves = 1 if self.plain else 2
        features = torch.rand(count, self.in_channels // halves, self.vertices, generator=generator)
        x = features if self.plain else torch.cat([features, 1 - features], 1)
        height = icosphere(self.patches.level + len(self.pooling))[0][:, 0]
        return x * (height <= height.quantile(1 - missing))

    @torch.no_grad()
    def project(self, x: Tensor, labels: Tensor, *, batch_size: int = 16) -> Tensor:
        """Make prototypes the tokens of training subjects, in place: see `torchbcos.nn.Prototypes.project`.

        Args:
            x: (M, 2F, V) training subjects.
            labels: (M,) their classes.
            batch_size: subjects at a time.

        Returns:
            (P, classes, K) numbers of the subjects that the prototypes are of.

        Raises:
            InputError: the network has no prototypes, or a class has too few subjects.
        """
        head = self.classifier
        if not isinstance(head, bnn.Prototypes):
            raise InputError("This network has no prototypes to project: build it with prototypes=3, say.")
        step = check_whole(batch_size, "batch_size")
        tokens = [self.forward_features(x[i : i + step]) for i in range(0, max(1, len(x)), step)]
        head.project(torch.cat(tokens), labels)
        return head.examples.clone()


def check_vertices(x: Tensor, vertices: int) -> None:
    """Raise InputError unless x has a number for each vertex of the mesh."""
    if x.shape[2] != vertices:
        raise InputError(
            f"Expected features of {vertices} vertices, got {x.shape[2]}: the mesh is an icosphere in the order of fsaverage "
            "(10242 vertices: fsaverage5, level=5; 40962: fsaverage6, level=6)."
        )


torch.fx.wrap("check_vertices")


def build(
    sizes: SurfaceSizes,
    style: Style,
    *,
    level: int | None = None,
    coarse: int | None = None,
    pool: int | None = None,
    depth: int | None = None,
    **options: Any,
) -> SurfaceViT:
    """A surface transformer of these sizes, or on another mesh, with other patches, of another depth."""
    given = {"level": level, "coarse": coarse, "pool": pool, "depth": depth}
    chosen = {name: check_whole(value, name, least=int(name == "depth")) for name, value in given.items() if value is not None}
    return SurfaceViT(dataclasses.replace(sizes, **chosen), style, **options)


FAMILY = Family(
    network=SurfaceViT, build=build, sizes=SIZES, styles=STYLES, activation="gelu", classes=dict.fromkeys(SIZES, 2),
)  # fmt: skip
