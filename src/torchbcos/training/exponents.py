"""B that rises while a network trains: what it knows is kept while its layers grow more selective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from torchbcos.training.recipe import OptimisationSettings

__all__ = ["Exponents", "share_at"]


@dataclass(frozen=True)
class Exponents:
    """The exponents that layers have at the end.

    Attributes:
        final: path of each layer with a fixed B above 1, and its B.
    """

    final: Mapping[str, float]

    @classmethod
    def of(cls, network: nn.Module) -> Exponents:
        """Of a network as it was built.

        >>> from torchbcos import nn as bnn
        >>> Exponents.of(nn.Sequential(bnn.BcosLinear(2, 2), bnn.BcosLinear(2, 2, b=1), nn.ReLU())).final
        {'0': 2.0}
        """
        found = {path: getattr(module, "b", None) for path, module in network.named_modules()}
        return cls({path: float(b) for path, b in found.items() if isinstance(b, int | float) and b > 1})

    def give(self, network: nn.Module, share: float) -> None:
        """Give each layer `1 + share · (B - 1)`; of its B at the end, exactly that.

        >>> from torchbcos import nn as bnn
        >>> net = nn.Sequential(bnn.BcosLinear(2, 2))
        >>> Exponents.of(net).give(net, 0.25)
        >>> net[0].b
        1.25
        """
        modules = dict(network.named_modules())
        for path, b in self.final.items():
            module = modules[path]
            module.b = b if share >= 1 else 1 + share * (b - 1)  # type: ignore[assignment]


def share_at(step: int, per_epoch: int, recipe: OptimisationSettings) -> float:
    """The share of B - 1 that layers have at a step: from `b_start` on a line to 1 after `b_epochs`.

    >>> [share_at(s, 10, OptimisationSettings(b_start=0.5, b_epochs=2)) for s in (0, 10, 20, 30)]
    [0.5, 0.75, 1.0, 1.0]
    """
    if not recipe.b_epochs:
        return 1.0
    risen = min(1.0, step / (recipe.b_epochs * per_epoch))
    return recipe.b_start + (1 - recipe.b_start) * risen
