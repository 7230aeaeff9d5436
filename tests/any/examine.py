"""Whether the explanation of one network is exact: every promise measured, against an untouched copy."""

from __future__ import annotations

import copy
import dataclasses
import math
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import torchbcos
from tests.any.calibrate import calibrate, pictures, scores
from tests.any.networks import Entry, build
from torchbcos._core.errors import BcosError, StateError
from torchbcos.explanation.complete import unit_of

__all__ = ["LIMITS", "Row", "examine", "row_of"]

# The largest that rounding in float32 alone explains: outputs in units of their range, the residual in units of law 1,
# a picture alone against the same in a batch in units of its largest contribution. The last is measured in float64 where
# float32 turns a gate over: random networks of fifty layers make much of the last bit, in which convolutions of one and of
# two pictures differ.
LIMITS = {"outputs": 1e-5, "residual": 1e-4, "batch": 1e-4}
_LEAST = 1e-3  # what the outputs must differ by over the classes, and what pixels must carry, in units of law 1
_SENTENCE = re.compile(r"'(?P<operation>[^']+)' in (?:'(?P<module>[^']+)' \((?P<family>\w+)\)|the forward of (?P<whole>\w+))")

Explain = Callable[..., torchbcos.Explanation]


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found for one network; numbers are NaN where nothing was explained.

    Attributes:
        verdict: "exact", "refused", "wrong" or "failed".
        note: which operation in which module; what is wrong.
        outputs, residual, batch: see `LIMITS`.
        constants: how many were named.
        share: what the pixels carry of the explained value, the first picture's.
        pixels: the sum of the contributions' magnitudes, in units of law 1: how much was compared.
    """

    name: str
    size: int
    verdict: str
    note: str = ""
    outputs: float = math.nan
    residual: float = math.nan
    batch: float = math.nan
    constants: int = 0
    share: float = math.nan
    pixels: float = math.nan
    spread: float = math.nan
    parameters: int = 0
    seconds: float = math.nan


def row_of(entry: Entry, products: str | None = None, explain: Explain = torchbcos.explain) -> Row:
    """Build, calibrate and examine one architecture.

    Raises:
        ImportError: its library is not installed.
    """
    begun = time.perf_counter()
    try:
        torch.manual_seed(0)
        model = build(entry)
        spread, fresh = calibrate(model, entry.size, entry.output), build(entry)
        # a network that never ran: what it keeps for its next call, it makes while it is explained
        fresh.load_state_dict(model.state_dict())
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        return Row(entry.title, entry.size, "failed", f"{type(error).__name__}: {error}".replace("\n", " ")[:300])
    options: dict[str, Any] = {"output": entry.output} if entry.output else {}
    options |= {"products": products} if products else {}
    try:
        row = examine(fresh, pictures(entry.size), explain=explain, **options)
    except Exception as error:  # an error that is none of ours, which no user may meet
        row = Row(entry.title, entry.size, "wrong", f"{type(error).__name__}: {error}".replace("\n", " ")[:300])
    return dataclasses.replace(
        row, name=entry.title, size=entry.size, spread=spread, seconds=time.perf_counter() - begun,
        parameters=sum(p.numel() for p in fresh.parameters()),
    )  # fmt: skip


def examine(model: nn.Module, x: Tensor, *, explain: Explain = torchbcos.explain, **options: Any) -> Row:
    """Explain two pictures in four ways and compare everything that should be equal.

    Args:
        model: any network, ready to predict; it is explained itself, and compared with a copy made before.
        x: (2, C, H, W).
        explain: what explains; another one plants a fault.
        options: of `explain`.
    """
    name, output = type(model).__name__, options.get("output")
    untouched, before = copy.deepcopy(model), _Before(model)
    with torch.no_grad():
        y = scores(untouched(x), output)
    try:
        e = explain(model, x, **options)
    except StateError as error:
        faults = [f"left behind after a refusal: {what}" for what in before.left()]
        return Row(name, x.shape[-1], "wrong" if faults else "refused", "; ".join(faults) or _in_short(str(error)))
    except BcosError as error:
        return Row(name, x.shape[-1], "failed", str(error))
    left = before.left()
    try:  # what has been explained once is not refused now
        again = explain(model, x, **options)
        single = [explain(model, x[i : i + 1], e.targets[i : i + 1], **options) for i in range(len(x))]
    except BcosError as error:
        return Row(name, x.shape[-1], "wrong", str(error))
    numbers, unproved = _numbers(e, single, y), []
    try:
        numbers |= _in_float64(untouched, x, e.targets, explain, options, batch=numbers["batch"] > LIMITS["batch"])
    except BcosError as error:
        unproved.append(str(error))
    faults = [f"{what} {numbers[what]:.1e}" for what, limit in LIMITS.items() if not numbers[what] <= limit]
    faults += unproved + [f"left behind: {what}" for what in dict.fromkeys(left + before.left())]
    faults += [] if _same(e, again) else ["a second call gives other numbers"]
    faults += [] if _equal(y, _outputs(model, x, output)) else ["the network predicts something else afterwards"]
    faults += [f"{what} {numbers[what]:.1e} only" for what in ("pixels", "spread") if not numbers[what] >= _LEAST]
    return Row(name, x.shape[-1], "wrong" if faults else "exact", "; ".join(faults), constants=len(e.constants), **numbers)


def _numbers(e: torchbcos.Explanation, single: list[torchbcos.Explanation], y: Tensor) -> dict[str, float]:
    """What is compared with the limits, and what says how much that means."""
    spread = y.amax(1) - y.amin(1)
    return {
        "outputs": float(((e.outputs - y).abs().amax(1) / spread).max()),
        "residual": max(_residual(one) for one in (e, *single)),
        "batch": _apart(e, single),
        "share": float(e.share[0, 0]),
        "pixels": float((e.contributions.abs().sum((2, 3)) / _unit(e)).min()),
        "spread": float(spread.min()),
    }


def _apart(e: torchbcos.Explanation, single: list[torchbcos.Explanation]) -> float:
    """How far the contributions of pictures alone are from those in their batch."""
    alone = torch.cat([s.contributions for s in single])
    largest = e.contributions.abs().amax((1, 2, 3)).clamp_min(1e-30)
    return float(((alone - e.contributions).abs().amax((1, 2, 3)) / largest).max())


def _in_float64(
    model: nn.Module, x: Tensor, targets: Tensor, explain: Explain, options: dict[str, Any], *, batch: bool
) -> dict[str, float]:
    """Prove that what is held makes the network linear; with `batch`, measure that number again, where rounding turns no gate.

    Raises:
        BcosError: a proof failed.
    """
    twin, wide = copy.deepcopy(model).double(), x.double()
    try:
        explain(twin, wide[:1], targets[:1], verify=True, **options)
    except BcosError:  # a network that casts to float32 inside
        explain(model, x[:1], targets[:1], verify=True, **options)
    if not batch:
        return {}
    single = [explain(twin, wide[i : i + 1], targets[i : i + 1], **options) for i in range(len(x))]
    return {"batch": _apart(explain(twin, wide, targets, **options), single)}


def _unit(e: torchbcos.Explanation) -> Tensor:
    return unit_of(e.values, e.contributions, e.constants.values())


def _residual(e: torchbcos.Explanation) -> float:
    return float((e.residual.abs() / _unit(e)).max())


@torch.no_grad()
def _outputs(model: nn.Module, x: Tensor, output: str | None) -> Tensor:
    return scores(model(x), output)


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a, b))


def _same(a: torchbcos.Explanation, b: torchbcos.Explanation) -> bool:
    """Whether two explanations are equal to the last bit."""
    if list(a.constants) != list(b.constants):
        return False
    pairs = [(a.outputs, b.outputs), (a.values, b.values), (a.weights, b.weights)]
    return all(_equal(s, t) for s, t in [*pairs, *((a.constants[k], b.constants[k]) for k in a.constants)])


def _in_short(sentence: str) -> str:
    """'operation in module (class)' out of a refusal; the whole sentence where it says neither."""
    found = _SENTENCE.search(sentence)
    if found is None:
        return sentence
    place = f"{found['module']} ({found['family']})" if found["module"] else found["whole"]
    return f"{found['operation']} in {place}"


class _Before:
    """What a network and its surroundings are before an explanation."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.copies = [(n, t, t.detach().clone()) for n, t in self._tensors()]
        self.facts = dict(self._facts())

    def left(self) -> list[str]:
        """What is another than it was, in words."""
        facts = dict(self._facts())
        changed = [what for what in {**self.facts, **facts} if not _alike(self.facts.get(what), facts.get(what))]
        return changed + [f"values of {n}" for n, t, kept in self.copies if not _equal(t.detach(), kept)]

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.model.named_parameters()
        yield from self.model.named_buffers()

    def _facts(self) -> Iterator[tuple[str, object]]:
        for name, t in self._tensors():
            yield f"version, flags or gradient of {name}", (id(t), t._version, t.requires_grad, t.grad is None, t.grad_fn is None)
        for name, module in self.model.named_modules():
            hooks = [len(value) for key, value in vars(module).items() if key.endswith("_hooks")]
            yield f"mode or hooks of {name or 'the network'}", (module.training, hooks, "forward" in vars(module))
            yield f"a tensor with a history in {name or 'the network'}", _with_history(vars(module))
        yield "random numbers", (torch.get_rng_state(), random.getstate())
        yield "modes", (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch._C._len_torch_function_stack())
        yield "switches", (torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled(), torch.get_num_threads())


def _with_history(value: object) -> int:
    """How many tensors in a module's own attributes depend on something: none but what an explanation left in a cache."""
    if isinstance(value, Tensor):
        return int(value.grad_fn is not None)
    if isinstance(value, dict):
        return sum(_with_history(v) for k, v in value.items() if k not in ("_modules", "_parameters"))
    return sum(_with_history(v) for v in value) if isinstance(value, (list, tuple)) else 0


def _alike(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _equal(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_alike(s, t) for s, t in zip(a, b, strict=True))
    return a == b
