"""Settings and sizes, tried on something small before anything long is computed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.errors import BcosError, InputError, StateError, shorten
from torchbcos._core.names import hint
from torchbcos._core.numbers import positive_integer
from torchbcos.evaluation.items import set_of
from torchbcos.evaluation.measured import Measured, common_geometry, geometry
from torchbcos.evaluation.measures import GRIDS, Case, measure_of, settings_of
from torchbcos.evaluation.named import NamedMethod, NamedMetric

__all__ = ["check_methods", "check_metrics", "check_sizes"]

_SIDE, _LARGEST = 32, 512  # sides of made-up pictures
_CLASSES = 3
_SCORES = ("logit", "probability")
_DRAWS = ("samples", "subsets")
_FEW = 2


def check_metrics(metrics: Sequence[NamedMetric]) -> None:
    """Compute each metric of a made-up map: whatever a setting may not be, its metric says.

    Raises:
        InputError: a setting has a value that it cannot have, or two metrics want the same grids put together differently.
    """
    for metric in metrics:
        settings = settings_of(metric)
        _check_kinds(metric, settings)
        cells = min(4 * int(settings.get("cells", 0)), _LARGEST)
        case = _made_up(settings, max(_SIDE, cells), grids=measure_of(metric).items == GRIDS)
        fewer = {key: min(value, _FEW) if key in _DRAWS else value for key, value in settings.items()}
        try:
            measure_of(metric).run(case, fewer)
        except BcosError as error:
            raise InputError(shorten(f"{metric.label}: {error}", 480)) from None
        except (TypeError, ValueError, ArithmeticError, RuntimeError, IndexError) as error:
            why = " ".join(str(error).split())
            raise InputError(shorten(f"{metric.label}: a setting has a value that it cannot have ({why}).", 480)) from None
    for first, second in itertools.combinations([one for one in metrics if measure_of(one).items == GRIDS], 2):
        if set_of(first) == set_of(second) and settings_of(first)["order"] != settings_of(second)["order"]:
            raise InputError(
                f"{first.label} and {second.label} are about the same grids, and set their pictures in another order: give both "
                "the same order, or compare twice."
            )


def _check_kinds(metric: NamedMetric, settings: Mapping[str, Any]) -> None:
    for key, usual in measure_of(metric).settings.items():
        value = settings[key]
        if isinstance(usual, bool) and not isinstance(value, bool):
            raise InputError(f"{metric.label}: {key} is true or false, not {value!r}.")
        if key in (*_DRAWS, "n", "sizes", "cells") and positive_integer(value) is None:
            raise InputError(f"{metric.label}: {key} is a positive integer, not {value!r}.")
        if key == "score" and value not in _SCORES:
            raise InputError(f"{metric.label}: score is 'logit' or 'probability', not {value!r}.{hint(str(value), _SCORES)}")


class _Toy:
    """What a metric asks of a model: the mean of each channel is a class."""

    def logits(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def scores(self, kind: str) -> Callable[[Tensor], Tensor]:
        return self.logits


def _made_up(settings: Mapping[str, Any], side: int, *, grids: bool) -> Case:
    n = int(settings["n"]) if grids else 1
    side, k = side if not grids else n * max(2, _SIDE // n), n * n
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, _CLASSES, side, side, generator=generator)
    maps = torch.rand(1, k, side, side, generator=generator)
    targets = torch.arange(k)[None] % _CLASSES
    toy: Any = _Toy()
    return Case(
        toy, NamedMethod("", ""), x, maps, targets, torch.ones(1, k), torch.zeros(1, k), maps[:, 0] > 0.5,
        lambda points, wanted: points.mean(1, keepdim=True).expand(-1, wanted.shape[1], -1, -1), lambda: {"a": maps[:, 0]},
        lambda: torch.ones_like(x), 0,
    )  # fmt: skip


def check_methods(methods: Sequence[NamedMethod], model: Measured, side: int | None) -> None:
    """Run each method that was given settings on a made-up picture, with few samples.

    Raises:
        InputError: a setting has a value that it cannot have.
    """
    given = [method for method in methods if method.explainer is not None and method.given]
    if not given:
        return
    x = model.inputs(_picture(model, side or _SIDE))
    for method in given:
        many = positive_integer(method.options.get("samples")) or 0
        few = dataclasses.replace(method, options={**method.options, "samples": min(many, 8)}) if many > 8 else method
        target = torch.zeros(1, 1, dtype=torch.int64)
        try:
            try:
                model.attribute(few, x, target)
            except InputError:  # the few may be too few
                model.attribute(method, x, target)
        except InputError as error:
            raise InputError(shorten(f"{method.label}: {error}", 480)) from None
        except (TypeError, ValueError) as error:
            why = " ".join(str(error).split())
            raise InputError(shorten(f"{method.label}: a setting has a value that it cannot have ({why}).", 480)) from None
        except Exception:  # it is not defined on this network: the comparison says so beside its number
            continue


def _picture(model: Measured, height: int) -> Tensor:
    channels = model.classifier.transform.raw_channels
    return torch.rand(1, channels, height, height, generator=torch.Generator().manual_seed(0))


def check_sizes(
    models: Sequence[Measured], metrics: Sequence[NamedMetric], *, cell: int | None, size: int | None, rescale: bool
) -> None:
    """Ask every model for the logits of a made-up picture and grid of the sizes that are to come.

    Raises:
        InputError: one does not take them; the message says what would do.
    """
    transforms = [model.classifier.transform for model in models]
    for model in models:
        if any(not set_of(metric).startswith(GRIDS) for metric in metrics):
            side = geometry(model.classifier.transform, size).crop
            if side is not None and (why := _fails(model, "", 1, side)):
                raise InputError(shorten(f"{model.label} does not take pictures of {side} x {side} pixels (--size): {why}", 480))
            for metric in metrics:
                if side is not None and (cells := settings_of(metric).get("cells", 0)) > side:
                    raise InputError(f"{metric.label}: pictures of {side} pixels cannot be cut into {cells} x {cells} cells.")
        for metric in {set_of(one) + measure_of(one).variant: one for one in metrics if set_of(one).startswith(GRIDS)}.values():
            side = common_geometry(transforms, cell, model.classifier.transform).crop
            if side is not None:
                _check_grid(model, measure_of(metric).variant, int(settings_of(metric)["n"]), side, rescale)


def _check_grid(model: Measured, variant: str, n: int, side: int, rescale: bool) -> None:
    if rescale and side % n:
        raise InputError(
            f"Pictures of {side} x {side} pixels cannot be shrunk to 1/{n}: say a multiple of {n} "
            f"(--cell {side - side % n or n})."
        )
    whole = side if rescale else n * side
    why = _fails(model, variant, n, whole)
    if not why:
        return
    if variant and not _fails(model, "", n, whole):  # the grid would do; what the variant makes of the network does not
        raise InputError(shorten(f"{variant} on {model.label}, cells of {whole // n} pixels (--cell): {why}", 480))
    if not rescale and not _fails(model, "", 1, side):
        raise InputError(
            f"{model.label} takes pictures of {side} x {side} pixels and no grid of {n} x {n} of them: shrink the cells so that "
            "a grid is as large as a picture (--rescale)."
        )
    raise InputError(shorten(f"{model.label} does not take grids of {whole} x {whole} pixels (--cell): {why}", 480))


def _fails(model: Measured, variant: str, n: int, side: int) -> str:
    """Why a network gives no logits of a picture of this size; "" where it does."""
    x = model.inputs(_picture(model, side))
    try:
        with torch.no_grad():
            network = model.network(variant, n)
            network(x if model.prepare is None else model.prepare(x))
    except (MemoryError, torch.OutOfMemoryError):
        raise StateError(f"{model.label} runs out of memory on a picture of {side} x {side} pixels: --cell, --size.") from None
    except BcosError as error:
        return str(error)
    except Exception as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""
