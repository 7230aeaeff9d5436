"""A classifier as a comparison measures it: pixels in, logits and maps out, whatever its encoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos._core.probability import probabilities
from torchbcos.attribution import Attribution
from torchbcos.attribution.call import attribute_through
from torchbcos.data.labelled import Split
from torchbcos.data.loading import read_example
from torchbcos.evaluation.named import NamedMethod, digest
from torchbcos.evaluation.pointing import difull, dipart
from torchbcos.judging import fingerprint
from torchbcos.models import Network
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Classifier
from torchbcos.zoo.pixels import normaliser, to_explain

__all__ = ["Measured", "geometry"]


class Measured:
    """A classifier whose maps are measured.

    Attributes:
        label: what tables call it.
        source: what opens it again: a model as `torchbcos.load` takes it; "" for a network in memory.
        classifier: in eval mode.
    """

    def __init__(self, label: str, classifier: Classifier, source: str = "") -> None:
        if classifier.transform.axes != 2:
            raise InputError(f"Comparisons are for pictures, and {label} takes {classifier.transform.form.words}.")
        self.label, self.classifier, self.source = label, classifier, source
        self.model = classifier.model
        self.prepare = normaliser(classifier.transform, classifier.model)
        self._grids: dict[tuple[str, int], nn.Module] = {}

    @cached_property
    def key(self) -> str:
        """A hash of weights, modules and encoding, by which maps are kept."""
        return digest(fingerprint(self.model), repr(self.model), self.classifier.transform.to_dict())[:16]

    @property
    def plain(self) -> bool:
        """Whether it is no B-cos network."""
        return not (isinstance(self.model, Network) and not getattr(self.model, "plain", False))

    def inputs(self, pixels: Tensor) -> Tensor:
        """Pixels (N, C, H, W) in [0, 1] as maps belong to them: encoded, or as they are where a network's input is normalised."""
        x = pixels if self.prepare is not None else self.classifier.transform.encode(pixels, dim=1)
        return to_explain(x, self.model)

    def network(self, variant: str = "", n: int = 1) -> nn.Module:
        """The network, or what DiFull or DiPart make of it on grids of n x n pictures."""
        if not variant:
            return self.model
        if (variant, n) not in self._grids:
            self._grids[variant, n] = {"difull": difull, "dipart": dipart}[variant](self.model, n)
        return self._grids[variant, n]

    def logits(self, x: Tensor) -> Tensor:
        """(N, classes) of what `inputs` gives."""
        with torch.no_grad():
            found: Tensor = self.model(x.clone() if self.prepare is None else self.prepare(x.clone()))
        return found

    def scores(self, kind: str) -> Callable[[Tensor], Tensor]:
        """From inputs to logits (N, classes), or to probabilities as the card says."""
        card = self.classifier.card
        if kind == "logit":
            return self.logits
        return lambda x: probabilities(self.logits(x), card.probability, card.temperature)

    def attribute(self, method: NamedMethod, x: Tensor, targets: Tensor, *, network: nn.Module | None = None) -> Attribution:
        """Maps of a method; as `torchbcos.attribute` gives them."""
        if method.explainer is None:
            raise InputError(f"{method.label} is no method that asks a network.")
        return attribute_through(
            self.model if network is None else network, self.prepare, x, targets, method=method.explainer, **method.options
        )

    def pixels(self, split: Split, rows: list[int], prepare: Preprocess) -> Tensor:
        """(N, C, H, W) in [0, 1]: examples of a split, resized and cut, not encoded."""
        return torch.stack([prepare.place(read_example(split, i, prepare)) for i in rows])


def geometry(transform: Preprocess, side: int | None) -> Preprocess:
    """The same preprocessing, for squares of another side: resized in proportion, so that the same part of a picture is seen.

    >>> found = geometry(Preprocess(resize=256, crop=224), 112)
    >>> found.resize, found.crop
    (128, 112)
    """
    if side is None or side == transform.crop:
        return transform
    resize = side if transform.crop is None or transform.resize is None else round(transform.resize * side / transform.crop)
    return dataclasses.replace(transform, resize=max(resize, side), crop=side)
