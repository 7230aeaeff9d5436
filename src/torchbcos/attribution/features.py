"""One layer's features, chosen by the network or by name, and the gradients of targets with respect to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from torchbcos._core.eagerly import eagerly
from torchbcos._core.errors import InputError, StateError, shorten
from torchbcos._core.frozen import Session, mark
from torchbcos._core.names import hint, quote
from torchbcos.attribution.capture import Seen, Sight, sight_of
from torchbcos.attribution.layout import Layout, layout_of
from torchbcos.attribution.subject import Subject, with_gradient
from torchbcos.explanation.engine import gradients_of
from torchbcos.explanation.finite import check_finite
from torchbcos.explanation.forward import Asked, run
from torchbcos.nn import Folded

__all__ = ["Features", "check_layer", "features_of", "gradient_of"]


class Features:
    """What one layer gave for some images.

    Args:
        seen, layout: the layer, and how its output is read.
        scores: (N, K) what is attributed.
        state: the explanation, where factors are held.

    Attributes:
        name: of the layer.
        values: (N, C, *s), without history.
    """

    def __init__(self, seen: Seen, layout: Layout, scores: Tensor, state: Session | None = None) -> None:
        self.name, self._output, self._layout, self._scores = seen.name, seen.output, layout, scores
        self._later = [] if state is None else list(state.probes.values())[seen.constants :]
        self.values = layout.places(seen.output.detach())

    def gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(N, C, *s) for one target after the other; and (N,) what constants after the layer add, where factors are held."""
        count = self._scores.shape[1]
        for k in range(count):
            value, leaves = self._scores[:, k].sum(), [self._output, *self._later]
            gradient, *added = gradients_of(value, leaves, create_graph=False, retain_graph=k + 1 < count)
            zero = torch.zeros_like(self._scores[:, k], requires_grad=False)
            yield self._layout.places(gradient), torch.stack([zero, *added]).sum(0)


def gradient_of(value: Tensor, output: Tensor) -> Tensor:
    """The gradient of a number with respect to a tensor inside the network; only what lies between is walked."""
    return gradients_of(value, [output], create_graph=False, retain_graph=True)[0]


@contextlib.contextmanager
def features_of(subject: Subject, rows: slice, layer: str | None, method: str) -> Iterator[Features]:
    """The features of some images; inside the block, gradients may be taken as `subject.scales` says.

    Args:
        subject: network, images, targets.
        rows: which images.
        layer: a dotted name, or None.
        method: what messages call the method.

    Raises:
        InputError: there is no such layer, or its output has no places.
        StateError: no layer has any, or the output does not depend on them.
    """
    if layer is None:  # a network that runs its layers several times says which output is the map: torchbcos.evaluation.dipart
        layer = getattr(subject.module, "feature_layer", None)
    check_layer(subject.module, layer)
    with ExitStack() as stack:
        yield _features(subject, rows, layer, method, stack)


def _features(subject: Subject, rows: slice, layer: str | None, method: str, stack: ExitStack) -> Features:
    x, state = subject.x[rows], None
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    if subject.scales == "frozen":
        state = stack.enter_context(Session.of(subject.module, x))
        with sight_of(subject.module, layer) as sight:
            outputs = run(state, None, Asked(subject.prepare)).outputs
        subject.forwards += len(x)
        check_finite(state.model, state.inputs, {"outputs": outputs})
        outputs = mark(outputs, state)
    else:
        with eagerly(), sight_of(subject.module, layer) as sight:
            outputs = subject.forward(x.clone().requires_grad_())
    if not subject.known:
        subject.adopt(outputs)
    subject.backwards += len(x) * subject.count
    scores = with_gradient(outputs.gather(1, subject.targets[rows]))
    size = tuple(subject.x.shape[2:])
    if layer is None:
        seen, layout = _chosen(sight, size, scores, subject.targets[rows], outputs.shape[1], method)
    else:
        seen, layout = _named(sight, size, scores, layer, subject.module)
    return Features(seen, layout, scores, state)


# -- by name -----------------------------------------------------------------------------------------------------------


def check_layer(model: nn.Module, layer: object) -> None:
    """Raise InputError unless a layer of this name can be looked at."""
    if layer is None:
        return
    modules = {name: module for name, module in model.named_modules() if name}
    if not isinstance(layer, str) or layer not in modules:
        some = ", ".join(_stages(model))
        raise InputError(
            f"layer is a name of model.named_modules(), and {shorten(repr(layer), 100)} is none."
            f"{hint(str(layer), modules)} {shorten(some, 150)} are there; None chooses one."
        )
    module = modules[layer]
    if isinstance(module, Folded):
        raise InputError(
            f"In this deployed twin {quote(layer)} is folded into {quote(module.into)}, whose output is now that of both: say "
            f"layer={module.into!r}, or take the network itself (torchbcos.load(..., deploy=False))."
        )


def _stages(model: nn.Module) -> list[str]:
    """Names that are worth a try."""
    info = getattr(model, "feature_info", None)
    named = [getattr(one, "name", None) for one in info] if isinstance(info, tuple) else []
    return [name for name in named if isinstance(name, str)] or [name for name, _ in model.named_children()]


def _named(sight: Sight, size: tuple[int, ...], scores: Tensor, layer: str, model: nn.Module) -> tuple[Seen, Layout]:
    if len(sight.seen) != 1:
        often = f"ran {len(sight.seen)} times" if sight.seen else "did not run"
        raise StateError(
            f"The layer {quote(layer)} {often} in this forward pass, so its name does not say which output is meant: name one "
            f"that runs once, {shorten(', '.join(_stages(model)), 150)} say."
        )
    (seen,) = sight.seen
    layout = layout_of(seen, size, len(scores), sight.maps)
    if layout is None:
        what = tuple(seen.output.shape) if isinstance(seen.output, Tensor) else f"a {type(seen.output).__name__}"
        raise InputError(
            f"The layer {quote(layer)} gives {what}, in which the places of a picture of {size} are not to be found: name one "
            f"before it, or leave layer out. {shorten(', '.join(_stages(model)), 150)} are there."
        )
    if not seen.output.requires_grad or _unused(scores, seen.output):
        raise StateError(f"The outputs do not depend on what the layer {quote(layer)} gives: name one on the way to them.")
    if any(_blind(gradient_of(scores[:, k].sum(), seen.output), layout) for k in range(scores.shape[1])):
        raise StateError(
            f"After {quote(layer)} only a class token is read, so no place of the picture has a gradient there: name the block "
            "before it, or leave layer out."
        )
    return seen, layout


# -- by the network ----------------------------------------------------------------------------------------------------


def _chosen(
    sight: Sight, size: tuple[int, ...], scores: Tensor, targets: Tensor, classes: int, method: str
) -> tuple[Seen, Layout]:  # fmt: skip
    """The last layer with places that is not the classifier's own output, and on whose places the targets depend."""
    inside: list[str] = []  # blocks that only a class token leaves
    last: Tensor | None = None
    spare: tuple[Seen, Layout] | None = None
    for i, seen in reversed(list(enumerate(sight.seen))):
        if seen.output is last or any(seen.name.startswith(f"{name}.") for name in inside) or _projects(seen, sight):
            continue
        layout = layout_of(seen, size, len(scores), sight.maps)
        if layout is None or not seen.output.requires_grad:
            continue
        last = seen.output
        verdict = _verdict(scores, seen.output, layout, targets, classes)
        if verdict == "blind":  # of those that gave this very tensor, the innermost: a container holds earlier blocks, too
            inside.append(next(other.name for other in list(sight.seen)[: i + 1] if other.output is last))
        if verdict == "classifier":
            spare = spare or (seen, layout)
        if not verdict:
            return seen, layout
    if spare is not None:  # a network that is nothing but a classifier
        return spare
    raise StateError(
        f"{method} needs a layer whose output has the places of the picture, {size} here, and this network shows none: name "
        f"one, method={method!r} with layer='…'; for a network of plain functions take a method that masks."
    )


def _projects(seen: Seen, sight: Sight) -> bool:
    """Whether a layer makes keys or values for an attention: what went into that is wanted."""
    outer = sight.modules.get(seen.name.rpartition(".")[0])
    return isinstance(seen.module, nn.Linear) and outer is not None and "att" in type(outer).__name__.lower()


def _verdict(scores: Tensor, output: Tensor, layout: Layout, targets: Tensor, classes: int) -> str:
    """Why a layer is not the one, or "". An image without any gradient says nothing: its map is zero at every layer."""
    for k in range(scores.shape[1]):
        gradient = gradient_of(scores[:, k].sum(), output)
        if _blind(gradient, layout):
            return "blind"
        places = layout.places(gradient).flatten(2)
        telling = places.flatten(1).any(1)
        if not bool(telling.any()):
            continue
        if places.shape[1] == classes:
            own = torch.zeros_like(places[:, :, 0], dtype=torch.bool).scatter_(1, targets[:, k : k + 1], True)
            if not bool(places.any(2)[telling].logical_and(~own[telling]).any()):
                return "classifier"
        return ""
    return "unused" if _unused(scores, output) else ""


def _blind(gradient: Tensor, layout: Layout) -> bool:
    """Whether only tokens before those of places have a gradient."""
    return layout.prefix > 0 and bool(layout.before(gradient).any()) and not bool(layout.places(gradient).any())


def _unused(scores: Tensor, output: Tensor) -> bool:
    found = torch.autograd.grad(scores.sum(), [output], retain_graph=True, allow_unused=True)[0]
    return found is None
