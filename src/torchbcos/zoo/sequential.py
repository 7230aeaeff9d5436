"""Plain sequences of known layers as data: what a card can hold of an `nn.Sequential`, and the sequence built again from it.

Each layer is written with its constructor's arguments, read back from its attributes by the table below, which names everything
that can be built: a card is a stranger's file, and nothing is ever looked up by a name that it holds.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import hint
from torchbcos._core.torch_private import original
from torchbcos.nn.filters import FilterLayer

__all__ = ["SEQUENTIAL", "build_sequential", "describe_sequential", "known_layers"]

SEQUENTIAL = "sequential"  # the architecture of such a network
_AGAIN = "again"  # a layer that stood before: the same, with the same weights
_MOST_LAYERS = 10_000
_MOST_NUMBERS = 8  # in one argument

_ROWS: dict[str, type[nn.Sequential]] = {"Sequential": nn.Sequential, "Residual": bnn.Residual}

_Read = Callable[[Any], Any]


@dataclass(frozen=True)
class _Kind:
    """A class of layers that can be written as data.

    Attributes:
        make: the class.
        read: how each argument of its constructor is read back from a layer.
    """

    make: type[nn.Module]
    read: Mapping[str, _Read]

    def default(self, argument: str) -> Any:
        """Of an argument; `inspect.Parameter.empty` where it must be given."""
        return inspect.signature(self.make).parameters[argument].default


def _attribute(name: str) -> _Read:
    return lambda layer: getattr(layer, name)


def _has(name: str) -> _Read:
    return lambda layer: getattr(layer, name) is not None


def _kind(make: type[nn.Module], arguments: str = "", **special: _Read) -> _Kind:
    """A class whose arguments, those in words, are attributes of the same name; older torch lacks some of the special ones."""
    known = inspect.signature(make).parameters
    return _Kind(
        make, {**{name: _attribute(name) for name in arguments.split()}, **{k: v for k, v in special.items() if k in known}}
    )


_EXPONENT: dict[str, _Read] = {
    "b": lambda layer: layer._b if isinstance(layer.b, nn.Parameter) else layer.b,
    "learnable_b": lambda layer: isinstance(layer.b, nn.Parameter),
}
_TORCH_BIAS: dict[str, _Read] = {"bias": lambda layer: layer.bias is not None or layer.weight is None}
_AFFINE = {"affine": _has("weight"), "bias": _has("bias")}
_CONV = "in_channels out_channels kernel_size stride padding dilation groups padding_mode"
_BCOS_CONV = f"{_CONV} max_out unit_norm scale eps"
_NORM = "num_features eps centered"
_MAX_POOL = "kernel_size stride padding dilation return_indices ceil_mode"
_AVERAGE_POOL = "kernel_size stride padding ceil_mode count_include_pad"
_BATCH_NORM = "num_features eps momentum affine track_running_stats"


def _attention_part(name: str) -> _Read:
    return lambda layer: None if getattr(layer, name) is None else _entry_of(getattr(layer, name), name)


_ATTENTION = {name: _attention_part(name) for name in ("norm", "to_out", "to_qkv")}
_BIASED: dict[str, _Read] = {**_EXPONENT, "bias": _has("bias"), "unit_norm": _has("gain")}
_BCOSIFIED: dict[str, _Read] = {  # where a layer of another stride is anti-aliased, and pads as TensorFlow does
    **_BIASED, "stride": lambda layer: layer.strides, "padding": lambda layer: "dynamic" if layer.dynamic else layer.padding,
}  # fmt: skip
_BCOSIFIED_CONV = "in_channels out_channels kernel_size dilation groups padding_mode biases antialias eps"
_BCOSIFIED_NORM = "num_features eps biases"

_OURS = (
    *(_kind(make, _BCOS_CONV, **_EXPONENT) for make in (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d)),
    _kind(bnn.BcosLinear, "in_features out_features max_out unit_norm norm_eps", **_EXPONENT),
    *(_kind(make, f"{_NORM} momentum sync", **_AFFINE) for make in (bnn.BatchNorm, bnn.AllNorm)),
    *(_kind(make, _NORM, **_AFFINE) for make in (bnn.LayerNorm, bnn.InstanceNorm, bnn.PositionNorm, bnn.TokenNorm)),
    _kind(bnn.GroupNorm, f"num_groups {_NORM}", **_AFFINE),
    _kind(bnn.Attention, "dim heads head_dim", **_ATTENTION),
    _kind(bnn.WindowAttention, "dim heads window shift head_dim", **_ATTENTION),
    _kind(bnn.Similarity, "features places b", count=lambda layer: layer.weight.shape[-2]),
    _kind(bnn.Prototypes, "features num_classes per_class places", b=lambda layer: layer.similarity.b),
    _kind(bnn.SinCosPosition2d, "dim temperature"),
    _kind(bnn.Logits, "bias temperature"),
    _kind(bnn.LowPass, "stride"),
    _kind(bnn.AddInverse, "dim"),
    _kind(bnn.Normalize, "mean std dtype"),
    _kind(bnn.Folded, "into"),
    _kind(bnn.Conv2d, _CONV, bias=_has("bias")),
    _kind(bnn.Linear, "in_features out_features", bias=_has("bias")),
    *(_kind(make) for make in (bnn.GlobalAveragePool, bnn.ReLU, bnn.GELU, bnn.Hardswish)),
    *(_kind(make, _BCOSIFIED_CONV, **_BCOSIFIED) for make in (bnn.BcosifiedConv1d, bnn.BcosifiedConv2d, bnn.BcosifiedConv3d)),
    _kind(bnn.BcosifiedLinear, "in_features out_features biases norm_eps eps", **_BIASED),
    *(_kind(make, _BCOSIFIED_NORM, **_AFFINE) for make in (bnn.BcosifiedTokenNorm, bnn.BcosifiedPositionNorm)),
    _kind(bnn.BcosifiedGroupNorm, f"{_BCOSIFIED_NORM} num_groups", **_AFFINE),
    _kind(bnn.BcosifiedBatchNorm, f"{_BCOSIFIED_NORM} momentum", **_AFFINE),
    _kind(bnn.BcosifiedShift, "num_features channel_dim"),
    *(_kind(make, "mean std") for make in (bnn.Decode, bnn.NormalizeEncoded)),
)  # fmt: skip
_FRACTIONS = (bnn.Normalize, bnn.NormalizeEncoded, bnn.Decode, bnn.BcosifiedConv1d, bnn.BcosifiedConv2d, bnn.BcosifiedConv3d)
_TORCHS = (
    *(_kind(make, _CONV, bias=_has("bias")) for make in (nn.Conv1d, nn.Conv2d, nn.Conv3d)),
    _kind(nn.Linear, "in_features out_features", bias=_has("bias")),
    *(_kind(make, _BATCH_NORM, **_TORCH_BIAS) for make in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)),
    *(_kind(make, _BATCH_NORM, **_TORCH_BIAS) for make in (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)),
    _kind(nn.GroupNorm, "num_groups num_channels eps affine", **_TORCH_BIAS),
    _kind(nn.LayerNorm, "normalized_shape eps elementwise_affine", **_TORCH_BIAS),
    *(_kind(make, _MAX_POOL) for make in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)),
    _kind(nn.AvgPool1d, _AVERAGE_POOL),
    *(_kind(make, f"{_AVERAGE_POOL} divisor_override") for make in (nn.AvgPool2d, nn.AvgPool3d)),
    *(_kind(make, "output_size") for make in (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)),
    *(_kind(make, "output_size return_indices") for make in (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)),
    *(_kind(make, "p inplace") for make in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)),
    *(_kind(make, "inplace") for make in (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Mish, nn.Hardswish)),
    *(_kind(make) for make in (nn.Identity, nn.Sigmoid, nn.Tanh, nn.Softsign)),
    _kind(nn.LeakyReLU, "negative_slope inplace"),
    _kind(nn.ELU, "alpha inplace"),
    _kind(nn.GELU, "approximate"),
    _kind(nn.Softplus, "beta threshold"),
    _kind(nn.PReLU, "num_parameters"),
    _kind(nn.Flatten, "start_dim end_dim"),
    _kind(nn.Unflatten, "dim unflattened_size"),
    _kind(nn.PixelShuffle, "upscale_factor"),
    _kind(nn.PixelUnshuffle, "downscale_factor"),
    *(_kind(make, "padding") for make in (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)),
)  # fmt: skip

# torch's layers have their own word before their names: several of ours are called alike
_KINDS = {kind.make.__name__: kind for kind in _OURS} | {f"torch.{kind.make.__name__}": kind for kind in _TORCHS}
_NAMES = {kind.make: name for name, kind in _KINDS.items()}


def known_layers() -> dict[str, type[nn.Module]]:
    """The layers that can be written as data, by the names that they have there.

    >>> known_layers()["torch.Flatten"]
    <class 'torch.nn.modules.flatten.Flatten'>
    """
    return {name: kind.make for name, kind in _KINDS.items()}


# -- a network becomes data ------------------------------------------------------------------------------------------------


def describe_sequential(network: nn.Module) -> dict[str, Any]:
    """The options of a card for a plain sequence of known layers; sequences and residual rows may lie in it.

    Args:
        network: its hooks and settings are not looked at: `check_same` does that.

    Raises:
        InputError: it is no plain `nn.Sequential`, or one of its layers is in no table.

    >>> describe_sequential(nn.Sequential(bnn.BcosConv1d(2, 3, 5), nn.Flatten()))["layers"][1]
    {'layer': 'torch.Flatten'}
    """
    network = original(network)
    if type(network) is not nn.Sequential:
        raise InputError(f"a {type(network).__name__} is no plain torch.nn.Sequential")
    return {"layers": _entries_of(network, "", {})}


def _entries_of(sequence: nn.Module, path: str, seen: dict[int, str]) -> list[dict[str, Any]]:
    entries = []
    # with those that stand twice, which `named_children` would leave out
    children = [(key, part) for key, part in sequence.named_modules(remove_duplicate=False) if key and "." not in key]
    for i, (name, layer) in enumerate(children):
        entry = _entry_of(layer, f"{path}{name}", seen)
        entries.append(entry if name == str(i) else {"name": name, **entry})
    return entries


def _entry_of(layer: nn.Module, path: str, seen: dict[int, str] | None = None) -> dict[str, Any]:
    """One layer as data.

    Raises:
        InputError: it is in no table.
    """
    layer, seen = original(layer), {} if seen is None else seen
    row = next((name for name, make in _ROWS.items() if type(layer) is make), None)
    if row is not None:
        return {"layer": row, "with": {"layers": _entries_of(layer, f"{path}.", seen)}}
    if id(layer) in seen:
        return {"layer": _AGAIN, "with": {"path": seen[id(layer)]}}
    seen[id(layer)] = path
    name = _NAMES.get(type(layer))
    if name is None:
        raise InputError(f"its layer {path!r} is a {type(layer).__name__}, of which no file can tell how it is built")
    kind = _KINDS[name]
    given = {argument: _as_data(read(layer)) for argument, read in kind.read.items()}
    given = {argument: value for argument, value in given.items() if not _is_default(value, kind.default(argument))}
    if isinstance(layer, FilterLayer) and layer.deployed:  # a part of a deployed twin
        given["deployed"] = True
    return {"layer": name, **({"with": given} if given else {})}


def _as_data(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _is_default(value: Any, default: Any) -> bool:
    """Whether an argument need not be written: it is the default, or the default for every axis."""
    one = value[0] if isinstance(value, list) and value and all(part == value[0] for part in value) else value
    return type(one) is type(default) and bool(one == default) and (one is value or not isinstance(default, tuple | list))


# -- data becomes a network ------------------------------------------------------------------------------------------------


def build_sequential(options: Mapping[str, Any]) -> nn.Sequential:
    """The sequence that a card's options describe, fresh.

    Raises:
        InputError: they describe none: an unknown layer, argument or value.

    >>> build_sequential({"layers": [{"layer": "BcosLinear", "with": {"in_features": 4, "out_features": 2}}]})
    Sequential(
      (0): BcosLinear(4, 2, b=2, max_out=1)
    )
    """
    if set(options) != {"layers"}:
        raise InputError(f"the options of a sequence are its layers, not {shorten(repr(sorted(map(str, options))), 100)}.")
    return _Builder().sequence(options["layers"], "")


class _Builder:
    """Builds the layers of one network, and knows those that it has built.

    Attributes:
        built: layers by their paths.
        count: of entries that were read.
    """

    def __init__(self) -> None:
        self.built: dict[str, nn.Module] = {}
        self.count = 0

    def sequence(self, entries: Any, path: str, row: str = "Sequential") -> nn.Sequential:
        """The sequence of a list of entries, or another row of layers.

        Raises:
            InputError: an entry is none.
        """
        if not isinstance(entries, list | tuple):
            raise InputError(f"'layers' must be a list, not {shorten(repr(entries), 80)}.")
        found: dict[str, nn.Module] = {}
        for i, entry in enumerate(entries):
            name, layer, given = _parts(entry, i)
            if name in found:
                raise InputError(f"two layers are called {shorten(repr(name), 80)}.")
            found[name] = self.built[path + name] = self._module(layer, given, path + name)
        made = _ROWS[row]()
        for name, module in found.items():
            made.add_module(name, module)
        return made

    def _module(self, layer: Any, given: Mapping[str, Any], path: str) -> nn.Module:
        self.count += 1
        if self.count > _MOST_LAYERS:
            raise InputError(f"a network of more than {_MOST_LAYERS:,} layers is not read.")
        if isinstance(layer, str) and layer in _ROWS and set(given) == {"layers"}:
            return self.sequence(given["layers"], f"{path}.", layer)
        if layer == _AGAIN and set(given) == {"path"}:
            there = self.built.get(str(given["path"]))
            if there is None:
                raise InputError(f"there is no layer {shorten(repr(given['path']), 80)} before {path!r} that could stand again.")
            return there
        return self._layer(layer, given)

    def _layer(self, name: Any, given: Mapping[str, Any]) -> nn.Module:
        """One layer.

        Raises:
            InputError: its class, an argument or a value is not known.
        """
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            raise InputError(f"there is no layer {shorten(repr(name), 80)}.{hint(str(name)[:100], _KINDS)}")
        deployed = issubclass(kind.make, FilterLayer) and given.get("deployed") is True
        arguments: dict[str, Any] = {}
        for argument, value in given.items():
            if argument == "deployed" and deployed:
                continue
            if argument not in kind.read:
                raise InputError(f"{name} has no argument {shorten(repr(argument), 80)}.{hint(str(argument)[:100], kind.read)}")
            if issubclass(kind.make, bnn.Attention) and isinstance(value, Mapping):
                _, part, of_part = _parts(value, 0)
                arguments[argument] = self._module(part, of_part, argument)
                continue
            if not _fits(value, kind.default(argument), fractions=kind.make in _FRACTIONS):
                raise InputError(f"{name}({argument}={shorten(repr(value), 80)}) cannot be: that value has the wrong type.")
            arguments[argument] = tuple(value) if isinstance(value, list | tuple) else value
        made = kind.make(**arguments)
        if isinstance(made, FilterLayer) and deployed:
            made.deployed, made.unit_norm = True, False
        return made


def _parts(entry: Any, place: int) -> tuple[str, Any, Mapping[str, Any]]:
    """Name, class and arguments of an entry.

    Raises:
        InputError: it is none.
    """
    if not isinstance(entry, Mapping) or not set(entry) <= {"layer", "name", "with"} or "layer" not in entry:
        raise InputError(f"a layer is written {{'layer': …, 'with': {{…}}}}, not {shorten(repr(entry), 80)}.")
    name, given = entry.get("name", str(place)), entry.get("with", {})
    if not isinstance(name, str) or not name or "." in name:
        raise InputError(f"a layer cannot be called {shorten(repr(name), 80)}.")
    if not isinstance(given, Mapping):
        raise InputError(f"the arguments of a layer are a table, not {shorten(repr(given), 80)}.")
    return name, entry["layer"], given


def _fits(value: Any, default: Any, *, fractions: bool) -> bool:
    """Whether a value is of a type that an argument with this default may have: a number, several for several axes, a word.

    Of several numbers each is whole, but where `fractions` may be among them.
    """
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    several = not isinstance(default, str | float)
    if isinstance(value, list | tuple):
        fits = _is_number if fractions else _is_whole_or_none
        return several and len(value) <= _MOST_NUMBERS and all(map(fits, value))
    if isinstance(default, str) or isinstance(value, str):
        return isinstance(value, str) and not isinstance(default, float)
    if default is None or isinstance(default, float):
        return value is None or (isinstance(value, int | float) and math.isfinite(value))
    return _is_whole_or_none(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))
