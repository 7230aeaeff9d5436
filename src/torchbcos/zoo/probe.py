"""A network run on one made-up input: how many classes it has, and whether it takes what it is given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError, InputError, shorten
from torchbcos._core.torch_private import eager
from torchbcos.pictures import Preprocess

__all__ = [
    "NO_INPUT", "check_channels", "check_logits", "differ", "evaluating", "first_convolution", "moved", "one_sentence",
    "outputs_of", "samples",
]  # fmt: skip

# sides that are tried where nobody says how large an input is: of old data sets, of most networks, and small ones
_SIDES = {1: (256, 64, 1024, 187, 16), 2: (32, 28, 64, 224, 8), 3: (16, 32, 64, 8)}
NO_INPUT = "that takes none of the inputs which were tried"
# of the largest output: two builds of a network may add in another order, in half precision with fewer digits
_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4}
_HALF = 3e-2
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d)


def moved(x: Tensor, network: nn.Module) -> Tensor:
    """An input on the device, and in the dtype, of a network's numbers; as it is where the network has none."""
    for number in (*network.parameters(), *network.buffers()):
        if number.is_floating_point():
            return x.to(device=number.device, dtype=number.dtype)
    return x


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A network in eval mode, without gradients and without a trace in torch's generator; then each module is as it was."""
    modes = [(module, module.training) for module in network.modules()]
    devices = sorted({p.device for p in network.parameters() if p.device.type == "cuda"}, key=str)
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        network.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def samples(prepare: Preprocess, sizes: Sequence[tuple[int, ...]] = ()) -> Iterator[Tensor]:
    """Encoded inputs (1, C, *S) as a network of this preprocessing gets them, of several sizes where it names none.

    Args:
        prepare: of the network.
        sizes: (*S) to begin with, where they are known.
    """
    generator = torch.Generator().manual_seed(0)
    own = [(prepare.crop, prepare.crop)] if prepare.crop is not None and prepare.axes == 2 else []
    usual = [] if own else [(side,) * prepare.axes for side in _SIDES[prepare.axes]]
    for size in dict.fromkeys([*sizes, *own, *usual]):
        yield prepare.encode(torch.rand(1, prepare.raw_channels, *size, generator=generator), dim=1)


def outputs_of(network: nn.Module, inputs: Iterator[Tensor]) -> tuple[Tensor, Tensor] | Exception:
    """The first input that a network takes, and what it gives for it; the error of the last where it takes none."""
    failure: Exception = InputError("There is no input.")
    with evaluating(network):
        for x in inputs:
            x = moved(x, network)
            try:
                return x, eager(network)(x)  # which does not compile
            except (BcosError, Exception) as error:  # of somebody's own forward: of any class
                failure = error
    return failure


def differ(network: nn.Module, other: nn.Module, inputs: Iterator[Tensor]) -> str | None:
    """In what two networks differ on an input that the first takes, as the end of a sentence; None where they do not.

    Args:
        network, other: with the same weights.
        inputs: are tried until the first takes one; `NO_INPUT` where it takes none.
    """
    found = outputs_of(network, inputs)
    if isinstance(found, Exception):
        return NO_INPUT
    x, wanted = found
    again = outputs_of(other.to(x.device), iter([x]))  # with buffers that are in no state dict
    if isinstance(again, Exception):
        return f"that fails: {shorten(' '.join(str(again).split()), 120).rstrip('.')}"
    outputs = again[1]
    if not isinstance(wanted, Tensor) or not isinstance(outputs, Tensor):
        return None if type(wanted) is type(outputs) else "whose outputs are of another type"
    size = float(wanted.float().abs().nan_to_num().amax().clamp_min(1e-30)) if wanted.numel() else 1.0
    bound = _TOLERANCES.get(wanted.dtype, _HALF) * size
    near = outputs.shape == wanted.shape and torch.allclose(outputs.float(), wanted.float(), rtol=0, atol=bound, equal_nan=True)
    return None if near else "whose outputs are others"


def check_logits(outputs: object, x: Tensor, classes: int | None = None) -> int:
    """The number of classes of a network's outputs.

    Raises:
        InputError: they are no logits (N, classes), or of another number of classes.

    >>> check_logits(torch.zeros(1, 3), torch.zeros(1, 6, 8, 8))
    3
    """
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(x) or outputs.shape[1] < 1:
        raise InputError(
            f"The network gives {shape} for an input of shape {tuple(x.shape)}, and a classifier needs ({len(x)}, classes)."
        )
    found = int(outputs.shape[1])
    if classes is not None and found != classes:
        raise InputError(f"The network gives {found} logits an input, and here are {classes} class names: one each is needed.")
    return found


def check_channels(network: nn.Module, prepare: Preprocess) -> None:
    """Refuse preprocessing that gives other channels, or axes, than the first convolution of a network takes.

    Raises:
        InputError: it does.
    """
    first = first_convolution(network)
    if first is None:
        return
    channels, axes, encodes = first
    given = prepare.channels * (2 if encodes else 1)
    if (given, prepare.axes) != (channels, axes):
        raise InputError(
            f"The network's first convolution takes {channels} channels and {axes} axes of space, and this preprocessing gives "
            f"{given} and {prepare.axes}: {prepare.raw_channels} channels under encoding={prepare.encoding!r}. Give preprocess="
            f"Preprocess(raw_channels=…, axes={axes}, encoding=…); encoding='add_inverse' doubles the channels."
        )


def first_convolution(network: nn.Module) -> tuple[int, int, bool] | None:
    """Channels and axes of space of a network's first convolution, and whether it encodes before that; None without any."""
    encodes = False
    for module in network.modules():
        if isinstance(module, bnn.AddInverse):
            encodes = True
        if isinstance(module, _CONVOLUTIONS):
            return module.in_channels, len(module.kernel_size), encodes
    return None


@contextlib.contextmanager
def one_sentence(x: Tensor) -> Iterator[None]:
    """What somebody's own forward raises about an input becomes one sentence.

    Raises:
        InputError: it raised.
    """
    try:
        yield
    except (BcosError, torch.OutOfMemoryError, MemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AssertionError, AttributeError) as error:
        if "memory" in str(error):
            raise
        said = shorten(" ".join(str(error).split()).rstrip("."), 200)
        raise InputError(
            f"The network does not take an input of shape {tuple(x.shape)}: {type(error).__name__}: {said}."
        ) from error
