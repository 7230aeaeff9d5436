"""The engine: one forward pass, one backward pass for each target, everything by name.

W(x) is the gradient of an output with respect to the input while every dynamic factor is held
(arXiv 2306.10898, section 3). A constant's contribution is the gradient with respect to a probe
that scales it (`torchbcos._core.frozen.add_constant`): measured, never left over.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core import torch_private
from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos._core.frozen import Session, current, mark
from torchbcos._core.names import hint
from torchbcos._core.numbers import positive_integer
from torchbcos._core.targets import resolve_targets
from torchbcos.explanation.arguments import check_arguments, matched, part_of, position_of
from torchbcos.explanation.complete import precision_here, usual_tolerance
from torchbcos.explanation.finite import check_finite, check_signal, largest_of
from torchbcos.explanation.result import Explanation
from torchbcos.nn import Folded

__all__ = ["channel_axis", "differentiate", "explain", "find_module", "gradients_of", "run", "usual_batch"]

# Pixels that are explained together on a CPU: larger batches wait for memory from the system (docs/decisions/005).
_PIXELS = 4 * 224 * 224
_hook_lock = threading.Lock()


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
) -> Explanation:
    """Explain outputs of a network exactly: `value = Σ W(x)·x + constants` (arXiv 2306.10898, eq. 4).

    The model's mode, gradients, buffers and hooks are as before afterwards, also after an error.

    Args:
        model: a network of torchbcos layers, on encoded input.
        x: (N, C, *S), floating point.
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

    Returns:
        An `Explanation` of N images and K targets.

    Raises:
        InputError: the input, a target or the position does not fit.
        StateError: the model cannot be explained exactly (a traced or exported graph, no B-cos layer), or the module
            named by `at` does not run exactly once.

    >>> import torch, torchbcos
    >>> model = torch.nn.Sequential(torchbcos.nn.BcosConv2d(6, 3, 3), torchbcos.nn.GlobalAveragePool())
    >>> e = torchbcos.explain(model, torch.rand(2, 6, 8, 8), targets=1)
    >>> bool(e.residual.abs().max() < 1e-5)
    True
    """
    check_arguments(model, x, batch_size, create_graph, at=at, position=position)
    options: dict[str, Any] = {"top_k": top_k, "at": at, "position": position, "create_graph": create_graph}
    size = positive_integer(batch_size) or usual_batch(model, x, create_graph)
    if size >= len(x):
        return _explain_batch(model, x, targets, contrast=contrast, **options)
    parts = []
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        part, other = part_of(targets, rows, len(x)), part_of(contrast, rows, len(x), "contrast")
        parts.append(_explain_batch(model, x[rows], part, contrast=other, **options))
    return Explanation.join(parts)


def usual_batch(model: nn.Module, x: Tensor, create_graph: bool | str) -> int:
    """How many images to explain at a time where the caller does not say."""
    together = create_graph or x.device.type != "cpu" or any(m.training for m in model.modules())
    return len(x) if together else max(1, _PIXELS // math.prod(x.shape[2:]))


def _explain_batch(
    model: nn.Module, x: Tensor, targets: object, *, contrast: object, top_k: int, at: str | None, position: object,
    create_graph: bool | str,
) -> Explanation:  # fmt: skip
    """`explain` for images that fit into memory together."""
    with Session.of(model, x, create_graph) as state:
        module = find_module(state.model, at)
        outputs, feature = run(state, module)
        explained = outputs if feature is None else _select(feature, module, x.dim(), position)
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
    if not create_graph:  # in training a signal may be dead, and comes back
        check_signal(state.model, state.inputs, largest, columns, lambda m, x, t: _largest(m, x, t, other, at, position))
    return Explanation(
        inputs=keep(state.inputs), outputs=keep(outputs), targets=columns, contrast=other, values=keep(values), weights=weights,
        constants=constants, fixed=tuple(name for name in constants if state.fixed[name]),
        class_names=getattr(state.model, "class_names", None), at=at,
        tolerance=max(precision_here(state.inputs), usual_tolerance(values.dtype)),
    )  # fmt: skip


def _largest(model: nn.Module, x: Tensor, targets: Tensor, other: Tensor | None, at: str | None, position: object) -> Tensor:
    """The largest number in each W (N, K) of these targets, whatever it is."""
    with Session.of(model, x) as state:
        module = find_module(state.model, at)
        outputs, feature = run(state, module)
        explained = outputs if feature is None else _select(feature, module, x.dim(), position)
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
        if "checkpoint" in str(error).lower():
            raise StateError(
                "This model uses torch.utils.checkpoint with use_reentrant=True, which cannot be explained: "
                "set use_reentrant=False."
            ) from error
        raise
    return tuple(torch.zeros_like(t) if g is None else g for g, t in zip(gradients, leaves, strict=True))


def run(state: Session, module: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """The outputs (N, classes) of the network of a session, and the output of `module` where one is given.

    Raises:
        StateError: the network is none that can be explained, or `module` did not run exactly once.
    """
    if module is None:
        outputs, feature = _forward(state.model, state.inputs), None
    else:
        seen: list[object] = []
        with _capture(module, seen, state):
            outputs = _forward(state.model, state.inputs)
        feature = _only_one(seen, state.names[id(module)])
    _check_outputs(outputs, state)
    return outputs, feature


def _only_one(seen: list[object], name: str) -> Tensor:
    """The output of a module that ran once and gave a tensor."""
    if not seen:
        raise StateError(f"The module {name!r} did not run in this forward pass: name one that does.")
    if len(seen) > 1:
        outer = name.rpartition(".")[0]
        around = f", such as {outer!r}" if outer else ""
        raise StateError(
            f"The module {name!r} ran {len(seen)} times in this forward pass, so its name does not say which output is meant: "
            f"name a module around one of its runs{around}, or give each place in the network a module of its own."
        )
    if not isinstance(seen[0], Tensor):
        raise StateError(f"The module {name!r} gave a {type(seen[0]).__name__}, not a tensor: name a module that gives one.")
    if not seen[0].requires_grad:
        raise StateError(
            f"What the module {name!r} gave does not depend on the input: name a module that the input passes through."
        )
    return seen[0]


def _forward(model: nn.Module, inputs: Tensor) -> Tensor:
    """The outputs; an input of another dtype or device than the model's is named as such, and so is one that is edited."""
    before = torch_private.version(inputs)
    try:
        outputs = _uncompiled(model)(inputs)
    except RuntimeError as error:
        if isinstance(error, BcosError):
            raise
        if "in-place operation" in str(error) and "leaf" in str(error):
            raise _edited() from error
        own = next(model.parameters(), inputs)
        if (own.dtype, own.device) == (inputs.dtype, inputs.device):
            raise
        raise InputError(
            f"The input is {inputs.dtype} on {inputs.device}, the model {own.dtype} on {own.device}: "
            f"use x.to({str(own.device)!r}, {own.dtype})."
        ) from error
    if torch_private.version(inputs) != before:
        raise _edited()
    return outputs


def _edited() -> StateError:
    return StateError(
        "This network edits its input in place (x.mul_(…), x[…] = …, relu_), so W would belong to numbers that are gone: "
        "write x = x * … in its forward, or x = x.clone() first."
    )


def _uncompiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model as it runs without torch.compile: compiled code cannot report its constants."""
    for name, module in model.named_modules():
        if name and torch_private.compiled(module):
            raise StateError(
                f"The sub-module {name!r} is compiled on its own and would hide its constants: compile the whole network "
                "instead, or explain it before compiling."
            )
    return torch_private.eager(model)


@contextlib.contextmanager
def _capture(module: nn.Module, seen: list[object], state: Session) -> Iterator[None]:
    """Collect the outputs of `module` in this explanation: not in other threads, nor in an explanation inside this one."""

    def keep(_module: nn.Module, _args: object, output: object) -> None:
        if current() is state:
            seen.append(output)

    with _hook_lock:
        handle = module.register_forward_hook(keep)
    try:
        yield
    finally:
        with _hook_lock:
            handle.remove()


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


def _check_outputs(outputs: object, state: Session) -> None:
    """Raise unless the model gave (N, classes) and one of our layers took part."""
    n = state.batch
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.shape[0] != n:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise StateError(f"Expected the model to give ({n}, classes), got {shape}.")
    if not outputs.requires_grad or not outputs.is_floating_point() or outputs.layout != torch.strided:
        raise StateError(
            f"The model's outputs are {outputs.dtype}, {outputs.layout}: dense floating-point numbers are expected."
            if not outputs.is_floating_point() or outputs.layout != torch.strided
            else "The model's outputs do not depend on its input, or were computed without gradients: look for torch.no_grad, "
            "detach or numpy in its forward."
        )
    if not state.took_part:
        raise StateError(
            "No torchbcos layer ran in this model, so its gradient is not W(x): build it with torchbcos.nn, or "
            "explain the network this graph was exported from."
        )
