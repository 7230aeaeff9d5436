"""What of a network may be cut: channels that one layer makes and others read, with nothing between that mixes them.

A network is followed by `torch.fx`. Where it cannot be, only neighbours in a `torch.nn.Sequential` are known. Whatever is added
to, put beside or multiplied with something else (a residual stream, dense connections, gates) is left alone, and said by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import shorten
from torchbcos.nn.layer import Layer, run_layer

__all__ = ["Group", "find_groups"]

_CONVOLUTIONS = (nn.Conv2d, bnn.BcosConv2d)
_LINEARS = (nn.Linear, bnn.BcosLinear)
# each output channel is made of the same input channel alone
_CHANNELWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.Sigmoid, nn.Tanh,
    nn.Softplus, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d, bnn.LowPass, bnn.Folded, bnn.GELU, bnn.ReLU,
    bnn.Hardswish,
)  # fmt: skip
_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d, bnn.BatchNorm)
_FUNCTIONS = {
    F.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardswish, F.mish, F.dropout, F.max_pool2d, F.avg_pool2d, torch.relu,
    torch.sigmoid, torch.tanh, F.hardtanh,
}  # fmt: skip
_MAPS_ONLY = (nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d, bnn.LowPass)  # their channels are the second axis
_KNOWN = {nn.Conv2d, nn.Linear, bnn.Conv2d, bnn.Linear, bnn.BcosConv2d, bnn.BcosLinear}
_FUNCTIONS_OF_MAPS = {F.max_pool2d, F.avg_pool2d}
_METHODS = {"contiguous", "relu", "sigmoid", "tanh", "clone"}


@dataclass(frozen=True)
class Group:
    """Channels, or heads, that can go together.

    Attributes:
        name: the layer that makes them; of heads, the attention.
        size: how many there are.
        between: norms and depthwise convolutions on the way, which lose the same channels.
        readers: layers that read them; of heads, the output layer of the attention.
        heads: they are heads.
    """

    name: str
    size: int
    between: tuple[str, ...]
    readers: tuple[str, ...]
    heads: bool = False


class _Tracer(fx.Tracer):
    """Layers of this library are one step each, but for those that only hold others."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Layer | bnn.Linear | bnn.Conv2d) or super().is_leaf_module(m, module_qualified_name)


def find_groups(network: nn.Module) -> tuple[list[Group], dict[str, str]]:
    """What may be cut, in the order in which it is computed, and why other layers may not, by name.

    >>> groups, left = find_groups(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)))
    >>> [(group.name, group.size, group.readers) for group in groups]
    [('0', 8, ('2',))]
    >>> left
    {'2': 'its channels leave the network'}
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    found, left, calls, read = _traced(network, modules)
    seen = {id(modules[name]) for name in calls}  # of these the graph says more than a sequence
    for path, module in modules.items():
        if type(module) is nn.Sequential:
            found += [group for group in _neighbours(path, module) if id(modules[group.name]) not in seen]
        if isinstance(module, bnn.Attention):
            found += _heads(path, module, left)
    shared = _shared(modules) | read
    order = {path: i for i, path in enumerate(modules)}
    kept = []
    for group in sorted(found, key=lambda one: (_place(one.name, calls), order[one.name])):
        again = [name for name in (group.name, *group.between, *group.readers) if name in shared]
        if again:
            why = "has weights that others read" if again[0] in read else "stands at several places"
            left[group.name] = f"{again[0]!r} {why}"
        else:
            kept.append(group)
    known = {group.name for group in kept}
    return kept, {name: why for name, why in left.items() if name not in known}


def _shared(modules: dict[str, nn.Module]) -> set[str]:
    """Layers with parameters that another name has, too: the layer, or one of its parameters."""
    owners: Counter[int] = Counter()
    for module in modules.values():
        owners.update({id(parameter) for parameter in module.parameters(recurse=False)})
    return {name for name, module in modules.items() if any(owners[id(p)] > 1 for p in module.parameters(recurse=False))}


def _place(name: str, calls: Counter[str]) -> int:
    """Where in the graph a layer, or what it stands in, is called first."""
    order = {called: i for i, called in enumerate(calls)}
    parts = name.split(".")
    paths = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((order[path] for path in paths if path in order), len(order))


def _traced(network: nn.Module, modules: dict[str, nn.Module]) -> tuple[list[Group], dict[str, str], Counter[str], set[str]]:
    """Groups along the graph, why other layers are left, how often each is called, in order, and whose weights others read."""
    found: list[Group] = []
    left: dict[str, str] = {}
    try:
        graph = _Tracer().trace(network)
    except Exception as error:  # whatever a stranger's forward does while it is followed
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        left[""] = f"torch.fx cannot follow the network: {shorten(reason, 120)}"
        return found, left, Counter(), set()
    calls = Counter(name for node in graph.nodes if (name := _called(node)) is not None)
    for node in graph.nodes:
        name = _called(node)
        if name is None or not isinstance(modules[name], _CONVOLUTIONS + _LINEARS) or _depthwise(modules[name]):
            continue
        if calls[name] > 1:
            left[name] = "it is called several times"
            continue
        between: list[str] = []
        readers: list[str] = []
        why = _follow(node, modules, calls, modules[name], between, readers)
        if why is None and type(modules[name]) not in _KNOWN:
            why = f"a {type(modules[name]).__name__} is a layer of somebody's own"
        if why is None and getattr(modules[name], "groups", 1) > 1:
            why = "it is a convolution in groups"
        if why is None and readers:
            found.append(Group(name, _outputs(modules[name]), tuple(dict.fromkeys(between)), tuple(dict.fromkeys(readers))))
        else:
            left[name] = why or "nobody reads its channels"
    attributes = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    read = {path.rpartition(".")[0] for path in attributes if path not in modules}
    return found, left, calls, read


def _follow(
    node: fx.Node, modules: dict[str, nn.Module], calls: Counter[str], maker: nn.Module, between: list[str], readers: list[str]
) -> str | None:  # fmt: skip
    """Where the channels of a node go: what reads them, or why they cannot be cut."""
    for user in node.users:
        name = _called(user)
        module = modules.get(name) if name is not None else None
        if name is not None and calls[name] > 1 and not isinstance(module, _CHANNELWISE):
            return f"{name!r} is called several times"
        tokens = isinstance(maker, _LINEARS)
        if isinstance(module, _CONVOLUTIONS + _LINEARS) and not _depthwise(module):
            if isinstance(module, _LINEARS) != tokens:
                return f"{name!r} reads its channels along another axis"
            if type(module) not in _KNOWN:
                return f"{name!r}, a {type(module).__name__}, is a layer of somebody's own"
            if getattr(module, "groups", 1) > 1:
                return f"{name!r} is a convolution in groups"
            readers.append(str(name))
            continue
        if module is not None and _carries(module, maker):
            between.append(str(name))
        elif not (
            (isinstance(module, _CHANNELWISE) and not (tokens and isinstance(module, _MAPS_ONLY)))
            or (user.op == "call_function" and user.target in (_FUNCTIONS - _FUNCTIONS_OF_MAPS if tokens else _FUNCTIONS))
            or (user.op == "call_method" and user.target in _METHODS)
        ):
            return _reason(user, module)
        if (why := _follow(user, modules, calls, maker, between, readers)) is not None:
            return why
    return None if node.users else "its channels lead nowhere"


def _reason(user: fx.Node, module: nn.Module | None) -> str:
    """Why channels that go into a step cannot be cut."""
    if user.op == "output":
        return "its channels leave the network"
    if module is not None:
        return f"a {type(module).__name__} reads its channels"
    name = user.target if isinstance(user.target, str) else getattr(user.target, "__name__", repr(user.target))
    if name in ("add", "iadd"):
        return "its channels are added to others (a residual stream)"
    return f"its channels go into {shorten(name, 40)}"


def _called(node: fx.Node) -> str | None:
    """The module that a node calls."""
    if node.op == "call_module":
        return str(node.target)
    if node.op == "call_function" and node.target is run_layer and isinstance(node.args[0], fx.Node):
        return str(node.args[0].target)
    return None


def _carries(module: nn.Module, maker: nn.Module) -> bool:
    """Whether a norm or a depthwise convolution takes the channels that a layer makes, one by one."""
    if isinstance(module, _NORMS):
        return module.num_features == _outputs(maker)
    return _depthwise(module) and not isinstance(maker, _LINEARS)


def _depthwise(module: nn.Module) -> bool:
    return isinstance(module, _CONVOLUTIONS) and module.groups == module.in_channels == module.out_channels > 1


def _outputs(module: nn.Module) -> int:
    size = module.out_features if isinstance(module, _LINEARS) else module.out_channels
    return int(size)  # type: ignore[arg-type]


def _neighbours(path: str, module: nn.Sequential) -> Iterator[Group]:
    """Groups inside a sequence: a layer, what leaves channels apart, and the layer that reads them."""
    children = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
    for i, (name, maker) in enumerate(children):
        if type(maker) not in _KNOWN or getattr(maker, "groups", 1) > 1:
            continue
        tokens = isinstance(maker, _LINEARS)
        between = []
        for other, layer in children[i + 1 :]:
            if _carries(layer, maker):
                between.append(other)
            elif isinstance(layer, _CONVOLUTIONS + _LINEARS):
                alike = isinstance(layer, _LINEARS) == tokens and getattr(layer, "groups", 1) == 1 and type(layer) in _KNOWN
                if alike:
                    yield Group(name, _outputs(maker), tuple(between), (other,))
                break
            elif not isinstance(layer, _CHANNELWISE) or (tokens and isinstance(layer, _MAPS_ONLY)):
                break


def _heads(path: str, module: bnn.Attention, left: dict[str, str]) -> list[Group]:
    """The heads of attention."""
    inner = (module.to_qkv, module.to_out)
    if type(module) is not bnn.Attention or not all(isinstance(layer, _LINEARS) for layer in inner):
        left[path] = f"the heads of a {type(module).__name__} have tables of their own"
        return []
    prefix = f"{path}." if path else ""
    return [Group(path, module.heads, (), (f"{prefix}to_out",), heads=True)] if module.heads > 1 else []
