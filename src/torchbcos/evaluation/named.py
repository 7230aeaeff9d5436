"""Methods and metrics with their settings, as a command line or a caller names them: `rise:samples=128`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos.attribution import METHODS, Explainer
from torchbcos.evaluation.dumb import DUMB
from torchbcos.metrics import METRICS

__all__ = ["MAPS", "NamedMethod", "NamedMetric", "described", "digest", "named_methods", "named_metrics", "parse", "preset"]

MAPS = "maps"  # what maps of another library are called
# as papers and other libraries write them
_ALIASES = {
    "deeplift": "deep_lift", "gradcam": "grad_cam", "gradshap": "gradient_shap", "hirescam": "hires_cam",
    "ig": "integrated_gradients", "ixg": "input_x_gradient", "kernelshap": "kernel_shap", "layercam": "layer_cam",
    "smoothgrad": "smooth_grad",
}  # fmt: skip
_OPTIONS = ("scales", "baseline", "samples")  # of `torchbcos.attribute`, for every method


@dataclass(frozen=True)
class NamedMethod:
    """A method of a comparison.

    Attributes:
        label: what tables call it.
        name: in `METHODS`, or in `DUMB`, or "maps".
        explainer: with its settings; None where there is no network in it.
        options: `scales`, `baseline` and `samples` of `torchbcos.attribute`, those that were given.
        folder: of maps that another library made.
        given: whether settings were given.
    """

    label: str
    name: str
    explainer: Explainer | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None
    given: bool = False

    @property
    def dumb(self) -> bool:
        """Whether no network is asked."""
        return self.name in DUMB

    @property
    def settings(self) -> dict[str, Any]:
        """What decides over its maps, as JSON can hold it; an option stands above a field of the same name."""
        fields = [] if self.explainer is None else [f for f in dataclasses.fields(self.explainer) if f.name != "model"]
        found: dict[str, Any] = {**{f.name: getattr(self.explainer, f.name) for f in fields}, **self.options}
        return {key: described(value) for key, value in sorted(found.items())}

    @property
    def key(self) -> str:
        """A hash of name and settings, by which maps are kept."""
        return digest(self.name, self.settings, self.folder)[:12]


@dataclass(frozen=True)
class NamedMetric:
    """A metric of a comparison.

    Attributes:
        label: what tables call it.
        name: in `METRICS`.
        settings: what it is called with, beside its usual settings.
    """

    label: str
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def described(value: Any) -> Any:
    """A setting as JSON can hold it, equal for equal settings: tensors by a hash of their numbers, functions by their names.

    >>> described((1, torch.zeros(2)))[0], described(described)
    (1, 'torchbcos.evaluation.named.described')
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)} {digest(value)[:16]}"
    if isinstance(value, Mapping):
        return {str(key): described(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(one) for one in value]
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    raise ArgumentTypeError(f"A setting of type {type(value).__name__} has no name by which its maps could be kept.")


def digest(*parts: Any) -> str:
    """A hash of values and tensors.

    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a1")
    (True, False)
    """
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            dense = part.detach().cpu().contiguous()
            found.update(f"{tuple(dense.shape)}{dense.dtype}".encode())
            found.update(dense.view(-1).view(torch.uint8).numpy().tobytes())
        else:
            found.update(json.dumps(described(part), sort_keys=True).encode() + b"\0")
    return found.hexdigest()


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """A name and its settings.

    Raises:
        InputError: a setting is not KEY=VALUE.

    >>> parse("integrated_gradients:steps=16:scales=frozen")
    ('integrated_gradients', {'steps': 16, 'scales': 'frozen'})
    """
    name, *rest = text.split(":")
    settings = {}
    for one in rest:
        key, equals, value = one.partition("=")
        if not (equals and key.isidentifier() and value):
            raise InputError(f"A setting is KEY=VALUE, not {one!r}: {name}:samples=128, say.")
        settings[key] = _value(value)
    return name.strip(), settings


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


_QUICK = (
    "inherent", "input_x_gradient", "saliency", "integrated_gradients:samples=16", "grad_cam", "layer_cam", "occlusion", "random",
    "centre", "edges", "brightness",
)  # fmt: skip


def preset(given: Iterable[str]) -> list[str]:
    """Names of methods with "quick" and "all" written out.

    >>> preset(["quick", "rise"])[-2:]
    ['brightness', 'rise']
    """
    found: list[str] = []
    for one in given:
        found += {"quick": list(_QUICK), "all": [*METHODS, *DUMB]}.get(one, [one])
    return list(dict.fromkeys(found))


def named_methods(given: Iterable[Any]) -> tuple[NamedMethod, ...]:
    """Methods from names ("ixg", "rise:samples=128"), explainers with settings, and (label, either) pairs.

    Raises:
        InputError: there is no such method or setting, or two have one label.
        ArgumentTypeError: one is none of these.
    """
    found = [_method(one) for one in _each(given, (str, Explainer, NamedMethod), "methods")]
    if not found:
        raise InputError(f"Name the methods to measure: {', '.join(METHODS)}; or {', '.join(DUMB)}.")
    return _distinct(found, "methods")


def _each(given: object, alone: tuple[type, ...], what: str) -> list[Any]:
    if isinstance(given, alone):
        return [given]
    if not isinstance(given, Iterable):
        raise ArgumentTypeError(f"{what} is a list of names, not {type(given).__name__}.")
    return list(given)


def _method(given: Any) -> NamedMethod:
    if isinstance(given, NamedMethod):
        return given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        return dataclasses.replace(_method(given[1]), label=given[0])
    if isinstance(given, Explainer):
        return NamedMethod(given.name, given.name, dataclasses.replace(given, model=None), given=True)
    if not isinstance(given, str):
        raise ArgumentTypeError(
            f"A method is a name or a method such as IntegratedGradients(steps=50), not {type(given).__name__}."
        )
    name, settings = parse(given)
    name = name.replace("-", "_").lower()
    name = _ALIASES.get(name, name)
    if name in DUMB:
        if settings:
            raise InputError(f"{name} has no settings: there is no network in it.")
        return NamedMethod(given, name)
    if name not in METHODS:
        known = [*METHODS, *DUMB]
        raise InputError(f"Unknown method {name!r}.{hint(name, known)} There are {', '.join(known)}.")
    options = {key: settings.pop(key) for key in _OPTIONS if key in settings}
    build = METHODS[name].build
    fields = {f.name for f in dataclasses.fields(build) if f.name != "model"}
    known = [*sorted(fields), *_OPTIONS]
    for key in settings:
        if key not in fields:
            raise InputError(f"{name} has no setting {key!r}.{hint(key, known)} It has {', '.join(known)}.")
    label = ":".join([name, *given.split(":")[1:]])
    return NamedMethod(label, name, build(**settings), options, given=bool(settings or options))


def named_metrics(given: Iterable[Any]) -> tuple[NamedMetric, ...]:
    """Metrics from names ("deletion", "deletion:first=least") and (label, name) pairs.

    Raises:
        InputError: there is no such metric, or two have one label.
    """
    found = [_metric(one) for one in _each(given, (str, NamedMetric), "metrics")]
    if not found:
        raise InputError(f"Name the metrics: {', '.join(METRICS)}.")
    return _distinct(found, "metrics")


def _metric(given: Any) -> NamedMetric:
    if isinstance(given, NamedMetric):
        return given
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str):
        return dataclasses.replace(_metric(given[1]), label=given[0])
    if not isinstance(given, str):
        raise ArgumentTypeError(f"A metric is a name of torchbcos.metrics.METRICS, not {type(given).__name__}.")
    name, settings = parse(given)
    name = name.replace("_", "-").lower()
    if name not in METRICS:
        raise InputError(f"Unknown metric {name!r}.{hint(name, list(METRICS))} There are {', '.join(METRICS)}.")
    return NamedMetric(":".join([name, *given.split(":")[1:]]), name, settings)


def _distinct(found: Sequence[Any], what: str) -> tuple[Any, ...]:
    labels = [one.label for one in found]
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise InputError(f"Two {what} are called {twice!r}: name each once, or give one of them other settings.")
    return tuple(found)
