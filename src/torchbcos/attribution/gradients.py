"""Methods that look at the gradient of an output: at the picture, or along a path to it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import positive_integer
from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.checks import non_negative
from torchbcos.attribution.maps import reduced
from torchbcos.attribution.record import DIFFERENCE, Method
from torchbcos.attribution.subject import Subject
from torchbcos.functional.replace import noisy

__all__ = ["GradientShap", "InputXGradient", "IntegratedGradients", "Saliency", "SmoothGrad", "RECORDS"]

_BOTH = ("live", "frozen")


@dataclass(frozen=True)
class Saliency(Explainer):
    """The gradient of the output (Simonyan, Vedaldi, Zisserman 2014, arXiv 1312.6034): how a small change of a pixel moves it.

    Args:
        absolute: values are |gradient|, as in Captum; False: signed.
        reduce: how maps come from the colour gradient `g_c - g_{c+3}`: "max" of its magnitudes, "l2", or "sum" (signed).

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    >>> Saliency(net).attribute(torch.rand(2, 3, 2, 2), target=0).shape
    torch.Size([2, 3, 2, 2])
    """

    name: ClassVar[str] = "saliency"
    scales: ClassVar[tuple[str, ...]] = _BOTH
    _: KW_ONLY
    absolute: bool = True
    reduce: str = "max"

    def compute(self, subject: Subject) -> Found:
        """One pass forward, one back for each target."""
        found = subject.own_gradients()
        return Found(reduced(found, subject.x, self.reduce), found.abs() if self.absolute else found)


@dataclass(frozen=True)
class InputXGradient(Explainer):
    """Input times gradient (Shrikumar et al. 2016, arXiv 1605.01713): `x · ∂f/∂x`, summed over channels.

    With scales="frozen" it is `torchbcos.explain(...).contributions`: exact. With live scales it is a baseline, another map.
    """

    name: ClassVar[str] = "input_x_gradient"
    scales: ClassVar[tuple[str, ...]] = _BOTH

    def compute(self, subject: Subject) -> Found:
        """One pass forward, one back for each target."""
        values = subject.own_gradients() * subject.x.unsqueeze(1)
        return Found(values.sum(2), values)


@dataclass(frozen=True)
class IntegratedGradients(Explainer):
    """Integrated Gradients (Sundararajan, Taly, Yan 2017, arXiv 1703.01365, eq. 1).

    `(x - b) · ∫ ∂f/∂x (b + α (x - b)) dα`, by Gauss and Legendre's points as in Captum, or evenly spaced ones. Complete:
    the values sum to `f(x) - f(b)`, and `delta` says by how much they miss it. With scales="frozen" every point of the path has
    factors of its own: the mean of W along the path, which is not complete.

    Args:
        steps: points on the path; `samples` of `attribute` overrides it.
        rule: "gausslegendre", "midpoint" or "trapezoid".
    """

    name: ClassVar[str] = "integrated_gradients"
    scales: ClassVar[tuple[str, ...]] = _BOTH
    _: KW_ONLY
    steps: int = 50
    rule: str = "gausslegendre"

    def compute(self, subject: Subject) -> Found:
        """Steps times: one pass forward, one back for each target."""
        places, weights = _points(subject.samples or _count(self.steps, "steps"), self.rule)
        base = subject.baseline
        away = subject.x - base
        mean = subject.mean_gradient(lambda j: base + places[j] * away, weights)
        values = mean * away.unsqueeze(1)
        return Found(values.sum(2), values, _delta(subject, values))


@dataclass(frozen=True)
class SmoothGrad(Explainer):
    """The mean gradient of noisy copies (Smilkov et al. 2017, arXiv 1706.03825, section 3).

    Noise is drawn for colours, so that encoded pictures stay encoded; every image gets the same noise.

    Args:
        copies: noisy copies; `samples` of `attribute` overrides it.
        noise: its standard deviation, in units of the range (largest minus smallest number) of the image.
        reduce: as in `Saliency`.
        multiply: by the input, which makes it a smoothed `InputXGradient`.
    """

    name: ClassVar[str] = "smooth_grad"
    scales: ClassVar[tuple[str, ...]] = _BOTH
    _: KW_ONLY
    copies: int = 25
    noise: float = 0.15
    reduce: str = "max"
    multiply: bool = False

    def compute(self, subject: Subject) -> Found:
        """Copies times: one pass forward, one back for each target."""
        count = subject.samples or _count(self.copies, "copies")
        noise = [subject.noise(non_negative(self.noise, "noise")) for _ in range(count)]
        flat = subject.x.flatten(1)
        wide = (flat.amax(1) - flat.amin(1)).view(-1, *(1,) * (subject.x.dim() - 1))
        mean = subject.mean_gradient(lambda j: noisy(subject.x, noise[j] * wide), [1 / count] * count)
        if self.multiply:
            values = mean * subject.x.unsqueeze(1)
            return Found(values.sum(2), values)
        return Found(reduced(mean, subject.x, self.reduce), mean)


@dataclass(frozen=True)
class GradientShap(Explainer):
    """Expected gradients between the baseline and noisy copies (Lundberg and Lee 2017, arXiv 1705.07874; Erion et al. 2021).

    The mean of `(x + noise - b) · ∂f/∂x` at random points between the two; complete in expectation.

    Args:
        points: random points; `samples` of `attribute` overrides it.
        noise: standard deviation in the units of x.
    """

    name: ClassVar[str] = "gradient_shap"
    scales: ClassVar[tuple[str, ...]] = _BOTH
    _: KW_ONLY
    points: int = 25
    noise: float = 0.0

    def compute(self, subject: Subject) -> Found:
        """Points times: one pass forward, one back for each target."""
        count = subject.samples or _count(self.points, "points")
        drawn = torch.rand(count, generator=subject.generator, device=subject.generator.device).tolist()
        noise = [subject.noise(non_negative(self.noise, "noise")) for _ in range(count)]
        base = subject.baseline

        def copy(j: int) -> Tensor:
            return noisy(subject.x, noise[j])

        values = subject.mean_gradient(
            lambda j: base + drawn[j] * (copy(j) - base), [1 / count] * count, lambda j: copy(j) - base
        )  # fmt: skip
        return Found(values.sum(2), values, _delta(subject, values))


def _delta(subject: Subject, values: Tensor) -> Tensor | None:
    """(N, K) what the values lack of f(x) - f(b); held factors promise no such sum."""
    if subject.scales == "frozen":
        return None
    ((_, found),) = subject.scores(lambda _: subject.baseline, 1)
    return subject.values - found[0] - values.flatten(2).sum(2).to(subject.values.dtype)


def _points(count: int, rule: str) -> tuple[list[float], list[float]]:
    """Places in [0, 1] and their weights, which sum to 1."""
    if rule == "gausslegendre":
        places, weights = np.polynomial.legendre.leggauss(count)
        return ((1 + places) / 2).tolist(), (weights / 2).tolist()
    if rule == "midpoint":
        return [(j + 0.5) / count for j in range(count)], [1 / count] * count
    if rule == "trapezoid":
        if count < 2:
            raise InputError("The trapezoid rule needs at least two steps.")
        ends = [1.0 if 0 < j < count - 1 else 0.5 for j in range(count)]
        return [j / (count - 1) for j in range(count)], [end / (count - 1) for end in ends]
    raise InputError(f"rule must be 'gausslegendre', 'midpoint' or 'trapezoid', not {rule!r}.")


def _count(value: object, name: str) -> int:
    found = positive_integer(value)
    if found is None:
        raise InputError(f"{name} must be a positive integer, not {value!r}.")
    return found


RECORDS = (
    Method(
        Saliency, "gradient", "How a small change of a pixel moves the output.", False, "", True, "a gradient", "1 + K",
        lambda s, k: 1 + k, "Simonyan et al. 2014, arXiv 1312.6034", "twin, Captum",
    ),
    Method(
        InputXGradient, "gradient", "The gradient times the pixel.", True, "", True, "a gradient", "1 + K",
        lambda s, k: 1 + k, "Shrikumar et al. 2016, arXiv 1605.01713", "twin, Captum",
    ),
    Method(
        IntegratedGradients, "gradient", "The gradient along a path from the baseline, times the way.", True, DIFFERENCE, True,
        "a gradient", "50 (1 + K) + 2", lambda s, k: 50 * (1 + k) + 2, "Sundararajan et al. 2017, arXiv 1703.01365",
        "twin, closed form, Captum",
    ),
    Method(
        SmoothGrad, "gradient", "The mean gradient of noisy copies.", False, "", True, "a gradient", "25 (1 + K) + 1",
        lambda s, k: 25 * (1 + k) + 1, "Smilkov et al. 2017, arXiv 1706.03825", "twin, Captum",
    ),
    Method(
        GradientShap, "gradient", "Expected gradients between baseline and picture.", True, DIFFERENCE, True, "a gradient",
        "25 (1 + K) + 2", lambda s, k: 25 * (1 + k) + 2, "Lundberg and Lee 2017, arXiv 1705.07874", "twin, Captum",
    ),
)  # fmt: skip
