"""Every private name of torch that this library reads, and what happens on a torch that has it no more.

Nothing here is promised by torch: a release may rename it, or change its arguments. So each name is looked up once, with
`getattr(..., None)`, when this file is imported, and stands behind a function that has an answer for None. The answer is
never another W(x): it is a slower way to the same numbers, or a refusal in one sentence. No other file may name private
parts of torch (tests/architecture/test_private.py), and tests/unit/_core/test_torch_private.py takes each name away in turn.

| name | without it |
|---|---|
| `_C._current_graph_task_id` | layers under `torch.utils.checkpoint` inside `frozen()` are refused, as ever |
| `_C._functorch.maybe_current_level` | plain operations everywhere, and nothing is packed |
| `_C._autograd._top_saved_tensors_default_hooks` | checkpoints are found on the stack; a batch norm keeps its own input |
| `utils._python_dispatch._get_current_dispatch_mode` | no weight is packed |
| `Tensor._version` | no weight is packed; `testing` sees no change of values |
| `Tensor._is_view` | constants are named on a copy |
| `Tensor._base` | a constant that a signal is written into through a view is refused |
| `_ops.OpOverloadPacket`, `_opoverload` | operations called as `torch.ops.…` without an overload have no rule |
| `Module._forward_hooks`, `Module._forward_pre_hooks` | `testing` sees no hook that was left behind, `save` none |
| `_orig_mod`, `_compiled_call_impl`, `_call_impl`, `torch._dynamo` | all compiled code runs eagerly while `explain` runs |
| `ops.aten.batch_norm_update_stats` | `torch.var_mean`, some 20 times as slow |
| `ops.aten.convolution_backward` | autograd of `torch.nn.functional`, one more forward pass |
| `ops.aten.avg_pool2d_backward` | portable graphs keep that operation |
| `ops.mkldnn._convolution_pointwise`, `_C._nn.mkldnn_reorder_conv2d_weight` | oneDNN reorders weights at every call |
| `fx.experimental.proxy_tensor.make_fx` | `explanation_graph` is refused |
| `_guards.tracing`, `_guards.TracingContext`, `_subclasses.fake_tensor.FakeTensorMode` | recording takes twice as long |
| `_utils._rebuild_…`, `serialization._get_layout` (names in files of `torch.save`, never called) | such files are refused |
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from torchbcos._core.stack import in_checkpoint
from torchbcos._core.trial import Trial as Trial

__all__ = [
    "AVERAGE_POOL_BACKWARD", "CONVOLUTION_BACKWARD", "OF_EVERY_MODULE", "Operation", "Packing", "SAVED", "Trial",
    "base_of", "channel_statistics", "checkpointed", "compiled", "convolution_backward", "dispatch_mode", "eager",
    "forward_hooks", "graph_task", "hook_counts", "inside_transform", "is_view", "knows_graph_tasks", "may_hold_compiled",
    "original", "packing", "plain_name", "qualified", "record", "records", "saved_tensor_hooks", "transformed", "version",
]  # fmt: skip


def _module(name: str) -> ModuleType | None:
    """A module of torch, or None where this torch has none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _answering(function: Callable[..., Any] | None, *arguments: Any) -> Callable[..., Any] | None:
    """`function` where it can be called with these arguments; a name that stayed may want others."""
    try:
        if function is not None:
            function(*arguments)
    except (TypeError, RuntimeError):
        return None
    return function


# -- autograd: which backward pass runs, what hooks stand on saved tensors -------------------------------------------

_GRAPH_TASK = _answering(getattr(torch._C, "_current_graph_task_id", None))
# since torch 2.7; True: also while torch.jit.trace runs
_TOP_HOOKS = _answering(getattr(getattr(torch._C, "_autograd", None), "_top_saved_tensors_default_hooks", None), True)


def knows_graph_tasks() -> bool:
    """True where a backward pass has a number. Elsewhere nobody can say to which explanation a recomputed layer belongs."""
    return _GRAPH_TASK is not None


def graph_task() -> int:
    """The number of the backward pass that runs here; -1 outside backward passes, and where torch does not say."""
    return -1 if _GRAPH_TASK is None else int(_GRAPH_TASK())


def saved_tensor_hooks() -> bool:
    """True where hooks on saved tensors may be active (torch.utils.checkpoint, save_on_cpu); older torch cannot say."""
    return _TOP_HOOKS is None or _TOP_HOOKS(True) is not None


def checkpointed() -> bool:
    """True where torch.utils.checkpoint runs the caller and will run it again in the backward pass.

    It is recognised by the file that its hooks, or the functions on the stack, come from. Hooks of any other file of
    torch count as well, but for those of `torch.autograd.graph` (`save_on_cpu`), which store and recompute nothing: should
    checkpoints move to another file, they are refused still.
    """
    if torch.is_grad_enabled() and _TOP_HOOKS is not None:
        top = _TOP_HOOKS(True)
        place = "" if top is None else str(getattr(top[0], "__module__", None))
        return place.partition(".")[0] == "torch" and place != "torch.autograd.graph"
    # this torch shows no hooks; or the reentrant variant, whose first pass runs without gradients and without hooks
    return in_checkpoint()


# -- functorch, tracing, dispatch modes: where plain operations are needed ---------------------------------------------

_LEVEL = _answering(getattr(getattr(torch._C, "_functorch", None), "maybe_current_level", None))
_DISPATCH_MODE = _answering(getattr(getattr(torch.utils, "_python_dispatch", None), "_get_current_dispatch_mode", None))


def transformed() -> bool:
    """True inside functorch transforms and torch.jit.trace, which need operations that they know; True if none can say."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced or _LEVEL is None or _LEVEL() is not None


def inside_transform() -> bool:
    """True inside functorch transforms and torch.jit.trace; False if none can say: then torch objects by itself."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return traced or (_LEVEL is not None and _LEVEL() is not None)


def dispatch_mode() -> bool:
    """True where a TorchDispatchMode (make_fx, fake tensors, a counter) sees every operation; True if none can say."""
    return _DISPATCH_MODE is None or _DISPATCH_MODE() is not None


# -- tensors and modules -----------------------------------------------------------------------------------------------

_VERSION: Any = getattr(Tensor, "_version", None)


def version(tensor: Tensor) -> int | None:
    """How often `tensor` was changed in place; None where torch does not count (inference tensors) or does not say."""
    return None if _VERSION is None or tensor.is_inference() else tensor._version


_BASE: Any = getattr(Tensor, "_base", None)


def base_of(tensor: Tensor) -> Tensor:
    """The tensor that `tensor` is a view of; itself where it is none, or torch does not say."""
    return tensor if _BASE is None or tensor._base is None else tensor._base


_IS_VIEW: Any = getattr(Tensor, "_is_view", None)


def is_view(tensor: Tensor) -> bool:
    """True where autograd knows `tensor` as a part of another one; True if it does not say."""
    return True if _IS_VIEW is None else bool(_IS_VIEW(tensor))


_HOOKS = tuple(
    name for name in ("_forward_hooks", "_forward_pre_hooks") if getattr(nn.Module(), name, None) is not None
)  # fmt: skip


def hook_counts(module: nn.Module) -> tuple[int, ...]:
    """How many hooks stand on the forward pass of `module`, after and before it."""
    return tuple(len(getattr(module, name, ())) for name in _HOOKS)


def forward_hooks(module: nn.Module) -> list[Any]:
    """The hooks that stand on the forward pass of `module`, after and before it."""
    return [hook for name in _HOOKS for hook in getattr(module, name, {}).values()]


# what every module has: torch's own
OF_EVERY_MODULE = frozenset(vars(nn.Module()))


# -- torch.compile -----------------------------------------------------------------------------------------------------

# `module.compile()` sets the first of these on the instance; from the start the class has it, with None
_COMPILES_IN_PLACE = getattr(nn.Module, "_compiled_call_impl", nn.Module) is None
_CALLS_EAGERLY = getattr(nn.Module, "_call_impl", None) is not None


def original(model: nn.Module) -> nn.Module:
    """The network inside what `torch.compile(network)` returned; any other module itself."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def plain_name(name: str) -> str:
    """The name of a parameter or layer without what `torch.compile` puts into it.

    >>> plain_name("layer1._orig_mod.0.weight")
    'layer1.0.weight'
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def compiled(module: nn.Module) -> bool:
    """True where this very module runs compiled code, made by `torch.compile(module)` or by `module.compile()`."""
    return _wrapper(module) or getattr(module, "_compiled_call_impl", None) is not None


def _wrapper(module: nn.Module) -> bool:
    """True for what `torch.compile(module)` returns. Its class has no public name: its module tells, or what it holds."""
    return type(module).__module__.startswith("torch._dynamo") or original(module) is not module


def eager(model: nn.Module) -> Callable[..., Any]:
    """What calls `model` without its own compiled code.

    Where this torch does not show what is compiled, a public switch makes all compiled code run eagerly during the call:
    in every thread, which is why it is not the usual way.
    """
    if _COMPILES_IN_PLACE and _CALLS_EAGERLY and not _wrapper(model):
        call: Callable[..., Any] = model._call_impl if compiled(model) else model
        return call
    return functools.partial(_forced_eager, model)


def may_hold_compiled() -> bool:
    """False where nothing was ever compiled in this process."""
    return "torch._dynamo" in sys.modules


def _forced_eager(model: nn.Module, *arguments: Any) -> Any:
    if not may_hold_compiled():
        return model(*arguments)
    with torch.compiler.set_stance("force_eager"):
        return model(*arguments)


# -- operations --------------------------------------------------------------------------------------------------------


def _aten(name: str) -> Any:
    return getattr(torch.ops.aten, name, None)


_STATISTICS, _CONVOLUTION_BACKWARD = _aten("batch_norm_update_stats"), _aten("convolution_backward")
# single operations, to be replaced in a recorded graph
CONVOLUTION_BACKWARD: Any = getattr(_CONVOLUTION_BACKWARD, "default", None)
AVERAGE_POOL_BACKWARD: Any = getattr(_aten("avg_pool2d_backward"), "default", None)
Operation: type = type(torch.ops.aten.add.Tensor)  # the class of operations in recorded graphs, which has no public name


_PACKET: Any = getattr(getattr(torch, "_ops", None), "OpOverloadPacket", ())


def qualified(function: object) -> str | None:
    """What torch calls an operation of `torch.ops`, "namespace::name"; None for anything else.

    >>> qualified(torch.ops.aten.mul.Tensor), qualified(torch.ops.aten.mul), qualified(torch.mul)
    ('aten::mul', 'aten::mul', None)
    """
    if isinstance(function, Operation):
        return str(function.name()).partition(".")[0]  # type: ignore[attr-defined]
    if isinstance(function, _PACKET):
        return str(function).replace(".", "::", 1)
    inner = getattr(function, "_opoverload", None)  # what torch.library.custom_op gives
    return None if inner is None else qualified(inner)


def _var_mean(x: Tensor) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
    return mean, var


# x (N, C, *S) to mean and population variance (C,), in two passes
channel_statistics = Trial(_STATISTICS and (lambda x: _STATISTICS(x, None, None, 0.0)), _var_mean)


def _backward(
    g: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int,
    mask: list[bool],
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    zeros = [0] * len(stride)
    found = _CONVOLUTION_BACKWARD(g, x, weight, None, stride, padding, dilation, False, zeros, groups, [*mask, False])
    return found[0], found[1]


def _backward_by_autograd(
    g: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int,
    mask: list[bool],
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    convolve: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(stride)]
    leaves = [t.detach().requires_grad_(wanted) for t, wanted in zip((x, weight), mask, strict=True)]
    with torch.enable_grad():
        y = convolve(*leaves, None, stride, padding, dilation, groups)
    found = iter(torch.autograd.grad(y, [t for t in leaves if t.requires_grad], g))
    gx, gw = (next(found) if wanted else None for wanted in mask)
    return gx, gw


# gradients of a convolution with respect to input and weight, those that the mask wants
convolution_backward = Trial(_CONVOLUTION_BACKWARD and _backward, _backward_by_autograd)


class Packing:
    """oneDNN's own order of a convolution's weight: two operations without a public name or stand-in.

    `works` is None until the first convolution, which is compared with torch's own: an operation whose arguments had been
    exchanged would give other numbers, not an error. False: the caller convolves as usual.
    """

    def __init__(self) -> None:
        built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self.run: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None) if built else None
        self.reorder: Any = getattr(getattr(torch._C, "_nn", None), "mkldnn_reorder_conv2d_weight", None)
        self.works: bool | None = None if self.run and self.reorder else False

    def pack(self, weight: Tensor, padding: list[int], stride: list[int], dilation: list[int], shape: list[int]) -> Tensor | None:
        """A copy of a weight (O, C, h, w) in the order for inputs of this shape; None where it cannot be made."""
        plain = weight.detach().clone(memory_format=torch.contiguous_format)
        try:
            packed: Tensor = self.reorder(plain.to_mkldnn(), padding, stride, dilation, 1, shape)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, RuntimeError):
            self.works = False
            return None
        return packed

    def convolve(
        self, x: Tensor, packed: Tensor, weight: Callable[[], Tensor], padding: list[int], stride: list[int], dilation: list[int]
    ) -> Tensor | None:
        """`x` convolved with `packed`, which was made of `weight()`; None where that does not give the convolution."""
        if self.works:
            found: Tensor = self.run(x, packed, None, padding, stride, dilation, 1, "none", [], "")
            return found
        try:
            found = self.run(x, packed, None, padding, stride, dilation, 1, "none", [], "")
        except torch.OutOfMemoryError:
            raise
        except (TypeError, RuntimeError):
            self.works = False
            return None
        expected = F.conv2d(x, weight(), None, stride, padding, dilation)
        apart = found.shape != expected.shape or bool((found - expected).norm() > 1e-3 * expected.norm())
        self.works = not apart
        return None if apart else found


packing = Packing()


# -- recording ---------------------------------------------------------------------------------------------------------

_MAKE_FX: Any = getattr(_module("torch.fx.experimental.proxy_tensor"), "make_fx", None)
_GUARDS = _module("torch._guards")
_TRACING, _CONTEXT = getattr(_GUARDS, "tracing", None), getattr(_GUARDS, "TracingContext", None)
_FAKE_MODE = getattr(_module("torch._subclasses.fake_tensor"), "FakeTensorMode", None)


def records() -> bool:
    """True where functions can be recorded as graphs of operations."""
    return _MAKE_FX is not None


def record(function: Callable[..., Any], arguments: Sequence[Tensor], instead: dict[Any, Callable[..., Any]]) -> GraphModule:
    """What `function` does with `arguments`, as a graph; operations that are keys of `instead` are replaced by its functions."""
    with _one_fake_mode():
        graph: GraphModule = _MAKE_FX(function, decomposition_table=instead or None)(*arguments)
    return graph


def _one_fake_mode() -> AbstractContextManager[Any]:
    """One mode for the shapes that a tracer notes down; it would make one for every tensor, in half of all its time."""
    try:
        if _TRACING is not None and _CONTEXT is not None and _FAKE_MODE is not None:
            surrounding: AbstractContextManager[Any] = _TRACING(_CONTEXT(_FAKE_MODE(allow_fallback_kernels=True)))
            return surrounding
    except TypeError:  # these names want other arguments
        pass
    return contextlib.nullcontext()


# -- files of torch.save -----------------------------------------------------------------------------------------------

# what is said in such a file instead of a tensor: the name of the function that would make it, and what it makes
SAVED = {
    "torch._utils._rebuild_tensor": "tensor",
    "torch._utils._rebuild_tensor_v2": "tensor",
    "torch._utils._rebuild_tensor_v3": "tensor in bytes",
    "torch._utils._rebuild_parameter": "parameter",
    "torch._utils._rebuild_parameter_with_state": "parameter",
    "torch._tensor._rebuild_from_type_v2": "tensor with attributes",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta, without numbers",
    "torch.serialization._get_layout": "a word",
}
