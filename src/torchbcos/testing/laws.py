"""The laws that every layer and network of this library keeps, as functions anyone can call.

Networks: complete, frozen changes no output, nothing left behind, batch = one by one. Layers: frozen
changes no output, held means linear; B-cos layers also homogeneous of degree one and bounded by the patch norm.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.frozen import Session, frozen
from torchbcos._core.torch_private import hook_counts, version
from torchbcos.explanation import Explanation, explain
from torchbcos.explanation.complete import unit_of, usual_tolerance
from torchbcos.testing.places import places_of

__all__ = ["LawBroken", "check_layer", "check_model"]

_BCOS = (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d, bnn.BcosLinear)


class LawBroken(BcosError, AssertionError):
    """A law does not hold; the message says which one, and by how much."""


def check_model(model: nn.Module, x: Tensor, *, tolerance: float | None = None) -> None:
    """Check the laws of a network: complete, frozen, nothing left behind, batch = one by one.

    Where the sum does not add up, the error names the modules that no explanation knows.

    Args:
        model: a network of torchbcos layers; (N, C, *S) to (N, classes).
        x: encoded input of at least one image.
        tolerance: of the completeness law, in units of `max(1, |value|, 0.1·(Σ|contributions| +
            Σ|constants|))`; default 1e-9 in float64, 1e-4 in float32, 5e-2 below.

    Raises:
        LawBroken: a law does not hold.

    >>> model = nn.Sequential(bnn.BcosConv2d(6, 3, 3), bnn.GlobalAveragePool())
    >>> check_model(model, torch.rand(2, 6, 8, 8))
    """
    bound = tolerance if tolerance is not None else usual_tolerance(x.dtype)
    before = _snapshot(model)
    rng = torch.get_rng_state()
    e = explain(model, x)
    _check_complete(model, x, e, bound)
    if not torch.equal(rng, torch.get_rng_state()):
        raise LawBroken("Nothing left behind: explain moved the random number generator.")
    if x.grad is not None or _snapshot(model) != before:
        raise LawBroken("Nothing left behind: explain changed a gradient, a mode, a hook or a buffer.")
    if not model.training:
        _check_frozen(model, x, bound)
        _check_batch(model, x, e, bound)


def check_layer(layer: nn.Module, x: Tensor, *, tolerance: float | None = None) -> None:
    """Check the laws of one layer: frozen changes no output; held it is linear, plus named constants; B-cos layers more.

    *Held means linear*: inside `frozen()` the gradient W of the output does not depend on the input, and the output
    is `W·x` plus constants. Those are what `add_constant` names, and parameters whose name ends in "bias". Any layer
    is tested for it, in the mode it is in. Layers of `torchbcos.nn` with a B-cos transform are also homogeneous, and
    bounded where their weights have unit norm. The bias of another library's layer passes here, and no explanation names it:
    there it is residual, which `check_model` refuses.

    Args:
        layer: a layer that maps one tensor to one; it is copied, nothing in it changes.
        x: (N, ...) floating point, its input, not dim (entries well above 1e-3).
        tolerance: relative; default 1e-9 in float64, 1e-4 in float32, 5e-2 below.

    Raises:
        LawBroken: a law does not hold.
        InputError: the layer or the input is not of this form.

    >>> check_layer(bnn.BcosLinear(4, 3), torch.randn(2, 4))
    """
    bound = tolerance if tolerance is not None else usual_tolerance(x.dtype)
    if not x.is_floating_point():
        raise InputError(f"check_layer needs a floating-point input, got {x.dtype}.")
    _check_frozen(layer, x, bound)
    _check_linear(layer, x, bound)
    if isinstance(layer, _BCOS):
        _check_homogeneous(layer, x, max(bound, 1e-4))
        if layer.unit_norm and getattr(layer, "scale", None) is None:
            _check_bounded(layer, x, bound)


def _check_complete(model: nn.Module, x: Tensor, e: Explanation, bound: float) -> None:
    """Contributions and constants add up to the value."""
    worst = float((e.residual.abs() / unit_of(e.values, e.contributions, e.constants.values())).max())
    if not worst <= bound:
        where = places_of(model, x, bound)
        raise LawBroken(
            f"Complete: contributions and constants miss the value by {worst:.1e} (at most {bound:.0e}). What no explanation "
            f"knows happens in {where}."
        )


def _check_frozen(module: nn.Module, x: Tensor, bound: float) -> None:
    """Frozen mode changes no output."""
    if module.training:
        module = copy.deepcopy(module).eval()
    with torch.no_grad():
        outside = _output_of(module, x)
        with frozen():
            inside = _output_of(module, x)
    worst = _relative(inside, outside)
    if not worst <= bound:
        raise LawBroken(f"Frozen changes no output: outputs differ by {worst:.1e} (at most {bound:.0e}).")


def _check_batch(model: nn.Module, x: Tensor, e: Explanation, bound: float) -> None:
    """The explanation of an image does not depend on the others."""
    for i in range(min(len(x), 4)):
        one = explain(model, x[i : i + 1], e.targets[i : i + 1])
        worst = _relative(one.weights[0], e.weights[i])
        if not worst <= max(bound, 1e-7):
            raise LawBroken(f"Batch = one by one: W of image {i} differs by {worst:.1e} when it is alone.")


def _check_linear(layer: nn.Module, x: Tensor, bound: float) -> None:
    """With its factors held, W does not depend on the input, and the output is W·x plus named constants."""
    # the same numbers at every run of the layer (dropout, say), and the caller's generator as it was
    with torch.random.fork_rng(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        held, out, direction = _gradient_when_held(copy.deepcopy(layer), x, bound)
        explained, constants = _explained_parts(copy.deepcopy(layer), x, direction)
    if not _relative(explained, held) <= bound:
        raise LawBroken(
            f"Linear once held: in an explanation W differs by {_relative(explained, held):.1e} from W inside frozen()."
        )
    value, carried = (out * direction).sum(), (held * x.detach()).sum()
    scale = max(1.0, float((out * direction).abs().sum()))
    worst = abs(float(value - carried - constants)) / scale
    if not worst <= bound:
        raise LawBroken(
            f"Linear once held: W·x and the named constants miss the output by {worst:.1e} (at most {bound:.0e}): hold what "
            "depends on the input with torchbcos._core.frozen.hold, and add constants with add_constant."
        )


def _gradient_when_held(layer: nn.Module, x: Tensor, bound: float) -> tuple[Tensor, Tensor, Tensor]:
    """Inside `frozen()`: the gradient of a random mixture of the outputs, which must not depend on x; outputs; mixture."""
    leaf = x.detach().clone().requires_grad_()
    torch.manual_seed(0)
    with frozen():
        out = _output_of(layer, leaf)
    if not out.requires_grad:
        raise LawBroken("Linear once held: inside frozen() no gradient flows from the layer's output to its input.")
    direction = torch.randn(out.shape, dtype=torch.float64).to(out).requires_grad_()
    (held,) = torch.autograd.grad((out * direction).sum(), leaf, create_graph=True, allow_unused=True)
    if held is not None:
        _check_gradient(held, leaf, direction, bound)
    return torch.zeros_like(leaf) if held is None else held.detach(), out.detach(), direction.detach()


def _check_gradient(held: Tensor, leaf: Tensor, direction: Tensor, bound: float) -> None:
    """The gradient `held` is linear in the mixture of outputs that it is of, and does not depend on the input."""
    mixture = torch.randn(held.shape, dtype=torch.float64).to(held)
    total = (held * mixture).sum()
    try:
        moved, along = torch.autograd.grad(total, [leaf, direction], allow_unused=True) if total.requires_grad else (None, None)
        reason = "its gradient has no graph"
    except RuntimeError as error:
        moved, along, reason = None, None, str(error).splitlines()[0][:150]
    size = max(float((held * mixture).detach().abs().sum()), torch.finfo(held.dtype).tiny)
    # a backward pass without derivatives would look as if W did not depend on x; but then it does not depend on the mixture
    seen = 0.0 if along is None else float((along * direction).detach().sum())
    if not abs(seen - float(total.detach())) <= max(bound, 1e-6) * size:
        raise LawBroken(
            f"Linear once held: the layer has no second derivative ({reason}), so nobody can see whether W depends on the "
            "input: compute its backward pass by differentiable operations."
        )
    # how far W moves when x moves by its own size, in units of W
    worst = 0.0 if moved is None else float((moved * leaf).detach().abs().sum()) / size
    if not worst <= bound:
        raise LawBroken(
            f"Linear once held: W depends on the input, by {worst:.1e} of its size (at most {bound:.0e}): a factor that "
            "depends on the input is not held."
        )


def _explained_parts(layer: nn.Module, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """W of that mixture of the outputs in an explanation, and what named constants and biases give to it."""
    torch.manual_seed(0)
    with Session.of(layer, x.detach()) as state:  # our own layers name their biases, and detach them from their parameters
        state.batched = False
        out = _output_of(layer, state.inputs)
        biases = [p for name, p in layer.named_parameters() if name.endswith("bias") and p.requires_grad]
        leaves = [state.inputs, *state.probes.values(), *biases]
        found = torch.autograd.grad((out * direction).sum(), leaves, allow_unused=True)
    gradients = [torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True)]
    factors = [*(torch.ones_like(p) for p in state.probes.values()), *(b.detach() for b in biases)]
    total = sum(((g * f).sum() for g, f in zip(gradients[1:], factors, strict=True)), torch.zeros((), device=out.device))
    return gradients[0], total


def _output_of(layer: nn.Module, x: Tensor) -> Tensor:
    """The output, which must be a tensor."""
    out = layer(x)
    if not isinstance(out, Tensor) or not out.is_floating_point():
        what = out.dtype if isinstance(out, Tensor) else type(out).__name__
        raise InputError(f"The laws are of layers that map one floating-point tensor to one; {type(layer).__name__} gave {what}.")
    return out


def _check_homogeneous(layer: nn.Module, x: Tensor, bound: float) -> None:
    """f(a·x) = a·f(x) for a > 0, away from epsilon."""
    with torch.no_grad():
        worst = _relative(layer(x * 4) / 4, layer(x))
    if not worst <= bound:
        raise LawBroken(f"Homogeneous: f(4x) / 4 differs from f(x) by {worst:.1e} (at most {bound:.0e}).")


def _check_bounded(layer: bnn.BcosConv1d | bnn.BcosConv2d | bnn.BcosConv3d | bnn.BcosLinear, x: Tensor, bound: float) -> None:
    """No output exceeds the norm of the whole input of its example (and so of any patch with zero padding)."""
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        return
    with torch.no_grad():
        out = layer(x)
    dims = (-1,) if isinstance(layer, bnn.BcosLinear) else tuple(range(-layer.weight.dim() + 1, 0))  # batched or not
    norm = x.float().pow(2).sum(dims, keepdim=True).sqrt()
    excess = float((out.abs().float() / norm.clamp_min(1e-12)).max())
    if not excess <= 1 + max(bound, 1e-5):
        raise LawBroken(f"Bounded: an output is {excess:.3f} times the norm of its input.")


def _relative(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest entry."""
    scale = float(b.abs().max().clamp_min(torch.finfo(b.dtype).tiny))
    return float((a - b).abs().max()) / scale


def _snapshot(model: nn.Module) -> list[object]:
    """What must not change: modes, hooks, gradients, versions of parameters and buffers."""
    state: list[object] = [(m.training, hook_counts(m)) for m in model.modules()]
    state += [(version(p), p.requires_grad, None if p.grad is None else version(p.grad)) for p in model.parameters()]
    state += [version(b) for b in model.buffers()]
    return state
