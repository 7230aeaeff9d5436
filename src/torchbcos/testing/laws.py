"""The laws that every network which is explained keeps, and every layer of this library, as functions anyone can call.

Networks: complete, nothing left behind, outputs unchanged, held means linear, constants are constant, batch = one by one. Layers:
frozen changes no output, held means linear, constants are constant; B-cos layers also homogeneous of degree one and bounded by
the patch norm.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, InputError, shorten
from torchbcos._core.frozen import Session, frozen
from torchbcos._core.torch_private import hook_counts, version
from torchbcos.explanation import Explanation, explain
from torchbcos.explanation.adding import DoesNotAddUp
from torchbcos.explanation.complete import usual_tolerance
from torchbcos.explanation.forward import Asked, other_input, run
from torchbcos.explanation.verify import (
    Proof,
    dice,
    drawn,
    first_broken,
    incomplete,
    moved_constant,
    relative,
    unheld,
)
from torchbcos.kinds import OneByOne
from torchbcos.testing.places import places_of

__all__ = ["LawBroken", "check_layer", "check_model"]

_BCOS = (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d, bnn.BcosLinear)


class LawBroken(BcosError, AssertionError):
    """A law does not hold; the message says which one, and by how much."""


def check_model(
    model: nn.Module, x: Tensor, *, tolerance: float | None = None, products: str | None = None, output: str | int | None = None
) -> None:  # fmt: skip
    """Prove that `explain` is exact for a network, at this input: any network that it explains.

    Complete: contributions and constants add up. Nothing left behind: no gradient, mode, hook, buffer or generator has changed.
    Outputs unchanged: they are those of the untouched network. Linear once held: with its factors held as `explain` holds
    them, W does not depend on x. Constants are constant: another input meets the same. Batch = one by one (in eval mode). The
    error names the modules where a sum does not add up, or W depends on x.

    Args:
        model: (N, C, *S) to (N, classes).
        x: input of at least one image.
        tolerance: of the completeness law, in units of `max(1, |value|, 0.1·(Σ|contributions| +
            Σ|constants|))`; of the others, relative; default 1e-9 in float64, 1e-4 in float32, 5e-2 below.
        products, output: as in `explain`.

    Raises:
        LawBroken: a law does not hold.
        StateError: `explain` refuses the network.

    >>> model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.SiLU(), bnn.GlobalAveragePool())
    >>> check_model(model, torch.rand(2, 3, 8, 8))
    """
    bound = tolerance if tolerance is not None else usual_tolerance(x.dtype)
    before = _snapshot(model)
    rng = torch.get_rng_state()
    try:
        e = explain(model, x, products=products, output=output)
    except DoesNotAddUp as error:  # the bound is the caller's
        e = error.explanation
    _raise(incomplete(e, bound), model, x, bound, products)
    if not torch.equal(rng, torch.get_rng_state()):
        raise LawBroken("Nothing left behind: explain moved the random number generator.")
    if x.grad is not None or _snapshot(model) != before:
        raise LawBroken("Nothing left behind: explain changed a gradient, a mode, a hook or a buffer.")
    asked = Asked(None, products, output)
    _raise(_unproved(model, x, e, asked, bound), model, x, bound, products)
    if not model.training:
        _check_batch(model, x, e, asked, bound)


def _unproved(model: nn.Module, x: Tensor, e: Explanation, asked: Asked, bound: float) -> str | None:
    """The law that the explanation of these images breaks, if any."""

    def forward(state: Session) -> tuple[Tensor, Tensor]:
        outputs = run(state, None, asked).outputs
        return outputs, outputs

    try:
        return first_broken(Proof(model, x, e, forward, asked), bound)
    except OneByOne:  # as `explain` does
        if len(x) == 1:
            raise
    found = (first_broken(Proof(model, x[i : i + 1], e[i], forward, asked), bound) for i in range(len(x)))
    return next((law for law in found if law is not None), None)


def _raise(law: str | None, model: nn.Module, x: Tensor, bound: float, products: str | None) -> None:
    """Raise LawBroken with the modules that break it, where one is broken."""
    if law is None:
        return
    if not law.startswith(("Complete", "Linear")):
        raise LawBroken(law)
    raise LawBroken(f"{law} What its explanation does not know happens in {places_of(model, x, bound, products)}.")


def check_layer(layer: nn.Module, x: Tensor, *, tolerance: float | None = None) -> None:
    """Check the laws of one layer: frozen changes no output; held it is linear, plus named constants; B-cos layers more.

    *Held means linear*: inside `frozen()` the gradient W of the output does not depend on the input, and the output
    is `W·x` plus constants. Those are what `add_constant` names, and parameters whose name ends in "bias"; another input must
    meet the same. Any layer is tested for it, in the mode it is in. Layers of `torchbcos.nn` with a B-cos transform are also
    homogeneous, and bounded where their weights have unit norm. A `torchbcos.nn.Layer` is believed by `explain`, which does not
    look inside: so it must pass here. Other modules need not: `explain` watches them, and `check_model` tests that.

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


def _check_frozen(module: nn.Module, x: Tensor, bound: float) -> None:
    """Frozen mode changes no output."""
    if module.training:
        module = copy.deepcopy(module).eval()
    with torch.no_grad():
        outside = _output_of(module, x)
        with frozen():
            inside = _output_of(module, x)
    worst = relative(inside, outside)
    if not worst <= bound:
        raise LawBroken(f"Frozen changes no output: outputs differ by {worst:.1e} (at most {bound:.0e}).")


def _check_batch(model: nn.Module, x: Tensor, e: Explanation, asked: Asked, bound: float) -> None:
    """The explanation of an image does not depend on the others."""
    for i in range(min(len(x), 4)):
        try:
            one = explain(model, x[i : i + 1], e.targets[i : i + 1], products=asked.products, output=asked.output)
        except Exception as error:  # of somebody's own forward: of any class
            what = shorten(" ".join(str(error).split()), 300)
            raise LawBroken(f"Batch = one by one: image {i} alone is not explained: {what}") from error
        worst = relative(one.weights[0], e.weights[i])
        if not worst <= max(bound, 1e-7):
            raise LawBroken(f"Batch = one by one: W of image {i} differs by {worst:.1e} when it is alone.")


def _check_linear(layer: nn.Module, x: Tensor, bound: float) -> None:
    """With its factors held, W does not depend on the input, and the output is W·x plus named constants."""
    # the same numbers at every run of the layer (dropout, say), and the caller's generator as it was
    with torch.random.fork_rng(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        held, out, direction = _gradient_when_held(copy.deepcopy(layer), x, bound)
        explained, constants, added = _explained_parts(copy.deepcopy(layer), x, direction)
        other = _explained_parts(copy.deepcopy(layer), other_input(x), direction)[2]
    if not relative(explained, held) <= bound:
        raise LawBroken(
            f"Linear once held: in an explanation W differs by {relative(explained, held):.1e} from W inside frozen()."
        )
    if (law := moved_constant(added, other)) is not None:
        raise LawBroken(law)
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
    direction = drawn(out, dice())
    (held,) = torch.autograd.grad((out * direction).sum(), leaf, allow_unused=True, retain_graph=True)
    law = unheld(out, [leaf], bound, "layer")
    if law is not None:
        raise LawBroken(law)
    return torch.zeros_like(leaf) if held is None else held, out.detach(), direction


def _explained_parts(layer: nn.Module, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, list[tuple[str, Tensor]]]:
    """W of that mixture of the outputs in an explanation, what named constants and biases give to it, and those constants."""
    torch.manual_seed(0)
    with Session.of(layer, x.detach()) as state:  # our own layers name their biases, and detach them from their parameters
        state.batched = False
        state.added = []
        out = _output_of(layer, state.inputs)
        biases = [p for name, p in layer.named_parameters() if name.endswith("bias") and p.requires_grad]
        leaves = [state.inputs, *state.probes.values(), *biases]
        found = torch.autograd.grad((out * direction).sum(), leaves, allow_unused=True)
    gradients = [torch.zeros_like(t) if g is None else g for g, t in zip(found, leaves, strict=True)]
    factors = [*(torch.ones_like(p) for p in state.probes.values()), *(b.detach() for b in biases)]
    total = sum(((g * f).sum() for g, f in zip(gradients[1:], factors, strict=True)), torch.zeros((), device=out.device))
    return gradients[0], total, state.added


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
        worst = relative(layer(x * 4) / 4, layer(x))
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


def _snapshot(model: nn.Module) -> list[object]:
    """What must not change: modes, hooks, gradients, versions of parameters and buffers."""
    state: list[object] = [(m.training, hook_counts(m)) for m in model.modules()]
    state += [(version(p), p.requires_grad, None if p.grad is None else version(p.grad)) for p in model.parameters()]
    state += [version(b) for b in model.buffers()]
    return state
