"""A classifier as a comparison measures it: pixels in, logits and maps out, whatever its encoding."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.names import quote
from torchbcos._core.probability import probabilities
from torchbcos.attribution import Attribution
from torchbcos.attribution.call import attribute_through
from torchbcos.attribution.subject import training_layer
from torchbcos.data.labelled import Split
from torchbcos.data.loading import read_example
from torchbcos.evaluation.named import NamedMethod, digest
from torchbcos.evaluation.pointing import difull, dipart
from torchbcos.explanation.engine import explain_through, gradients_of
from torchbcos.judging import fingerprint
from torchbcos.models import Network
from torchbcos.nn import BcosConv2d, BcosLinear
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Classifier
from torchbcos.zoo.pixels import normaliser, to_explain

_WEIGHTS = ("inherent", "input_x_gradient")  # methods whose values are weights times inputs
_BCOS = (BcosConv2d, BcosLinear)

__all__ = ["Measured", "common_geometry", "geometry"]


class Measured:
    """A classifier whose maps are measured.

    Attributes:
        label: what tables call it.
        source: what opens it again: a model as `torchbcos.load` takes it; "" for a network in memory.
        classifier: in eval mode.

    Raises:
        InputError: it takes no pictures.
        StateError: it is in training mode.
    """

    def __init__(self, label: str, classifier: Classifier, source: str = "") -> None:
        if classifier.transform.axes != 2:
            raise InputError(f"Comparisons are for pictures, and {label} takes {classifier.transform.form.words}.")
        if (layer := training_layer(classifier.model)) is not None:
            where = f" ({layer})" if layer else ""
            raise StateError(f"{label} is in training mode{where}, in which a picture has no one answer: call model.eval().")
        self.label, self.classifier, self.source = label, classifier, source
        self.model = classifier.model
        self.prepare = normaliser(classifier.transform, classifier.model)
        self._grids: dict[tuple[str, int], nn.Module] = {}

    @cached_property
    def key(self) -> str:
        """A hash of weights, modules, code and encoding, by which maps are kept."""
        facts = list(_facts(self.model))
        return digest(fingerprint(self.model), repr(self.model), facts, self.classifier.transform.to_dict())[:16]

    @property
    def plain(self) -> bool:
        """Whether it is no B-cos network."""
        if isinstance(self.model, Network):
            return bool(getattr(self.model, "plain", False))
        return not any(isinstance(module, _BCOS) for module in self.model.modules())

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

    def weights(self, method: NamedMethod, x: Tensor, targets: Tensor) -> Tensor | None:
        """(N, C, H, W) by which a method multiplies the input, of one target (N, 1): W(x), or the gradient; None for others."""
        if method.explainer is None or method.name not in _WEIGHTS:
            return None
        if method.name == "inherent" or method.options.get("scales") == "frozen":
            return explain_through(self.model, self.prepare, x, targets).weights[:, 0].detach()
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            value = self.model(leaf.clone() if self.prepare is None else self.prepare(leaf)).gather(1, targets.to(x.device)).sum()
            return gradients_of(value, [leaf], create_graph=False, retain_graph=False)[0].detach()

    def pixels(self, split: Split, rows: list[int], prepare: Preprocess) -> Tensor:
        """(N, C, H, W) in [0, 1]: examples of a split, resized and cut, not encoded."""
        found = [prepare.place(read_example(split, i, prepare)) for i in rows]
        other = next((i for i, one in enumerate(found) if one.shape != found[0].shape), None)
        if other is not None:
            a, b = (" x ".join(map(str, one.shape[1:])) for one in (found[0], found[other]))
            raise InputError(
                f"Pictures of one grid need one size, and {quote(split.names[rows[0]])} has {a} pixels, "
                f"{quote(split.names[rows[other]])} {b}: say which they should have (--cell)."
            )
        return torch.stack(found)


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


def common_geometry(transforms: Sequence[Preprocess], side: int | None, own: Preprocess) -> Preprocess:
    """A model's preprocessing, with pictures resized and cut alike for all models, whatever their order: for cells of grids.

    Args:
        transforms: of all models; the one with the smallest pictures decides.
        side: of a cell; None: of those pictures.
        own: which channels are read.
    """
    first = min(transforms, key=lambda one: (one.crop or 2**31, one.resize or 0, one.fit, one.interpolation))
    found = geometry(first, side)
    return dataclasses.replace(own, resize=found.resize, crop=found.crop, fit=found.fit, interpolation=found.interpolation)


def _facts(model: nn.Module) -> Iterator[object]:
    """What decides over a network's numbers beside weights and `repr`: settings, plain tensors, code."""
    for name, module in model.named_modules():
        yield [name, f"{type(module).__module__}.{type(module).__qualname__}", *_code(type(module).forward)]
        for key, value in sorted(vars(module).items()):
            if key.startswith("_") or key == "training":
                continue
            if value is None or isinstance(value, (bool, int, float, str)):
                yield [key, repr(value)]
            elif isinstance(value, Tensor):
                yield [key, digest(value)]
            elif isinstance(value, (list, tuple)) and all(isinstance(one, (bool, int, float, str)) for one in value):
                yield [key, repr(value)]
            elif isinstance(value, types.FunctionType):
                yield [key, *_code(value)]


def _code(function: object) -> list[str]:
    """A function's code, which may change where its name stays: in a notebook, or from one lambda to the next."""
    code = getattr(function, "__code__", None)
    return [] if code is None else [code.co_code.hex(), *(_constant(one) for one in code.co_consts)]


def _constant(one: object) -> str:
    if isinstance(one, types.CodeType):
        return one.co_code.hex() + "".join(_constant(inner) for inner in one.co_consts)
    return repr(sorted(map(repr, one))) if isinstance(one, frozenset) else repr(one)  # sets have another order in every process
