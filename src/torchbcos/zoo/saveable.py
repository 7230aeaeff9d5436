"""What of a module a model folder can hold: the network inside its wrappers, and only if `load` builds the same one again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.torch_private import original, plain_name
from torchbcos.models.blocks import StochasticDepth

__all__ = ["check_same", "state_of", "unwrapped"]

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_TRAINING_ONLY = {"training", "sync", "momentum", "gradient_checkpointing"}  # change no number in eval mode
_PLAIN_VALUES = (bool, int, float, str, tuple, type(None))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile(...)`, `DataParallel`, `DistributedDataParallel` and `AveragedModel`, in any order.

    >>> inner = nn.Linear(2, 2)
    >>> unwrapped(nn.DataParallel(AveragedModel(inner))).weight.equal(inner.weight)
    True
    """
    while True:
        inner = model.module if isinstance(model, _WRAPPERS) else original(model)
        if inner is model:
            return model
        model = inner


def state_of(network: nn.Module) -> dict[str, Any]:
    """The state dict of a network, of compiled parts under the names that they have without being compiled."""
    return {plain_name(name): value for name, value in network.state_dict().items()}


def check_same(network: nn.Module, rebuilt: nn.Module) -> None:
    """Whether a network is, apart from its weights, what its card builds: otherwise it would come back as another one.

    Args:
        network: about to be saved.
        rebuilt: what its card builds ("meta" is enough).

    Raises:
        InputError: a layer is missing, is another one, or has other settings.
    """
    given, built = dict(_modules(network)), dict(_modules(rebuilt))
    for name in built:
        if name not in given:
            raise _refusal(f"it lacks the layer {name!r} that its card says it has")
    for name, module in given.items():
        if name not in built:
            raise _refusal(f"its layer {name or 'at the top'!r} ({type(module).__name__}) was added after it was created")
        if (difference := _difference(module, built[name])) is not None:
            raise _refusal(f"its layer {name!r} {difference}" if name else f"it {difference}")
    tensors, right = state_of(network), rebuilt.state_dict()
    for name in sorted(tensors.keys() ^ right.keys()):
        raise _refusal(f"the tensor {name!r} {'was added to it' if name in tensors else 'is not there any more'}")
    for name, tensor in right.items():
        if tensors[name].shape != tensor.shape:
            raise _refusal(f"{name!r} has the shape {tuple(tensors[name].shape)}, and create_model makes {tuple(tensor.shape)}")


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules(remove_duplicate=False):
        yield plain_name(name), original(module)


def _difference(module: nn.Module, built: nn.Module) -> str | None:
    if type(module) is not type(built):
        return f"is a {type(module).__name__}, where create_model makes a {type(built).__name__}"
    values = vars(module)
    if "forward" in values:
        return "has a forward of its own, set after it was created"
    if isinstance(module, StochasticDepth):
        return None
    for key, right in vars(built).items():
        if isinstance(right, Tensor | nn.Module) or not isinstance(right, _PLAIN_VALUES) or key.startswith("_"):
            continue
        if key not in _TRAINING_ONLY and values.get(key) != right:
            return f"has {key}={shorten(repr(values.get(key)), 60)}, where create_model sets {shorten(repr(right), 60)}"
    return None


def _refusal(reason: str) -> InputError:
    return InputError(
        f"This network cannot be saved, because load would build another one: {reason}. Save the network without wrappers and "
        "parametrisations (torch.nn.utils.parametrize.remove_parametrizations, prune.remove), or torch.save its state_dict()."
    )
