"""Whether an explanation notices that the network lost its training: similarities layer by layer, and entropies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.functional.replace import noisy
from torchbcos.metrics.about import Metric
from torchbcos.metrics.checks import check_maps
from torchbcos.metrics.likeness import agreement
from torchbcos.metrics.passes import check_count, check_pictures, own_generator
from torchbcos.metrics.wide import wide

__all__ = ["METRICS", "LayerSimilarity", "entropy_rise", "histogram_entropy", "mean_of_noisy", "randomisation", "unit_moment"]

_SAME = 0.9999  # from here on two maps are one
_UNTOUCHED = "as trained"


@dataclass(frozen=True)
class LayerSimilarity:
    """How similar maps stay to those of the trained network while its layers begin again.

    Attributes:
        names: L layers, in the order in which they began again.
        similarity: (L, N); NaN where a map has the same number everywhere: such a network explains nothing any more.
        floor: (N,), the similarity of the maps of two networks that never were trained, or None. They show the same picture,
            and may be alike: no method can be asked to fall below it.
    """

    names: tuple[str, ...]
    similarity: Tensor
    floor: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """(N,) over the layers for which it is defined; the trained network, whose maps are its own, is not among them."""
        return self.similarity.nanmean(0)

    @property
    def undefined(self) -> Tensor:
        """(N,) int64: for how many layers the similarity of an image is not defined."""
        return self.similarity.isnan().sum(0)

    @property
    def ignores_model(self) -> bool:
        """Whether all maps stay what they were, wherever that is defined: the method does not look at the network."""
        defined = self.similarity[~self.similarity.isnan()]
        return len(defined) > 0 and bool((defined >= _SAME).all())

    def rows(self) -> list[tuple[str, float]]:
        """The trained network, similar to itself by 1, and the mean of the images for every layer.

        >>> LayerSimilarity(("fc",), torch.tensor([[0.25, 0.75]])).rows()
        [('as trained', 1.0), ('fc', 0.5)]
        """
        means = self.similarity.nanmean(1).tolist()
        return [(_UNTOUCHED, 1.0), *zip(self.names, means, strict=True)]


def randomisation(
    maps: Tensor, randomised: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], *,
    independent: tuple[Tensor, Tensor] | None = None, kind: str = "spearman", pool: int | None = 14, magnitudes: bool = False,
) -> LayerSimilarity:  # fmt: skip
    """How similar maps stay while the layers of the network begin again (Adebayo et al., arXiv 1810.03292).

    Args:
        maps: (N, *S), of the trained network.
        randomised: for each layer its name and the maps (N, *S) of the network in which it has begun again, as a mapping or one
            by one: `((name, explain(copy)) for name, copy in torchbcos.evaluation.randomised(model))` keeps one at a time.
        independent: maps of two networks without any training, drawn independently: their similarity is the floor.
        kind, pool: as of `agreement`.
        magnitudes: compare |maps|, as the paper does beside the signed ones.

    Returns:
        The similarities; `mean` is one number an image.

    Raises:
        ArgumentTypeError: something is no tensor.
        InputError: there is no layer, maps differ in shape, or a number is not finite.

    >>> maps = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    >>> found = randomisation(maps, {"fc": maps.flip(1), "conv": maps[:, [1, 0, 2, 3]]})
    >>> found.similarity.flatten().tolist(), found.mean.tolist(), found.ignores_model
    ([-1.0, 0.800000011920929], [-0.09999999403953552], False)
    """
    pairs = list(randomised.items()) if isinstance(randomised, Mapping) else randomised
    maps = check_maps(maps)
    trained = maps.abs() if magnitudes else maps
    names, rows = [], []
    for name, others in pairs:
        others = check_maps(others, f"maps of {name!r}")
        rows.append(agreement(trained, others.abs() if magnitudes else others, kind, pool=pool))
        names.append(str(name))
    if not names:
        raise InputError("There is no layer that began again: give the maps of at least one.")
    floor = None
    if independent is not None:
        a, b = (check_maps(one, "independent maps", images=len(maps)) for one in independent)
        floor = agreement(a.abs(), b.abs(), kind, pool=pool) if magnitudes else agreement(a, b, kind, pool=pool)
    return LayerSimilarity(tuple(names), torch.stack(rows), floor)


def mean_of_noisy(
    explain: Callable[[Tensor], Tensor], x: Tensor, *, samples: int = 50, noise: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """The mean map of noisy copies of a picture: what the smooth randomisation test compares (sMPRT, arXiv 2401.06465).

    Maps of random networks are noise, and maps that are noise differ most: their mean differs by what they say. The last of the
    copies has no noise. All images get the same noise, in units of their own range; encoded pictures `[c, 1 - c]` stay encoded.

    Args:
        explain: (N, C, *S) -> maps (N, *S).
        x: (N, C, *S).
        samples: copies, with the one without noise.
        noise: standard deviation, in units of the picture's range (highest minus lowest number).
        generator: None: a fresh one with seed 0.

    Returns:
        (N, *S), in the dtype of the maps.

    Raises:
        InputError: `samples` is below 1, `noise` is negative, or a number is not finite.

    >>> mean_of_noisy(lambda x: 2 * x[:, 0], torch.tensor([[[0.0, 1.0]]]), samples=1)
    tensor([[0., 2.]])
    """
    x = check_pictures(x)
    count = check_count(samples, "samples")
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < float("inf"):
        raise InputError(f"noise is a standard deviation in units of the picture's range, 0 or more, not {noise!r}.")
    generator = own_generator(generator)
    span = (x.flatten(1).amax(1) - x.flatten(1).amin(1)).view(-1, *(1,) * (x.dim() - 1)) * noise
    total: Tensor | None = None
    for _ in range(count - 1):
        drawn = torch.randn(x.shape[1:], generator=generator, device=generator.device).to(x)
        total = _added(total, explain(noisy(x, drawn * span)), len(x))
    last = check_maps(explain(x), images=len(x))
    return (_added(total, last, len(x)) / count).to(last.dtype)


def _added(total: Tensor | None, maps: Tensor, images: int) -> Tensor:
    maps = wide(check_maps(maps, images=images))
    return maps if total is None else total + maps


def unit_moment(maps: Tensor) -> Tensor:
    """Maps whose mean square is 1 (Binder et al., arXiv 2211.12486): differences of two maps are then in one unit.

    Args:
        maps: (N, *S).

    Returns:
        (N, *S); a map of zeros stays one.

    Raises:
        InputError: a number is not finite.

    >>> unit_moment(torch.tensor([[3.0, -3.0], [0.0, 0.0]]))
    tensor([[ 1., -1.],
            [ 0.,  0.]])
    """
    maps = check_maps(maps)
    values = wide(maps).flatten(1)
    largest = values.abs().amax(1, keepdim=True)
    values = torch.where(largest > 0, values / largest, 0.0)
    moment = values.square().mean(1, keepdim=True).sqrt()
    return torch.where(moment > 0, values / moment, 0.0).view(maps.shape).to(maps.dtype)


def histogram_entropy(maps: Tensor, *, bins: int = 100) -> Tensor:
    """Entropy, in nats, of how often a map's numbers fall into equal bins between its lowest and its highest.

    Args:
        maps: (N, *S).
        bins: how many; the last includes its upper end.

    Returns:
        (N,), in [0, ln bins]; 0 for a map that has the same number everywhere.

    Raises:
        InputError: a number is not finite, or `bins` is below 1.

    >>> histogram_entropy(torch.tensor([[0.0, 1.0], [2.0, 2.0]]))
    tensor([0.6931, 0.0000])
    """
    maps = check_maps(maps)
    count = check_count(bins, "bins")
    values = wide(maps).flatten(1)
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    width = high / 2 - low / 2  # halves, so that the difference of two huge numbers stays finite
    places = torch.where(width > 0, (values / 2 - low / 2) / width * count, 0.0).long().clamp(max=count - 1)
    found = torch.zeros(len(values), count, dtype=values.dtype, device=values.device)
    found.scatter_add_(1, places, torch.ones_like(values))
    entropies: Tensor = torch.special.entr(found / values.shape[1])
    return entropies.sum(1).to(maps.dtype)


def entropy_rise(maps: Tensor, randomised: Tensor, *, bins: int = 100) -> Tensor:
    """How much more complex maps become once the whole network has begun again: `(H' - H) / H` (eMPRT, arXiv 2401.06465).

    Two explanations an image are enough; H is `histogram_entropy`. A method that looks at the network gives noise for a random
    one, and noise is complex.

    Args:
        maps: (N, *S), of the trained network.
        randomised: (N, *S), of one whose layers have all begun again.
        bins: of the histograms.

    Returns:
        (N,): above 0 if the maps became more complex; NaN where the trained network's map has one number everywhere.

    Raises:
        InputError: shapes differ, a number is not finite, or `bins` is below 1.

    >>> entropy_rise(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    tensor([1.])
    """
    maps, randomised = check_maps(maps), check_maps(randomised, "randomised maps")
    if maps.shape != randomised.shape:
        raise InputError(f"Maps of shape {tuple(maps.shape)} and {tuple(randomised.shape)} cannot be compared: resize one.")
    before, after = (histogram_entropy(wide(one), bins=bins) for one in (maps, randomised.to(maps.device)))
    return torch.where(before > 0, (after - before) / before, torch.nan).to(maps.dtype)


METRICS = (
    Metric(
        name="randomisation",
        function=randomisation,
        summary="How similar maps stay while the layers of the network lose their training, one after the other.",
        best="low",
        range="[-1, 1]; a map that ignores the network 1, uniform undefined",
        needs="explain, the model",
        cost="one more map a layer",
        source="Adebayo et al. 2018, arXiv 1810.03292",
        verified="twin, closed form",
        blind="Maps that are noise are the best; the order of layers and the similarity decide; untrained networks may be alike.",
    ),
)
