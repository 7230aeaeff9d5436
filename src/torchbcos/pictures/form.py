"""What form the inputs of one classifier have: how many channels and axes of space, and what fits into that form.

Shapes: C channels, *S space: (L,) of a signal, (H, W) of a picture, (D, H, W) of a volume.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from torchbcos._core.errors import InputError

__all__ = ["Form"]

_KINDS = {1: "signal", 2: "picture", 3: "volume"}
_SPACE = {1: "L", 2: "H, W", 3: "D, H, W"}


@dataclass(frozen=True)
class Form:
    """Channels before the encoding, and axes of space.

    >>> Form(2, 1).words
    'signals of 2 channels, (2, L)'
    """

    channels: int
    axes: int

    @property
    def kind(self) -> str:
        """What one input is called: "signal", "picture" or "volume"."""
        return _KINDS[self.axes]

    @property
    def is_rgb(self) -> bool:
        """Whether inputs are colour pictures."""
        return self.channels == 3 and self.axes == 2

    @property
    def takes_pictures(self) -> bool:
        """Whether files and images of pictures are taken: colour by RGB networks, and any as grey by those of one channel."""
        return self.axes == 2 and self.channels in (1, 3)

    @property
    def takes_scans(self) -> bool:
        """Whether DICOM and NIfTI are: as volumes, or as pictures where pictures are taken."""
        return self.axes == 3 or self.takes_pictures

    @property
    def words(self) -> str:
        """What is taken, in words and as a shape."""
        space = _SPACE[self.axes]
        bare = f" or ({space}{',' if self.axes == 1 else ''})" if self.channels == 1 else ""
        bare = ", (H, W, 3) or (H, W)" if self.is_rgb else bare
        return f"{self.kind}s of {self.channels} channel{'s' * (self.channels > 1)}, ({self.channels}, {space}){bare}"

    def fit(self, numbers: Tensor, name: str) -> Tensor:
        """Numbers as (C, *S): a missing axis of one channel is added, and grey becomes RGB for networks of colour pictures.

        Raises:
            InputError: they fit neither in channels nor in axes; the message says what is taken.

        >>> import torch
        >>> Form(1, 3).fit(torch.rand(4, 5, 6), "image").shape
        torch.Size([1, 4, 5, 6])
        """
        grey = self.channels == 1 or self.is_rgb
        found = numbers[None] if grey and numbers.dim() == self.axes else numbers
        if self.is_rgb and found.dim() == 3 and found.shape[0] == 1:
            found = found.expand(3, -1, -1)
        if found.dim() != self.axes + 1 or found.shape[0] != self.channels:
            raise InputError(f"This classifier takes {self.words}: {name} has shape {tuple(numbers.shape)}.{self._help(numbers)}")
        return found

    def _help(self, numbers: Tensor) -> str:
        """The next step, where one can be told."""
        shape = tuple(numbers.shape)
        if len(shape) == self.axes + 1 and shape[-1] == self.channels and self.channels > 1:
            last = ", ".join(["-1", *map(str, range(self.axes))])
            return f" Channels come first: use torch.as_tensor(x).permute({last})."
        if len(shape) == 3 and self.takes_pictures and shape[-1] == 1:
            return " Channels come first: use x[..., 0]."
        if len(shape) == 3 and self.takes_pictures and shape[-1] == 4:
            return " For an alpha channel give PIL.Image.fromarray(x) of bytes."
        if len(shape) == self.axes + 1 and self.channels == 1:
            return f" Are these {shape[0]} {self.kind}s? Then give x[:, None], of shape {(shape[0], 1, *shape[1:])}."
        if len(shape) == self.axes + 1 and shape[0] == 2 * self.channels:
            return " Is it encoded already? Then give it to the network or to torchbcos.explain."
        if len(shape) == self.axes + 1 and shape[0] == 4 and self.is_rgb:
            return " Leave out its alpha channel: [:3]."
        return ""
