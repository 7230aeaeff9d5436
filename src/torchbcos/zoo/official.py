"""Key maps between our state dicts and those of others, both ways.

The networks use the official module names. Two things differ: official B-cos layers keep their
weight in a sub-module `linear`, and some official networks stand in another module: a network names that prefix itself.
B-cosified checkpoints (Arya et al. 2024) keep the first and lack the second; of a DenseNet they number the children of each
`nn.Sequential`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.torch_private import plain_name
from torchbcos.models import Network

__all__ = ["from_official", "layouts", "renamed", "to_official", "without_wrappers"]

_T = TypeVar("_T")
_MOST_WRAPPERS = 8  # around one network
_BCOS_LAYERS = (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d, bnn.BcosLinear)


def _official_keys(model: Network) -> dict[str, str]:
    """Our key -> official key without its prefix, for every entry of the model's state dict."""
    layers = {name for name, m in model.named_modules() if isinstance(m, _BCOS_LAYERS)}
    keys = {}
    for key in model.state_dict():
        owner, _, leaf = key.rpartition(".")
        keys[key] = f"{owner}.linear.{leaf}" if owner in layers and leaf == "weight" else key
    return keys


def _places(model: nn.Module) -> Callable[[str], str]:
    """What turns a name of a tensor into that with numbers in place of the names of layers in a sequence."""
    numbers = {
        f"{path}.{name}" if path else name: str(i)
        for path, module in model.named_modules()
        if isinstance(module, nn.Sequential)
        for i, (name, _) in enumerate(module.named_children())
    }

    def numbered(key: str) -> str:
        words, path, found = key.split("."), "", []
        for word in words:
            path = f"{path}.{word}" if path else word
            found.append(numbers.get(path, word))
        return ".".join(found)

    return numbered


def layouts(model: Network) -> Iterator[dict[str, str]]:
    """Names that files of others give the tensors of a network, with ours for each: one table a layout.

    Our own names and official ones; of networks as B-cosification has them, those without a prefix, and with numbers. (Others do
    not take these: whoever gives such a file to the B-cos network of the same name means another one.)
    """
    keys = _official_keys(model)
    yield {key: key for key in keys}
    yield {model.official_prefix + theirs: key for key, theirs in keys.items()}
    if not model.head.style.unit_norm:
        numbered = _places(model)
        yield {theirs: key for key, theirs in keys.items()}
        yield {numbered(theirs): key for key, theirs in keys.items()}


def from_official(model: Network, state: Mapping[str, _T]) -> dict[str, _T]:
    """An official state dict (of tensors, or of what is known of them) under our keys; what is not ours keeps its name."""
    ours = {model.official_prefix + theirs: key for key, theirs in _official_keys(model).items()}
    return {ours.get(key, key): value for key, value in state.items()}


def to_official(model: Network) -> dict[str, Tensor]:
    """Our weights under official keys: what the official package loads.

    >>> from torchbcos.models import build
    >>> list(to_official(build("cifar10_resnet20")))[0]
    'conv1.linear.weight'
    """
    keys = _official_keys(model)
    return {model.official_prefix + keys[key]: value for key, value in model.state_dict().items()}


# -- names of whatever file ------------------------------------------------------------------------------------------------


def renamed(model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, _T]) -> dict[str, _T]:
    """A state dict under the names of the network's own: those that it has, or those of others turned into ours."""
    if set(state) == set(own):
        return dict(state)
    if not isinstance(model, Network):
        return _without_prefix(without_wrappers(state, own), own)
    bare = without_wrappers(state)
    _, found = max((_as_ours(bare, ours) for ours in layouts(model)), key=lambda scored: scored[0])
    return found


def _as_ours(state: Mapping[str, _T], ours: Mapping[str, str]) -> tuple[int, dict[str, _T]]:
    """A state dict under our names, with or without a prefix, and how many of its names are such; the others stay as they are.

    >>> _as_ours({"net.a.linear.weight": 1, "net.b": 2, "net.c": 3}, {"a.linear.weight": "a.weight", "b": "b"})
    (2, {'a.weight': 1, 'b': 2, 'net.c': 3})
    """
    prefixes = Counter(name[:i] for name in state for i in _beginnings(name) if name[i:] in ours)
    prefix, score = prefixes.most_common(1)[0] if prefixes else ("", 0)
    names = {name: ours.get(name.removeprefix(prefix), name) if name.startswith(prefix) else name for name in state}
    return score, {names[name]: value for name, value in state.items()}


def _beginnings(name: str) -> list[int]:
    """Where the words of a dotted name begin."""
    return [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]


def _without_prefix(state: Mapping[str, _T], own: Mapping[str, Any]) -> dict[str, _T]:
    """A state dict without a prefix that all its names share, if the network's own names are what is left.

    >>> _without_prefix({"net.body.a": 1, "net.body.b": 2}, {"a": 0, "b": 0}), _without_prefix({"x.a": 1, "c": 2}, {"a": 0})
    ({'a': 1, 'b': 2}, {'x.a': 1, 'c': 2})
    """
    first = next(iter(own), "")
    for name in state:
        if first and name.endswith(f".{first}"):
            prefix = name.removesuffix(first)
            if {key.removeprefix(prefix) for key in state if key.startswith(prefix)} == set(own) and len(state) == len(own):
                return {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def without_wrappers(state: Mapping[str, _T], own: Mapping[str, Any] | None = None) -> dict[str, _T]:
    """A state dict without what `DataParallel`, `AveragedModel` and `torch.compile` put before every name.

    And without the "model" that wrappers for training put there, where the network's `own` names have none.

    >>> without_wrappers({"model.a": 1}, {"a": 0}), without_wrappers({"model.a": 1}, {"model.b": 0})
    ({'a': 1}, {'model.a': 1})
    >>> without_wrappers({"module._orig_mod.a": 1, "module._orig_mod.b": 2}), without_wrappers({"module.a": 1, "b": 2})
    ({'a': 1, 'b': 2}, {'module.a': 1, 'b': 2})
    """
    found = dict(state)
    outer = {"module"} if own is None or any(name.startswith("model.") for name in own) else {"module", "model"}
    for _ in range(_MOST_WRAPPERS):
        rest = {name: value for name, value in found.items() if name != "n_averaged"}  # which `AveragedModel` counts
        heads = {name.partition(".")[0] for name in rest}
        if len(heads) != 1 or not all(head in outer or (head and not plain_name(head)) for head in heads):
            break
        found = {name.partition(".")[2]: value for name, value in rest.items()}
    return found
