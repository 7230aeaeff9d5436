"""A recipe: everything that decides what a training run does, as one frozen value that a file can hold."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.names import hint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


PROGRAM = ".pt2"  # of torch.export.save


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run trains, on what, and how; `torchbcos train --set key=value` changes any of it.

    The network:
        model: a name of `torchbcos.list_models()`, or "package.module:function" that returns a network.
        options: of the network (antialias, norm, max_out, stochastic_depth, …).
        plain: the ordinary twin.
        pretrained: start from a model folder, a checkpoint of weights, or "official"; "": from scratch. Its classifier is kept
        where its classes are those of the data, in the same order.
        freeze_epochs: of a pretrained network only the new classifier learns so long. refresh: bring its unit-norm filters
        back to the length of fresh ones, at which steps count (outputs stay).

    Pictures:
        image_size: side of the training crops in pixels. grow_from: that of the first epochs (0: image_size throughout); crops
        grow by 32 in stages of equal length, and the last stage is a quarter of the epochs longer. test_size: of the pictures
        it is judged on (0: image_size); test_resize: their shorter side before the centre is cut out (0: test_size).
        crop: "random" (random resized crop), "pad" (pad and crop, as for CIFAR) or "none"; crop_scale: areas of the first;
        crop_padding: pixels of the second.
        flip: chance of a mirrored picture. brightness: factors from 1 - b to 1 + b.
        augment: "", "randaugment", "trivialaugment" or "augmix"; augment_ops, augment_magnitude: of the first.
        erasing: chance of a random erased rectangle (before the encoding).
        mixup, cutmix: alpha of the Beta distribution, 0: off; where both are on, one is drawn a batch. mix_chance: of a batch.
        repeats: each picture so often in an epoch's order, augmented anew (repeated augmentation); the epoch stays as long.
        selection_share: part of the training data that is held out to choose the best checkpoint.
        report_share: part held out to be reported, where the data has no split of its own for that.

    Optimisation:
        epochs; max_steps: end earlier, after so many steps (0: never; the schedule is still that of all epochs).
        batch_size: pictures of a step over all devices; accumulate: in so many parts.
        optimizer: "adam", "adamw" or "sgd"; lr, weight_decay, momentum (sgd). head_lr: of the classifier, as a multiple of lr.
        decay_all: weight decay reaches norm weights and biases too, as in the official recipes.
        schedule: "cosine", "step", "exponential" or "constant"; schedule_by: "epoch" or "step"; lr_end: where cosine ends;
        step_size, gamma: of the others, in epochs.
        warmup_epochs, warmup_steps: linear, from warmup_start times lr.
        loss: "bce", "bce_uniform" (targets at least 1/C) or "cross_entropy"; smoothing; threshold: BCE targets above it become 1.
        clip: "", "agc" (adaptive, unit-wise; arXiv 2102.06171) or "norm"; clip_value.
        ema_decay: of averaged weights, 0: none; ema_every: steps; ema_from_epoch: until then it follows; ema_scaled: the
        decay is for one picture at a time as in torchvision's references (scaled by batch, ema_every and epochs).

    Machine:
        precision: "32", "bf16" or "16"; channels_last; compile; seed; workers: processes that read pictures.
        on_error: "stop" or "skip" unreadable pictures. judge_every: epochs between judgings on the selection split; the last
        epoch is always judged.
        export: "auto" (averaged weights if there are any, else the best), "best", "last" or "ema".
        checkpoint_steps: 0: at the end of each epoch; else also every so many steps. keep_every: keep the checkpoint of every
        N-th epoch. watch_every: explanations of fixed pictures to TensorBoard every N steps, 0: never.

    Guidance (docs/how-to/guide.md): guide, guide_weight, guide_at, guide_share, guide_per_box,
        guide_size_corrected, guide_order. Distillation: teacher (a model folder, or a .pt2 program of any classifier),
        teacher_weight (of its probabilities), teacher_explanations (weight of its explanations; a model folder's only).
    """

    name: str = "custom"
    about: str = ""
    model: str = "resnet18"
    options: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False
    pretrained: str = ""
    freeze_epochs: int = 0
    refresh: bool = True

    image_size: int = 224
    grow_from: int = 0
    test_size: int = 0
    test_resize: int = 0
    crop: Literal["random", "pad", "none"] = "random"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_padding: int = 4
    flip: float = 0.5
    brightness: float = 0.0
    augment: Literal["", "randaugment", "trivialaugment", "augmix"] = ""
    augment_ops: int = 2
    augment_magnitude: int = 10
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_chance: float = 1.0
    repeats: int = 1
    selection_share: float = 0.1
    report_share: float = 0.1

    epochs: int = 90
    max_steps: int = 0
    batch_size: int = 256
    accumulate: int = 1
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    head_lr: float = 1.0
    weight_decay: float = 0.0
    decay_all: bool = True
    momentum: float = 0.9
    schedule: Literal["cosine", "step", "exponential", "constant"] = "cosine"
    schedule_by: Literal["epoch", "step"] = "step"
    lr_end: float = 0.0
    step_size: int = 30
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    warmup_start: float = 0.01
    loss: Literal["bce", "bce_uniform", "cross_entropy"] = "bce"
    smoothing: float = 0.0
    threshold: float = 0.0
    clip: Literal["", "agc", "norm"] = ""
    clip_value: float = 0.01
    ema_decay: float = 0.0
    ema_every: int = 1
    ema_from_epoch: int = 0
    ema_scaled: bool = False

    precision: Literal["32", "bf16", "16"] = "32"
    channels_last: bool = True
    compile: bool = False
    seed: int = 42
    workers: int = 4
    on_error: Literal["stop", "skip"] = "stop"
    export: Literal["auto", "best", "last", "ema"] = "auto"
    judge_every: int = 1
    checkpoint_steps: int = 0
    keep_every: int = 0
    watch_every: int = 0

    guide: Literal["", "energy", "l1"] = ""
    guide_weight: float = 0.0
    guide_at: str = ""
    guide_share: float = 1.0
    guide_per_box: bool = False
    guide_size_corrected: bool = False
    guide_order: Literal["full", "truncated"] = "truncated"
    teacher: str = ""
    teacher_weight: float = 0.0
    teacher_explanations: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} must lie between {low:g} and {high:g}, not {value!r}.")
        for name, kind in TYPES.items():
            choices, value = typing.get_args(kind) if typing.get_origin(kind) is Literal else (), getattr(self, name)
            if choices and value not in choices:
                words = ", ".join(repr(c) for c in choices)
                raise InputError(f"{name} must be one of {words}, not {value!r}.{hint(str(value), choices)}")
        if self.warmup_epochs and self.warmup_steps:
            raise InputError("Give warmup_epochs or warmup_steps, not both.")
        if self.export == "ema" and not self.ema_decay:
            raise InputError("export='ema' needs averaged weights: set ema_decay.")
        if self.export == "best" and not self.selection_share:
            raise InputError("export='best' needs pictures to choose by: set selection_share (0.1, for example).")
        if self.watch_every and self.plain:
            raise InputError("Ordinary networks have no exact explanations to watch: set watch_every=0.")
        if self.grow_from > self.image_size:
            raise InputError(f"grow_from {self.grow_from} is larger than image_size {self.image_size}: crops only grow.")
        if self.guide and not (self.guide_weight and self.guide_share):
            raise InputError(
                f"guide={self.guide!r} with guide_weight={self.guide_weight:g} and guide_share={self.guide_share:g} changes "
                "nothing: set guide_weight (0.3 to 1, to begin with) and a guide_share above 0."
            )
        if self.teacher and not self.teacher_weight and not self.teacher_explanations:
            raise InputError("A teacher teaches nothing without teacher_weight or teacher_explanations: set one of them.")
        if self.teacher.endswith(PROGRAM) and self.teacher_explanations:
            raise InputError("A .pt2 program has no B-cos explanations to learn from: teacher_explanations needs a model folder.")
        if self.batch_size % self.accumulate:
            parts = f"{self.accumulate} equal parts (accumulate)"
            raise InputError(f"batch_size {self.batch_size} cannot be divided into {parts}.")

    def changed(self, **values: Any) -> Recipe:
        """A copy with other values.

        >>> Recipe().changed(epochs=3).epochs
        3
        """
        return from_dict({**to_dict(self), **values})

    @property
    def side(self) -> int:
        """The side of the pictures it is judged on."""
        return self.test_size or self.image_size

    def crop_size(self, epoch: int) -> int:
        """The side of the training crops of an epoch (counted from 0): small pictures teach the coarse things cheaply.

        >>> [Recipe(image_size=128, grow_from=64, epochs=8).crop_size(epoch) for epoch in range(8)]
        [64, 64, 96, 96, 128, 128, 128, 128]
        """
        if not self.grow_from:
            return self.image_size
        stages = -(-(self.image_size - self.grow_from) // GROWTH) + 1
        stage = int(epoch * stages / max(1.0, 0.75 * self.epochs))
        return min(self.image_size, self.grow_from + GROWTH * stage)


GROWTH = 32  # pixels by which crops grow: networks halve sides up to five times
TYPES = typing.get_type_hints(Recipe)
# what says how a machine works, and not what is learned
MACHINE = (
    "name", "about", "workers", "on_error", "judge_every", "checkpoint_steps", "keep_every", "watch_every", "compile",
    "channels_last",
)  # fmt: skip
RANGES = (
    ("freeze_epochs", 0, 10**6), ("image_size", 8, 4096), ("grow_from", 0, 4096), ("test_size", 0, 4096),
    ("test_resize", 0, 4096), ("crop_padding", 0, 512), ("flip", 0, 1), ("brightness", 0, 1), ("augment_ops", 1, 20),
    ("augment_magnitude", 0, 30), ("erasing", 0, 1), ("mixup", 0, 100), ("cutmix", 0, 100), ("mix_chance", 0, 1),
    ("repeats", 1, 100), ("selection_share", 0, 0.5), ("report_share", 0, 0.5), ("epochs", 1, 10**6), ("max_steps", 0, 10**9),
    ("batch_size", 1, 10**7), ("accumulate", 1, 10**5), ("lr", 0, 1e6), ("head_lr", 0, 1e6), ("weight_decay", 0, 1e3),
    ("momentum", 0, 1), ("lr_end", 0, 1e6), ("step_size", 1, 10**6), ("gamma", 0, 1), ("warmup_epochs", 0, 10**6),
    ("warmup_steps", 0, 10**9), ("warmup_start", 0, 1), ("smoothing", 0, 1), ("threshold", 0, 1), ("clip_value", 0, 1e9),
    ("ema_decay", 0, 1), ("ema_every", 1, 10**9), ("ema_from_epoch", 0, 10**6), ("seed", 0, 2**31), ("workers", 0, 512),
    ("judge_every", 1, 10**6), ("checkpoint_steps", 0, 10**9), ("keep_every", 0, 10**6), ("watch_every", 0, 10**9),
    ("guide_weight", 0, 1e6), ("guide_share", 0, 1), ("teacher_weight", 0, 1e6), ("teacher_explanations", 0, 1e6),
)  # fmt: skip


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON and TOML can hold it."""
    values = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}
    return {k: dict(v) if isinstance(v, Mapping) else list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def differences(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """The keys that two recipes do not share, with both values; "averaged" says whether there are averaged weights.

    >>> differences(Recipe(lr=0.1), Recipe(lr=0.2))
    {'lr': (0.1, 0.2)}
    """
    old, new = ({**to_dict(recipe), "averaged": bool(recipe.ema_decay)} for recipe in (before, after))
    return {key: (old[key], new[key]) for key in new if old[key] != new[key]}


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """Read a recipe, strictly.

    Raises:
        InputError: a key is unknown (the nearest are named), or a value has the wrong type or range.

    >>> from_dict({"epochs": 5}).epochs
    5
    """
    return Recipe(**{key: checked(key, value) for key, value in values.items()})


def checked(key: str, value: Any) -> Any:
    """A value of the type that its key has."""
    if key not in TYPES:
        raise InputError(f"A recipe has no key {key!r}.{hint(key, TYPES)} 'torchbcos train --show RECIPE' prints all.")
    kind = TYPES[key]
    numbers = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise InputError(f"{key} must be finite, not {value!r}.")
    if typing.get_origin(kind) is Literal:
        return str(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        return int(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    if key == "crop_scale" and len(numbers) == 2 and all(isinstance(number, int | float) for number in numbers):
        return float(numbers[0]), float(numbers[1])
    if key == "options" and isinstance(value, Mapping):
        return dict(value)
    wanted = WORDS.get(kind, "a table" if key == "options" else "two numbers ([0.5, 1])")
    raise InputError(f"{key} must be {wanted}, not {value!r}.")


WORDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def with_settings(recipe: Recipe, settings: list[str]) -> Recipe:
    """A recipe with `key=value` settings, as the command line gives them; `options.KEY=value` sets one of the network's.

    Raises:
        InputError: a setting has no "=", or its key or value is wrong.

    >>> with_settings(Recipe(), ["epochs=3", "options.antialias=true"]).options
    {'antialias': True}
    """
    values = to_dict(recipe)
    given: dict[str, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise InputError(f"--set takes key=value, not {setting!r}.")
        if given.setdefault(key, text) != text:
            raise InputError(f"{key} is set twice, to {given[key]} and to {text}: which?")
        if key.startswith("options."):
            values["options"] = {**values["options"], key.removeprefix("options."): parsed(text)}
        else:
            found = parsed(text)
            values[key] = text.strip() if TYPES.get(key) is str else checked(key, found)
    return from_dict(values)


def parsed(text: str) -> Any:
    """A value as TOML reads it (true, 3, 0.1, [1, 2], "x"); a bare word is a text."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def to_toml(recipe: Recipe, extra: Mapping[str, Any] | None = None) -> str:
    """A recipe as a TOML file; `extra` (a table of facts about the run) goes under [run]."""
    values = to_dict(recipe)
    options = values.pop("options")
    lines = [f"{key} = {literal(value)}" for key, value in values.items()]
    for title, table in (("options", options), ("run", extra or {})):
        if table:
            lines += ["", f"[{title}]", *(f"{literal(k)} = {literal(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(k)} = {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(v) for v in value) + "]"
    # texts, numbers and booleans of JSON are TOML's, but for one character that TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_recipe(file: Path) -> tuple[Recipe, dict[str, Any]]:
    """A recipe from a TOML file, and its [run] table.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no TOML, or no recipe.
    """
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"There is no recipe file {str(file)!r}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{str(file)!r} is no recipe file: {str(error).splitlines()[0]}") from error
    run = values.pop("run", {})
    try:
        return from_dict(values), run
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error}") from None
