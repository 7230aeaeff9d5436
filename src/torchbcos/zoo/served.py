"""A network with its explanation and its encoding, as one module: what an exported file computes.

Shapes: N images, C channels, *S space, K targets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos.explanation.graph import NAMES, ExplanationGraph
from torchbcos.pictures import Preprocess

__all__ = ["KINDS", "Served", "form_of"]


class Served(nn.Module):
    """Logits, targets, weights, contributions and constants, by name. `form` is the name of its input.

    Args:
        graph: prediction and explanation of encoded input.
        preprocess: its encoding; None where the input is encoded already.
        classes: those that are explained in each image; None: an input, or the highest.
    """

    form: str

    def __init__(self, graph: ExplanationGraph, preprocess: Preprocess | None, classes: tuple[int, ...] | None) -> None:
        super().__init__()
        self.recorded, self.encoding, self.fixed = graph, preprocess, classes is not None
        self.register_buffer("classes", torch.tensor(classes or (), dtype=torch.int64), persistent=False)

    def answer(self, given: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
        """The five outputs for an input in the form of this module."""
        x = self.encoded(given)
        if self.fixed:
            targets = self.get_buffer("classes").expand(x.shape[0], -1)
        return dict(zip(NAMES, self.recorded(x, targets), strict=True))

    def encoded(self, given: Tensor) -> Tensor:
        """The input as the network takes it, (N, C, *S)."""
        if self.encoding is None:
            return given
        return self.encoding.encode(self.as_numbers(given).contiguous(), 1)

    def as_numbers(self, given: Tensor) -> Tensor:
        """Numbers in [0, 1], (N, raw channels, *S)."""
        raise NotImplementedError

    def arguments(self, given: Tensor) -> dict[str, Tensor]:
        """The inputs by name, with targets where these are one: classes one after the other."""
        if not self.recorded.given or self.fixed:
            return {self.form: given}
        each = torch.arange(len(given) * self.recorded.top_k).reshape(len(given), -1)
        return {self.form: given, "targets": each % self.recorded.top_k}


class _Pictures(Served):
    """Bytes as Pillow and numpy have them: (N, H, W, 3), or (N, H, W) where pictures are grey."""

    form = "pictures"

    def forward(self, pictures: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        """Explain pictures."""
        return self.answer(pictures, targets)

    def as_numbers(self, given: Tensor) -> Tensor:
        """Channels first, divided by 255."""
        first = given.permute(0, 3, 1, 2) if given.dim() == 4 else given.unsqueeze(1)
        return first.to(torch.float32) / 255


class _Pixels(Served):
    """Numbers (N, raw channels, *S): in [0, 1], or as they are stored where a range belongs to the classifier."""

    form = "pixels"

    def forward(self, pixels: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        """Explain pixels, samples or voxels."""
        return self.answer(pixels, targets)

    def as_numbers(self, given: Tensor) -> Tensor:
        """Cut to the range and brought to [0, 1], as `Preprocess.read` does."""
        low, high = (self.encoding.value_range if self.encoding is not None else None) or (0.0, 1.0)
        return (given.clamp(low, high) - low) / (high - low)


class _Encoded(Served):
    """What the network itself takes, (N, C, *S)."""

    form = "x"

    def forward(self, x: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        """Explain encoded input."""
        return self.answer(x, targets)


KINDS: dict[str, type[Served]] = {kind.form: kind for kind in (_Pictures, _Pixels, _Encoded)}


def form_of(preprocess: Preprocess | None, preprocessing: object) -> str:
    """In which form inputs come: bytes of pictures wherever they are pictures in RGB or grey."""
    if preprocess is None or preprocessing is False:
        return "x"
    bytes_fit = preprocess.axes == 2 and preprocess.raw_channels in (1, 3) and preprocess.value_range is None
    return "pictures" if bytes_fit and preprocessing is True else "pixels"
