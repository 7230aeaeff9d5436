"""Methods that weight the features of one layer by gradients: Grad-CAM, Layer-CAM, HiResCAM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.features import Features, features_of
from torchbcos.attribution.maps import enlarged, shared_out
from torchbcos.attribution.record import Method
from torchbcos.attribution.subject import Subject
from torchbcos.kinds import OneByOne

__all__ = ["RECORDS", "GradCam", "HiResCam", "LayerCam"]


@dataclass(frozen=True)
class _Activation(Explainer):
    """What the three have in common: the layer, one pass forward, one back to that layer for each target."""

    scales: ClassVar[tuple[str, ...]] = ("live", "frozen")
    _: KW_ONLY
    layer: str | None = None

    def compute(self, subject: Subject) -> Found:
        """One pass forward; for each target one back, no further than the layer."""
        parts = []
        for rows in subject.parts():
            try:
                parts.append(self._part(subject, rows))
            except OneByOne:  # of held factors: what a constant adds to each image cannot be told from many together
                if rows.stop - rows.start == 1:
                    raise
                _ = subject.targets
                parts += [self._part(subject, slice(i, i + 1)) for i in range(rows.start, rows.stop)]
        maps, deltas = zip(*parts, strict=True)
        promised = all(delta is not None for delta in deltas)
        return Found(torch.cat(maps), None, torch.cat(deltas) if promised else None)

    def _part(self, subject: Subject, rows: slice) -> tuple[Tensor, Tensor | None]:
        with features_of(subject, rows, self.layer, self.name) as features:
            return self._of(subject, rows, features)

    def _of(self, subject: Subject, rows: slice, features: Features) -> tuple[Tensor, Tensor | None]:
        small = [self.weighted(features.values, gradient) for gradient, _ in features.gradients()]
        return enlarged(torch.stack(small, 1), tuple(subject.x.shape[2:])), None

    @abstractmethod
    def weighted(self, values: Tensor, gradient: Tensor) -> Tensor:
        """(N, *s) of features and of a target's gradient (N, C, *s)."""


@dataclass(frozen=True)
class GradCam(_Activation):
    """Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2): `ReLU(Σ_c mean(g_c) a_c)`.

    Each feature map is weighted by the mean of its gradient. After global pooling and a linear classifier that is the class
    activation map of Zhou et al. 2016. In a B-cos network the gradient differs from place to place, and its mean is a summary.

    Args:
        layer: a dotted name. None: the last one whose output still has the places of the picture and that is not the classifier
            itself; in a transformer with a class token, what the last block takes in.
        relu: keep what speaks for the class only.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> GradCam(net).attribute(torch.rand(2, 3, 9, 9), target=1).shape
    torch.Size([2, 1, 9, 9])
    """

    name: ClassVar[str] = "grad_cam"
    _: KW_ONLY
    relu: bool = True

    def weighted(self, values: Tensor, gradient: Tensor) -> Tensor:
        """Features weighted by mean gradients."""
        weights = gradient.flatten(2).mean(2).view(*gradient.shape[:2], *(1,) * (gradient.dim() - 2))
        return _kept((weights * values).sum(1), self.relu)


@dataclass(frozen=True)
class LayerCam(_Activation):
    """Layer-CAM (Jiang et al. 2021, TIP 30, eq. 6 and 7): `ReLU(Σ_c ReLU(g_c) a_c)`, each place with a weight of its own.

    Args:
        layer: as in `GradCam`.
        relu: of the sum over channels; the gradient is always cut at zero.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> LayerCam(net).attribute(torch.rand(2, 3, 9, 9), target=1).shape
    torch.Size([2, 1, 9, 9])
    """

    name: ClassVar[str] = "layer_cam"
    _: KW_ONLY
    relu: bool = True

    def weighted(self, values: Tensor, gradient: Tensor) -> Tensor:
        """Features weighted by positive gradients."""
        return _kept((gradient.clamp_min(0) * values).sum(1), self.relu)


@dataclass(frozen=True)
class HiResCam(_Activation):
    """HiResCAM (Draelos and Carin 2020, arXiv 2011.08891, eq. 4): `Σ_c g_c a_c`, signed: gradient times features, place by place.

    With scales="frozen" it is exact: the map sums to the output less the constants that are added after that layer. `delta` is
    the rest: what reaches the output past the places of that layer, as through a class token. With live scales nothing is
    promised; it holds where what follows the layer is linear, or one B-cos layer and a pooling.

    Args:
        layer: as in `GradCam`.

    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> a = HiResCam(net).run(Subject(net, None, torch.rand(2, 3, 9, 9), [[0, 1, 2], [3, 2, 1]], scales="frozen"))
    >>> a.maps.shape, bool(a.delta.abs().max() < 1e-5)
    (torch.Size([2, 3, 9, 9]), True)
    """

    name: ClassVar[str] = "hires_cam"

    def weighted(self, values: Tensor, gradient: Tensor) -> Tensor:
        """Features weighted by gradients."""
        return (gradient * values).sum(1)

    def _of(self, subject: Subject, rows: slice, features: Features) -> tuple[Tensor, Tensor | None]:
        found = [(self.weighted(features.values, gradient), added) for gradient, added in features.gradients()]
        maps = shared_out(torch.stack([small for small, _ in found], 1), tuple(subject.x.shape[2:]))
        if subject.scales == "live":  # nothing is promised there
            return maps, None
        return maps, subject.values[rows] - torch.stack([added for _, added in found], 1) - maps.flatten(2).sum(2)


def _kept(maps: Tensor, relu: bool) -> Tensor:
    return maps.clamp_min(0) if relu else maps


_NEEDS = "a layer with places"

RECORDS = (
    Method(
        GradCam, "activation", "Features of the last layer with space, each by its mean gradient.", False, "", True, _NEEDS,
        "1 + K", lambda s, k: 1 + k, "Selvaraju et al. 2017, arXiv 1610.02391", "twin, closed form, Captum",
    ),
    Method(
        LayerCam, "activation", "Features of the last layer with space, by the positive gradient of each place.", False, "", True,
        _NEEDS, "1 + K", lambda s, k: 1 + k, "Jiang et al. 2021, IEEE TIP 30", "twin, closed form",
    ),
    Method(
        HiResCam, "activation", "Gradient times features of that layer; with held scales, its part of the output.", True, "",
        True, _NEEDS, "1 + K", lambda s, k: 1 + k, "Draelos and Carin 2020, arXiv 2011.08891", "twin, closed form",
    ),
)  # fmt: skip
