"""A recipe: everything that decides what a training run does, as one frozen value."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchbcos._core.errors import InputError
from torchbcos.models import is_plain
from torchbcos.models.blocks import moments_of
from torchbcos.training.recipe.groups import (
    GROUPS,
    GuidanceSettings,
    MachineSettings,
    NameSettings,
    NetworkSettings,
    OptimisationSettings,
    PictureSettings,
)
from torchbcos.training.recipe.habits import tail
from torchbcos.training.recipe.setting import Setting, settings_of

__all__ = [
    "Recipe", "checked", "differences", "from_dict", "group_of", "list_settings", "machine_keys", "to_dict", "trajectory_keys",
]  # fmt: skip

_GROWTH = 32  # pixels by which crops grow: networks halve sides up to five times


# Python collects the fields of the last base first: so they are in the order in which GROUPS and files have them
@dataclass(frozen=True, kw_only=True)
class Recipe(GuidanceSettings, MachineSettings, OptimisationSettings, PictureSettings, NetworkSettings, NameSettings):
    """What a run trains, on what, and how, as one frozen value that a file can hold.

    A function that needs one group of settings only can ask for that type: a recipe is an `OptimisationSettings`, too.
    `torchbcos train --set key=value` changes a setting, `torchbcos train --settings` prints them all.

    Raises:
        InputError: a value lies outside its range, is none of the choices, or does not go together with another.

    >>> Recipe(epochs=3, lr=0.1).lr
    0.1
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalize:
            moments_of(self.normalize)
            if "normalize" in self.options:
                raise InputError("normalize is set twice, in options and by itself: leave one out.")
        if self.export == "ema" and not self.ema_decay:
            raise InputError("export='ema' needs averaged weights: set ema_decay.")
        if self.export == "best" and not self.selection_share:
            raise InputError("export='best' needs pictures to choose by: set selection_share (0.1, for example).")
        if self.b_epochs and (self.compile or self.export == "best" or (self.export == "auto" and not self.ema_decay)):
            raise InputError("b_epochs changes B as it goes: leave out compile, and set export to 'last' or 'ema'.")
        if self.b_epochs > self.epochs:
            raise InputError(f"b_epochs {self.b_epochs:g} is more than epochs {self.epochs}: B would not get where it should.")
        if self.mosaic and self.batch_size < 4:
            raise InputError(f"mosaic makes grids of four pictures of a step: set batch_size above {self.batch_size}.")
        self._check_alignment()
        if self.watch_every and self.ordinary:
            raise InputError("Ordinary networks have no exact explanations to watch: set watch_every=0.")

    @property
    def ordinary(self) -> bool:
        """Whether an ordinary network is trained: `plain`, or a name that is one's.

        >>> Recipe(model="vit_tiny_patch8").ordinary
        True
        """
        return self.plain or is_plain(self.model)

    def _check_alignment(self) -> None:
        """Whether the settings of an alignment go together.

        Raises:
            InputError: they do not.
        """
        if not self.aligns:
            if self.teacher_features or self.teacher_pooled:
                raise InputError("teacher_features and teacher_pooled need loss='none' (torchbcos train align).")
            return
        wrong = {"teacher_explanations": self.teacher_explanations, "plain": self.ordinary,
                 "freeze_epochs": self.freeze_epochs, "compile": self.compile, "calibrate": self.calibrate}  # fmt: skip
        found = [key for key, value in wrong.items() if value]
        if found:
            raise InputError(f"loss='none' aligns without labels: leave out {', '.join(found)}.")

    def changed(self, **values: Any) -> Recipe:
        """A copy with other values; with a function of one's own as its model, the options of the network before are dropped.

        A network of one's own gets none of the options that were another's: only those that are given with it.

        >>> Recipe().changed(epochs=3).epochs
        3
        >>> Recipe(options={"antialias": True}).changed(model="mynets:signal").options
        {}
        """
        return from_dict({**to_dict(self), "options": self.options_for(values.get("model", self.model)), **values})

    def options_for(self, model: Any) -> dict[str, Any]:
        """The options that stay with another model: what one network takes means nothing to somebody's own function."""
        another = isinstance(model, str) and ":" in model and model != self.model
        return {} if another else dict(self.options)

    @property
    def aligns(self) -> bool:
        """Whether a converted network is aligned to its teacher, without labels.

        >>> Recipe().aligns, Recipe(loss="none", calibrate=False).aligns
        (False, True)
        """
        return self.loss == "none"

    @property
    def side(self) -> int:
        """The side of the pictures it is judged on."""
        return self.test_size or self.image_size

    def crop_size(self, epoch: int) -> int:
        """The side of the training crops of an epoch (counted from 0): small pictures teach the coarse things cheaply.

        Crops grow in stages of equal length, and the last stage is a quarter of all epochs longer.

        >>> [Recipe(image_size=128, grow_from=64, epochs=8).crop_size(epoch) for epoch in range(8)]
        [64, 64, 96, 96, 128, 128, 128, 128]
        """
        if not self.grow_from:
            return self.image_size
        stages = -(-(self.image_size - self.grow_from) // _GROWTH) + 1
        stage = int(epoch * stages / max(1.0, 0.75 * self.epochs))
        return min(self.image_size, self.grow_from + _GROWTH * stage)


def list_settings() -> Mapping[str, Setting]:
    """All settings of a recipe by key, in the order of its file.

    >>> list_settings()["grow_from"].range
    '0 to 4,096'
    """
    return settings_of(Recipe)


def group_of(key: str) -> str:
    """The group that a setting belongs to.

    >>> group_of("lr")
    'Optimisation'
    """
    return next(title for title, kind in GROUPS.items() if key in settings_of(kind))


def machine_keys() -> tuple[str, ...]:
    """The settings that make no difference to what is learned: a run goes on with others, and says nothing of it.

    >>> "workers" in machine_keys(), "lr" in machine_keys()
    (True, False)
    """
    return tuple(key for key, one in list_settings().items() if one.resume == "free")


def trajectory_keys() -> tuple[str, ...]:
    """The settings that a run must keep to go on, and "averaged": whether there are averaged weights (see `differences`).

    >>> "batch_size" in trajectory_keys(), "lr" in trajectory_keys()
    (True, False)
    """
    return (*(key for key, one in list_settings().items() if one.resume == "fixed"), "averaged")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON and TOML can hold it."""
    values = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}
    return {k: dict(v) if isinstance(v, Mapping) else list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """Read a recipe, strictly.

    Raises:
        InputError: a key is unknown (the nearest are named), or a value has the wrong type or range.

    >>> from_dict({"epochs": 5}).epochs
    5
    """
    return Recipe(**{key: checked(key, value) for key, value in values.items()})


def checked(key: str, value: Any) -> Any:
    """A value of the type that its key has.

    Raises:
        InputError: there is no such key (the nearest are named), or the value has another type.
    """
    known = list_settings()
    if key not in known:
        raise InputError(f"A recipe has no key {key!r}.{tail(key, known)} 'torchbcos train --show RECIPE' prints all.")
    return known[key].read(value)


def differences(before: Recipe, after: Recipe) -> dict[str, tuple[Any, Any]]:
    """The keys that two recipes do not share, with both values; "averaged" says whether there are averaged weights.

    >>> differences(Recipe(lr=0.1), Recipe(lr=0.2))
    {'lr': (0.1, 0.2)}
    """
    old, new = ({**to_dict(recipe), "averaged": bool(recipe.ema_decay)} for recipe in (before, after))
    return {key: (old[key], new[key]) for key in new if old[key] != new[key]}


def _described(kind: type) -> str:
    """The settings of a group as a docstring has them: a line for each."""
    found = settings_of(kind).values()
    return "\n".join(f"    {one.key}: {one.text} ({one.accepts}; default {one.default!r})." for one in found)


# help() and the reference show the same texts as the command line: they are written in groups.py only
for _title, _group in GROUPS.items():
    _group.__doc__ = f"{_group.__doc__}\n\nAttributes:\n{_described(_group)}\n"
Recipe.__doc__ = f"{inspect.getdoc(Recipe)}\n\n" + "\n\n".join(f"{title}:\n{_described(kind)}" for title, kind in GROUPS.items())
