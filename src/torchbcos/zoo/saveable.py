"""What of a module a model folder can hold: the network inside its wrappers, and only if `load` builds the same one again."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.torch_private import OF_EVERY_MODULE, forward_hooks, original, plain_name
from torchbcos.models.blocks import StochasticDepth

__all__ = ["OWN_MAKER", "check_same", "state_of", "unwrapped"]

OWN_MAKER = "its builder"
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_TRAINING_ONLY = {"training", "sync", "momentum", "gradient_checkpointing"}  # change no number in eval mode
_OF_THE_CARD = {"architecture", "class_names", "facts", "bcosified", "pruned"}  # which the card takes along
_OWN_HOOKS = ("torchbcos.", "torch.nn.parallel.")  # watch, or move tensors, and are gone when what set them is done
_RANDOM = (StochasticDepth, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_KNOWN = ("torch.", "torchbcos.")  # modules whose settings all matter
_PLAIN_VALUES = (bool, int, float, str, tuple, type(None))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile(...)`, `DataParallel`, `DistributedDataParallel` and `AveragedModel`, in any order.

    Raises:
        InputError: a hook stands on one of them: it would be lost with it.

    >>> inner = nn.Linear(2, 2)
    >>> unwrapped(nn.DataParallel(AveragedModel(inner))).weight.equal(inner.weight)
    True
    """
    while True:
        inner = model.module if isinstance(model, _WRAPPERS) else original(model)
        if inner is model:
            return model
        _check_hooks(model, type(model).__name__)
        model = inner


def state_of(network: nn.Module) -> dict[str, Any]:
    """The state dict of a network, of compiled parts under the names that they have without being compiled."""
    return {plain_name(name): value for name, value in network.state_dict().items()}


def check_same(network: nn.Module, rebuilt: nn.Module, maker: str = "create_model") -> None:
    """Whether a network is, apart from its weights, what its card builds: otherwise it would come back as another one.

    Args:
        network: about to be saved.
        rebuilt: what its card builds ("meta" is enough).
        maker: what built it, for messages. Of a builder of somebody's own only the settings of our layers and of torch's are
            compared: its modules may count and remember what they like.

    Raises:
        InputError: a layer is missing, is another one, has other settings, or something else that changes what it gives.
    """
    refusal = functools.partial(_refusal, maker=maker)
    given, built = dict(_modules(network)), dict(_modules(rebuilt))
    for name in built:
        if name not in given:
            raise refusal(f"it lacks the layer {name!r} that its card says it has")
    for name, module in given.items():
        if name not in built:
            raise refusal(f"its layer {name or 'at the top'!r} ({type(module).__name__}) was added after it was created")
        if (difference := _difference(module, built[name], maker)) is not None:
            raise refusal(f"its layer {name!r} {difference}" if name else f"it {difference}")
    tensors, right = state_of(network), rebuilt.state_dict()
    for name in sorted(tensors.keys() ^ right.keys()):
        raise refusal(f"the tensor {name!r} {'was added to it' if name in tensors else 'is not there any more'}")
    for name, tensor in right.items():
        if not isinstance(tensors[name], Tensor):
            raise refusal(f"its state {name!r} is a {type(tensors[name]).__name__}, no tensor")
        if tensors[name].shape != tensor.shape:
            raise refusal(f"{name!r} has the shape {tuple(tensors[name].shape)}, and {maker} makes {tuple(tensor.shape)}")
    buffers, usual = ({plain_name(name) for name, _ in m.named_buffers(remove_duplicate=False)} for m in (network, rebuilt))
    for name in sorted(buffers ^ usual):
        raise refusal(f"the buffer {name!r} is in only one of the two, and in no state dict")
    for name, module in network.named_modules(remove_duplicate=False):
        _check_hooks(module, f"layer {plain_name(name)!r}" if plain_name(name) else type(module).__name__)
        if module.training and not network.training and _depends_on_mode(module):
            raise InputError(
                f"This network cannot be saved: it is in eval mode, but its layer {plain_name(name)!r} in training mode, so that "
                "load would give other numbers. Call its eval() or train() first."
            )


def _check_hooks(module: nn.Module, name: str) -> None:
    """Whether nobody's hook stands on the forward pass of a module: what it does there is in no file.

    Raises:
        InputError: there is one.
    """
    for hook in forward_hooks(module):
        function = hook.func if isinstance(hook, functools.partial) else hook
        made_by = getattr(function, "__module__", None) or ""
        if not made_by.startswith(_OWN_HOOKS):
            raise InputError(
                f"This network cannot be saved, because load would build another one: a forward hook stands on its {name} "
                f"({shorten(getattr(function, '__qualname__', type(function).__name__), 80)}), and hooks are in no file. "
                "Remove it first (remove() of what register_forward_hook or register_forward_pre_hook returned), or torch.save "
                "its state_dict()."
            )


def _depends_on_mode(module: nn.Module) -> bool:
    """Whether a layer gives other numbers in training mode."""
    return isinstance(module, _RANDOM) or any(name == "running_var" for name, _ in module.named_buffers(recurse=False))


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules(remove_duplicate=False):
        yield plain_name(name), original(module)


def _difference(module: nn.Module, built: nn.Module, maker: str) -> str | None:
    kind, wanted = type(module), type(built)
    if kind is not wanted and (kind.__module__, kind.__qualname__) != (wanted.__module__, wanted.__qualname__):  # reloaded: alike
        return f"is a {kind.__name__}, where {maker} makes a {wanted.__name__}"
    values, usual = vars(module), vars(built)
    if not kind.__module__.startswith(_KNOWN):
        changed = (key for key in values.keys() - usual.keys() - OF_EVERY_MODULE if callable(getattr(kind, key, None)))
        return next((f"has a {key} of its own, set after it was created" for key in changed), None)
    for key in values.keys() - usual.keys() - OF_EVERY_MODULE - _OF_THE_CARD:
        inherited = getattr(type(module), key, None)
        if callable(inherited):
            return f"has a {key} of its own, set after it was created"
        if isinstance(inherited, _PLAIN_VALUES) and inherited is not None and not _same(values[key], inherited):
            return f"has {key}={shorten(repr(values[key]), 60)}, where {maker} leaves {shorten(repr(inherited), 60)}"
    if isinstance(module, StochasticDepth):
        return None
    for key, right in usual.items():
        if not (isinstance(right, _PLAIN_VALUES) or dataclasses.is_dataclass(right)) or key in _OF_THE_CARD | OF_EVERY_MODULE:
            continue
        if key not in _TRAINING_ONLY and (key not in values or not _same(values[key], right)):
            return f"has {key}={shorten(repr(values.get(key)), 60)}, where {maker} sets {shorten(repr(right), 60)}"
    return None


def _same(value: Any, right: Any) -> bool:
    """Whether a value is another, also where it is a tensor or an array, of which Python would compare each number."""
    equal = value is right or value == right
    return getattr(equal, "shape", ()) == () and bool(equal)


def _refusal(reason: str, *, maker: str) -> InputError:
    advice = (
        "Give the options that it was built with, save(…, options={…}), or a builder that makes it as it is now: builder="
        "'package.module:function'." if maker == OWN_MAKER
        else "Save the network without wrappers and parametrisations (torch.nn.utils.parametrize.remove_parametrizations, "
        "prune.remove), or torch.save its state_dict()."
    )  # fmt: skip
    return InputError(f"This network cannot be saved, because load would build another one: {reason}. {advice}")
