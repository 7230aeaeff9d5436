"""A converted network as a program beside its weights, which opens where the library that built it is not installed.

It is recorded while factors are held (`frozen`): it gives the network's output, and what is held is cut in its graph, so that
`explain` finds the same linear map in it as in the network.
"""

from __future__ import annotations

import copy
import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from torchbcos._core.errors import BcosError, StateError, WeightsError, shorten
from torchbcos._core.frozen import frozen
from torchbcos._core.names import quote
from torchbcos.deployment import deploy, is_deployed
from torchbcos.explanation import explain
from torchbcos.pictures import Preprocess
from torchbcos.zoo.card import Card
from torchbcos.zoo.program import Program, open_program
from torchbcos.zoo.store import hash_file

__all__ = ["PROGRAM", "digest_of", "is_self_contained", "open_recorded", "record_program"]

PROGRAM = "program.pt2"
_TOLERANCE = 1e-4  # of the largest number
_OWN = ("torch.nn.", "torchbcos.")
_MOST = 2**20  # inputs at a time


def is_self_contained(network: nn.Module) -> bool:
    """Whether all layers of a network are this library's and torch's: only what calls them may be somebody else's.

    >>> is_self_contained(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    True
    """
    return all(type(module).__module__.startswith(_OWN) for module in network.modules() if not any(module.children()))


def record_program(network: nn.Module, card: Card) -> bytes:
    """A network as `torch.export.save` writes it, for any number of pictures of the size that its card says.

    Args:
        network: converted, in any mode; it is left as it is.
        card: of it.

    Raises:
        StateError: it cannot be recorded, its card does not say how large its inputs are, or the program explains otherwise.
    """
    prepare = None if card.preprocess is None else Preprocess.from_dict(dict(card.preprocess))
    if prepare is None or prepare.crop is None or prepare.axes != 2:
        raise StateError(
            "A program takes pictures of one size, and the card of this network does not say which (preprocess.crop)."
        )
    twin = (copy.deepcopy(network) if is_deployed(network) else deploy(network)).to("cpu", torch.float32)
    for tensor in (*twin.parameters(), *twin.buffers()):  # each whole and in memory of its own, as torch writes it without a word
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)
    x = prepare.encode(torch.rand(2, prepare.raw_channels, prepare.crop, prepare.crop, generator=generator), dim=1)
    program = _recorded(twin, x)
    _check(program, twin, x)
    written = io.BytesIO()
    torch.export.save(program, written)
    return written.getvalue()


def _recorded(twin: nn.Module, x: Tensor) -> ExportedProgram:
    """The program, for any number of inputs.

    Raises:
        StateError: torch cannot record it.
    """
    try:
        with frozen():
            return torch.export.export(twin, (x,), dynamic_shapes=({0: Dim("N", min=1, max=_MOST)},))
    except BcosError:
        raise
    except Exception as error:  # of any class: torch's recorders agree on none
        said = shorten(" ".join(str(error).split()), 200)
        raise StateError(f"{type(twin).__name__} cannot be recorded as a program for any number of pictures: {said}") from error


def _check(program: ExportedProgram, twin: nn.Module, x: Tensor) -> None:
    """Whether a program explains as the network does.

    Raises:
        StateError: it does not, or cannot be explained.
    """
    wanted, found = explain(twin, x, products="half"), explain(program.module(), x, products="half")
    for a, b in ((wanted.values, found.values), (wanted.weights, found.weights)):
        if a.shape != b.shape or bool((a - b).abs().max() > _TOLERANCE * a.abs().max()):
            raise StateError(
                f"The program of this {type(twin).__name__} explains otherwise than the network: report this, please."
            )


def digest_of(program: bytes) -> str:
    """The SHA-256 of a program, as a card says it."""
    return hashlib.sha256(program).hexdigest()


def open_recorded(folder: Path, card: Card, device: torch.device) -> nn.Module:
    """The program that lies beside weights, as a network; it runs when it is called.

    Args:
        folder: of the weights.
        card: of them.
        device: where it runs.

    Raises:
        MissingFileError: there is none.
        WeightsError: it is not the one that was written with this card.
        InputError: it is no program, or holds what would run when it is opened.
    """
    path = folder / PROGRAM
    program = open_program(path, "program")
    if card.program is None or hash_file(path) != card.program:
        raise WeightsError(f"{quote(path)} is not the program that was written with this card: save the model again.")
    return Program(program, str(path), device).eval()
