"""The engine: one forward pass, one backward pass for each target, everything by name.

W(x) is the gradient of an output with respect to the input while every dynamic factor is held
(arXiv 2306.10898, section 3). A constant's contribution is the gradient with respect to a probe
that scales it (`torchbcos._core.frozen.add_constant`): measured, never left over.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchbcos._core.errors import BcosError, InputError, StateError, shorten
from torchbcos._core.frozen import Session, mark
from torchbcos._core.names import hint
from torchbcos._core.numbers import positive_integer
from torchbcos._core.targets import resolve_targets
from torchbcos.explanation.adding import check_adds_up, check_alone
from torchbcos.explanation.arguments import check_arguments, matched, part_of, position_of
from torchbcos.explanation.complete import precision_here, usual_tolerance
from torchbcos.explanation.finite import check_finite, check_signal, largest_of
from torchbcos.explanation.forward import Asked, Ran, check_constants, outputs_of, run
from torchbcos.explanation.origin import Origin
from torchbcos.explanation.result import Explanation
from torchbcos.explanation.verify import Proof, first_broken
from torchbcos.kinds import OneByOne
from torchbcos.nn import Folded

__all__ = ["channel_axis", "differentiate", "explain", "find_module", "explain_through", "gradients_of", "usual_batch"]

# Pixels that are explained together on a CPU: larger batches wait for memory from the system (docs/decisions/005).
_PIXELS = 4 * 224 * 224
_TELLS = 5e-3  # the largest tolerance at which a sum shows that constants went to the wrong image


def explain(
    model: nn.Module,
    x: Tensor,
    targets: object = None,
    *,
    top_k: int = 1,
    contrast: object = None,
    at: str | None = None,
    position: object = None,
    batch_size: int | None = None,
    create_graph: bool | str = False,
    products: str | None = None,
    output: str | int | None = None,
    verify: bool = False,
) -> Explanation:
    """Explain outputs of any network exactly: `value = Σ W(x)·x + constants` (arXiv 2306.10898, eq. 4).

    Every operation of the forward pass is watched (docs/explanation/kinds.md): what depends on the input in another way than
    linearly is a factor, and held, or the network is refused with the operation's name. So W is linear by construction.
    The model's mode, gradients, buffers and hooks are as before afterwards, also after an error.

    Args:
        model: a network: of torchbcos layers on encoded input, of torchvision, of timm, of one's own.
        x: (N, C, *S), floating point, as the network takes it.
        targets: None (the `top_k` highest outputs of each image), an int, N ints or (N, K) ints.
        top_k: K where `targets` is None.
        contrast: the same forms; explains `output[target] - output[contrast]`.
        at: name of a sub-module that runs once; targets are then channels of its output.
        position: with `at`, one integer for every space axis of that output; None sums over space.
        batch_size: explain this many images at a time (results are joined). None: all together, but on a
            CPU, in eval mode and without `create_graph`, about four pictures of 224 x 224 at a time:
            larger batches cost memory there, and time for getting it from the system.
        create_graph: True gives values, weights and contributions their full derivative;
            "truncated" leaves the dynamic factors constants throughout.
        products: what becomes of a product of two signals, of which neither came from an activation. None: the network is
            refused. "first", "second": that operand stays the signal, the other is held. "half": half of each.
        output: which entry is explained of a network that gives a dictionary, a tuple or a dataclass.
        verify: prove this explanation, at the cost of two more: W does not depend on x once factors are held, pixels and
            constants add up, and the outputs are those of the untouched network. It shows a wrong rule (`register_rule`), or a
            layer that says it holds its factors and does not. `torchbcos.testing.check_model` proves more, and names modules.

    Returns:
        An `Explanation` of N images and K targets.

    Raises:
        InputError: the input, a target, an option or the position does not fit.
        StateError: the model cannot be explained exactly: the message names the operation and the module. Or the module named
            by `at` does not run exactly once. Or the proof fails: the message names the law.

    >>> import torch, torchbcos
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), torch.nn.GELU(), torchbcos.nn.GlobalAveragePool())
    >>> e = torchbcos.explain(model, torch.rand(2, 3, 8, 8), targets=1)
    >>> bool(e.residual.abs().max() < 1e-5), list(e.constants)
    (True, ['0.bias'])
    """
    return explain_through(
        model, None, x, targets, top_k=top_k, contrast=contrast, at=at, position=position, batch_size=batch_size,
        create_graph=create_graph, products=products, output=output, verify=verify,
    )  # fmt: skip


def explain_through(
    model: nn.Module, prepare: nn.Module | None, x: Tensor, targets: object = None, *, top_k: int = 1, contrast: object = None,
    at: str | None = None, position: object = None, batch_size: int | None = None, create_graph: bool | str = False,
    products: str | None = None, output: str | int | None = None, verify: bool = False,
) -> Explanation:  # fmt: skip
    """`explain` of a network and of what prepares its input, as one map: W and `inputs` belong to the input of `prepare`.

    Args:
        model: the network.
        prepare: a layer that encodes or normalises (N, C, *S); its constants are named "preprocess.…". None: nothing.
        x: what `prepare` takes.
        targets, top_k, contrast, at, position, batch_size, create_graph, products, output, verify: as in `explain`.
    """
    check_arguments(model, x, batch_size, create_graph, at=at, position=position, products=products, verify=verify)
    question = _Question(top_k, at, position, create_graph, Asked(prepare, products, output, inner=at is not None), verify)
    size = positive_integer(batch_size) or usual_batch(model, x, create_graph)
    if size >= len(x):
        return _explain_batch(model, x, targets, contrast, question)
    return _in_parts(model, x, targets, contrast, question, size)


class _Question(NamedTuple):
    """What is asked of every image alike."""

    top_k: int
    at: str | None
    position: object
    create_graph: bool | str
    asked: Asked
    verify: bool = False


def _in_parts(model: nn.Module, x: Tensor, targets: object, contrast: object, question: _Question, size: int) -> Explanation:
    """`size` images at a time, joined; where derivatives are wanted, W depends on the joined `inputs`."""
    wanted = bool(question.create_graph) and not x.is_inference()
    x = x.detach().requires_grad_() if wanted and not x.requires_grad else x
    parts = []
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        part, other = part_of(targets, rows, len(x)), part_of(contrast, rows, len(x), "contrast")
        parts.append(_explain_batch(model, x[rows], part, other, question))
    joined = Explanation.join(parts)
    return dataclasses.replace(joined, inputs=x) if wanted else joined


def usual_batch(model: nn.Module, x: Tensor, create_graph: bool | str) -> int:
    """How many images to explain at a time where the caller does not say."""
    together = create_graph or x.device.type != "cpu" or any(m.training for m in model.modules())
    return len(x) if together else max(1, _PIXELS // math.prod(x.shape[2:]))


def _explain_batch(model: nn.Module, x: Tensor, targets: object, contrast: object, question: _Question) -> Explanation:
    """`explain` for images that fit into memory together; where they cannot be told apart, each by itself."""
    try:
        e, named = _explain_together(model, x, targets, contrast, question)
    except OneByOne as together_only:
        if len(x) == 1 or any(m.training for m in model.modules()):  # in training an image alone is another one
            raise
        try:
            alone = _in_parts(model, x, targets, contrast, question, 1)
        except Exception as error:
            if isinstance(error, BcosError) or x.dim() != 3:
                raise
            raise together_only from error  # one image that was given without its batch
        with torch.no_grad():
            together = outputs_of(model, x, question.asked)
        check_alone(together, alone)
        return alone
    # whose constant is whose was read from the order of rows: a sum that does not add up, or cannot tell, says it was not
    rough = e.tolerance is not None and e.tolerance > _TELLS
    if named and len(x) > 1 and (rough or not bool(e.complete.all())) and not any(m.training for m in model.modules()):
        alone = _in_parts(model, x, targets, contrast, question, 1)
        check_alone(e.outputs, alone)
        return alone
    if question.verify:
        _verify(model, x, e, question)
    check_adds_up(e)
    return e


def _verify(model: nn.Module, x: Tensor, e: Explanation, question: _Question) -> None:
    """Raise StateError where an explanation cannot be proved."""

    def forward(state: Session) -> tuple[Tensor, Tensor]:
        ran, explained = _ran(state, question)
        return ran.outputs, explained

    law = first_broken(Proof(model, x, e, forward, question.asked), e.tolerance or usual_tolerance(e.values.dtype))
    if law is not None:
        raise StateError(f"This explanation is not proved. {law} torchbcos.testing.check_model(model, x) names the module.")


def _explain_together(
    model: nn.Module, x: Tensor, targets: object, contrast: object, question: _Question
) -> tuple[Explanation, bool]:  # fmt: skip
    """The explanation of these images, and whether constants of foreign operations were named in it."""
    top_k, at, create_graph, asked = question.top_k, question.at, question.create_graph, question.asked
    with Session.of(model, x, create_graph) as state:
        (outputs, _, watch), explained = _ran(state, question)
        what = "classes" if at is None else "channels"
        columns = resolve_targets(targets, explained, top_k=top_k, what=what)
        values, other = explained.gather(1, columns), None
        if contrast is not None:
            other = matched(resolve_targets(contrast, explained, name="contrast", what=what), columns)
            values = values - explained.gather(1, other)
        weights, constants = differentiate(mark(values, state), state.inputs, state, bool(create_graph))
    keep = (lambda t: t) if create_graph else Tensor.detach
    largest = largest_of(weights)
    check_finite(state.model, state.inputs, {"outputs": outputs, "explained values": values, "weights W(x)": largest})
    check_constants(state, watch, asked)
    if not create_graph:  # in training a signal may be dead, and comes back
        check_signal(state.model, state.inputs, largest, columns, lambda m, x, t: _largest(m, x, t, other, question))
    return Explanation(
        inputs=keep(state.inputs), outputs=keep(outputs), targets=columns, contrast=other, values=keep(values), weights=weights,
        constants=constants, fixed=tuple(name for name in constants if state.fixed[name]),
        class_names=getattr(state.model, "class_names", None), at=at,
        tolerance=max(precision_here(state.inputs), usual_tolerance(values.dtype)),
        origin=Origin(model, {"products": asked.products, "output": asked.output}),
    ), watch.foreign  # fmt: skip


def _ran(state: Session, question: _Question) -> tuple[Ran, Tensor]:
    """What the forward pass gave, and (N, channels) of which the targets are columns."""
    module = find_module(state.model, question.at)
    ran = run(state, module, question.asked)
    given = ran.feature
    return ran, ran.outputs if given is None else _select(given, module, state.inputs.dim(), question.position)


def _largest(model: nn.Module, x: Tensor, targets: Tensor, other: Tensor | None, question: _Question) -> Tensor:
    """The largest number in each W (N, K) of these targets, whatever it is."""
    with Session.of(model, x) as state:
        _, explained = _ran(state, question)
        values = explained.gather(1, targets)
        values = values if other is None else values - explained.gather(1, other)
        return largest_of(differentiate(mark(values, state), state.inputs, state, False)[0])


def differentiate(values: Tensor, inputs: Tensor, state: Session, create_graph: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """W (N, K, C, *S) and the constants (N, K): one backward pass of the summed values a target."""
    names = list(state.probes)
    leaves = [inputs, *(state.probes[name] for name in names)]
    count = values.shape[1]
    if create_graph:
        rows = [gradients_of(values[:, k].sum(), leaves, create_graph=True, retain_graph=True) for k in range(count)]
        found = [torch.stack(parts, 1) for parts in zip(*rows, strict=True)]
    elif count == 1:
        state.final = True
        row = gradients_of(values.sum(), leaves, create_graph=False, retain_graph=False)
        found = [part.unsqueeze(1) for part in row]
    else:  # row by row into one tensor: a thousand of them need not be held twice
        found = [leaf.new_empty(leaf.shape[0], count, *leaf.shape[1:]) for leaf in leaves]
        for k in range(count):
            state.final = k + 1 == count
            row = gradients_of(values[:, k].sum(), leaves, create_graph=False, retain_graph=not state.final)
            for whole, part in zip(found, row, strict=True):
                whole[:, k] = part
    return found[0], dict(zip(names, found[1:], strict=True))


def gradients_of(value: Tensor, leaves: list[Tensor], *, create_graph: bool, retain_graph: bool) -> tuple[Tensor, ...]:
    """The gradient of a number with respect to every leaf; zeros where it does not depend on one."""
    try:
        gradients = torch.autograd.grad(
            value, leaves, retain_graph=retain_graph, create_graph=create_graph, allow_unused=True
        )  # fmt: skip
    except RuntimeError as error:
        if "modified by an inplace operation" in str(error):
            raise StateError(
                "This network edits a tensor in place (y += …, y[…] = …, y.relu_()) after an operation whose gradient needs its "
                "old numbers, perhaps in a hook or another thread: write y = y + … there, or edit a copy (y.clone())."
            ) from error
        if "not implemented" in str(error) or "returned an invalid gradient" in str(error):
            raise StateError(f"This network has an operation without a derivative: {shorten(str(error), 200)}.") from error
        if "_will_engine_execute_node" in str(error):
            raise StateError(
                "Hooks that count or wait for gradients (FlopCounterMode, register_multi_grad_hook) stand on this network's "
                "input, and torch allows them in backward() only: call explain outside of them."
            ) from error
        if "checkpoint" in str(error).lower():
            raise StateError(
                "This model uses torch.utils.checkpoint with use_reentrant=True, which cannot be explained: "
                "set use_reentrant=False."
            ) from error
        raise
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(gradients, leaves, strict=True))


def channel_axis(feature: Tensor, module: nn.Module | None, ndim: int) -> int:
    """Which axis of a module's output holds channels: the one it names, else the first, but the last of tokens."""
    default = 1 if feature.dim() in (2, ndim) else -1
    axis: int = getattr(module, "channel_dim", default)
    return axis if feature.dim() > 2 else 1


def _select(feature: Tensor, module: nn.Module | None, ndim: int, position: object) -> Tensor:
    """Channels of a feature at one position, or summed over space: (N, channels)."""
    feature = feature.movedim(channel_axis(feature, module, ndim), 1) if feature.dim() > 2 else feature
    if position is None:
        return feature.flatten(2).sum(2) if feature.dim() > 2 else feature
    for place in position_of(position, tuple(feature.shape[2:])):
        feature = feature[:, :, place]
    return feature


def find_module(model: nn.Module, at: str | None) -> nn.Module | None:
    """The sub-module of that name, or a clear error."""
    if at is None:
        return None
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if not isinstance(at, str) or at not in modules:
        known = [name for name in modules if name]
        raise InputError(f"The model has no module {at!r}.{hint(str(at), known)}")
    module = modules[at]
    if isinstance(module, Folded):
        raise InputError(
            f"In this deployed twin {at!r} is folded into {module.into!r}, whose output is now that of {at!r}: explain "
            f"at={module.into!r}, or take the network itself (torchbcos.load(..., deploy=False))."
        )
    return module
