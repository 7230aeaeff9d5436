"""The libraries whose networks have a name here, and what a card says of one."""

from __future__ import annotations

import torch
from torch import nn

from torchbcos._core.errors import WeightsError
from torchbcos.zoo.card import Card
from torchbcos.zoo.from_timm import Timm
from torchbcos.zoo.from_torchvision import Torchvision
from torchbcos.zoo.library import Library

__all__ = ["LIBRARIES", "build_named", "library_of"]

LIBRARIES: dict[str, Library] = {library.name: library for library in (Timm(), Torchvision())}


def library_of(architecture: str) -> tuple[Library, str] | None:
    """The library of "timm:resnet18" and the network's name in it; None where an architecture is no such name.

    >>> library_of("timm:resnet18")[1], library_of("resnet18")
    ('resnet18', None)
    """
    name, colon, network = architecture.partition(":")
    return (LIBRARIES[name], network) if colon and name in LIBRARIES else None


def build_named(card: Card) -> nn.Module | None:
    """The network that a card names in a library, its numbers random; None where it names none.

    Raises:
        InputError: the installed library has no such network.
        MissingPackageError: the library is not installed.
        WeightsError: the card gives the network something else than it takes.
    """
    found = library_of(card.architecture)
    if found is None:
        return None
    library, network = found
    library.check(network)
    for name, value in card.options.items():  # of a stranger's card, and arguments of code
        if not isinstance(value, library.options.get(name, ())):
            raise WeightsError(f"The card of {card.name!r} gives {card.architecture} an option {name!r}, which it does not take.")
    with torch.random.fork_rng(devices=[]):
        return library.build(network, card.num_classes, card.options)
