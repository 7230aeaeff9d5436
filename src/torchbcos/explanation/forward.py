"""The forward pass of an explanation: the network runs as it is, and every operation is watched."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torchbcos._core import torch_private
from torchbcos._core.eagerly import eagerly
from torchbcos._core.errors import BcosError, InputError, StateError, shorten
from torchbcos._core.frozen import Session, current
from torchbcos.kinds import Watch

__all__ = ["Asked", "Ran", "check_constants", "hook_lock", "other_input", "outputs_of", "picked", "run"]

hook_lock = threading.Lock()  # torch gives hooks their numbers without one


class Asked(NamedTuple):
    """What the forward pass of an explanation is asked for.

    Attributes:
        prepare: runs before the network, inside the explained map: it encodes or normalises the input.
        products: what becomes of a product of two signals.
        output: which entry of what the network gives is explained, where it gives several tensors.
        prove: keep every constant that is named, for `check_constants`.
        inner: what a module gives is explained: only that must be a linear map of the input, not what the network gives.
    """

    prepare: nn.Module | None = None
    products: str | None = None
    output: str | int | None = None
    prove: bool = False
    inner: bool = False


class Ran(NamedTuple):
    """What a forward pass gave.

    Attributes:
        outputs: (N, classes).
        feature: the output of the module that was asked for.
        watch: what was seen.
    """

    outputs: Tensor
    feature: Tensor | None
    watch: Watch


def run(state: Session, module: nn.Module | None, asked: Asked | None = None) -> Ran:
    """Run the network of a session, watched: what comes out is a linear map of the input, or is refused.

    Args:
        state: the session.
        module: one whose output is wanted, too.
        asked: what else is wanted.

    Raises:
        StateError: the network is none that can be explained, or `module` did not run exactly once.
    """
    asked = asked or Asked()
    watch = Watch(state, products=asked.products, prove=asked.prove)
    seen: list[object] = []
    if asked.prepare is not None:
        state.names[id(asked.prepare)] = "preprocess"
    try:
        with eagerly(), watch, _capture(module, seen, state):
            given = state.inputs if asked.prepare is None else asked.prepare(state.inputs)
            outputs = picked(_forward(state.model, given), asked.output)
    except Exception as error:
        if not isinstance(error, BcosError):
            _refuse_if_it_runs(state, asked, error)
        raise
    feature = None if module is None else _only_one(seen, state.names[id(module)])
    _check_outputs(outputs, state, watch)
    if feature is not None:
        watch.require_linear(feature, f"outputs of {state.names[id(module)]!r}")
    if not asked.inner:
        watch.require_linear(outputs, "outputs")
    return Ran(outputs, feature, watch)


def outputs_of(model: nn.Module, x: Tensor, asked: Asked) -> Any:
    """What the untouched network gives for these inputs, unwatched."""
    x = x.detach().requires_grad_(torch.is_grad_enabled())
    return picked(_uncompiled(torch_private.original(model))(x if asked.prepare is None else asked.prepare(x)), asked.output)


def _refuse_if_it_runs(state: Session, asked: Asked, error: Exception) -> None:
    """Raise StateError where a network runs, but not while it is watched; its own errors are its own."""
    if _runs(state, asked, gradients=True):
        raise StateError(
            f"This network runs, but not while its operations are watched for an explanation: {shorten(str(error), 200)} Look "
            "for a gradient that its forward takes, or tensors that it exchanges; torchbcos.kinds.trace(model, x) lists them."
        ) from error
    if _runs(state, asked, gradients=False):
        raise StateError(
            f"This network runs without gradients only, and W is one: {shorten(str(error), 200)} Write what it edits in place, "
            "or into out=…, as a new tensor: y = f(x)."
        ) from error


def _runs(state: Session, asked: Asked, *, gradients: bool) -> bool:
    """Whether the network runs when nobody watches."""
    try:
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(gradients):
            outputs_of(state.model, state.inputs, asked)
    except Exception:
        return False
    return True


def check_constants(state: Session, watch: Watch, asked: Asked) -> None:
    """Show that constants which nobody saw being made do not depend on the input: another input must meet the same ones.

    Raises:
        StateError: they are others there.
    """
    first = watch.origins.doubtful()
    if not first:
        return
    other = other_input(state.inputs)
    with torch.random.fork_rng(devices=[]), Session.of(state.model, other) as again:
        second = run(again, None, asked).watch.origins.doubtful()
    for one, two in itertools.zip_longest(first, second):
        if one is None or two is None or one[0] != two[0] or not _same(one[1], two[1]):
            raise StateError(watch.origins.moving((one or two or ("", 0))[0]))


def other_input(x: Tensor) -> Tensor:
    """Another input of the same form: (N, C, *S) mirrored, and each number paler by another factor.

    A shift or a scale of the whole would not show what is added by a ratio, or by a normalised statistic.
    """
    x = x.detach()
    slope = torch.linspace(0.4, 0.9, x[0].numel(), dtype=torch.float32, device=x.device).to(x.dtype).reshape(x.shape[1:])
    return x.flip(tuple(range(2, x.dim()))) * slope + 0.1


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and bool(torch.equal(a, b))
    return type(a) is type(b) and bool(a == b)


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
def _capture(module: nn.Module | None, seen: list[object], state: Session) -> Iterator[None]:
    """Collect the outputs of `module` in this explanation: not in other threads, nor in an explanation inside this one."""
    if module is None:
        yield
        return

    def keep(_module: nn.Module, _args: object, output: object) -> object:
        if current() is not state:
            return None
        seen.append(output)
        # the network goes on with a copy: an activation in place would edit what was asked for
        return output.clone() if isinstance(output, Tensor) else None

    with hook_lock:
        handle = module.register_forward_hook(keep)
    try:
        yield
    finally:
        with hook_lock:
            handle.remove()


def _check_outputs(outputs: object, state: Session, watch: Watch) -> None:
    """Raise unless the model gave (N, classes), dense floating-point numbers."""
    n = state.batch
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.shape[0] != n:
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise StateError(f"Expected the model to give ({n}, classes), got {shape}.{_several(outputs)}")
    if not outputs.is_floating_point() or outputs.layout != torch.strided:
        raise StateError(f"The model's outputs are {outputs.dtype}, {outputs.layout}: dense floating-point numbers are expected.")


def picked(outputs: Any, wanted: str | int | None) -> Any:
    """The entry of what a network gave that is explained; what it gave itself where it is one tensor.

    Raises:
        InputError: there is no such entry.

    >>> picked({"logits": 1, "hidden": 2}, "logits"), picked((3, 4), 1), picked(5, None)
    (1, 4, 5)
    """
    if wanted is None:
        return outputs
    entries = _entries(outputs)
    if isinstance(wanted, int) and isinstance(outputs, (tuple, list)) and -len(outputs) <= wanted < 0:
        wanted += len(outputs)
    if wanted in entries:
        return entries[wanted]
    if not entries:
        raise InputError(
            f"output={wanted!r}: the network gives one {type(outputs).__name__}, which has no entries; leave it out."
        )
    raise InputError(f"output={wanted!r} is no entry of what the network gives: {shorten(', '.join(map(repr, entries)), 200)}.")


def _entries(outputs: Any) -> dict[Any, Any]:
    """Names or places, and what stands there: of dictionaries, named tuples, tuples, lists and dataclasses."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, (tuple, list)):
        named = getattr(outputs, "_fields", ())
        return {**dict(enumerate(outputs)), **dict(zip(named, outputs, strict=False))}
    if dataclasses.is_dataclass(outputs):
        return {field.name: getattr(outputs, field.name) for field in dataclasses.fields(outputs)}
    return {}


def _several(outputs: Any) -> str:
    """What to say where a network gives several things, or an answer at every place."""
    if isinstance(outputs, Tensor) and outputs.dim() > 2:
        axes = tuple(range(2, outputs.dim()))
        place = "(row, column)" if len(axes) == 2 else "(…)"
        return (
            f" Average over space in a module around it: `self.network(x).mean({axes})`. There "
            f'explain(at="network", position={place}) explains the answer at one place.'
        )
    entries = _entries(outputs)
    fits = [name for name, value in entries.items() if isinstance(value, Tensor) and value.dim() == 2]
    if not entries:
        return ""
    return f" Say which entry holds the logits: output={(fits or list(entries))[0]!r}, say."
