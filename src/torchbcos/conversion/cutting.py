"""Networks with fewer channels: the sizes that their layers have now, as data that a card can hold, and how they get them.

A card is a stranger's file: each cut is checked, as data by `cuts_from`, and against the network that it is for by `cut_to_size`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, StateError, shorten
from torchbcos.nn.filters import FilterLayer

__all__ = [
    "Cut", "channels_of", "cut_to_size", "cuts_from", "mark_cut", "pruned_of", "rows_of", "take_heads", "take_inputs",
    "take_outputs",
]  # fmt: skip

_MARK = "pruned"  # the attribute of a pruned network that says how large its layers are
_MOST, _MOST_LAYERS = 1_000_000, 20_000
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d)
_LINEARS = (nn.Linear, bnn.BcosLinear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, bnn.BatchNorm)


@dataclass(frozen=True)
class Cut:
    """What is left of one layer; None where it is as it was.

    Attributes:
        outputs, inputs: channels of a convolution or a linear layer; of a norm and of a depthwise convolution both are alike.
        heads: of attention.
        free: its filters are used as they are, no longer brought to unit norm.
    """

    outputs: int | None = None
    inputs: int | None = None
    heads: int | None = None
    free: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: what was cut only."""
        return {name: value for name, value in vars(self).items() if value}


# -- what a network remembers ----------------------------------------------------------------------------------------------


def mark_cut(network: nn.Module, cuts: Mapping[str, Cut]) -> nn.Module:
    """Let a network remember the sizes of its layers, by name; copies and pickles of it do, too."""
    setattr(network, _MARK, json.loads(json.dumps({path: cut.to_dict() for path, cut in sorted(cuts.items())})))
    return network


def pruned_of(network: nn.Module) -> dict[str, Any] | None:
    """The sizes of the layers that were cut, by name; None of a network that was not pruned."""
    found = vars(network).get(_MARK)
    return found if isinstance(found, dict) else None


def cuts_from(records: object) -> dict[str, Cut]:
    """Cuts as `mark_cut` wrote them.

    Raises:
        InputError: they are none.

    >>> cuts_from({"layer1.0.conv1": {"outputs": 12}})["layer1.0.conv1"].outputs
    12
    """
    if not isinstance(records, Mapping) or len(records) > _MOST_LAYERS:
        raise InputError(f"The cuts of a network are a table of layers, not {shorten(repr(records), 80)}.")
    found = {}
    for path, record in records.items():
        known = isinstance(path, str) and isinstance(record, Mapping) and set(record) <= set(Cut.__dataclass_fields__)
        if not known or not all(_size(value) if name != "free" else value is True for name, value in record.items()):
            raise InputError(f"{shorten(repr({path: record}), 150)} is no cut that this release knows.")
        found[path] = Cut(**record)
    return found


def _size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST


def cut_to_size(network: nn.Module, cuts: Mapping[str, Cut]) -> nn.Module:
    """Cut a fresh network to these sizes, in place: its weights are meaningless, and are filled in afterwards.

    Raises:
        StateError: a cut is not for this network.
    """
    for path, cut in cuts.items():
        try:
            layer = network.get_submodule(path)
        except AttributeError:
            raise StateError(
                f"The network has no layer {shorten(repr(path), 80)}, of which its card says it was pruned."
            ) from None
        try:
            if cut.heads is not None:
                take_heads(layer, range(cut.heads))
            if cut.outputs is not None:
                take_outputs(layer, range(cut.outputs))
            if cut.inputs is not None:
                take_inputs(layer, range(cut.inputs))
        except (InputError, IndexError) as error:
            raise StateError(f"The layer {shorten(repr(path), 80)} was not pruned like that: {error}") from None
        if cut.free and isinstance(layer, FilterLayer):
            layer.unit_norm = False
    return mark_cut(network, cuts)


# -- layers ----------------------------------------------------------------------------------------------------------------


def take_outputs(layer: nn.Module, kept: range | list[int]) -> None:
    """Leave these output channels of a layer, in place; of norms and depthwise convolutions, whose inputs go with them, too.

    Raises:
        InputError: there are not as many, or the layer is of a kind that cannot be cut.
    """
    index = list(kept)
    if isinstance(layer, _NORMS):
        _check(index, layer.num_features)
        for name in ("weight", "bias", "running_mean", "running_var"):
            _take(layer, name, index)
        layer.num_features = len(index)
    elif isinstance(layer, _CONVOLUTIONS):
        _check(index, layer.out_channels)
        depthwise = layer.groups > 1
        if depthwise and not layer.groups == layer.in_channels == layer.out_channels:
            raise InputError("a convolution in groups, each of several channels, is not cut.")
        _take(layer, "weight", rows_of(index, getattr(layer, "max_out", 1)))
        _take(layer, "bias", index)
        layer.out_channels = len(index)
        if depthwise:
            layer.in_channels = layer.groups = len(index)
    elif isinstance(layer, _LINEARS):
        _check(index, layer.out_features)
        _take(layer, "weight", rows_of(index, getattr(layer, "max_out", 1)))
        _take(layer, "bias", index)
        layer.out_features = len(index)
    else:
        raise InputError(f"a {type(layer).__name__} has no channels that can be cut.")


def take_inputs(layer: nn.Module, kept: range | list[int]) -> None:
    """Leave these input channels of a convolution or a linear layer, in place.

    Raises:
        InputError: there are not as many, or the layer is of a kind that cannot be cut.
    """
    index = list(kept)
    if isinstance(layer, _CONVOLUTIONS) and layer.groups == 1:
        _check(index, layer.in_channels)
        layer.in_channels = len(index)
    elif isinstance(layer, _LINEARS):
        _check(index, layer.in_features)
        layer.in_features = len(index)
    else:
        raise InputError(f"a {type(layer).__name__} has no input channels that can be cut.")
    _take(layer, "weight", index, axis=1)


def take_heads(attention: nn.Module, kept: range | list[int]) -> None:
    """Leave these heads of attention, in place: rows of queries, keys and values, and inputs of its output layer.

    Raises:
        InputError: it is no attention of this library, or has no such heads.
    """
    index = list(kept)
    if not isinstance(attention, bnn.Attention):
        raise InputError(f"a {type(attention).__name__} has no heads that can be cut.")
    heads, d = attention.heads, attention.head_dim
    _check(index, heads)
    channels = channels_of(index, d)
    take_outputs(attention.to_qkv, [third * heads * d + c for third in range(3) for c in channels])
    take_inputs(attention.to_out, channels)
    attention.heads = len(index)


def rows_of(index: list[int], arms: int) -> list[int]:
    """Rows of a weight: MaxOut arms of one output stand together."""
    return [i * arms + arm for i in index for arm in range(arms)]


def channels_of(heads: list[int], d: int) -> list[int]:
    """Channels of heads of d each, which stand together."""
    return [h * d + i for h in heads for i in range(d)]


def _check(index: list[int], size: int) -> None:
    if not index or len(set(index)) < len(index) or min(index) < 0 or max(index) >= size:
        raise InputError(
            f"it has {size} channels or heads, and {len(index)} of them, up to number {max(index, default=-1)}, are to stay."
        )


@torch.no_grad()
def _take(layer: nn.Module, name: str, index: list[int], axis: int = 0) -> None:
    """Cut a parameter or a buffer, where there is one."""
    old = getattr(layer, name, None)
    if not isinstance(old, Tensor):
        return
    new = old.index_select(axis, torch.tensor(index, device=old.device))
    setattr(layer, name, nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new)
