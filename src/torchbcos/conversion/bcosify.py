"""`bcosify`: from a network that can be explained to a B-cos network with its weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, InputError, StateError, shorten
from torchbcos._core.torch_private import original
from torchbcos.conversion.calibrating import calibrate_, values_to_match
from torchbcos.conversion.checking import check_ran, closing_check, leftover
from torchbcos.conversion.choosing import Choices
from torchbcos.conversion.planning import LAYERS, Planned, plan, stayed
from torchbcos.conversion.recording import record, tensor_in
from torchbcos.conversion.replacing import apply_step
from torchbcos.conversion.report import Line, Report
from torchbcos.conversion.shifting import shifted
from torchbcos.conversion.steps import Step, conversion_of, mark
from torchbcos.deployment.settle import copy_of, settle_weights_
from torchbcos.functional import add_inverse

__all__ = ["bcosify"]

_FEW = 2  # examples that are recorded
_SIZE = 224  # of noise, where a network does not say what it takes
_NOISE = 8
_NARROW = {torch.float16, torch.bfloat16}
_BRIGHTEST = 2.0  # means of pixels in [0, 1] lie well below


def bcosify(
    model: nn.Module, *, b: float | Mapping[str, float] = 2.0, biases: str = "norm", example: Tensor | None = None,
    mean: Sequence[float] | None = None, std: Sequence[float] | None = None, unit_norm: bool = False, antialias: bool = False,
    border: str = "mean", blur: int | Mapping[str, int] = 0, calibrate: bool | None = None, output: str | int | None = None,
) -> tuple[nn.Module, Report]:  # fmt: skip
    """Convert a network: `torchbcos.bcosify`, which takes classifiers as well, and says more about its arguments.

    Args:
        model: with logits (N, classes), in any mode; it is left as it is.
        b, biases, example, mean, std, unit_norm, antialias, border, blur, calibrate, output: as there.

    Returns:
        The converted network, in eval mode, on encoded input (N, 2C, *S); and a `Report`.

    Raises:
        InputError: an argument does not fit, or it is not known how the input was normalised.
        StateError: the network cannot be explained, or its conversion cannot.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    >>> model, report = bcosify(net, example=torch.rand(4, 3, 16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> model(torch.rand(1, 6, 16, 16)).shape, report.constants
    (torch.Size([1, 4]), {})
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"bcosify needs a torch.nn.Module, not {type(model).__name__}; a classifier has one: clf.model.")
    if calibrate is not None and not isinstance(calibrate, bool):
        raise InputError(f"calibrate is None, True or False, not {shorten(repr(calibrate), 80)}.")
    _check_network(original(model))
    choices = Choices(b, biases, unit_norm, antialias, border, blur)
    given = copy_of(original(model)).eval().requires_grad_(False)
    settle_weights_(given)
    precisions = {p.dtype for p in given.parameters()}
    if precisions & _NARROW:
        given.float()  # proofs and fits need more digits; at the end it has its own precision again
    mean, std = _normalisation(given, mean, std)
    pixels = _pixels(given, example, len(mean))
    encoded, x = add_inverse(pixels), bnn.Normalize(mean, std)(pixels)
    recording = record(given, x[:_FEW], output)
    plans = plan(given, recording, choices, mean, std)
    zeroed = leftover(given, recording, plans) if choices.biases != "keep" else []
    if choices.biases == "norm":
        behind, zeroed = shifted(given, recording, x, zeroed, plans)
        plans += behind
    steps = _in_order([*(p.step for p in plans), *zeroed])
    numbers = {p.step.path: p.numbers for p in plans}
    converted = copy.deepcopy(given)
    for step in steps:
        converted = apply_step(converted, step, numbers.get(step.path))
    converted.eval()
    check_ran(converted, encoded[:1], plans)
    fits = not choices.keeps_layers if calibrate is None else calibrate
    if fits:
        targets = values_to_match(given, x, plans)
        calibrate_(converted, encoded, targets, plans)
    checked = closing_check(converted, encoded, plans, output)
    never = recording.never_ran(given, LAYERS)
    linear, elsewhere = stayed(given, recording, plans)
    report = Report(
        lines=tuple(_line(p, checked.of_layers) for p in plans if p.step.kind not in ("set", "decode", "folded")),
        steps=tuple(steps), share=checked.share, constants=checked.constants, residual=checked.residual,
        kept=_same(given, converted, x, encoded, output), noise=example is None, examples=len(pixels),
        never_ran=tuple(never), stayed=tuple(linear),
        elsewhere=tuple(sorted({*elsewhere, *(set(recording.elsewhere) & checked.left)})),
        zeroed=tuple(f"{s.path}.{n}" if s.path else n for s in zeroed for n in s.settings["names"]),
        operations=checked.operations, settings={
            "b": dict(b) if isinstance(b, Mapping) else float(b), "biases": biases, "unit_norm": unit_norm,
            "antialias": antialias, "border": choices.border, "blur": choices.passes, "calibrated": fits,
            "mean": list(mean), "std": list(std),
        },
    )  # fmt: skip
    if len(precisions) == 1 and precisions <= _NARROW:
        converted.to(dtype=precisions.pop())
    return mark(converted.requires_grad_(True), steps, report.settings), report


def _check_network(model: nn.Module) -> None:
    """Whether there is a network to convert.

    Raises:
        InputError: it was converted already.
        StateError: it is scripted, or has no numbers yet.
    """
    if conversion_of(model) is not None:
        raise InputError("This network was converted already: give bcosify the network that it was made from.")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise StateError(
                f"The module {shorten(name, 80) or 'itself'!r} is scripted or traced code, whose layers nobody can replace: "
                "convert the network that it was made from."
            )
    for name, p in model.named_parameters():
        if is_lazy(p) or p.is_meta:
            raise StateError(
                f"The parameter {shorten(name, 80)!r} has no numbers yet: run the network once, or load its weights."
            )


def _normalisation(
    model: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[list[float], list[float]]:  # fmt: skip
    """A number a channel each, as given, or as the network says."""
    config = getattr(model, "pretrained_cfg", None)
    if mean is None and std is None and isinstance(config, Mapping) and config.get("mean") and config.get("std"):
        mean, std = config["mean"], config["std"]
    if mean is None or std is None:
        raise InputError(
            "bcosify must know what the input of this network was normalised with: mean=(…), std=(…), a number a channel; "
            "(0, …) and (1, …) where it takes pixels in [0, 1]. ImageNet's are (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225)."
        )
    layer = bnn.Normalize(mean, std)  # says what is wrong with them
    if max(layer.mean) > _BRIGHTEST:
        raise InputError(
            f"mean={shorten(repr(tuple(layer.mean)), 80)} is of pixels beyond [0, 1], as those of 0 to 255 are: divide mean "
            "and std by the number of white."
        )
    return list(layer.mean), list(layer.std)


def _pixels(model: nn.Module, example: Tensor | None, channels: int) -> Tensor:
    """(N, C, *S) in [0, 1]: of the example, or noise of the size that the network says it takes."""
    like = next(model.parameters(), torch.zeros(()))
    if example is None:
        config = getattr(model, "pretrained_cfg", None) or {}
        sides = tuple(config.get("input_size", (channels, _SIZE, _SIZE)))[1:]
        found = torch.rand(_NOISE, channels, *sides, generator=torch.Generator().manual_seed(0))
        return found.to(like.device, like.dtype)
    if (
        not isinstance(example, Tensor)
        or example.dim() < 3
        or not example.numel()
        or example.shape[1] not in (channels, 2 * channels)
    ):
        what = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise InputError(
            f"example is a batch of pictures (N, {channels}, H, W), or encoded (N, {2 * channels}, H, W), a channel for each "
            f"number of mean; got {what}."
        )
    if (
        not example.is_floating_point()
        or not bool(torch.isfinite(example).all())
        or bool((example < 0).any() or (example > 1).any())
    ):
        raise InputError(
            "example holds pixels in [0, 1], before any normalisation: pictures as clf.preprocess or ToTensor gives them."
        )
    return example[:, :channels].detach().to(like.device, like.dtype)


def _in_order(steps: list[Step]) -> list[Step]:
    """The step that puts a layer before all others comes last: paths are those of the given network."""
    return sorted(steps, key=lambda step: step.kind == "decode")


_BECAME = {
    "norm": "norm", "pool": "anti-aliased pool", "hardswish": "held gate", "shift": "norm bias behind it",
    "multihead": "attention", "windows": "attention", "pooling": "attention",
}  # fmt: skip


def _line(planned: Planned, of_layers: Mapping[str, float]) -> Line:
    step, settings = planned.step, planned.step.settings
    out: Mapping[str, Any] = settings.get("out", {})
    b = settings.get("b", out.get("b"))
    layer = "convolution" if step.kind == "conv" else "linear layer"
    became = _BECAME.get(step.kind) or (f"B-cos {layer}" if b is not None and b > 1 else layer)
    return Line(
        path=step.path, was=planned.was, became=became, role=planned.role, b=b, biases=str(settings.get("biases", "")),
        fit=planned.fit, constant=of_layers.get(step.path, 0.0),
    )  # fmt: skip


@torch.no_grad()
def _same(given: nn.Module, converted: nn.Module, x: Tensor, encoded: Tensor, output: str | int | None) -> float:
    """The largest difference of logits, in units of their range; of the first examples."""
    before, after = tensor_in(given(x[:_FEW]), output), tensor_in(converted(encoded[:_FEW]), output)
    if before is None or after is None or before.shape != after.shape:
        raise StateError("The converted network gives logits of another shape than the given one: report this, please.")
    return float((before - after).abs().max() / (before.max() - before.min()).clamp_min(1e-30))
