"""Methods that look at the attention of a transformer: rollout, the last layer alone, attention times its gradient."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from torchbcos._core.eagerly import eagerly
from torchbcos._core.errors import ExplanationWarning, InputError, StateError
from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.capture import Sight, sight_of
from torchbcos.attribution.features import gradient_of
from torchbcos.attribution.layout import Layout, grid_of_tokens
from torchbcos.attribution.maps import enlarged
from torchbcos.attribution.mixing import Mixing, by_image
from torchbcos.attribution.record import Method
from torchbcos.attribution.subject import Subject
from torchbcos.explanation.engine import gradients_of

__all__ = ["RECORDS", "GradientAttention", "RawAttention", "Rollout"]


class _Mixed(NamedTuple):
    """The attention of some images.

    Attributes:
        shares: of every layer, (N, heads, T, T) or (N · heads, T, T).
        layout: how tokens lie in the picture.
        read: (T,) which tokens the classifier reads after the last layer.
        scores: (N, K) what is attributed.
    """

    shares: list[Tensor]
    layout: Layout
    read: Tensor
    scores: Tensor

    @property
    def layers(self) -> list[Tensor]:
        """(N, heads, T, T) of every layer, without history."""
        return [by_image(shares.detach(), len(self.scores)) for shares in self.shares]

    def map_of(self, flow: Tensor) -> Tensor:
        """(N, *grid): the rows (N, T, T) of the tokens that are read, and the columns of places."""
        row = flow[:, self.read].mean(1)
        return self.layout.places(row.unsqueeze(-1))[:, 0]


@dataclass(frozen=True)
class _Attention(Explainer):
    """What the three have in common."""

    def compute(self, subject: Subject) -> Found:
        """One pass forward, and what `mapped` takes."""
        parts = []
        for rows in subject.parts():
            with torch.inference_mode(False), torch.enable_grad():
                mixed = _mixed(subject, rows, self.name)
                parts.append(enlarged(self.mapped(subject, mixed), tuple(subject.x.shape[2:])))
        return Found(torch.cat(parts))

    @abstractmethod
    def mapped(self, subject: Subject, mixed: _Mixed) -> Tensor:
        """(N, K, *grid)."""


@dataclass(frozen=True)
class _Agnostic(_Attention):
    """Methods that know nothing of a target."""

    scales: ClassVar[tuple[str, ...]] = ("live", "frozen")  # no gradient is taken

    def mapped(self, subject: Subject, mixed: _Mixed) -> Tensor:
        """The same map for every target."""
        return mixed.map_of(self.flow(mixed)).unsqueeze(1).repeat(1, subject.count, *(1,) * len(mixed.layout.grid))

    def compute(self, subject: Subject) -> Found:
        """One pass forward; and the warning."""
        found = super().compute(subject)
        warnings.warn(
            f"{self.name} does not depend on the target: every class of an image gets the same map, so it says where this "
            "network looks, not why it says this class. gradient_attention and the inherent explanation tell classes apart.",
            ExplanationWarning, stacklevel=2,
        )  # fmt: skip
        return found

    @abstractmethod
    def flow(self, mixed: _Mixed) -> Tensor:
        """(N, T, T): how much of each token (column) is in each token (row) at the end."""


@dataclass(frozen=True)
class Rollout(_Agnostic):
    """Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928, eq. 1): the product of `(A + I) / 2` over all layers.

    A is the mean over heads. The row of the class token is the map; the mean over the tokens that the classifier reads where
    there is none. It is the same for every target, and each call warns of that.

    Args:
        heads: how heads become one: "mean" as in the paper, "max" or "min"; rows are brought to sum 1 again.
        skip: the part that passes a layer unmixed.
    """

    name: ClassVar[str] = "rollout"
    _: KW_ONLY
    heads: str = "mean"
    skip: float = 0.5

    def flow(self, mixed: _Mixed) -> Tensor:
        """The product over layers, the first at the right."""
        total: Tensor | None = None
        skip = _part(self.skip)
        for shares in mixed.layers:
            one = _joined(shares, self.heads)
            step = (1 - skip) * one + skip * torch.eye(one.shape[-1], dtype=one.dtype, device=one.device)
            total = step if total is None else step @ total
        assert total is not None
        return total


@dataclass(frozen=True)
class RawAttention(_Agnostic):
    """The attention of one layer, by itself: what the class token takes from every place (the mean over tokens without one).

    It is the same for every target, and each call warns of that.

    Args:
        heads: how heads become one: "mean", "max" or "min".
        layer: number of the layer; -1 is the last one.
    """

    name: ClassVar[str] = "raw_attention"
    _: KW_ONLY
    heads: str = "mean"
    layer: int = -1

    def flow(self, mixed: _Mixed) -> Tensor:
        """The matrix of that layer."""
        count = len(mixed.shares)
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or not -count <= self.layer < count:
            raise InputError(f"layer must be an integer from {-count} to {count - 1}, not {self.layer!r}.")
        return _joined(mixed.layers[self.layer], self.heads)


@dataclass(frozen=True)
class GradientAttention(_Attention):
    """Attention times its gradient, layer by layer (Chefer, Gur, Wolf 2021, arXiv 2103.15679, eq. 5 and 6).

    `R ← R + mean over heads of (∇A ∘ A)⁺ · R`, from `R = I`; the row of the class token is the map, as in the paper. Where the
    classifier reads the mean of tokens, it is the mean of their rows of `R - I`: I adds the same to every place. It tells
    targets apart. Values are not negative, and sum to nothing.
    """

    name: ClassVar[str] = "gradient_attention"

    def mapped(self, subject: Subject, mixed: _Mixed) -> Tensor:
        """One pass back for each target."""
        count = subject.count
        if not mixed.scores.requires_grad:
            raise StateError("The outputs have no gradient: the network runs without autograd, so only rollout works on it.")
        subject.backwards += len(mixed.scores) * count
        maps = []
        for k in range(count):
            value, keep = mixed.scores[:, k].sum(), k + 1 < count
            found = gradients_of(value, mixed.shares, create_graph=False, retain_graph=keep)
            maps.append(mixed.map_of(_relevance(mixed.layers, [by_image(g, len(mixed.scores)) for g in found])))
        return torch.stack(maps, 1)


def _relevance(layers: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """(N, T, T): R - I."""
    first = layers[0]
    total = torch.eye(first.shape[-1], dtype=first.dtype, device=first.device).expand(len(first), -1, -1)
    for shares, gradient in zip(layers, gradients, strict=True):
        total = total + (shares * gradient).clamp_min(0).mean(1) @ total
    return total - torch.eye(first.shape[-1], dtype=first.dtype, device=first.device)


def _joined(shares: Tensor, how: str) -> Tensor:
    """(N, T, T) of (N, heads, T, T); rows sum to 1."""
    if how == "mean":
        return shares.mean(1)
    if how not in ("max", "min"):
        raise InputError(f"heads must be 'mean', 'max' or 'min', not {how!r}.")
    one = shares.amax(1) if how == "max" else shares.amin(1)
    return one / one.sum(-1, keepdim=True).clamp_min(torch.finfo(one.dtype).tiny)


def _part(skip: object) -> float:
    if isinstance(skip, bool) or not isinstance(skip, int | float) or not 0 <= skip < 1:
        raise InputError(f"skip is the part that passes a layer unmixed, from 0 to less than 1, not {skip!r}.")
    return float(skip)


# -- one pass ----------------------------------------------------------------------------------------------------------


def _mixed(subject: Subject, rows: slice, method: str) -> _Mixed:
    """The attention of some images."""
    leaf = subject.x[rows].clone().requires_grad_()
    with eagerly(), sight_of(subject.module) as sight, Mixing() as mixing:
        outputs = subject.forward(leaf)
    if not subject.known:
        subject.adopt(outputs)
    shares = mixing.matrices(len(leaf))
    layout = _layout(shares[0].shape[-1], tuple(leaf.shape[2:]), len(leaf), sight, method)
    read = _read(sight, outputs, layout, shares[0].shape[-1])
    return _Mixed(shares, layout, read, outputs.gather(1, subject.targets[rows]))


def _layout(count: int, size: tuple[int, ...], n: int, sight: Sight, method: str) -> Layout:
    """Where tokens lie in the picture."""
    found = grid_of_tokens(count, size, n, sight.maps)
    are_tokens = any(
        len(shape) > 2 and (count in shape[:2] if len(shape) == 3 else shape[0] == n and _product(shape[1:-1]) == count)
        for shape in sight.shapes
    )
    if found is None or not are_tokens:
        raise StateError(
            f"{method} needs tokens that lie in the picture, and the attention of this network mixes {count} things that do not "
            f"make a grid in {' x '.join(map(str, size))} (channels, say). Take grad_cam, or the inherent explanation."
        )
    return Layout(-1, *found)


def _read(sight: Sight, outputs: Tensor, layout: Layout, count: int) -> Tensor:
    """(T,) which tokens of the last layer the outputs depend on: the class token, all of them, or those of places."""
    usual = torch.zeros(count, dtype=torch.bool, device=outputs.device)
    usual[: 1 if layout.prefix else count] = True
    last = next((seen.output for seen in reversed(sight.seen) if _are_tokens(seen.output, len(outputs), count)), None)
    if last is None or not outputs.requires_grad:
        return usual
    slope = torch.linspace(1, 2, outputs.shape[1], dtype=outputs.dtype, device=outputs.device)  # probabilities sum to 1
    gradient = gradient_of((outputs * slope).sum(), last)
    first = gradient.transpose(0, 1) if _first(last, len(outputs), count) else gradient
    depends = first.flatten(1, -2).any(2).any(0)
    return depends if bool(depends.any()) else usual  # a classifier of zeros says nothing


def _are_tokens(output: object, n: int, count: int) -> bool:
    if not isinstance(output, Tensor) or output.dim() < 3 or not output.requires_grad:
        return False
    return (len(output) == n and _product(output.shape[1:-1]) == count) or _first(output, n, count)


def _first(output: Tensor, n: int, count: int) -> bool:
    """Whether tokens come before images, as `torch.nn.TransformerEncoder` has them by default."""
    return output.dim() == 3 and output.shape[0] == count and output.shape[1] == n != count


def _product(shape: tuple[int, ...] | torch.Size) -> int:
    return int(torch.Size(shape).numel())


_NEEDS = "attention over all tokens"

RECORDS = (
    Method(
        Rollout, "attention", "How much of every place is in what the classifier reads, by attention alone.", False, "", False,
        _NEEDS, "1", lambda s, k: 1, "Abnar and Zuidema 2020, arXiv 2005.00928", "twin, closed form",
    ),
    Method(
        RawAttention, "attention", "What the last layer takes from every place.", False, "", False, _NEEDS, "1",
        lambda s, k: 1, "Vaswani et al. 2017, arXiv 1706.03762", "twin, closed form",
    ),
    Method(
        GradientAttention, "attention", "Attention times its gradient, followed through all layers.", False, "", True, _NEEDS,
        "1 + K", lambda s, k: 1 + k, "Chefer et al. 2021, arXiv 2103.15679", "twin, closed form",
    ),
)  # fmt: skip
