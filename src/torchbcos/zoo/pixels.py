"""What an explanation of a picture belongs to: encoded input, or pixels where a network's input is normalised."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos.nn import Normalize
from torchbcos.pictures import Preprocess
from torchbcos.zoo.card import Card

__all__ = ["FromPixels", "normaliser", "photos_of", "to_explain", "transform_of"]

_FULL = (torch.float32, torch.float64)


def normaliser(prepare: Preprocess, network: nn.Module) -> Normalize | None:
    """The layer between pixels in [0, 1] and a network whose input is normalised; None for every other encoding.

    Of such a network W and its contributions belong to pixels, and what the subtracted mean gives is a constant by name.
    """
    if prepare.mean is None or prepare.std is None:
        return None
    kind = _dtype_of(network)
    return Normalize(prepare.mean, prepare.std, dtype=None if kind in _FULL else kind)


class FromPixels(nn.Module):
    """A network and the normalisation before it as one network of pixels, whose constants keep their names.

    Args:
        preprocess: see `normaliser`.
        network: what comes after it.
    """

    def __init__(self, preprocess: Normalize, network: nn.Module) -> None:
        super().__init__()
        self.preprocess, self.network = preprocess, network

    def forward(self, x: Tensor) -> Tensor:
        """Logits of pixels (N, C, *S) in [0, 1]."""
        outputs: Tensor = self.network(self.preprocess(x))
        return outputs

    @staticmethod
    def plain(names: Iterable[str]) -> tuple[str, ...]:
        """Names of constants as `Classifier.explain` has them: those of the network without its place here."""
        return tuple(name.removeprefix("network.") for name in names)


def transform_of(card: Card, values: dict[str, Any]) -> Preprocess:
    """The preprocessing that a card says; one from before cards named channels has those of its network."""
    found = Preprocess.from_dict(values)
    if "raw_channels" in values or found.channels == card.in_channels or found.encoding == "normalize":
        return found
    raw, odd = divmod(card.in_channels, 2) if found.encoding == "add_inverse" else (card.in_channels, 0)
    return found if odd else dataclasses.replace(found, raw_channels=raw)


def to_explain(pixels: Tensor, network: nn.Module) -> Tensor:
    """Pixels on a network's device; in its dtype, but never in one of half precision, which cannot hold a byte's steps."""
    device = next((t.device for t in (*network.parameters(), *network.buffers())), pixels.device)
    kind = _dtype_of(network)
    return pixels.to(device=device, dtype=kind if kind in _FULL else torch.float32)


def photos_of(inputs: Tensor) -> Tensor:
    """Explained pixels (N, C, *S) as they are drawn."""
    return inputs.detach().float().clamp(0, 1)


def _dtype_of(network: nn.Module) -> torch.dtype:
    numbers = (t.dtype for t in (*network.parameters(), *network.buffers()) if t.is_floating_point())
    return next(numbers, torch.float32)
