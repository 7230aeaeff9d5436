"""Where an explanation came from: the network, for as long as it lives, and how it was asked."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from torch import nn

from torchbcos._core.errors import StateError
from torchbcos._core.fingerprint import fingerprint, stamp_of

__all__ = ["Origin"]


class Origin:
    """The network of an explanation, without keeping it alive.

    Args:
        model: the network.
        options: how it was asked, beyond targets and contrast: "products", "output".

    Attributes:
        card: what a classifier knows of its weights (`torchbcos.Card`); None: there is no card.
        options: as given.
    """

    def __init__(self, model: nn.Module, options: Mapping[str, Any], card: Any = None) -> None:
        self._model, self._stamp = weakref.ref(model), stamp_of(model)
        self.options, self.card = dict(options), card

    def with_card(self, card: Any) -> Origin:
        """The same, with a card."""
        found = object.__new__(Origin)
        found.__dict__.update(self.__dict__, card=card)
        return found

    def weights(self) -> tuple[str, int]:
        """The fingerprint of the weights that explained, and how many they are.

        Raises:
            StateError: the network is gone, or was changed since.
        """
        model = self._model()
        if model is None:
            raise StateError("The network of this explanation is gone: prove while it is there, right after explaining.")
        if stamp_of(model) != self._stamp:
            raise StateError("The weights were changed since this was explained: explain again, and prove at once.")
        return fingerprint(model), sum(p.numel() for p in model.parameters())

    def __reduce__(self) -> tuple[Any, ...]:
        return _gone, ()  # a copy elsewhere has the numbers, and no network

    def __deepcopy__(self, memo: Any) -> Origin:
        return self


def _gone() -> None:
    return None
