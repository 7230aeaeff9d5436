"""Which steps convert a network: each replacement is proved on what its layer took and gave before it is chosen."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from torchbcos._core.errors import BcosError
from torchbcos.conversion.attending import fits_multihead
from torchbcos.conversion.choosing import Choices, asks, b_of, check_rules, role_of, value_of
from torchbcos.conversion.recording import Recording, Run
from torchbcos.conversion.replacing import Numbers, norm_numbers, numbers_of, replacement
from torchbcos.conversion.steps import OUTPUT_LAYERS, Step

__all__ = ["LAYERS", "Planned", "plan", "stayed", "words_of"]

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TOLERANCE = 1e-4  # of the largest output: a proof tells one layer from another, float64 tests tell the rest
_FOLLOWS = ("drop", "act", "activation")
_EPSILONS = ("eps", "epsilon", "variance_epsilon")


@dataclass
class Planned:
    """A step, and what belongs to it while the network is being converted.

    Attributes:
        step: what is done.
        was: what stood there, in words.
        role: what it does in the network; "" of what is no convolution or linear layer.
        numbers: weight and bias to begin with, where they are not the module's own.
        scale, shift: the output to match is that of the module of this path times `scale` plus `shift`, a number a channel.
        fit: share of the variance of the output to match that the layer gives after calibration.
    """

    step: Step
    was: str
    role: str = ""
    numbers: Numbers | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    fit: float | None = None


def plan(
    network: nn.Module, recording: Recording, choices: Choices, mean: Sequence[float], std: Sequence[float]
) -> list[Planned]:  # fmt: skip
    """All steps, in the order of the calls of their modules.

    Args:
        network: that was recorded.
        recording: of it.
        choices: what is wanted.
        mean, std: a number a channel: `(x - mean) / std` of pixels is what the network takes.
    """
    found: dict[str, Planned] = {}
    swallowed: list[str] = []  # attention modules see to what is inside them
    for run in sorted(recording.runs.values(), key=lambda run: run.order):
        if any(run.path.startswith(f"{path}.") for path in swallowed):
            continue
        if run.path in found:  # with the module that takes its weight
            continue
        parent = found.get(run.path.rpartition(".")[0])
        if parent is not None and "follows" in parent.step.settings:
            continue  # goes along with the norm that it follows
        found |= _joined(run)
        made = _attention(run) or _layer(run, recording) or _norm(run, choices) or _other(run, choices)
        if made is not None:
            found[run.path] = made
            if made.step.kind in OUTPUT_LAYERS:
                swallowed.append(run.path)
    if choices.biases != "keep":
        _fold_norms(recording, found)
    steps = [*_input(network, recording, found, choices, mean, std), *found.values()]
    _set_b(steps, choices)
    return steps


def stayed(network: nn.Module, recording: Recording, plans: Sequence[Planned]) -> tuple[list[str], list[str]]:
    """What stays linear though the logits depend on it by more than gates: no step is about it.

    Args:
        network: that was recorded.
        recording: of it.
        plans: of its conversion.

    Returns:
        Paths of modules that call a convolution or linear map with parameters of their own which no layer of ours could replace;
        and of layers whose weights the code of another module uses.
    """
    done = {p.step.path for p in plans if p.step.kind != "shift"}
    inside = tuple(f"{p.step.path}." for p in plans if p.step.kind in OUTPUT_LAYERS)
    own = [
        run.path for run in recording.runs.values()
        if run.signal and (_maps(run) or any(name.startswith("conv_transpose") for name in run.functions))
    ]  # fmt: skip
    layers = [path for path, one in network.named_modules() if isinstance(one, LAYERS) and path in recording.elsewhere]
    used = {path: recording.runs.get(recording.elsewhere[path]) for path in layers if not asks(path)}  # these stay linear anyway
    layers = [path for path, run in used.items() if run is not None and run.signal]
    left = [[path for path in paths if path not in done and not path.startswith(inside)] for paths in (own, layers)]
    return [path for path in left[0] if path not in left[1]], left[1]


def _maps(run: Run) -> bool:
    """Whether the code of a module calls a convolution or linear map with a parameter of its own, or with what that makes."""
    own = list(run.module.parameters(recurse=False))
    foreign = isinstance(run.weight, nn.Parameter) and not any(p is run.weight for p in own)
    return run.weight is not None and bool(own) and not foreign


def _layer(run: Run, recording: Recording) -> Planned | None:
    """A convolution or linear layer."""
    if not isinstance(run.module, LAYERS) or isinstance(run.module, _TRANSPOSED) or not run.signal or run.x is None:
        return None
    module: Any = run.module
    if run.path in recording.elsewhere or run.weight is None or run.functions.count("linear") > 1:
        return None
    weight = run.weight.detach()
    bias = weight.new_zeros(len(weight)) if run.bias is None else run.bias.detach()
    own = run.weight is module.weight and run.bias is module.bias
    numbers = None if own else (weight.clone(), bias.clone())
    settings: dict[str, Any] = {"biases": "keep", "b": 1.0, "bias": run.bias is not None}
    role = role_of(run, recording)
    if isinstance(module, nn.Linear):
        step = Step(run.path, "linear", settings)
        return Planned(step, words_of(module), role, numbers) if _proved(run, step, numbers) else None
    for padding in (module.padding, "dynamic", 0):
        wanted = padding if isinstance(padding, (str, int)) else list(padding)
        wanted = [wanted] * len(module.kernel_size) if isinstance(wanted, int) else wanted
        step = Step(run.path, "conv", {**settings, "padding": wanted})
        if _proved(run, step, numbers):
            return Planned(step, words_of(module), role, numbers)
    return None


def _proved(run: Run, step: Step, numbers: Numbers | None = None) -> bool:
    """Whether a replacement with B = 1 and the bias kept gives what the module gave."""
    try:
        made = replacement(run.module, step, numbers)
    except (BcosError, RuntimeError, TypeError, ValueError, AttributeError):
        return False
    return _gives(run, made)


def _gives(run: Run, made: nn.Module) -> bool:
    """Whether a module gives, of what a run took, what that run gave."""
    if run.y is None:
        return False
    try:
        with torch.no_grad():
            given = made(*run.args, **run.kwargs)
    except (BcosError, RuntimeError, TypeError, ValueError, AttributeError):
        return False
    given = given[0] if isinstance(given, tuple) else given
    if given.shape != run.y.shape:
        return False
    largest = float(run.y.abs().max()) if run.y.numel() else 0.0
    return bool(((given - run.y).abs() <= _TOLERANCE * max(largest, 1e-12)).all())


def _norm(run: Run, choices: Choices) -> Planned | None:
    """A norm whose bias, or running mean, is a constant of the logits."""
    module: Any = run.module
    named = "norm" in type(module).__name__.lower() or "norm" in type(module).__module__
    if choices.biases == "keep" or not named or not run.signal or run.x is None or run.x.dim() < 2:
        return None
    centred = getattr(module, "running_mean", None) is not None
    if getattr(module, "bias", None) is None and not centred:
        return None
    eps = next((float(getattr(module, name)) for name in _EPSILONS if isinstance(getattr(module, name, None), float)), 1e-5)
    follows = [name for name in _FOLLOWS if isinstance(getattr(module, name, None), nn.Module)]
    settings = {"biases": "keep", "eps": eps, "affine": getattr(module, "weight", None) is not None}
    grouped = not centred and ("group_norm" in run.functions or "instance_norm" in run.functions)
    for kind, axis in (("batch", 1), ("token", -1), ("position", 1), ("group", 1)):
        if (kind == "batch") != centred or (kind == "group") != grouped:
            continue
        features = run.x.shape[axis]
        more: dict[str, Any] = {"kind": kind, "features": features}
        if kind == "group":
            more["num_groups"] = getattr(module, "num_groups", features)
        for after in ([], follows) if follows else ([],):
            step = Step(run.path, "norm", {**settings, **more, **({"follows": after} if after else {})})
            if _fits(module, features) and _proved(run, step):
                return Planned(step, words_of(module))
    return None


def _fits(module: Any, features: int) -> bool:
    return all(t is None or t.shape == (features,) for t in (getattr(module, "weight", None), getattr(module, "bias", None)))


def _attention(run: Run) -> Planned | None:
    """A module that hands the weights of its layers to a function."""
    module: Any = run.module
    settings = {"biases": "keep", "out": {"b": 1.0}}
    kind = None
    if isinstance(module, nn.MultiheadAttention):
        kind = "multihead" if fits_multihead(module) else None
    elif "multi_head_attention_forward" in run.functions and all(hasattr(module, f"{name}_proj") for name in "qkvc"):
        kind = "pooling"
    elif type(module).__name__.startswith("ShiftedWindowAttention"):
        kind = "windows"
    if kind is None or not run.signal:
        return None
    step = Step(run.path, kind, settings)
    return Planned(step, words_of(module), "attention") if _proved(run, step) else None


def _joined(run: Run) -> dict[str, Planned]:
    """A module that adds biases of its own to a linear layer (BEiT, EVA, Swin V2): they become the layer's."""
    module: Any = run.module
    layer, parts = getattr(module, "qkv", None), [getattr(module, f"{name}_bias", None) for name in "qkv"]
    if type(layer) is not nn.Linear or layer.bias is not None or parts[0] is None or parts[2] is None or not run.signal:
        return {}
    width = len(layer.weight) // 3
    bias = torch.cat([layer.weight.new_zeros(width) if p is None else p.detach() for p in parts])
    without = Step(run.path, "set", {f"{name}_bias": None for name in "qkv" if hasattr(module, f"{name}_bias")})
    settings: dict[str, Any] = {"biases": "keep", "b": 1.0, "bias": True}
    inner = Planned(
        Step(f"{run.path}.qkv", "linear", settings), words_of(layer), "attention", (layer.weight.detach().clone(), bias),
        torch.ones_like(bias), bias,
    )  # fmt: skip
    twin = copy.deepcopy(module)
    for name, value in without.settings.items():
        setattr(twin, name, value)
    twin.qkv = replacement(layer, inner.step, inner.numbers)
    return {run.path: Planned(without, words_of(module)), inner.step.path: inner} if _gives(run, twin) else {}


def _other(run: Run, choices: Choices) -> Planned | None:
    """Activations that compiled code would not hold, and pools that alias."""
    module: Any = run.module
    if type(module) is nn.Hardswish:
        return Planned(Step(run.path, "hardswish"), "Hardswish")
    if choices.antialias and type(module) in (nn.MaxPool2d, nn.AvgPool2d) and run.signal:
        strides = {module.stride} if isinstance(module.stride, int) else set(module.stride)
        if len(strides) == 1 and max(strides) > 1 and not module.ceil_mode and getattr(module, "dilation", 1) in (1, (1, 1)):
            return Planned(Step(run.path, "pool", {"stride": max(strides)}), words_of(module))
    return None


def _fold_norms(recording: Recording, found: dict[str, Planned]) -> None:
    """Fold each batch norm into the layer whose output it alone reads: one bias, one rule."""
    for path, norm in list(found.items()):
        if norm.step.kind != "norm" or norm.step.settings["kind"] != "batch":
            continue
        run = recording.runs[path]
        source = found.get(run.x_from) if run.x_from else None
        if source is None or source.step.path not in recording.runs or run.calls > 1:
            continue
        layer = recording.runs[source.step.path]
        if source.step.kind not in ("conv", "linear") or layer.readers != 1 or layer.calls > 1 or source.scale is not None:
            continue
        gain, shift = norm_numbers(run.module, "batch", norm.step.settings["features"])
        gain = gain / (run.module.running_var + run.module.eps).sqrt()  # type: ignore[operator, union-attr]
        weight, bias = source.numbers or numbers_of(layer.module)
        folded = (weight * gain.reshape(-1, *[1] * (weight.dim() - 1)), bias * gain + shift)
        source.numbers, source.scale, source.shift = folded, gain, shift
        source.step = replace(source.step, settings={**source.step.settings, "bias": True})
        source.was += f" + {norm.was}"
        follows = {"follows": norm.step.settings["follows"]} if "follows" in norm.step.settings else {}
        found[path] = replace(norm, step=Step(path, "folded", {"into": source.step.path, **follows}))


def _input(
    network: nn.Module, recording: Recording, found: dict[str, Planned], choices: Choices, mean: Sequence[float],
    std: Sequence[float],
) -> list[Planned]:  # fmt: skip
    """How the network takes [x, 1 - x]: its first convolution does, else a layer before it takes that back."""
    numbers = {"mean": list(mean), "std": list(std)}
    stem = next((p for p in found.values() if p.step.kind == "conv" and recording.runs[p.step.path].x_from == ""), None)
    module: Any = None if stem is None else recording.runs[stem.step.path].module
    if stem is None or recording.input_readers != 1 or module.groups != 1 or recording.runs[stem.step.path].calls > 1:
        return [Planned(Step("", "decode", numbers), "the input")]
    settings = {**stem.step.settings, "stem": {**numbers, "border": choices.border}}
    stem.step = replace(stem.step, settings=settings)
    around = [(path, one) for path, one in network.named_modules() if not path or stem.step.path.startswith(f"{path}.")]
    counts = (  # of channels, that modules around the first layer compare their input with
        (path, {name: 2 * len(mean) for name in ("num_channels", "in_channels") if vars(one).get(name) == len(mean)})
        for path, one in around if path != stem.step.path
    )  # fmt: skip
    return [Planned(Step(path, "set", names), "a number") for path, names in counts if names]


def _set_b(steps: list[Planned], choices: Choices) -> None:
    """Give every step what was chosen; until here each was to change nothing."""
    check_rules("b", choices.b, {p.step.path: p.role for p in steps if p.role})
    check_rules("blur", choices.passes, {p.step.path: p.role for p in steps if p.step.kind == "conv"})
    for planned in steps:
        step, settings = planned.step, dict(planned.step.settings)
        if step.kind in ("conv", "linear", "norm"):
            settings["biases"] = choices.biases
        if step.kind in ("conv", "linear"):
            settings |= {"b": b_of(step.path, planned.role, choices.b), "unit_norm": choices.unit_norm}
            settings |= {"bias": settings["bias"] or "stem" in settings}
        if step.kind == "conv" and choices.antialias:
            settings["antialias"] = True
        if step.kind == "conv" and (blur := int(value_of(step.path, planned.role, choices.passes, 0))):
            settings["blur"] = blur
        if step.kind in OUTPUT_LAYERS:
            inner = OUTPUT_LAYERS[step.kind]
            b = choices.b if not isinstance(choices.b, Mapping) else b_of(f"{step.path}.{inner}", "linear", choices.b)
            settings |= {"biases": choices.biases, "out": {"b": float(b), "unit_norm": choices.unit_norm}}
        planned.step = replace(step, settings=settings)


def words_of(old: nn.Module) -> str:
    """A module in a few words: "Conv2d 3→32, 3×3/2"."""
    name, module = type(old).__name__, cast("Any", old)
    if isinstance(old, nn.Linear):
        return f"{name} {module.in_features}→{module.out_features}"
    if isinstance(old, LAYERS):
        sizes = "×".join(map(str, module.kernel_size))
        stride = f"/{max(module.stride)}" if max(module.stride) > 1 else ""
        groups = f", {module.groups} groups" if module.groups > 1 else ""
        return f"{name} {module.in_channels}→{module.out_channels}, {sizes}{stride}{groups}"
    features = getattr(module, "num_features", None) or getattr(module, "normalized_shape", None)
    return f"{name} {features}" if isinstance(features, int) else name
