"""The check that closes a conversion: every converted layer ran, one explanation adds up; constants that are left, by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos._core.errors import BcosError, StateError, shorten
from torchbcos.conversion.planning import Planned
from torchbcos.conversion.recording import Recording, listening, tensor_in
from torchbcos.conversion.steps import OUTPUT_LAYERS, Step, prefix_of
from torchbcos.explanation import explain
from torchbcos.functional import add_inverse
from torchbcos.kinds import trace
from torchbcos.kinds.kind import Kind

__all__ = ["Checked", "check_ran", "closing_check", "kind_of", "leftover"]

_FEW = 8  # examples that are explained
_TOKENS = ("cls", "token", "dist", "register", "reg_", "class_emb", "latent", "probe")
_BIASES = ("bias", "running_mean", "batch_mean")
_ADDED = "added"  # what kinds call a constant that is no parameter


@dataclass(frozen=True)
class Checked:
    """What the closing explanation says.

    Attributes:
        share: median share of the input in the highest logit.
        constants: by name, its part of all magnitudes of that logit (constants and contributions), the mean of the examples.
        of_layers: the same for every module, by path.
        residual: the largest.
        operations: of the trace, (operation, module, kind, rule, count) of what is held or bent.
        left: paths of modules that still have a constant and that no step is about.
    """

    share: float
    constants: dict[str, float]
    of_layers: dict[str, float]
    residual: float
    operations: tuple[tuple[str, str, str, str, int], ...] = ()
    left: set[str] = field(default_factory=set)


def kind_of(name: str) -> str:
    """What kind of constant has this name: "position", "token" or "bias"."""
    low = name.lower()
    if low.rpartition(".")[2] in _BIASES:  # that of a layer, whatever the module is called: token_mixer, head_dist
        return "bias"
    words = re.split(r"[._ ]", low)
    if any(re.match("pos(?!t)|relative$|rope$", word) for word in words):
        return "position"
    return "token" if any(word in low for word in _TOKENS) else "bias"


def _telling(network: nn.Module, name: str, others: Collection[str]) -> str:
    """The name of a constant; of one that is no parameter, where a module or parameters make positions, the name of these.

    Args:
        network: that it is a constant of.
        name: as `explain` has it.
        others: all names: what has a constant of its own makes no other.
    """
    path, _, label = name.rpartition(".")
    module = dict(network.named_modules()).get(path)
    if label != _ADDED or module is None:
        return name
    made = [child for child, one in module.named_children() if not isinstance(one, nn.Dropout | nn.Identity)]
    made += [child for child, _ in module.named_parameters(recurse=False)]
    names = [f"{path}.{child}".lstrip(".") for child in made if kind_of(child) == "position" and not child.startswith("rel")]
    names = [one for one in names if one not in others]
    return f"{names[0]} ({_ADDED})" if names else name


def leftover(given: nn.Module, recording: Recording, plans: Sequence[Planned]) -> list[Step]:
    """Steps that set to zero what is added elsewhere, but no position and no token: biases that no layer of ours holds."""
    done = {p.step.path for p in plans if p.step.kind not in ("set", "decode")}
    inside = _inside(plans)
    parameters, found = dict(given.named_parameters()), dict[str, list[str]]()
    for name in recording.constants:
        path, _, last = name.rpartition(".")
        free = path not in done and not name.startswith(inside) and name in parameters and kind_of(name) == "bias"
        if free:
            found.setdefault(path, []).append(last)
    return [Step(path, "zero", {"names": names}) for path, names in found.items()]


def closing_check(network: nn.Module, x: Tensor, plans: Sequence[Planned], output: str | int | None) -> Checked:
    """Explain a few examples.

    Args:
        network: converted.
        x: (N, 2C, *S) encoded.
        plans: of the conversion.
        output: entry of the output with the logits.

    Raises:
        StateError: the network cannot be explained, or gives no number for other pictures.
    """
    prefix = prefix_of(network)
    _check_finite(network, x[:1], output)
    e = explain(network, x[:_FEW], output=output, products="half")
    parts = {name: value[:, 0].double().abs() for name, value in e.constants.items() if name not in e.fixed}
    whole = sum(parts.values(), torch.zeros(len(e), dtype=torch.float64)) + e.contributions[:, 0].double().flatten(1).sum(1).abs()
    shares = {name: float((part / whole.clamp_min(1e-30)).mean()) for name, part in parts.items()}
    shares = {_telling(network, name, parts): share for name, share in shares.items() if share > 0}
    of_layers: dict[str, float] = {}
    for name, share in shares.items():
        path = name.rpartition(".")[0].removeprefix(prefix)
        of_layers[path] = of_layers.get(path, 0.0) + share
    met = trace(network, x[:1], products="half")
    bent = [m for m in met if m.kind is not Kind.LINEAR or m.rule == "product"]
    held = [(m.operation, m.module, m.kind.value, m.rule, m.count) for m in bent]
    share = float(e.share[:, 0].nanmedian())
    done, inside = {p.step.path for p in plans}, _inside(plans)
    left = {path for path in of_layers if path not in done and not path.startswith(inside)}
    return Checked(share, shares, of_layers, float(e.residual.abs().max()), tuple(held), left)


def _inside(plans: Sequence[Planned]) -> tuple[str, ...]:
    """What the paths begin with of modules that attention of ours sees to."""
    return tuple(f"{p.step.path}." for p in plans if p.step.kind in OUTPUT_LAYERS)


def check_ran(network: nn.Module, x: Tensor, plans: Sequence[Planned]) -> None:
    """Whether a converted network runs, and in it every layer that was put in: one that does not is no part of what it does.

    Args:
        network: converted.
        x: (N, 2C, *S) encoded.
        plans: of the conversion.

    Raises:
        StateError: it does not, or a layer did not.
    """
    modules, prefix = dict(network.named_modules()), prefix_of(network)
    wanted = {prefix + p.step.path for p in plans if p.step.kind not in ("set", "decode", "zero")}
    ran: set[str] = set()
    handles = [modules[path].register_forward_hook(_note(ran, path)) for path in wanted]
    try:
        with listening(handles), torch.no_grad():
            network(x)
    except BcosError:
        raise
    except Exception as error:  # of any class: it is somebody else's code
        said = shorten(" ".join(str(error).split()), 200).rstrip(".")
        raise StateError(
            f"The converted network does not run: {said}. Its code asks a layer for something that the layer in its "
            "place does not have."
        ) from error
    missing = sorted(wanted - ran)
    if missing:
        raise StateError(
            f"The converted layer {missing[0]!r} did not run{f', and {len(missing) - 1} more' if len(missing) > 1 else ''}: the "
            "network takes its weights elsewhere, so the conversion would change nothing there."
        )


def _check_finite(network: nn.Module, x: Tensor, output: str | int | None) -> None:
    """Whether other pictures have numbers as well: noise, light and dark."""
    pixels = torch.rand(x[:, : x.shape[1] // 2].shape, generator=torch.Generator().manual_seed(1)).to(x)
    for other in (pixels, pixels.round()):
        with torch.no_grad():
            logits = tensor_in(network(add_inverse(other)), output)
        if logits is not None and not bool(logits.isfinite().all()):
            raise StateError(
                "The converted network gives no number for pictures unlike the example: layers were fitted to too little, or the "
                "given network is not trained. Give pictures of the kind that it is for (example=…), a few dozen."
            )


def _note(ran: set[str], path: str) -> Any:
    def hook(*_: Any) -> None:
        ran.add(path)

    return hook
