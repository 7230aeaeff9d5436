"""The frozen state: which dynamic weights are constants for autograd, here and now.

A B-cos network multiplies linear maps by factors that depend on the input (the cosine of a
B-cos layer, the spread of a norm, the softmax of attention, the gate of an activation). In
frozen mode `hold` makes those factors constants, so that the gradient of an output with
respect to the input *is* the row of the dynamic linear map W(x).

The state lives in one `ContextVar`: it is per thread and per asyncio task, it nests, it is
restored by exceptions, and no module carries a flag that another thread could see.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function

from torchbcos._core.atoms import atom, unnamed_here
from torchbcos._core.errors import StateError
from torchbcos._core.torch_private import checkpointed, graph_task, knows_graph_tasks, original

__all__ = [
    "CONSTANT", "FULL", "Session", "add_constant", "check_mode", "current", "frozen", "hold", "mark", "mode", "outside",
    "parameter", "running", "session",
]  # fmt: skip

# OFF must be falsy. The values are strings because torch.compile guards them cheaply.
_OFF, CONSTANT, FULL = "", "constant", "full"

_mode: ContextVar[str] = ContextVar("torchbcos_mode", default=_OFF)
_session: ContextVar[Session | None] = ContextVar("torchbcos_session", default=None)
# The innermost layer that runs here: constants are named after it. Recomputed forward passes run on threads of
# the engine, so this cannot stand in the session, which those threads share.
_layer: ContextVar[nn.Module | None] = ContextVar("torchbcos_layer", default=None)
# Autograd graph tasks in which an explanation runs its backward pass, so that a forward pass
# recomputed there (torch.utils.checkpoint, also on the engine's own threads) is frozen too.
_tasks: dict[int, Session] = {}


class Session:
    """What one explanation keeps while its forward and backward passes run; `Session.of` starts one.

    Attributes:
        mode: CONSTANT or FULL, the mode of recomputed forward passes.
        names: module name of every module of the explained network, by `id`.
        model: the network itself, without the wrapper of torch.compile.
        inputs: (N, C, *S) what the network sees: the leaf that W is the gradient of.
        probes: one (N,) tensor of zeros for every named constant; the gradient with respect
            to it is the constant's contribution for each example.
        fixed: by the same names, whether every such constant is the fixed logit bias.
        live: True once the first derivative has been taken (FULL mode only).
        detach: True where no gradient of the parameters is wanted.
        final: True during the last backward pass: what was saved for it may be overwritten.
        batched: True where the inputs must have a batch axis; a layer that is checked alone may do without.
        added: name and value of every constant that `add_constant` added, where a proof keeps them; else None.
    """

    model: nn.Module

    def __init__(self, mode: str, names: dict[int, str], batch: int, inputs: Tensor) -> None:
        self.mode = mode
        self.names = names
        self.batch = batch
        self.inputs = inputs
        self.probes: dict[str, Tensor] = {}
        self.fixed: dict[str, bool] = {}
        self.live = False
        self.detach = mode == CONSTANT
        self.final = False
        self.batched = True
        self.tasks: list[int] = []
        self.closing: list[Callable[[], None]] = []  # what brings the network's own tensors back
        self.added: list[tuple[str, Tensor]] | None = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, model: nn.Module, x: Tensor, create_graph: bool | str = False) -> Iterator[Session]:
        """Start an explanation of `model` at `x`: inside the block the session holds and gradients are recorded.

        Args:
            model: the network, compiled as a whole or not.
            x: (N, C, *S); tensors made in inference mode are copied, others are not changed.
            create_graph: False, True or "truncated", as in `torchbcos.explain`.
        """
        model = original(model)
        names = {id(m): name for name, m in model.named_modules()}
        with torch.inference_mode(False), torch.enable_grad():
            state = cls(FULL if create_graph is True else CONSTANT, names, len(x), _as_leaf(x, bool(create_graph)))
            state.model, state.detach = model, not create_graph
            with session(state):
                yield state

    def probe(self, label: str, fixed: bool) -> Tensor:
        """The probe of a constant of the layer that runs here, created at its first use."""
        return self.probe_of(self._key(label), fixed)

    def keep(self, label: str, constant: Tensor) -> None:
        """Remember what was added, for a proof that another input adds the same."""
        if self.added is not None:
            self.added.append((self._key(label), constant.detach().clone()))

    def _key(self, label: str) -> str:
        layer = _layer.get()
        place = "" if layer is None else self.names.get(id(layer), type(layer).__name__)
        return f"{place}.{label}" if place else label

    def probe_of(self, key: str, fixed: bool = False) -> Tensor:
        """The probe (N,) of the constant of this name, created at its first use."""
        self.fixed[key] = fixed and self.fixed.get(key, True)
        if key not in self.probes:
            dtype = torch.float32 if self.inputs.dtype in (torch.float16, torch.bfloat16) else self.inputs.dtype
            zeros = torch.zeros(self.batch, dtype=dtype, device=self.inputs.device)
            self.probes[key] = zeros.requires_grad_()
        return self.probes[key]

    def close(self) -> None:
        """Forget the graph tasks of this call and let later derivatives be live."""
        self.live = True
        for task in self.tasks:
            _tasks.pop(task, None)
        self.tasks.clear()
        for restore in self.closing:
            restore()
        self.closing.clear()


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """Inside this block the dynamic weights are constants for autograd.

    Outputs do not change, gradients do: the gradient of an output with respect to the input is
    W(x), the input-dependent linear map (Böhle et al. 2024, arXiv 2306.10898, section 3). The
    block nests, restores the state after an exception, and holds for this thread (and asyncio
    task) only. Generators that yield inside it are unsupported: their caller would run frozen.

    >>> import torch
    >>> from torchbcos import frozen, nn
    >>> layer, x = nn.BcosLinear(4, 3), torch.randn(1, 4, requires_grad=True)
    >>> with frozen():
    ...     y = layer(x)[0, 0]
    >>> (w,) = torch.autograd.grad(y, x)
    >>> torch.allclose((w * x).sum(), y)
    True
    """
    token = _mode.set(CONSTANT)
    try:
        yield
    finally:
        _mode.reset(token)


@contextlib.contextmanager
def session(state: Session) -> Iterator[Session]:
    """Run one explanation: the frozen mode of `state`, and `state` itself, in this context."""
    # a layer of another network may have started this explanation, in a hook: it names no constant here
    tokens = _mode.set(state.mode), _session.set(state), _layer.set(None)
    try:
        yield state
    finally:
        _layer.reset(tokens[2])
        _session.reset(tokens[1])
        _mode.reset(tokens[0])
        state.close()


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Inside this block no explanation runs: for what is held as a whole, and whose constants are not the network's."""
    tokens = _mode.set(_OFF), _session.set(None), _layer.set(None)
    try:
        yield
    finally:
        _layer.reset(tokens[2])
        _session.reset(tokens[1])
        _mode.reset(tokens[0])


def _as_leaf(x: Tensor, keep_graph: bool) -> Tensor:
    """`x` as an input that gradients can be taken of: itself where its own graph is wanted, else without it."""
    if x.is_inference():  # autograd cannot record an inference tensor; outside inference mode a copy is an ordinary one
        return x.clone().requires_grad_()
    return x if keep_graph and x.requires_grad else x.detach().requires_grad_()


@contextlib.contextmanager
def running(layer: nn.Module) -> Iterator[None]:
    """Inside this block constants are named after `layer`; blocks nest as layers do."""
    token = _layer.set(layer)
    try:
        yield
    finally:
        _layer.reset(token)


def mode() -> str:
    """The mode that holds here: OFF, CONSTANT or FULL."""
    here = _mode.get()
    if torch.compiler.is_compiling():
        return here
    if not here and _tasks:
        state = _tasks.get(graph_task())
        return state.mode if state is not None else _OFF
    if here and (_session.get() is None or not knows_graph_tasks()) and checkpointed():
        _refuse_recomputation()
    return here


def current() -> Session | None:
    """The explanation that runs here, if any; always None inside compiled code."""
    if torch.compiler.is_compiling():
        return None
    state = _session.get()
    if state is None and _tasks:
        state = _tasks.get(graph_task())
    return state


@atom(gives="gate")
def hold(tensor: Tensor) -> Tensor:
    """`tensor`, but a constant for the derivative that an explanation takes.

    Outside frozen mode it is the tensor itself. In CONSTANT mode it is detached. In FULL mode
    it is constant for the first derivative and live for all later ones, so that W(x) can be
    trained.
    """
    here = mode()
    if not here:
        return tensor
    state = current()
    if state is not None and here == FULL:
        held: Tensor = _Hold.apply(tensor, state)
        return held
    return tensor.detach()


def check_mode() -> None:
    """Refuse what `hold` refuses; for operations that hold their factor by themselves, or have none."""
    mode()


def parameter(tensor: Tensor) -> Tensor:
    """A weight as a layer should use it: without its graph where no gradient of it is wanted."""
    state = current()
    if state is None or not state.detach:
        return tensor
    # Inference tensors cannot be saved for backward; a copy made outside inference mode can.
    return tensor.clone() if tensor.is_inference() else tensor.detach()


@atom(gives="sum")
def add_constant(x: Tensor, constant: Tensor, label: str, *, fixed: bool = False) -> Tensor:
    """`x + constant`, where `constant` broadcasts against x and does not depend on the input.

    During an explanation the constant's contribution to the explained value is measured: it is
    multiplied by `1 + p` with a probe `p = 0` for every example, and the gradient with respect
    to `p` is that contribution. The sum itself is unchanged, bit for bit.

    Args:
        x: (N, ...).
        constant: what is added.
        label: its name within the layer that runs here.
        fixed: True for the fixed logit bias, which the share of the pixels leaves out.

    Raises:
        StateError: the first axis of `x` is not that of the explained images.
    """
    state = current()
    if state is None or unnamed_here():
        return x + constant
    probe = state.probe(label, fixed)
    if x.shape[0] != probe.shape[0]:
        raise StateError(
            f"The constant '{label}' is added to {x.shape[0]} rows, but {probe.shape[0]} images are explained: "
            "a network must keep the image axis first and unchanged."
        )
    state.keep(label, constant)
    one = (1 + probe).to(constant.dtype).reshape(-1, *[1] * (x.dim() - 1))
    return x + constant * one


class _Hold(Function):
    """Identity whose gradient is dropped while the first derivative of an explanation is taken."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, state: Session) -> Tensor:
        ctx.state = state
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None]:
        return (gradient if ctx.state.live else None), None


class _Mark(Function):
    """Identity whose backward tells which graph task belongs to which explanation."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, state: Session) -> Tensor:
        ctx.state = state
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        state: Session = ctx.state
        if not state.live and knows_graph_tasks():
            task = graph_task()
            _tasks[task] = state
            state.tasks.append(task)
        return gradient, None


def mark(tensor: Tensor, state: Session) -> Tensor:
    """Tie the backward pass that starts at `tensor` to `state`."""
    marked: Tensor = _Mark.apply(tensor, state)
    return marked


def _refuse_recomputation() -> None:
    """Refuse torch.utils.checkpoint where layers recomputed in its backward pass would not be frozen."""
    if _session.get() is not None:
        raise StateError(
            "This network uses torch.utils.checkpoint, and this release of torch does not say which backward pass runs: "
            "layers recomputed in it might give another W. Explain the network without checkpoints."
        )
    raise StateError(
        "torch.utils.checkpoint inside torchbcos.frozen(): the backward pass would recompute these layers "
        "outside the frozen state and give another W. Use torchbcos.explain(), or call the model without checkpoints."
    )
