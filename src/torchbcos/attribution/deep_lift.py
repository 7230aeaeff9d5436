"""DeepLIFT by Captum: differences of activations from those of a baseline, passed back by the Rescale rule."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.eagerly import eagerly
from torchbcos._core.errors import BcosError, ExplanationWarning, StateError, in_short
from torchbcos._core.names import quote
from torchbcos._core.optional import require
from torchbcos._core.torch_private import eager
from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.ordinary import InTurn, sharing_copy, with_layers_of_torch
from torchbcos.attribution.record import DIFFERENCE, Method
from torchbcos.attribution.steps import Step, bent_steps, check_watchable, listed
from torchbcos.attribution.subject import Subject, with_gradient

__all__ = ["RECORDS", "DeepLift"]

# The classes that Captum has rules for; it compares them exactly, so that a subclass has none.
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_RULED = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, *_POOLS, nn.Softmax)
# Of f(x) - f(b), or of a hundredth of the sum of magnitudes where that is more: rounding in float32 was at most 1e-6 of this
# sum in every network tried that has all its rules, so this is a hundred times more. No unit: small logits are judged alike.
_MISSES = 0.01


@dataclass(frozen=True)
class DeepLift(Explainer):
    """DeepLIFT (Shrikumar, Greenside, Kundaje 2017, arXiv 1704.02685), Rescale rule, by Captum.

    `(x - b) · multiplier`: at each activation the gradient is replaced by the quotient of differences `Δoutput / Δinput`. Values
    sum to `f(x) - f(b)`, and `delta` says by how much they miss it. Captum has rules for the *modules* ReLU, ELU, LeakyReLU,
    Sigmoid, Tanh, Softplus, MaxPool and Softmax; one that is used several times is given a
    module for every use. Whatever else bends (GELU, the |cos| of B-cos layers, functional
    relu, products of signals, attention) gets its plain gradient without a word; here it is named where the sum is missed.

    Warns:
        ExplanationWarning: the sum is missed by more than 1 % of max(|f(x) - f(b)|, 0.01 Σ|values|).

    Raises:
        MissingPackageError: Captum is not installed.
        StateError: a module with a rule is used more than once, and the network cannot be copied with one for every use.
    """

    name: ClassVar[str] = "deep_lift"

    def compute(self, subject: Subject) -> Found:
        """Two passes forward and two back for each target: x and its baseline together."""
        captum = require("captum.attr", extra="evaluate", why="DeepLIFT")
        check_watchable(subject.module, "DeepLIFT")
        network = _Counted(subject)
        try:
            values = torch.stack([_values(captum, network, k) for k in range(subject.count)], 1)
        except _Reused:
            network.separate()
            values = torch.stack([_values(captum, network, k) for k in range(subject.count)], 1)
        ((_, base),) = subject.scores(lambda _: subject.baseline, 1)
        difference = subject.values - base[0]
        flat = values.flatten(2).to(difference.dtype)
        delta = difference - flat.sum(2)
        allowed = _MISSES * torch.maximum(difference.abs(), flat.abs().sum(2) * _MISSES)
        if bool((delta.abs() > allowed).any()):
            warnings.warn(_missed(network, difference, delta), ExplanationWarning, stacklevel=2)
        return Found(values.sum(2), values, delta)


class _Reused(StateError):
    """A module with a rule runs more than once in a pass: Captum keeps one input for each."""


def _own(model: nn.Module) -> nn.Module:
    """A copy that shares all weights: Captum's hooks would change what other threads compute with the network itself."""
    try:
        found = sharing_copy(model)
    except Exception:  # of somebody's own attributes: of any class
        return model
    return with_layers_of_torch(found) if any(type(m) is bnn.ReLU for m in found.modules()) else found


class _Counted(nn.Module):
    """A network with what prepares its input, as one module whose passes are counted: Captum's hooks on the whole stand here."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.network = _own(subject.module)
        self.prepare, self.subject = subject.prepare, subject

    def separate(self) -> None:
        """Give every use of a module its own one, in a copy that shares all weights.

        Raises:
            StateError: the network cannot be copied.
        """
        names = {m: name for name, m in self.network.named_modules()}
        uses = {names[m]: count for m, count in _uses(self).items() if count > 1}
        try:
            self.network = sharing_copy(self.network)
        except Exception as error:  # of somebody's own attributes: of any class
            raise StateError(_reused(self)) from error
        found = dict(self.network.named_modules())
        apart = {found[name]: InTurn([copy.deepcopy(found[name]) for _ in range(count)]) for name, count in uses.items()}
        for module in list(self.network.modules()):
            for name, child in module.named_children():
                if child in apart:
                    setattr(module, name, apart[child])

    def forward(self, points: Tensor) -> Tensor:
        self.subject.forwards += len(points)
        for module in self.network.modules():
            if isinstance(module, InTurn):
                module.turn = 0
        outputs: Tensor = eager(self.network)(self.subject.given(points))
        return with_gradient(outputs) if torch.is_grad_enabled() else outputs


def _values(captum: Any, network: _Counted, k: int) -> Tensor:
    """(N, C, *S) for target k of every image.

    Captum's rules of MaxPool and Softmax mix the images of a batch (the gradient of the first one where an input is that of the
    baseline; a mean over all), so with these every image goes alone.
    """
    subject = network.subject
    alone = any(type(m) in (*_POOLS, nn.Softmax) for m in network.modules())
    size = 1 if alone else max(1, subject.batch_size // 2)
    targets, base = subject.targets[:, k], subject.baseline
    found = []
    for start in range(0, len(subject.x), size):
        rows = slice(start, start + size)
        leaf = subject.x[rows].detach().clone()
        if torch.is_autocast_enabled(leaf.device.type):
            raise StateError("DeepLIFT by Captum does not work in mixed precision: leave the block of torch.autocast.")
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            eagerly(),
            _apart(network),
            _cleaned(network),
            _captums_errors(network),
        ):
            leaf = leaf.clone().requires_grad_()
            parts = captum.DeepLift(network).attribute(leaf, base[rows].clone(), targets[rows].clone())
        subject.backwards += 2 * len(leaf)
        found.append(parts.detach())
    return torch.cat(found)


@contextlib.contextmanager
def _apart(network: nn.Module) -> Iterator[None]:
    """Give every module with a rule an input of its own.

    Where one such module reads another's output (ReLU, then MaxPool), Captum's two hooks stand on one tensor and run in the wrong
    order: the first module gets the plain gradient instead of the second one's multiplier, and the sum is missed.
    """
    handles = [m.register_forward_pre_hook(_copied) for m in network.modules() if type(m) in _RULED]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _copied(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(t.clone() if isinstance(t, Tensor) else t for t in given)


@contextlib.contextmanager
def _cleaned(network: nn.Module) -> Iterator[None]:
    """Leave nothing of Captum's on the modules: it keeps what comes in and goes out as attributes, after an error for good."""
    kept = [(m, {n: vars(m).get(n, vars(m)) for n in ("input", "output")}) for m in network.modules() if type(m) in _RULED]
    with torch.random.fork_rng(devices=_cuda(network)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s)\s*Setting forward, backward hooks", category=UserWarning)
        try:
            yield
        finally:
            for module, before in kept:
                for name, value in before.items():
                    if value is not vars(module):
                        setattr(module, name, value)
                    elif name in vars(module):
                        delattr(module, name)


def _cuda(network: nn.Module) -> list[torch.device]:
    return list({t.device for t in network.parameters() if t.is_cuda})


@contextlib.contextmanager
def _captums_errors(network: _Counted) -> Iterator[None]:
    """Errors that Captum raises are one sentence; those of the network itself go through."""
    try:
        yield
    except BcosError:
        raise
    except Exception as error:
        if "used more than once" in str(error):
            raise _Reused(_reused(network)) from error
        if not _end(error.__traceback__).startswith("captum."):
            raise
        why = in_short(" ".join(str(error).split()) or type(error).__name__, 200).rstrip(".")
        raise StateError(f"Captum's DeepLIFT does not work on this network: {why}.") from error


def _end(traceback: TracebackType | None) -> str:
    """The module whose code raised."""
    name = ""
    while traceback is not None:
        name, traceback = str(traceback.tb_frame.f_globals.get("__name__", "")), traceback.tb_next
    return name


def _uses(network: _Counted) -> dict[nn.Module, int]:
    """How often each module with a rule runs in one pass."""
    runs: dict[nn.Module, int] = {}

    def count(module: nn.Module, *_: object) -> None:
        runs[module] = runs.get(module, 0) + 1

    handles = [m.register_forward_hook(count) for m in network.modules() if type(m) in _RULED]
    try:
        with torch.no_grad(), eagerly():
            network(network.subject.x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return runs


def _reused(network: _Counted) -> str:
    """Which module runs more than once, and what to do."""
    names = {m: name for name, m in network.network.named_modules()}
    again = [f"{type(m).__name__} {quote(names[m])}" for m, count in _uses(network).items() if count > 1]
    return (
        f"DeepLIFT needs a module of its own for every use of an activation, and {listed(again) or 'one'} runs more than once in "
        "this network. Give each place its own module, or use integrated_gradients, which needs none."
    )


def _missed(network: _Counted, difference: Tensor, delta: Tensor) -> str:
    """By how much the sum is missed, and what has no rule."""
    i, k = divmod(int((delta.abs() / difference.abs().clamp(min=1e-12)).argmax()), delta.shape[1])
    types = {name: type(m) for name, m in network.network.named_modules()}
    steps = bent_steps(network.network, network, network.subject.x[:1])
    bare = [s for s in steps if types.get(s.module) not in _RULED]
    rough = [s for s in steps if types.get(s.module) in (*_POOLS, nn.Softmax)]
    why = "some differences are too small to divide by"
    if bare:
        why = f"Captum has no rule for {listed(_told(bare))}; there the gradient is the plain one"
    elif rough:
        why = f"Captum's rule for {listed(rough)} is not exact"
    return (
        f"DeepLIFT: the values miss f(x) - f(baseline) = {float(difference[i, k]):.3g} by {float(delta[i, k]):.3g} "
        f"(image {i}, target {int(network.subject.targets[i, k])}): {why}."
    )


def _told(bare: list[Step]) -> list[str]:
    """Steps in words; those of our own layers, which are many, by their layer."""
    return [f"the |cos| of {s.family} {quote(s.module)}" if s.family.startswith("Bcos") else str(s) for s in bare]


RECORDS = (
    Method(
        DeepLift, "propagation", "Differences of activations from the baseline's, passed back by the Rescale rule.", True,
        DIFFERENCE, True, "activations as modules that Captum has rules for", "4 K + 2", lambda s, k: 4 * k + 2,
        "Shrikumar et al. 2017, arXiv 1704.02685", "closed form, Captum",
    ),
)  # fmt: skip
