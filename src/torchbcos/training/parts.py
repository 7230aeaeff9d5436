"""Losses that make parts of patches (Aniraj et al. 2025, arXiv 2506.08915; of its code, repaired where it says so).

Shapes: N pictures, h × w patches, D channels last, K parts and, last, the background; A is the softmax of an assignment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.models.two_stage import TwoStage
from torchbcos.training.guidance import TINY

__all__ = [
    "PartDiscovery", "PartLosses", "background_at_border", "entropy", "equivariance", "orthogonality", "presence",
    "total_variation",
]  # fmt: skip


def presence(shares: Tensor) -> Tensor:
    """Every part is somewhere: 1 - mean over k of the largest 3 × 3 mean of A_k in the batch.

    Args:
        shares: A, (N, h, w, K + 1); the background does not count.

    >>> presence(torch.ones(1, 4, 4, 2))
    tensor(0.)
    """
    maps = shares[..., :-1].movedim(-1, 1)
    smooth = F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)
    return 1 - smooth.amax((0, 2, 3)).mean()


def orthogonality(means: Tensor, *, of: str = "parts") -> Tensor:
    """Parts are unlike: the mean square of V̂ᵀV̂ - I, with V̂ the mean vectors of length 1.

    Args:
        means: (N, K + 1, D) mean vectors of parts and background.
        of: "parts", K + 1 vectors of D numbers, as the paper has it; "features", D vectors of K + 1 numbers: what its public code
            compares, since it turns them round first.

    Raises:
        InputError: `of` is another word.

    >>> orthogonality(torch.eye(3)[None])
    tensor(0.)
    """
    if of not in ("parts", "features"):
        raise InputError(f"of must be parts or features, not {of!r}.")
    vectors = F.normalize(means if of == "parts" else means.transpose(1, 2), dim=-1)
    products = vectors @ vectors.transpose(1, 2)
    return (products - torch.eye(vectors.shape[1], device=means.device, dtype=means.dtype)).square().mean()


def total_variation(shares: Tensor) -> Tensor:
    """Neighbours are alike: mean absolute difference of A to the patch below and to the right.

    >>> total_variation(torch.ones(1, 4, 4, 2))
    tensor(0.)
    """
    found = shares.new_zeros(())
    for axis in (1, 2):
        if shares.shape[axis] > 1:
            found = found + shares.diff(dim=axis).abs().mean()
    return found


def entropy(shares: Tensor) -> Tensor:
    """A patch is of one part: mean over patches of -Σ_k A_k ln A_k.

    >>> round(float(entropy(torch.full((1, 2, 2, 2), 0.5))), 4)
    0.6931
    """
    return -(shares * shares.clamp_min(TINY).log()).sum(-1).mean()


def background_at_border(shares: Tensor) -> Tensor:
    """The background is somewhere, and rather at the border: -ln of the largest A_background · r², r the distance to the middle.

    r is 1 in the corners. The mean over pictures.
    """
    height, width = shares.shape[1:3]
    y = _from_middle(height, shares)[:, None]
    x = _from_middle(width, shares)
    far = (y**2 + x**2) / 2
    return -(shares[..., -1] * far).flatten(1).amax(1).clamp(TINY, 1).log().mean()


def _from_middle(count: int, like: Tensor) -> Tensor:
    """(count,) from -1 to 1; 0 where there is only one."""
    ends = 1.0 if count > 1 else 0.0
    return torch.linspace(-ends, ends, count, device=like.device, dtype=like.dtype)


def equivariance(shares: Tensor, turned: Tensor, theta: Tensor) -> Tensor:
    """Parts move with the picture: 1 - cosine of the turned A and the A of the turned picture; of what both show.

    Args:
        shares, turned: (N, h, w, K + 1), of the picture and of the turned one.
        theta: (N, 2, 3) by which pictures were turned, as in `torch.nn.functional.affine_grid`.
    """
    wanted = _turn(shares.movedim(-1, 1), theta)
    inside = _turn(torch.ones_like(wanted[:, :1]), theta) > 0.99
    likeness = F.cosine_similarity(wanted, turned.movedim(-1, 1), dim=1)
    return 1 - (likeness * inside[:, 0]).sum() / inside.sum().clamp_min(1)


def _draw_turns(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(N, 2, 3) random turns: up to 90° either way, 11 % of the side, 0.8 to 1.4 times as large (arXiv 2506.08915)."""
    angle, left, up, size = torch.rand(4, count, device=device, dtype=dtype)
    angle, scale = (2 * angle - 1) * math.pi / 2, 1 / (0.8 + 0.6 * size)
    shift = torch.stack([2 * left - 1, 2 * up - 1], 1) * 0.22
    cos, sin = angle.cos() * scale, angle.sin() * scale
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1), shift], 2)


def _turn(maps: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, align_corners=False)


@dataclass(frozen=True)
class PartLosses:
    """All losses of the first stage, by default with the weights of the paper.

    Attributes:
        scores: weight of the cross-entropy of the first stage's own scores.
        present, unlike, smooth, certain, border: weights of `presence`, `orthogonality`, `total_variation`, `entropy` and
            `background_at_border`.
        turned: weight of `equivariance`, which costs another pass of the first stage; 0: none.
        of: what `orthogonality` compares.
    """

    scores: float = 1.0
    present: float = 1.0
    unlike: float = 1.0
    smooth: float = 1.0
    certain: float = 1.0
    border: float = 2.0
    turned: float = 1.0
    of: str = "parts"

    def loss(self, network: TwoStage, x: Tensor, targets: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Of pictures (N, C, H, W) and targets (N, classes); `tokens` of the first stage, where they are known."""
        tokens = network.tokens(x) if tokens is None else tokens
        found = network.where.parts(tokens)
        shares = network.where.drawn(found).softmax(-1)
        means = network.part_scores.means(tokens, shares)
        total = (
            self.scores * F.cross_entropy(network.part_scores(tokens, shares), targets) + self.present * presence(shares)
            + self.unlike * orthogonality(means, of=self.of) + self.smooth * total_variation(shares)
            + self.certain * entropy(shares) + self.border * background_at_border(shares)
        )  # fmt: skip
        if self.turned:
            theta = _draw_turns(len(x), x.device, x.dtype)
            turned = network.assignment(_turn(x, theta)).softmax(-1)
            total = total + self.turned * equivariance(found.softmax(-1), turned, theta)
        return total


@dataclass(frozen=True)
class PartDiscovery:
    """Train the first stage of a two-stage network: a term of an objective.

    Attributes:
        weight: by which its losses count together.
        losses: each with a weight of its own.
    """

    weight: float
    losses: PartLosses = field(default_factory=PartLosses)

    def term(self, answer: Any) -> Tensor:
        """The sum of the losses of a batch.

        Raises:
            InputError: the network has no two stages.
        """
        if not isinstance(answer.network, TwoStage):
            name = type(answer.network).__name__
            raise InputError(f"parts is for networks of two stages (model=two_stage_nano), and this is a {name}: set parts=0.")
        targets = answer.batch.targets.nan_to_num(0.0)
        return self.losses.loss(answer.network, answer.batch.x, targets / targets.sum(1, keepdim=True).clamp_min(TINY))
