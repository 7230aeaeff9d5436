"""What the examples of a run are: how many channels and axes of space they have, found before anything is trained.

Shapes: C channels, *S space: (L,) of a signal, (H, W) of a picture, (D, H, W) of a volume.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.names import quote
from torchbcos.data.labelled import ARRAY, Split
from torchbcos.models import axes_of
from torchbcos.pictures import Preprocess
from torchbcos.pictures.form import Form
from torchbcos.pictures.npy import load_array
from torchbcos.pictures.scans import read_scan
from torchbcos.training.augment import preprocess_of
from torchbcos.training.network import build_network
from torchbcos.training.recipe import Recipe
from torchbcos.zoo import load

__all__ = ["Seen", "Wanted", "look_at", "wanted_by"]

_TRIED = 10  # examples of which one must be readable
_LOOKED_AT = 12  # further examples that are compared with the first; all others are when they are read
_CHANNELS = 16  # a first axis of at most so many is that of the channels, where nothing else says so
_AXES = {3: 1, 4: 2, 5: 3}  # axes of a filter -> of space
_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Wanted:
    """What is known of examples before one was read.

    Attributes:
        axes: of space; 0: not known.
        pretrained: how the network that is trained on was fed.
    """

    axes: int
    pretrained: Preprocess | None = None


@dataclass(frozen=True)
class Seen:
    """What the examples are.

    Attributes:
        prepare: how whole ones are prepared.
        sides: of the first one, as it is stored.
        notes: what does not fit the recipe, a sentence each.
    """

    prepare: Preprocess
    sides: _Shape
    notes: tuple[str, ...] = field(default=())

    def describe(self) -> str:
        """In words, as a network gets them."""
        prepare = self.prepare
        encoded = f", encoded as {prepare.channels} channels" if prepare.channels != prepare.raw_channels else ""
        return f"{_in_words(prepare.form, (prepare.crop,) * 2 if prepare.crop else self.sides)}{encoded}"


def _in_words(form: Form, sides: _Shape) -> str:
    """A form and a size in words."""
    if form.axes == 1:
        return f"signals of {form.channels} channel{'s' * (form.channels > 1)}, {sides[0]} long"
    kind = "volumes" if form.axes == 3 else {1: "grey pictures", 3: "colour pictures"}.get(form.channels, "pictures")
    return f"{kind} {' x '.join(map(str, (form.channels, *sides)))}"


def wanted_by(recipe: Recipe) -> Wanted:
    """What a recipe and its network want.

    Raises:
        InputError: the network cannot be opened, or has other axes than the recipe.
    """
    if ":" in recipe.model and not recipe.pretrained:
        return Wanted(recipe.axes or _axes_of(recipe))
    fed = load(recipe.pretrained, device="cpu", deploy=False).transform if recipe.pretrained not in ("", "official") else None
    axes = fed.axes if fed is not None else axes_of(recipe.model)
    if recipe.axes not in (0, axes):
        name = recipe.pretrained or recipe.model
        raise InputError(
            f"{name!r} takes {Form(1, axes).kind}s, and axes={recipe.axes} asks for {Form(1, recipe.axes).kind}s: set model to a "
            "function of your own, package.module:function (docs/how-to/train.md), or leave axes out."
        )
    return Wanted(axes, fed)


def _axes_of(recipe: Recipe) -> int:
    """Axes of space that the first filters of a network of one's own have; 0 where it does not show."""
    try:
        with torch.random.fork_rng(devices=[]):
            network: Any = build_network(recipe, 2, 2)
    except Exception:  # the caller's code: with the channels of the data it is built again, and what is wrong is said then
        return 0
    network = network if isinstance(network, nn.Module) else network[0]
    filters = (p for name, p in network.named_parameters() if name.endswith("weight") and p.dim() in _AXES)
    return next((_AXES[p.dim()] for p in filters), 0)


def look_at(split: Split, recipe: Recipe, wanted: Wanted, source: Path) -> Seen:
    """What the examples are, by the first that can be read and some others.

    Args:
        split: to train on.
        recipe, wanted: what is asked for.
        source: of the data, for messages.

    Raises:
        InputError: there are none, none can be read, the recipe asks of arrays what they cannot undergo, or two differ.
    """
    if not len(split):
        raise InputError(f"There is nothing to train on in {str(source)!r}: every example is held out.")
    for i in range(min(_TRIED, len(split))):
        try:
            shape = _shape_of(split, i, recipe, wanted.axes)
        except BcosError:
            if recipe.on_error == "stop":
                raise
            continue
        form = _form_of(shape, recipe, wanted, split.names[i])
        sides = shape[-form.axes :] if shape is not None and len(shape) >= form.axes else (recipe.side,) * 2
        _check_undergo(form, sides, shape is not None, recipe)
        prepare = preprocess_of(recipe, form, wanted.pretrained)
        _check_alike(split, i, form, sides, recipe)
        return Seen(prepare, sides, tuple(_notes(form, sides, shape, recipe)))
    raise InputError("None of the first ten training examples can be read.")


def _shape_of(split: Split, i: int, recipe: Recipe, axes: int) -> _Shape | None:
    """The shape in which example i is stored, (C, *S) or *S; None of a picture, which has any."""
    limits = recipe.value_range if recipe.value_range != (0, 0) else None
    name, item = split.item(i, limits)
    if isinstance(item, Image.Image):
        return None
    if isinstance(item, Tensor):
        return tuple(item.shape)
    if name.lower().rstrip("'\"").endswith(ARRAY) or not isinstance(item, str):
        return tuple(load_array(item).shape)
    return tuple(read_scan(item, axes=axes or None, value_range=limits).pixels.shape)


def _form_of(shape: _Shape | None, recipe: Recipe, wanted: Wanted, name: str) -> Form:
    """Channels and axes of an example.

    Raises:
        InputError: nobody can know them, or they are not what the network takes; the message names the setting.
    """
    axes = wanted.axes or _guessed_axes(shape, name)
    usual = wanted.pretrained.raw_channels if wanted.pretrained is not None else 0
    if shape is None:
        channels = recipe.channels or usual or 3
        if axes != 2 or channels not in (1, 3):
            raise InputError(
                f"{quote(name)} is a picture, and the network takes {Form(channels, axes).words}: give arrays of that form, "
                "or set axes=2 and channels=1 or 3."
            )
        return Form(channels, 2)
    if len(shape) not in (axes, axes + 1):
        raise InputError(
            f"{quote(name)} is an array {shape}, and {Form(1, axes).kind}s have {axes} axes of space, or one more for the "
            f"channels: set axes to what the network takes ({len(shape) - 1 or 1} here?), or store arrays of that form."
        )
    found = 1 if len(shape) == axes else shape[0]
    if len(shape) > axes and not recipe.channels and shape[0] > _CHANNELS >= shape[-1] and shape[-1] < min(shape[:-1]):
        if axes != 2 or shape[-1] != 3:
            turned = (shape[-1], *shape[:-1])
            raise InputError(
                f"{quote(name)} is an array {shape}: channels come first, as in {turned} (numpy.moveaxis(a, -1, 0)). If it has "
                f"{shape[0]} channels indeed, set channels={shape[0]}."
            )
        found = 3
    return Form(recipe.channels or usual or found, axes)


def _guessed_axes(shape: _Shape | None, name: str) -> int:
    """Axes of space of an example for a network that shows none.

    Raises:
        InputError: it may have several.
    """
    if shape is None:
        return 2
    if len(shape) in (1, 4):
        return 1 if len(shape) == 1 else 3
    if shape[0] <= _CHANNELS:
        return len(shape) - 1
    ways = {2: "a grey picture (axes=2) or a signal of as many channels (axes=1)", 3: "a volume (axes=3) or a picture (axes=2)"}
    raise InputError(
        f"{quote(name)} is an array {shape}: {ways[len(shape)]}? Say it: --set axes=… (in Python: recipe.changed(axes=…))."
    )


def _check_undergo(form: Form, sides: _Shape, array: bool, recipe: Recipe) -> None:
    """Refuse what only pictures can undergo.

    Raises:
        InputError: examples of this form cannot.
    """
    pictures = {"augment": recipe.augment, "mixup": recipe.mixup, "cutmix": recipe.cutmix, "erasing": recipe.erasing,
                "guide": recipe.guide}  # fmt: skip
    wanted = [key for key, value in pictures.items() if value]
    if form.axes != 2 and wanted:
        shape = (form.channels, *sides)
        raise InputError(f"{', '.join(wanted)} change pictures, and the data are arrays {shape}: leave them out.")
    if array and recipe.augment and form.channels not in (1, 3):
        said = f"works on one or three channels, the data has {form.channels}"
        raise InputError(f"augment={recipe.augment!r} {said}: set augment=''.")


def _check_alike(split: Split, first: int, form: Form, sides: _Shape, recipe: Recipe) -> None:
    """Refuse examples of different channels, or of signals and volumes of different sizes.

    Raises:
        InputError: two differ; the message names both.
    """
    for i in sorted(_some(split) - {first}):
        try:
            shape = _shape_of(split, i, recipe, form.axes)
        except BcosError:
            continue  # what becomes of it is the recipe's on_error, when its turn comes
        if shape is None:
            if form.axes == 2:
                continue
            found = "a picture"
        else:
            channels = shape[0] if len(shape) > form.axes else form.channels
            same_size = form.axes == 2 or shape[-form.axes :] == sides
            if len(shape) in (form.axes, form.axes + 1) and (channels == form.channels or form.is_rgb) and same_size:
                continue
            found = str(shape)
        raise InputError(
            f"All examples of a run have one form: {quote(split.names[first])} is one of {_in_words(form, sides)}, and "
            f"{quote(split.names[i])} is {found}. Bring them to one form, or train on those that have it."
        )


def _some(split: Split) -> set[int]:
    """A few examples: the first ones, one of each of some classes, others at equal distances, the last."""
    step = max(1, len(split) // _LOOKED_AT)
    firsts: dict[int, int] = {}
    for i, target in enumerate(split.targets.tolist() if split.targets.dim() == 1 else ()):
        if len(firsts) < _LOOKED_AT:
            firsts.setdefault(target, i)
    return {*range(min(4, len(split))), *firsts.values(), *range(0, len(split), step), len(split) - 1}


def _notes(form: Form, sides: _Shape, shape: _Shape | None, recipe: Recipe) -> list[str]:
    """What of the recipe does nothing to examples of this form, and what may not be meant."""
    if form.axes != 2:
        idle = {"image_size": True, "crop": recipe.crop != "none", "flip": recipe.flip, "brightness": recipe.brightness}
        keys = ", ".join(key for key, value in idle.items() if value)
        return [f"{form.kind.capitalize()}s are trained on whole and as they are: {keys} of the recipe change nothing."]
    found = []
    if form.is_rgb and shape is not None and (len(shape) == 2 or shape[0] == 1):
        found.append("Grey arrays are read in colour, the same numbers in each channel: that is what the network takes.")
    if shape is not None and max(sides) < recipe.image_size:
        found.append(
            f"Arrays of {sides[0]} x {sides[1]} are enlarged: --set image_size={max(8, max(sides))} takes them about as they are."
        )
    if shape is not None and len(shape) == 2 and min(sides) <= _CHANNELS and max(sides) > 4 * min(sides):
        found.append(
            f"Arrays {shape} are taken for grey pictures. If they are signals of {shape[0]} channels, set model to a network of "
            "your own that takes signals (docs/how-to/train.md)."
        )
    if shape is not None and form.channels > _CHANNELS:
        found.append(
            f"The first axis of {shape} is taken for {form.channels} channels. If it is the depth of a volume, set model to a "
            "network of your own that takes volumes (docs/how-to/train.md)."
        )
    return found
