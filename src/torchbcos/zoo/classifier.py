"""A classifier: a network with its preprocessing and its class names."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.habits import CLASSIFIER, CLASSIFIER_CLASS, no_attribute
from torchbcos._core.names import brief
from torchbcos._core.numbers import positive_integer
from torchbcos._core.probability import probabilities
from torchbcos.attribution import Attribution, Explainer
from torchbcos.explanation import Explanation
from torchbcos.explanation.engine import explain_through
from torchbcos.explanation.finite import check_finite
from torchbcos.pictures import Preprocess, Range, Seen, title_of
from torchbcos.zoo.asked import Asked, class_index
from torchbcos.zoo.attributing import Walk
from torchbcos.zoo.card import Card
from torchbcos.zoo.describe import Builder, card_around
from torchbcos.zoo.looked import look, warn_incomplete
from torchbcos.zoo.pixels import normaliser, photos_of, to_explain, transform_of
from torchbcos.zoo.probe import check_logits, moved, one_sentence
from torchbcos.zoo.progress import shown
from torchbcos.zoo.sizes import other_size, trained_sides, warn_of_size

__all__ = ["Classifier", "Prediction"]

_Batch = tuple[list[str], Tensor, tuple[Seen, ...], bool]


@dataclass(frozen=True)
class Prediction:
    """One class of one picture: its index, label, probability and logit."""

    index: int
    label: str
    probability: float
    logit: float


class _Kind(type):
    """Answers `Classifier.load` and the like, which other libraries have."""

    if not TYPE_CHECKING:  # type checkers know what there is

        def __getattr__(cls, name: str) -> NoReturn:
            raise no_attribute(f"The class {cls.__name__}", name, CLASSIFIER_CLASS, dir(cls))


class Classifier(metaclass=_Kind):
    """Pictures in, predictions and exact explanations out.

    Args:
        model: any network that `torchbcos.explain` takes, on encoded input. Without a card it is put into eval mode.
        card: what its weights are, where that is known already: then nothing else is given.
        class_names: in the order of its outputs. None: those that the network knows, or "class 0", "class 1", …: as many as it
            gives logits for a made-up input of one of the usual sizes.
        preprocess: how examples become its input, or the same as a dict. None: as its card says; for a network of one's own,
            examples as they are, encoded for the channels that its first convolution takes.
        probability: "sigmoid" (each class on its own: trained with BCE) or "softmax". None: the network's own, else "sigmoid".
        builder: what builds a network of one's own, so that `save` can write a folder that `load` reads: the name of a function
            or class that can be imported, "package.module:function", or that function.
        options: the arguments that it was built with, beside `num_classes` and `in_channels`.

    Attributes:
        model: the network, on encoded input.
        card: what its weights are.
        class_names: in the order of its outputs.

    Raises:
        InputError: names, channels or outputs do not fit the network, or the number of its classes cannot be found out.
        ArgumentTypeError: `model` is no module, or another argument has the wrong type.

    Warns:
        ExplanationWarning: without a card: `explain` refuses the network, or its explanations do not add up. It predicts all the
            same.

    >>> from torchbcos import nn as bnn
    >>> net = nn.Sequential(bnn.BcosConv2d(6, 2, 3), bnn.GlobalAveragePool())
    >>> Classifier(net, class_names=("cat", "dog")).predict(torch.rand(3, 16, 16), top_k=1)[0][0].label in ("cat", "dog")
    True
    """

    def __init__(
        self,
        model: nn.Module,
        card: Card | None = None,
        *,
        class_names: Iterable[str] | None = None,
        preprocess: Preprocess | Mapping[str, Any] | None = None,
        probability: str | None = None,
        builder: Builder | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        facts: dict[str, Any] = {
            "class_names": class_names, "preprocess": preprocess, "probability": probability, "builder": builder,
            "options": options,
        }  # fmt: skip
        if facts_given := card is None:
            card = card_around(model, **facts)
            model.eval()
        elif given := [name for name, value in facts.items() if value is not None]:
            raise InputError(f"A card says what {given[0]} is: give a card, or {', '.join(facts)}.")
        if not isinstance(card, Card):
            raise ArgumentTypeError(
                f"card is a Card, not {type(card).__name__}: class names are class_names=…, preprocessing is preprocess=…."
            )
        if card.preprocess is None:
            raise InputError(f"The card of {card.name} has no preprocessing: use the network itself on encoded tensors.")
        self.model, self.card = model, card
        self.class_names = card.class_names()
        self.transform = transform_of(card, dict(card.preprocess))
        if facts_given:
            look(model, self.transform)

    def __repr__(self) -> str:
        names = self.class_names
        known = f" ({', '.join(map(brief, names))})" if len(names) <= 4 else ""
        return f"Classifier {brief(self.card.name)!r}: {brief(self.card.architecture)}, {len(names):,} classes{known}"

    if not TYPE_CHECKING:  # type checkers know what there is

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute("A Classifier", name, CLASSIFIER, [*dir(type(self)), *vars(self)])

        def __call__(self, *images: Any, **options: Any) -> NoReturn:
            raise ArgumentTypeError(
                "A Classifier is not called: clf.predict(images) and clf.explain(images) take pictures, and "
                "clf.model(clf.preprocess(images)) gives logits."
            )

    def fitted(self, fit: str | None) -> Classifier:
        """This classifier with pictures cut ("crop") or whole between bars ("letterbox"), as its card then says; None: itself.

        Raises:
            InputError: `fit` is neither, or this classifier takes no pictures.

        See `torchbcos.pictures.Preprocess`.
        """
        if fit is None or fit == self.transform.fit:
            return self
        if self.transform.axes != 2:
            raise InputError(f"fit={fit!r} is for pictures; this classifier takes {self.transform.form.words}, as they are.")
        changed = Preprocess.from_dict({**self.transform.to_dict(), "fit": fit})
        return Classifier(self.model, dataclasses.replace(self.card, preprocess=changed.to_dict()))

    def preprocess(self, images: Any, *, value_range: Range | None = None) -> Tensor:
        """Inputs as the network wants them: (N, C, *S), on its device and in its dtype.

        Args:
            images: a path (a picture, `.npy`, DICOM, NIfTI, a folder or pattern of them), an open binary file, a PIL image, an
                array or tensor (C, *S), a batch (N, C, *S) of them, a Scan, or a sequence or iterator of these; numbers are
                floats in [0, 1] or bytes (uint8). Arrays of pictures may have their colours last, (H, W, 3).
            value_range: the numbers that become 0 and 1 (black and white), (0, 4095) for 12 bits in 16, say; what lies outside is
                cut to these ends. With it arrays and tensors of any real dtype are taken. None: the card's, if it has one; else
                see `torchbcos.pictures.read_image`.

        Raises:
            ArgumentTypeError, InputError, MissingFileError: something is no such input; the message says what is taken.
        """
        return self._moved(self.transform.batch(images, value_range=value_range))

    def predict(
        self, images: Any, *, top_k: int = 5, batch_size: int = 16, value_range: Range | None = None, fit: str | None = None,
        progress: bool = False,
    ) -> list[list[Prediction]]:  # fmt: skip
        """The `top_k` classes of every picture, most probable first; no more than one batch of pictures is in memory.

        Arguments as `iter_predict`.
        """
        options: dict[str, Any] = {"top_k": top_k, "batch_size": batch_size, "value_range": value_range, "fit": fit}
        return list(self.iter_predict(images, **options, progress=progress))

    def iter_predict(
        self, images: Any, *, top_k: int = 5, batch_size: int = 16, value_range: Range | None = None, fit: str | None = None,
        progress: bool = False,
    ) -> Iterator[list[Prediction]]:  # fmt: skip
        """The `top_k` classes picture by picture, in constant memory.

        Args:
            images: as `preprocess` takes them, or an iterator of single ones, of any length.
            top_k: how many classes.
            batch_size: how many pictures are in memory, and in the network, at a time.
            value_range: the numbers of black and white, see `preprocess`.
            fit: as `fitted` takes it.
            progress: show a bar on stderr, or in a notebook.
        """
        seen = self.fitted(fit).iter_seen(
            images, top_k=top_k, batch_size=batch_size, value_range=value_range, progress=progress
        )  # fmt: skip
        yield from (predictions for predictions, _ in seen)

    def iter_seen(
        self, images: Any, *, top_k: int = 5, batch_size: int = 16, value_range: Range | None = None, progress: bool = False
    ) -> Iterator[tuple[list[Prediction], Seen]]:
        """`iter_predict`, and beside the classes of each picture what part of it the network looked at."""
        for _, x, seen, _ in _shown(self._batches(images, batch_size, value_range), images, progress):
            with torch.no_grad(), one_sentence(x):
                outputs = self.model(x)
            check_logits(outputs, x, len(self.class_names) or None)
            check_finite(self.model, x, {"outputs": outputs})
            yield from zip(self.predictions(outputs, top_k=top_k), seen, strict=True)

    def _batches(
        self, images: Any, batch_size: int, value_range: Range | None, *, ahead: bool = False, encode: bool = True
    ) -> Iterator[_Batch]:
        """Encoded batches, the file's name of each picture ("" where it is no file), what is seen of it, each read once.

        And whether this batch is known to be the last. `ahead`: look whether another picture follows, without reading it;
        `encode=False`: pixels, not yet encoded.
        """
        named, size = self.transform.items(images), _checked(batch_size)
        while items := list(itertools.islice(named, size)):
            files = [title_of(item) for _, item in items]
            following = list(itertools.islice(named, 1)) if ahead else []
            named = itertools.chain(following, named) if following else named
            x, seen = self.transform.look(items, value_range=value_range, encode=encode)
            warn_of_size(self.other_size(x.shape[2:]))
            yield files, self._moved(x) if encode else to_explain(x, self.model), seen, ahead and not following

    def other_size(self, sides: Sequence[int]) -> str | None:
        """A sentence where signals or volumes of these sides (*S) are not of the size that was trained on; None otherwise."""
        trained = None if self.transform.axes == 2 else trained_sides(self.card, self.transform)
        return other_size(trained, sides, self.transform.form.kind)

    def _moved(self, x: Tensor) -> Tensor:
        return moved(x, self.model)

    def predictions(self, outputs: Tensor, *, top_k: int = 5) -> list[list[Prediction]]:
        """The `top_k` classes for each row of logits (N, classes).

        Raises:
            InputError: `top_k` is no positive integer.
            StateError: a logit is NaN or infinite; the message says which weight is.
        """
        count = positive_integer(top_k)
        if count is None:
            raise InputError(f"top_k must be a positive integer, not {top_k!r}.")
        if not self.class_names:
            raise InputError(
                "This network has no classes (num_classes=0): it returns features. Use them as "
                "clf.model(clf.preprocess(images)), or explain one: clf.explain(images, targets=0)."
            )
        logits = outputs.detach().float().cpu()
        check_finite(self.model, None, {"outputs": logits})
        chances = probabilities(logits, self.card.probability, self.card.temperature)
        rows = []
        for i in range(len(logits)):
            best = logits[i].topk(min(count, logits.shape[1])).indices.tolist()
            rows.append([Prediction(c, self.class_names[c], float(chances[i, c]), float(logits[i, c])) for c in best])
        return rows

    def explain(
        self,
        images: Any,
        targets: Any = None,
        *,
        top_k: int = 1,
        contrast: Any = None,
        batch_size: int = 16,
        value_range: Range | None = None,
        fit: str | None = None,
        progress: bool = False,
        products: str | None = None,
        verify: bool = False,
    ) -> Explanation:
        """Exact explanations of all pictures; arguments as `torchbcos.explain`, classes also by name.

        Args:
            images: as `preprocess` takes them, or an iterator of single ones.
            targets: None (the `top_k` highest of each picture), one class for all, one a picture, or K a picture (N, K). For
                one picture alone, a list names its classes: `clf.explain("bus.jpg", ["church", "tench"])` explains both.
            top_k: K where `targets` is None.
            contrast: the same forms: one class for all, one a picture, or one a target.
            batch_size: how many pictures are in memory at a time.
            value_range: the numbers of black and white, see `preprocess`.
            fit: as `fitted` takes it.
            progress: show a bar on stderr, or in a notebook.
            products, verify: as in `torchbcos.explain`.

        Raises:
            InputError: there are more or fewer targets than pictures, or a class is unknown.
            StateError: the network's numbers are not finite, or it cannot be explained.

        Warns:
            ExplanationWarning: an explanation does not add up (`Explanation.complete`).
        """
        options: dict[str, Any] = {
            "top_k": top_k, "contrast": contrast, "batch_size": batch_size, "value_range": value_range, "fit": fit,
            "progress": progress, "products": products, "verify": verify,
        }  # fmt: skip
        e = Explanation.join(list(self._explanations(images, targets, **options)))
        warn_incomplete(e)
        return e

    def iter_explain(
        self,
        images: Any,
        targets: Any = None,
        *,
        top_k: int = 1,
        contrast: Any = None,
        batch_size: int = 16,
        value_range: Range | None = None,
        fit: str | None = None,
        progress: bool = False,
        products: str | None = None,
        verify: bool = False,
    ) -> Iterator[Explanation]:
        """One explanation a batch: folders, and iterators, of any size in constant memory; arguments as `explain`."""
        warned = False
        options: dict[str, Any] = {
            "top_k": top_k, "contrast": contrast, "batch_size": batch_size, "value_range": value_range, "fit": fit,
            "progress": progress, "products": products, "verify": verify,
        }  # fmt: skip
        for e in self._explanations(images, targets, **options):
            warned = warned or warn_incomplete(e)
            yield e

    def _explanations(
        self, images: Any, targets: Any, *, top_k: int, contrast: Any, batch_size: int, value_range: Range | None,
        fit: str | None, progress: bool, products: str | None, verify: bool,
    ) -> Iterator[Explanation]:  # fmt: skip
        """One a batch."""
        chosen, other = Asked(self.class_index(targets)), Asked(self.class_index(contrast), "contrast")
        fitted, start, ahead = self.fitted(fit), 0, chosen.several or other.several
        prepare = normaliser(self.transform, self.model)
        batches = fitted._batches(images, batch_size, value_range, ahead=ahead, encode=prepare is None)
        for files, x, seen, last in _shown(batches, images, progress):
            alone = last and start == 0 and len(x) == 1
            rows, rest = (asked.rows(start, len(x), alone=alone) for asked in (chosen, other))
            with one_sentence(x):
                found = explain_through(
                    self.model, prepare, x, rows, top_k=top_k, contrast=rest, products=products, verify=verify
                )
            check_logits(found.outputs, x, len(self.class_names) or None)
            photos = self.transform.decode(found.inputs) if prepare is None else photos_of(found.inputs)
            yield self._captioned(found, photos, files, seen, fitted.card)
            start += len(x)
        for asked in (chosen, other):
            asked.check_all(start)

    def attribute(
        self, images: Any, targets: Any = None, *, method: str | Explainer, top_k: int = 1, batch_size: int = 16,
        value_range: Range | None = None, fit: str | None = None, progress: bool = False, **options: Any,
    ) -> Attribution:  # fmt: skip
        """Maps of any method for all pictures; arguments as `explain` and `torchbcos.attribute`.

        Args:
            images, targets, top_k, batch_size, value_range, fit, progress: as `explain` takes them.
            method: a name of `torchbcos.attribution.METHODS`, or a method with settings.
            options: scales, baseline, samples, generator: as in `torchbcos.attribute`.

        Raises:
            InputError, StateError, ArgumentTypeError: as `torchbcos.attribute`.
        """
        chosen, prepare = Asked(self.class_index(targets)), normaliser(self.transform, self.model)
        batches = self.fitted(fit)._batches(images, batch_size, value_range, ahead=chosen.several, encode=prepare is None)
        walk = Walk(self.model, prepare, chosen, method, top_k, options)
        parts = []
        for _, x, _, last in _shown(batches, images, progress):
            found = walk.batch(x, last=last)
            photos = self.transform.decode(found.inputs) if prepare is None else photos_of(found.inputs)
            parts.append(dataclasses.replace(found, class_names=self.class_names, photos=photos))
        chosen.check_all(walk.start)
        return Attribution.join(parts)

    def _captioned(self, e: Explanation, photos: Tensor, files: list[str], seen: tuple[Seen, ...], card: Card) -> Explanation:
        """The explanation with what only the classifier knows of it: names, probability, and what the network saw."""
        facts: dict[str, Any] = {"probability": card.probability, "temperature": card.temperature}
        facts["origin"] = None if e.origin is None else e.origin.with_card(card)
        named = dataclasses.replace(e, class_names=self.class_names, **facts)
        return named.shown_with(photos=photos, titles=files, seen=seen)

    def class_index(self, target: Any) -> Any:
        """A class by name or number; other forms are passed on.

        Raises:
            InputError: there is no such class.
        """
        return class_index(target, self.class_names)


def _shown(batches: Iterator[_Batch], images: Any, wanted: bool) -> Iterator[_Batch]:
    return shown(batches, images, wanted, size=lambda batch: len(batch[0]))


def _checked(batch_size: int) -> int:
    size = positive_integer(batch_size)
    if size is None:
        raise InputError(f"batch_size must be a positive integer, not {batch_size!r}.")
    return size
