"""What a library of networks offers here: its networks by name, fresh, with what its own weights are and where they lie.

A network of "timm:NAME" or "torchvision:NAME" is code of an installed library that a person named; a name from a card is looked
up in the library's own list before anything is built, and no argument of a card reaches a builder but the few of `options`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from torchbcos._core.errors import InputError, WeightsError, shorten
from torchbcos._core.letters import printable
from torchbcos._core.names import hint, quote
from torchbcos.pictures import Preprocess

__all__ = ["Facts", "Library", "give_a_file", "squared"]


@dataclass(frozen=True)
class Facts:
    """What a library says of a network and its weights.

    Attributes:
        classes: how many it was trained for; 0: it returns features.
        names: of the classes; None: nobody says.
        preprocess: how pictures become its input.
        card: further fields of a card: licence, accuracy.
    """

    classes: int
    names: tuple[str, ...] | str | None
    preprocess: Preprocess
    card: Mapping[str, Any] = field(default_factory=dict)


class Library(abc.ABC):
    """An installed library of networks.

    Attributes:
        name: of its package, and of its sources: "timm:resnet18".
        options: which arguments a card may hold for its builder, and their type.
    """

    name: str
    options: ClassVar[Mapping[str, type]] = {}

    @property
    def version(self) -> str:
        """The release that is installed."""
        return metadata.version(self.name)

    def check(self, network: str) -> None:
        """Whether there is a network of that name.

        Raises:
            InputError: there is none.
            MissingPackageError: the library is not installed.
        """
        known = self.names()
        if network not in known:
            word = shorten(printable(network), 80)
            raise InputError(
                f"{self.name} {self.version} has no classifier {quote(word)}.{hint(word, known)} All names: {self.lists}."
            )

    @property
    @abc.abstractmethod
    def lists(self) -> str:
        """What a person calls to see all names."""

    @abc.abstractmethod
    def names(self) -> Sequence[str]:
        """All networks that can be built."""

    @abc.abstractmethod
    def facts(self, network: str, file: Path | None = None) -> Facts:
        """What the library says of a network.

        Args:
            network: its name.
            file: of the weights; its name may say which of several it holds. None: the library's own.
        """

    @abc.abstractmethod
    def build(self, network: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
        """A fresh network, its numbers random."""

    @abc.abstractmethod
    def fetch(self, network: str) -> Path:
        """The file of the library's own weights, downloaded once.

        Raises:
            WeightsError: there are none, or the network is out of reach.
        """

    def options_for(self, network: str, tensors: Iterable[str]) -> dict[str, Any]:
        """With what a network is built to take tensors of these names, beside its number of classes; a card holds it."""
        return {}

    def converted(self, network: str, fresh: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """Weights in another format that the library knows, under this network's names; None where it knows none."""
        return None


def give_a_file(source: str, reason: str) -> WeightsError:
    """That a network has no weights here, and what to do."""
    return WeightsError(
        f"{source} has no weights here: {shorten(reason.rstrip('.'), 260)}. Give a file of them, load({source!r}, weights=FILE), "
        "on the command line --weights FILE; without, its answers would be random."
    )


def squared(source: str, size: Sequence[int]) -> int:
    """The side of the pictures (C, H, W) that a network takes.

    Raises:
        InputError: they are no squares in RGB.
    """
    channels, height, width = size
    if channels != 3 or height != width:
        raise InputError(
            f"{source} takes {channels} x {height} x {width} numbers, and preprocessing here gives squares in RGB: build it "
            "yourself and give torchbcos.Classifier(network, preprocess=…) what it takes."
        )
    return int(height)
