"""A family of networks: its class, the sizes by name, and what tells the names apart, as data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torchbcos.models.blocks import Style
from torchbcos.models.network import Network

__all__ = ["Family"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of networks.

    Attributes:
        network: the class; its arguments are the options.
        build: makes a network from sizes, a style and options; its arguments are options, too.
        sizes: name -> sizes.
        styles: the B-cos style of each name; the default style where it is not listed.
        classes: number of classes of each name; 1000 where it is not listed.
        activation: of the plain twins.
        plain_names: name -> the name under which its plain twin is listed as a network of its own.
    """

    network: type[Network]
    build: Callable[..., Network]
    sizes: Mapping[str, Any]
    styles: Mapping[str, Style] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    activation: str = "relu"
    plain_names: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The names of its networks."""
        return [*self.sizes, *self.plain_names.values()]

    def bare(self, name: str) -> str:
        """The name in its tables of one that may be that of a plain twin."""
        return next((own for own, plain in self.plain_names.items() if plain == name), name)

    def options(self) -> set[str]:
        """Arguments of its networks that a caller may set."""
        found = set(inspect.signature(self.network.__init__).parameters) | set(inspect.signature(self.build).parameters)
        return found - {"self", "sizes", "style", "options", "num_classes", "in_channels"}
