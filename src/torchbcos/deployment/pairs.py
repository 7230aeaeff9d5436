"""Norms that fold exactly into the B-cos convolution before them.

With b = 2 and no MaxOut a convolution gives `y |y| / ‖patch‖`, of degree 2 in its filter. An
uncentred batch norm without bias multiplies by `s = weight / sqrt(running_var + eps)` in eval mode,
so the filter `sign(s) sqrt|s| · ŵ` gives the same, for negative s too.
"""

from __future__ import annotations

from collections import Counter
from typing import TypeGuard

import torch
from torch import nn

from torchbcos import nn as bnn
from torchbcos._core.errors import StateError
from torchbcos.functional.transform import unit_norm_weight
from torchbcos.nn.layer import run_layer

TOLERANCE = 1e-4  # of the largest output, float32


def fold_norms_(model: nn.Module) -> dict[str, str]:
    """Fold every batch norm that can be folded; return {norm: convolution} by name.

    Each folded pair is checked on a random input. A network that `torch.fx` cannot trace keeps
    its norms.

    Raises:
        StateError: a folded pair does not give what the two layers gave.
    """
    folded = {}
    for conv_name, norm_name in pairs_of(model):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        if is_convolution(conv) and isinstance(norm, bnn.BatchNorm):
            check = sample(conv)
            with torch.no_grad():
                before = norm(conv(check))
                fold_pair_(conv, norm)
                after = conv(check)
            if not torch.allclose(before, after, rtol=0, atol=TOLERANCE * float(before.abs().max().clamp_min(1e-30))):
                raise StateError(f"Folding {norm_name!r} into {conv_name!r} changed its output: deploy cannot use this network.")
            parent, _, name = norm_name.rpartition(".")
            setattr(model.get_submodule(parent), name, bnn.Folded(conv_name).train(norm.training))
            folded[norm_name] = conv_name
    return folded


def pairs_of(model: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and of the norms that alone read their output."""
    try:
        graph = torch.fx.Tracer().trace(model)
    except Exception:  # whatever a foreign forward does when it is traced: nothing is folded then
        return []
    name_of = {
        node: str(node.args[0].target)
        for node in graph.nodes
        if node.op == "call_function" and node.target is run_layer and isinstance(node.args[0], torch.fx.Node)
    }
    calls = Counter(id(model.get_submodule(name)) for name in name_of.values())

    def once(name: str) -> bool:
        return calls[id(model.get_submodule(name))] == 1

    found = []
    for node, name in name_of.items():
        source = node.args[1]
        if source in name_of and len(source.users) == 1 and once(name) and once(name_of[source]):
            conv, norm = model.get_submodule(name_of[source]), model.get_submodule(name)
            if foldable(conv, norm):
                found.append((name_of[source], name))
    return found


Convolution = bnn.BcosConv1d | bnn.BcosConv2d | bnn.BcosConv3d


def is_convolution(module: nn.Module) -> TypeGuard[Convolution]:
    """Whether `module` is a B-cos convolution."""
    return isinstance(module, Convolution)


def foldable(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether the norm is a factor for every filter of a convolution of degree 2."""
    return (
        is_convolution(conv)
        and type(norm) is bnn.BatchNorm
        and not isinstance(conv.b, nn.Parameter)
        and conv.b == 2
        and conv.max_out == 1
        and not norm.centered
        and norm.bias is None
    )


@torch.no_grad()
def fold_pair_(conv: Convolution, norm: bnn.BatchNorm) -> None:
    """Move the factor of the norm into the filters."""
    weight = conv.weight.double()
    scale = norm.running_scale().double()
    unit = unit_norm_weight(weight) if conv.unit_norm else weight
    factor = scale.sign() * scale.abs().sqrt()
    folded = unit * factor.reshape(-1, *[1] * (weight.dim() - 1))
    conv.weight = nn.Parameter(folded.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
    conv.unit_norm = False


def sample(conv: Convolution) -> torch.Tensor:
    """A small random input for a convolution, the same every time."""
    space = [d * (k - 1) + 2 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, conv.in_channels, *space, generator=generator)
    return x.to(conv.weight)
