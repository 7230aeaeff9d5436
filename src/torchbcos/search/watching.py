"""Looking at what layers take and give, while a network runs in eval mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from torchbcos.zoo.probe import evaluating

__all__ = ["listening"]


@contextmanager
def listening(network: nn.Module, hears: Mapping[str, Callable[[Any, Tensor, Tensor], None]]) -> Iterator[None]:
    """In this block a network is in eval mode, and `hears[name](layer, input, output)` is called whenever that layer ran.

    >>> seen = []
    >>> with listening(net := nn.Sequential(nn.Identity()), {"0": lambda layer, x, y: seen.append(x)}):
    ...     _ = net(1)
    >>> seen
    [1]
    """
    handles = []
    for name, hear in hears.items():
        handles.append(network.get_submodule(name).register_forward_hook(_hook(hear)))
    try:
        with evaluating(network):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(hear: Callable[[Any, Tensor, Tensor], None]) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        hear(module, args[0], out)

    return hook
