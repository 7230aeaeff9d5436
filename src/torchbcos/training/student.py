"""The student of an alignment: its teacher, converted once, and kept in the run's folder."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from torchbcos._core.claim import claimed
from torchbcos._core.errors import BcosError, InputError, shorten
from torchbcos._core.files import write_json
from torchbcos.conversion import Report, Step, conversion_of, mark, steps_from
from torchbcos.conversion.choosing import role_of
from torchbcos.conversion.planning import LAYERS
from torchbcos.conversion.recording import record
from torchbcos.conversion.report import percent
from torchbcos.data.labelled import Labelled
from torchbcos.deployment.settle import copy_of
from torchbcos.nn.bcosified import Biased
from torchbcos.runs import RunFolder
from torchbcos.training.alignment import check_convolutional
from torchbcos.training.context import Say
from torchbcos.training.recipe import PROGRAM, Recipe
from torchbcos.zoo import Classifier, load, save
from torchbcos.zoo.converting import bcosify, card_around_converted
from torchbcos.zoo.saveable import unwrapped

__all__ = ["FOLDER", "OPTIONS", "REPORT", "Student", "aligns", "student_of"]

FOLDER, REPORT = "student", "report.json"  # in the run's folder
OPTIONS = ("b", "biases", "unit_norm", "antialias", "border")  # of the conversion, which a recipe's options may set
_SHARPENED, _B = ("expand", "conv", "linear", "classifier"), 1.5
_MOST = 100.0  # B
_PICTURES = 64  # to which the layers of the student are fitted
_PATIENCE = 3600.0  # seconds for which other processes of a run wait for the one that converts


def aligns(recipe: Recipe) -> bool:
    """Whether a recipe aligns a student to its teacher, without labels."""
    return recipe.loss == "none"


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
        place = Path(recipe.pretrained) if recipe.pretrained and not recipe.options else folder.out / FOLDER
        return cls.of(place, load(str(place), device="cpu", deploy=False))

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
    if recipe.pretrained and not recipe.options:
        return Student.of(Path(recipe.pretrained), load(recipe.pretrained, device="cpu", deploy=False))
    place = folder.out / FOLDER
    if not _is_whole(place):
        with claimed(folder.out, "prepares its student", wait=_PATIENCE):
            if not _is_whole(place) and recipe.pretrained:
                _sharpen(recipe, place, say)
            elif not _is_whole(place):
                _convert(recipe, data, place, say)
    return Student.of(place, load(str(place), device="cpu", deploy=False))


def _is_whole(place: Path) -> bool:
    """Whether a student was written to its end: its report is written last."""
    return os.path.isfile(place / REPORT)


def _convert(recipe: Recipe, data: Labelled, place: Path, say: Say) -> None:
    unknown = sorted(set(recipe.options) - set(OPTIONS))
    if unknown:
        raise InputError(f"Of a conversion, options set {', '.join(OPTIONS)}, not {shorten(', '.join(unknown), 80)}.")
    if recipe.teacher.endswith(PROGRAM):
        raise InputError("A program cannot be converted: name the network that it was made from as the teacher.")
    teacher = load(recipe.teacher, device="cpu", deploy=False)
    if conversion_of(teacher.model) is not None:
        raise InputError(f"The teacher {shorten(recipe.teacher, 120)!r} was converted: name the network that it was made from.")
    pixels = _pictures(recipe, data, teacher)
    seen = teacher.transform.encode(pixels[:1], dim=1)
    check_convolutional(unwrapped(teacher.model), seen)
    say(f"Converting the teacher, and fitting its layers to {len(pixels)} pictures.")
    network = unwrapped(teacher.model)
    usual = {"border": "repeat"} if "b" in recipe.options else {"border": "repeat", "b": _exponents(network, seen)}
    options: dict[str, Any] = {**usual, **recipe.options}
    made, report = bcosify(teacher, example=pixels, **options)
    save(made, place)
    write_json(place / REPORT, report.to_dict())
    say(_in_words(report))


def _sharpen(recipe: Recipe, place: Path, say: Say) -> None:
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
    remembered = conversion_of(found.model) or {}
    steps = steps_from(remembered["steps"])
    raised = [_raised(step, float(b)) for step in steps]
    for module in found.model.modules():
        if isinstance(module, Biased) and not isinstance(module.b, Tensor) and module.b > 1:
            module.b = module._b = float(b)
    mark(found.model, raised, {**remembered["settings"], "b": float(b)})
    save(Classifier(found.model, card_around_converted(found.card, found.model)), place)
    write_json(place / REPORT, {"b": float(b), "from": recipe.pretrained})
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
