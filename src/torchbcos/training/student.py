"""The student of an alignment: its teacher, converted once, and kept in the run's folder."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from torchbcos._core.claim import claimed
from torchbcos._core.errors import BcosError, InputError, StateError, shorten
from torchbcos._core.files import read_whole, write_json
from torchbcos._core.names import quote
from torchbcos.conversion import Report, Step, conversion_of, mark, steps_from
from torchbcos.conversion.choosing import role_of
from torchbcos.conversion.planning import LAYERS
from torchbcos.conversion.recording import record
from torchbcos.conversion.report import percent
from torchbcos.data.labelled import Labelled
from torchbcos.data.notes import count_of
from torchbcos.deployment.settle import copy_of
from torchbcos.judging.saved import fingerprint
from torchbcos.nn.bcosified import Biased
from torchbcos.runs import RunFolder
from torchbcos.training.alignment import check_convolutional
from torchbcos.training.context import Say
from torchbcos.training.recipe import PROGRAM, Recipe
from torchbcos.zoo import Classifier, load, save
from torchbcos.zoo.converting import bcosify, card_around_converted
from torchbcos.zoo.saveable import unwrapped

__all__ = ["FOLDER", "OPTIONS", "REPORT", "Student", "student_of"]

FOLDER, REPORT = "student", "report.json"  # in the run's folder
OPTIONS = ("b", "biases", "unit_norm", "antialias", "border", "blur")  # of the conversion, which a recipe's options may set
_SHARPENED, _B = ("expand", "conv", "linear", "classifier"), 1.5
_MOST = 100.0  # B
_PICTURES = 64  # to which the layers of the student are fitted
_MOST_BYTES = 2**24  # of a report
_PATIENCE = 3600.0  # seconds for which other processes of a run wait for the one that converts


@dataclass(frozen=True)
class Student:
    """What is trained.

    Attributes:
        folder: of the model that training begins with.
        classes: names of its classes.
        probability: that its logits become.
    """

    folder: Path
    classes: tuple[str, ...]
    probability: str

    @classmethod
    def kept(cls, recipe: Recipe, folder: RunFolder) -> Student:
        """Of a run that has ended.

        Raises:
            MissingFileError: it is gone.
        """
        place = Path(recipe.pretrained) if _is_given(recipe) else folder.out / FOLDER
        return cls.of(place, _open(place))

    def check_teacher(self, teacher: nn.Module) -> None:
        """Whether it was converted from this network, as far as its folder knows.

        Raises:
            StateError: it was converted from another: meanwhile another process wrote the folder, or the teacher has changed.
        """
        known = _made(self.folder).get("weights")
        if known is not None and known != fingerprint(teacher):
            raise StateError(
                f"{quote(self.folder)} was not converted from the teacher as it is now: restore that, or choose another --out."
            )

    @classmethod
    def of(cls, folder: Path, classifier: Classifier) -> Student:
        """Of a model that was opened.

        Raises:
            InputError: it was not converted.
        """
        if conversion_of(classifier.model) is None:
            raise InputError(
                f"pretrained={shorten(str(folder), 120)!r} was not converted: alignment trains a network that bcosify made of "
                "its teacher. Leave pretrained out, and the teacher is converted."
            )
        return cls(folder, tuple(classifier.class_names), classifier.card.probability)


def student_of(recipe: Recipe, data: Labelled, folder: RunFolder, say: Say) -> Student:
    """The student of a run that aligns: `pretrained`, or the teacher converted, which is kept in the run's folder.

    Args:
        recipe: names the teacher; its options are those of `torchbcos.bcosify`.
        data: pictures, to some of which the layers are fitted.
        folder: of the run.
        say: gets a line on the conversion.

    Raises:
        InputError: the teacher cannot be converted, or has attention.
    """
    if not recipe.teacher:
        raise InputError("Which network is to be aligned? Name it: torchbcos train align --teacher SOURCE --data FOLDER.")
    if _is_given(recipe):
        return Student.of(Path(recipe.pretrained), load(recipe.pretrained, device="cpu", deploy=False))
    place = folder.out / FOLDER
    if not _stands(recipe, data, folder):
        with claimed(folder.out, "prepares its student", wait=_PATIENCE):
            if not _stands(recipe, data, folder):
                (place / REPORT).unlink(missing_ok=True)  # of a student of other settings: from here on it is not whole
                (_sharpen if recipe.pretrained else _convert)(recipe, data, place, say)
    return Student.of(place, _open(place))


def _is_given(recipe: Recipe) -> bool:
    """Whether the student is `pretrained` as it is; else the run's folder has its own."""
    return bool(recipe.pretrained) and not recipe.options


def _open(place: Path) -> Classifier:
    """The student of a run's folder.

    Raises:
        BcosError: it is damaged; it says that it can be made again.
    """
    try:
        return load(str(place), device="cpu", deploy=False)
    except BcosError as error:
        if not place.is_dir():
            raise
        text = f"{shorten(str(error), 240)} Remove {quote(place)}, and the same command prepares the student again."
        raise type(error)(text) from error


def _stands(recipe: Recipe, data: Labelled, folder: RunFolder) -> bool:
    """Whether the folder has a run's student, whole; before a run begins, that may be of another teacher or of other options."""
    place = folder.out / FOLDER
    if not os.path.isfile(place / REPORT):  # written last
        return False
    if folder.begun:
        return True
    return _made(place) == _making(recipe, data, load(recipe.pretrained or recipe.teacher, device="cpu", deploy=False))


def _making(recipe: Recipe, data: Labelled, source: Classifier) -> dict[str, Any]:
    """What a student is made of, as its report says it; `source` is `pretrained`, or the teacher."""
    found: dict[str, Any] = {"teacher": recipe.teacher, "pretrained": recipe.pretrained, "options": dict(recipe.options)}
    if not recipe.pretrained:
        found |= {"pictures": data.train.fingerprint(), "sides": [recipe.test_resize, recipe.side]}
    found["source" if recipe.pretrained else "weights"] = fingerprint(unwrapped(source.model))
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def _made(place: Path) -> Mapping[str, Any]:
    """What a student was made of; nothing where its report does not say it."""
    try:
        found = json.loads(read_whole(place / REPORT, _MOST_BYTES)).get("made", {})
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _convert(recipe: Recipe, data: Labelled, place: Path, say: Say) -> None:
    unknown = sorted(set(recipe.options) - set(OPTIONS))
    if unknown:
        raise InputError(f"Of a conversion, options set {', '.join(OPTIONS)}, not {shorten(', '.join(unknown), 80)}.")
    if recipe.teacher.endswith(PROGRAM):
        raise InputError("A program cannot be converted: name the network that it was made from as the teacher.")
    teacher = load(recipe.teacher, device="cpu", deploy=False)
    if conversion_of(teacher.model) is not None:
        raise InputError(f"The teacher {shorten(recipe.teacher, 120)!r} was converted: name the network that it was made from.")
    pixels, network = _pictures(recipe, data, teacher), unwrapped(teacher.model)
    seen = teacher.transform.encode(pixels[:1], dim=1)
    check_convolutional(network, seen)
    say(f"Converting the teacher, and fitting its layers to {count_of(len(pixels), 'picture')}.")
    usual = {"border": "repeat"} if "b" in recipe.options else {"border": "repeat", "b": _exponents(network, seen)}
    options: dict[str, Any] = {**usual, **recipe.options}
    made, report = bcosify(teacher, example=pixels, **options)
    save(made, place)
    write_json(place / REPORT, {**report.to_dict(), "made": _making(recipe, data, teacher)})
    say(_in_words(report))


def _sharpen(recipe: Recipe, data: Labelled, place: Path, say: Say) -> None:
    """A student that was aligned before, with another B in the layers that have one above 1.

    Raises:
        InputError: options ask for something else.
    """
    b = recipe.options.get("b")
    if set(recipe.options) != {"b"} or not isinstance(b, int | float) or isinstance(b, bool) or not 1 < b <= _MOST:
        raise InputError(
            "With pretrained, options.b alone can be set: one number above 1, for all layers whose B is above 1; got "
            f"{shorten(repr(dict(recipe.options)), 120)}."
        )
    found = load(recipe.pretrained, device="cpu", deploy=False)
    Student.of(Path(recipe.pretrained), found)
    made = _making(recipe, data, found)  # before its layers get another B
    remembered = conversion_of(found.model) or {}
    steps = steps_from(remembered["steps"])
    raised = [_raised(step, float(b)) for step in steps]
    for module in found.model.modules():
        if isinstance(module, Biased) and not isinstance(module.b, Tensor) and module.b > 1:
            module.b = module._b = float(b)
    mark(found.model, raised, {**remembered["settings"], "b": float(b)})
    save(Classifier(found.model, card_around_converted(found.card, found.model)), place)
    write_json(place / REPORT, {"b": float(b), "from": recipe.pretrained, "made": made})
    changed = sum(old != new for old, new in zip(steps, raised, strict=True))
    say(f"{changed} layers of {recipe.pretrained} get B = {b:g}.")


def _raised(step: Step, b: float) -> Step:
    """A step with this B where it has one above 1."""
    settings = dict(step.settings)
    if settings.get("b", 1) > 1:
        settings["b"] = b
    out = settings.get("out")
    if isinstance(out, dict) and out.get("b", 1) > 1:
        settings["out"] = {**out, "b": b}
    return dataclasses.replace(step, settings=settings)


def _exponents(network: nn.Module, x: Tensor) -> dict[str, float]:
    """B where a recipe gives none: of the layers that look for things; those that gather stay linear."""
    recording = record(copy_of(network).eval(), x)
    roles = {role_of(run, recording) for run in recording.runs.values() if isinstance(run.module, LAYERS)}
    return {role: _B for role in _SHARPENED if role in roles}


def _pictures(recipe: Recipe, data: Labelled, teacher: Classifier) -> Tensor:
    """(N, C, H, W) pixels in [0, 1], as large as the recipe judges."""
    prepare = teacher.transform
    if prepare.axes == 2:
        prepare = dataclasses.replace(prepare, resize=recipe.test_resize or recipe.side, crop=recipe.side)
    count = min(_PICTURES, len(data.train))
    items: list[tuple[str, Any]] = []
    for i in range(count):
        try:
            item = data.train.item(i * len(data.train) // count)
            prepare.look([item], encode=False)
        except BcosError:
            if recipe.on_error == "stop":
                raise
            continue
        items.append(item)
    if not items:
        raise InputError("None of the pictures to which the student would be fitted can be read.")
    return prepare.look(items, encode=False)[0]


def _in_words(report: Report) -> str:
    """What became of the teacher, in a line."""
    constants = ", ".join(f"{name} {percent(part)} %" for name, part in report.constants.items()) or "none"
    return f"Converted: {len(report.lines)} layers; share of the input {report.share:.2f}; constants: {constants}."
