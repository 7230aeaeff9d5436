"""The proof of one explanation: complete, outputs as the untouched network gives them, and linear once its factors are held.

A sum that adds up proves nothing: by Euler's theorem any function of degree 1 has `gradient · x = f(x)`, whatever it does with
its factors. So W is differentiated once more. With every factor held, W(x) is one matrix, and so is what each constant gives:
the derivative of a random mixture of their numbers with respect to x must be zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos._core import torch_private
from torchbcos._core.errors import StateError
from torchbcos._core.frozen import Session, mark
from torchbcos.explanation.complete import unit_of
from torchbcos.explanation.forward import Asked, check_constants, other_input, picked, run
from torchbcos.explanation.result import Explanation
from torchbcos.kinds import OneByOne

__all__ = [
    "Forward",
    "Proof",
    "dice",
    "drawn",
    "first_broken",
    "incomplete",
    "moved_constant",
    "relative",
    "unheld",
]

_NO_SECOND = "has no second derivative"
_CHOICES = 1e3
_SEED = 5_402_617_938_117
# the mean that a norm takes of its batch in training: it depends on every image alike, and is held by definition
_OF_THE_BATCH = "batch_mean"

Forward = Callable[[Session], tuple[Tensor, Tensor]]
"""Runs the network of a session: its outputs, and (N, channels) of which the targets are columns."""


class Proof(NamedTuple):
    """What a proof is about.

    Attributes:
        model: the network.
        x: its input, or that of `asked.prepare`.
        e: the explanation of it.
        forward: as it was explained.
        asked: what the forward pass was asked for.
    """

    model: nn.Module
    x: Tensor
    e: Explanation
    forward: Forward
    asked: Asked


def first_broken(proof: Proof, bound: float) -> str | None:
    """The first law that an explanation breaks, in words; None where it keeps all.

    Args:
        proof: what is to be proved.
        bound: how far numbers may be apart, relative to their size.
    """
    return incomplete(proof.e, bound) or _unlike_itself(proof, bound) or _moving(proof)


def _moving(proof: Proof) -> str | None:
    """Another input meets the same constants, however they came to be; in training those of a batch are its own."""
    if any(m.training for m in proof.model.modules()):
        return None
    asked = proof.asked._replace(prove=True)
    try:
        with Session.of(proof.model, proof.x.detach()) as state:
            watch = run(state, None, asked).watch
        check_constants(state, watch, asked)
    except OneByOne:
        raise
    except StateError as error:
        return f"Constants are constant: {error}"
    return None


def incomplete(e: Explanation, bound: float) -> str | None:
    """Contributions and constants add up to the value."""
    unit = unit_of(e.values, e.contributions, e.constants.values())
    worst = float((e.residual.detach().abs() / unit).max())
    if worst <= bound:
        return None
    return f"Complete: contributions and constants miss the value by {worst:.1e} (at most {bound:.0e})."


def _unlike_itself(proof: Proof, bound: float) -> str | None:
    """Run once more, watched alike: the same outputs, the same W, and that one linear.

    First by the very steps that gave W. Some of them have no second derivative (fused attention, packed convolutions): then by
    the steps of `create_graph="truncated"`, which all have.
    """
    plain = _untouched(proof)
    law = _pass(proof, plain, bound, alike=True)
    if law is None or _NO_SECOND not in law:
        return law
    with sdpa_kernel(SDPBackend.MATH):
        return _pass(proof, plain, bound, alike=False)


def _pass(proof: Proof, plain: Tensor, bound: float, *, alike: bool) -> str | None:
    """The law that one pass breaks, by the same steps as before, or not."""
    x, e = proof.x.detach(), proof.e
    with _repeatable(x) as moved, Session.of(proof.model, x, False if alike else "truncated") as state:
        state.added = []
        outputs, explained = proof.forward(state)
        rolled = moved()  # by dropout, say: then no two runs are alike
        far = max(relative(outputs, plain), 0.0 if rolled else relative(e.outputs, plain))
        if not far <= bound:
            return f"Outputs unchanged: while they are explained, outputs differ by {far:.1e} (at most {bound:.0e})."
        values = explained.gather(1, e.targets) - (0 if e.contrast is None else explained.gather(1, e.contrast))
        if not rolled and (law := _another(values, e, state, bound, alike)) is not None:
            return law
        law = unheld(mark(explained, state), [state.inputs, *state.probes.values()], bound, "network")
        added = state.added
    return law or _moved(proof, added)


def _another(values: Tensor, e: Explanation, state: Session, bound: float, alike: bool) -> str | None:
    """The W that was given is that of the pass that is proved."""
    m = drawn(values, dice())
    (found,) = torch.autograd.grad((mark(values, state) * m).sum(), state.inputs, retain_graph=True)
    given = (e.weights.detach() * m.reshape(*m.shape, *[1] * (e.weights.dim() - 2))).sum(1)
    if alike:
        far, bound = relative(given, found), max(bound, 1e-7)
    else:  # sums are rounded in another way, and so single choices fall in another way: W differs in places, not as a whole
        far, bound = (
            float((given - found).norm() / found.norm().clamp_min(torch.finfo(found.dtype).tiny)),
            min(_CHOICES * bound, 0.5),
        )
    if far <= bound:
        return None
    return f"Linear once held: the W that was given differs by {far:.1e} from that of a second pass (at most {bound:.0e})."


def unheld(out: Tensor, leaves: list[Tensor], bound: float, what: str) -> str | None:
    """W, and what constants give, do not depend on the input, once factors are held.

    Args:
        out: made inside an explanation, or inside `frozen()`.
        leaves: the input, then the probes of constants.
        bound: how far W may move when x moves by its own size, in units of W.
        what: what a message calls it: "layer", "network".
    """
    generator = dice()
    direction = drawn(out, generator).requires_grad_()
    found = torch.autograd.grad((out * direction).sum(), leaves, create_graph=True, allow_unused=True)
    parts = [g * drawn(g, generator) for g in found if g is not None]
    total = sum((part.sum() for part in parts), torch.zeros((), device=out.device))
    try:
        moved, along = (
            torch.autograd.grad(total, [leaves[0], direction], allow_unused=True) if total.requires_grad else (None, None)
        )
        reason = "its gradient has no graph"
    except RuntimeError as error:
        moved, along, reason = None, None, str(error).splitlines()[0][:150]
    size = max(float(sum(part.detach().abs().sum() for part in parts)), torch.finfo(out.dtype).tiny)
    # a backward pass without derivatives would look as if W did not depend on x; but then it does not depend on the mixture
    seen = 0.0 if along is None else float((along * direction).detach().sum())
    if not abs(seen - float(total.detach())) <= max(bound, 1e-6) * size:
        return (
            f"Linear once held: the {what} {_NO_SECOND} ({reason}), so nobody can see whether W depends on the "
            "input: compute its backward pass by differentiable operations."
        )
    x = leaves[0].detach().abs()
    worst = 0.0 if moved is None else float((moved.detach().abs() * x.clamp_min(float(x.mean()))).sum()) / size
    if worst <= bound:
        return None
    return (
        f"Linear once held: W depends on the input, by {worst:.1e} of its size (at most {bound:.0e}): a factor that depends on "
        "the input is not held."
    )


# -- constants ------------------------------------------------------------------------------------------------------------


def _moved(proof: Proof, added: list[tuple[str, Tensor]]) -> str | None:
    """What layers of this library name as constants is the same for another input."""
    if not added:
        return None
    x = other_input(proof.x)
    with _repeatable(x), Session.of(proof.model, x) as state:
        state.added = []
        proof.forward(state)
        return moved_constant(added, state.added)


def moved_constant(first: list[tuple[str, Tensor]], second: list[tuple[str, Tensor]]) -> str | None:
    """What is said of a constant that another input changes: each is looked up by its name and how often it was added."""
    for name in dict.fromkeys(name for name, _ in first if name.rpartition(".")[2] != _OF_THE_BATCH):
        one, two = ([value for key, value in added if key == name] for added in (first, second))
        if len(one) == len(two) and not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, two, strict=True)):
            return f"Constants are constant: what is added as {name!r} depends on the input."
    return None


# -- running --------------------------------------------------------------------------------------------------------------


def _untouched(proof: Proof) -> Tensor:
    """What the network gives without anybody watching; statistics that it gathers in training are those of a copy."""
    model, asked, x = torch_private.original(proof.model), proof.asked, proof.x.detach()
    with _repeatable(x), torch.inference_mode(False), torch.no_grad():
        given = x if asked.prepare is None else asked.prepare(x)
        training = any(m.training for m in model.modules())
        copies = {name: b.clone() for name, b in model.named_buffers()} if training else {}
        try:
            outputs: Tensor = picked(functional_call(model, copies, (given,)) if copies else model(given), asked.output)
        except RuntimeError:  # it takes gradients, or listens to them, in its own forward
            with torch.enable_grad():
                given = given.clone().requires_grad_()
                outputs = picked(functional_call(model, copies, (given,)) if copies else model(given), asked.output).detach()
    return outputs


@contextmanager
def _repeatable(x: Tensor) -> Iterator[Callable[[], bool]]:
    """The generators are as before afterwards; gives a function that says whether they have been moved."""
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        before = _generators(devices)
        yield lambda: not all(map(torch.equal, before, _generators(devices)))


def _generators(devices: list[torch.device]) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]


def dice() -> torch.Generator:
    """Random numbers, the same every time, and none that a caller draws by a usual seed.

    A mixture that happens to be the input itself would show nothing: W(x)·x is f(x) by Euler's theorem.
    """
    return torch.Generator().manual_seed(_SEED)


def drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random numbers of this shape."""
    return torch.randn(like.shape, dtype=torch.float64, generator=generator).to(like.device, like.dtype)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest entry."""
    a, b = a.detach(), b.detach()
    scale = float(b.abs().max().clamp_min(torch.finfo(b.dtype).tiny))
    return float((a - b).abs().max()) / scale
