"""Planted operations that hide from whoever watches the forward pass: other threads, modes, hooks, foreign code.

Each was tried as a way to a W that is silently wrong. What is linear once held has a twin, but a refusal is as right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.kinds.planting import ANY, Case, elsewhere, gate, gated, gated_held, refused, twins

__all__ = ["ESCAPES"]


# -- custom autograd functions ----------------------------------------------------------------------


class _Right(torch.autograd.Function):
    """x · |x| / ‖x‖ with its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.abs() / x.norm()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        size = x.norm()
        return 2 * g * x.abs() / size - x * (g * x * x.abs()).sum() / size**3


class _Wrong(torch.autograd.Function):
    """Twice x, whose derivative says three times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * 3


class _Straight(torch.autograd.Function):
    """Rounded forwards, the identity backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class _Still(torch.autograd.Function):
    """A value that is said to have no derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.sigmoid(x)
        ctx.mark_non_differentiable(out)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return torch.zeros_like(g)


class _Edits(torch.autograd.Function):
    """Edits its argument in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(x.sigmoid())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class _Writes(torch.autograd.Function):
    """Returns twice x, and writes its sigmoid into a tensor that it was given beside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beside: Tensor) -> Tensor:
        beside.copy_(x.sigmoid())
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g * 2, None


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round (domain-adversarial training)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


def _writes(x: Tensor) -> Tensor:
    beside = torch.zeros_like(x)
    return _Writes.apply(x, beside) + beside


# -- foreign operations -----------------------------------------------------------------------------


@torch.library.custom_op("planted::gated", mutates_args=())
def _gated_op(x: Tensor) -> Tensor:
    return gated(x)


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _derive(ctx: Any, g: Tensor) -> Tensor:
    with torch.enable_grad():
        x = ctx.saved_tensors[0].detach().requires_grad_()
        (out,) = torch.autograd.grad(gated(x), x, g)
    return out


_gated_op.register_autograd(_derive, setup_context=_keep)


@torch.library.custom_op("planted::gate_of", mutates_args=())
def _gate_op(x: Tensor) -> Tensor:
    return gate(x)


@torch.library.custom_op("planted::write", mutates_args=("out",))
def _write_op(x: Tensor, out: Tensor) -> None:
    out.copy_(gate(x))


def _by_write_op(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    _write_op(x.detach(), out)
    return x + out


def _script(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x / x.std(1, keepdim=True))


class _Scripted(nn.Module):
    """A function that runs outside Python."""

    def __init__(self, how: Callable[[Callable[[Tensor], Tensor]], Any], f: Callable[[Tensor], Tensor] = _script) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.run = how(f)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.run(x)
        return out


def _traced(f: Callable[[Tensor], Tensor]) -> Any:
    return torch.jit.trace(f, torch.ones(2, 8, 6, 6), check_trace=False)


def _fx(f: Callable[[Tensor], Tensor]) -> Any:
    return torch.fx.symbolic_trace(f)


# -- threads, modes, subclasses ---------------------------------------------------------------------


def _added_elsewhere(x: Tensor) -> Tensor:
    return x + elsewhere(lambda: gate(x.detach()))


def _edited_elsewhere(x: Tensor) -> Tensor:
    y = x.clone()
    elsewhere(lambda: y.mul_(gate(y)))
    return y


def _edited_elsewhere_unseen(x: Tensor) -> Tensor:
    y = x.clone()
    elsewhere(lambda: y.data.mul_(gate(y).data))
    return y


def _written_elsewhere(x: Tensor) -> Tensor:
    y = torch.zeros(2, 8, 6, 6)
    elsewhere(lambda: y.copy_(gate(x.detach())))
    return x + y


def _unwatched(x: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return gated(x)


def _unwatched_edit(x: Tensor) -> Tensor:
    y = x.clone()
    with torch._C.DisableTorchFunction(), torch.no_grad():
        y.mul_(gate(y))
    return y


def _unwatched_number(x: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        g = gate(x.detach())
    return x + g


class _Quiet(TorchFunctionMode):
    """A mode of the network's own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Swaps(TorchFunctionMode):
    """A mode that runs another operation than the one that was called."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.neg:
            return gated(args[0])
        return func(*args, **(kwargs or {}))


class _SwapsBelow(TorchDispatchMode):
    """The same below autograd, where no watch of Python functions sees it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.neg.default:
            return torch.ops.aten.sigmoid(args[0])
        return func(*args, **(kwargs or {}))


class _Own(torch.Tensor):
    """A subclass whose negative is another function."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.neg:
            with torch._C.DisableTorchFunctionSubclass():
                return gated(args[0].as_subclass(torch.Tensor))
        return super().__torch_function__(func, types, args, kwargs or {})


class _OwnUnwatched(torch.Tensor):
    """The same, with all watching switched off."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            args = [a.as_subclass(torch.Tensor) if isinstance(a, Tensor) else a for a in args]
            if func is torch.neg:
                return gated(args[0])
            return func(*args, **(kwargs or {}))


def _within(mode: type[Any]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with mode():
            return torch.neg(x)

    return run


def _quietly(x: Tensor) -> Tensor:
    with _Quiet():
        return gated(x)


def _in_inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        g = gate(x)
    return x + g


# -- gradients that are not those of the outputs ----------------------------------------------------


def _hooked(x: Tensor) -> Tensor:
    y = x * 1.0
    y.register_hook(lambda g: 3 * g)
    return y


def _retained_hook(x: Tensor) -> Tensor:
    y = x * 1.0
    y.grad_fn.register_hook(lambda into, out: tuple(None if g is None else 3 * g for g in into))  # type: ignore[union-attr]
    return y


def _lossy_saving(x: Tensor) -> Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.float().round(), lambda t: t.double()):
        return torch.conv2d(x, torch.eye(8)[..., None, None] * 1.3) * 1.0


class _Backwards(nn.Module):
    """A module whose gradients a hook of its own multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.register_full_backward_hook(lambda module, into, out: tuple(3 * g for g in into))

    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


ESCAPES: list[Case] = [
    *twins(
        {
            "a custom op with its derivative": _gated_op,
            "a custom op without a derivative": lambda x: x * _gate_op(x.detach()),
            "vmap": torch.vmap(lambda t: t * torch.sigmoid(t / t.std(0, keepdim=True))),
            "a mode of its own": _quietly,
            "a mode that swaps operations": _within(_Swaps),
            "no watching": _unwatched,
            "another thread": lambda x: elsewhere(lambda: gated(x)),
            "a factor from another thread": lambda x: x * elsewhere(lambda: gate(x.detach())),
            "a subclass": lambda x: torch.neg(x.as_subclass(_Own)).as_subclass(Tensor),
            "a subclass that is not watched": lambda x: torch.neg(x.as_subclass(_OwnUnwatched)).as_subclass(Tensor),
            "checkpoint": lambda x: torch.utils.checkpoint.checkpoint(gated, x, use_reentrant=False),
            "checkpoint, reentrant": lambda x: torch.utils.checkpoint.checkpoint(gated, x, use_reentrant=True),
            "edit in another thread": _edited_elsewhere,
            "edit of data in another thread": _edited_elsewhere_unseen,
            "edit that is not watched": _unwatched_edit,
        },
        gated_held,
        *ANY,
    ),
    Case("jit.script", lambda: _Scripted(torch.jit.script), lambda _, x: gated_held(x), ANY),
    Case("jit.trace", lambda: _Scripted(_traced), lambda _, x: gated_held(x), ANY),
    Case("fx", lambda: _Scripted(_fx), lambda _, x: gated_held(x), ANY),
    *twins({"a custom Function with a wrong derivative": _Wrong.apply}, lambda x: 2 * x, *ANY),
    *twins({"a custom Function that turns gradients": _Reversed.apply}, lambda x: x, *ANY),
    *twins({"a custom Function of degree 1": _Right.apply}, lambda x: x * (x.abs() / x.norm()).detach(), *ANY),
    *twins({"a hook on a tensor": _hooked, "a hook on a node": _retained_hook}, lambda x: x, *ANY),
    *twins({"what is saved is rounded": _lossy_saving}, lambda x: 1.3 * x, *ANY),
    Case("a backward hook on a module", _Backwards, lambda _, x: x, ANY),
    *(
        refused(name, f, *ANY)
        for name, f in {
            "a custom Function, straight through": _Straight.apply,
            "a custom Function that is still": lambda x: x + _Still.apply(x),
            "a custom Function that edits": lambda x: _Edits.apply(x.clone()),
            "a custom Function that writes beside": _writes,
            "a custom op that writes": _by_write_op,
            "a custom op added": lambda x: x + _gate_op(x.detach()),
            "a dispatch mode that swaps operations": _within(_SwapsBelow),
            "inference mode": _in_inference,
            "added from another thread": _added_elsewhere,
            "written in another thread": _written_elsewhere,
            "added, not watched": _unwatched_number,
        }.items()
    ),
]
