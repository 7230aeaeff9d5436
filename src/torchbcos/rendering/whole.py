"""The whole photo of a panel, with a frame around the part that the network saw."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from torchbcos._core.errors import InputError

__all__ = ["Whole"]

_FRAME = ("#ffffff", "#2b2f36")  # outside and inside: seen on dark and on bright photos
_MOST = 2560  # pixels of the longer side that are kept: the tile at the greatest scale


@dataclass(frozen=True)
class Whole:
    """A photo before it was resized and cropped.

    Args:
        photo: upright.
        size: its width and height before `kept` made it smaller.
        box: left, top, right and bottom of the part that was seen, in pixels of that size; None: no frame.
    """

    photo: Image.Image
    size: tuple[int, int]
    box: tuple[int, int, int, int] | None = None

    @classmethod
    def kept(cls, photo: Image.Image, box: tuple[int, int, int, int] | None = None) -> Whole:
        """A photo of any size, kept as large as a panel can show it.

        Raises:
            InputError: the box does not lie in the photo.

        >>> Whole.kept(Image.new("RGB", (6000, 100)), (0, 0, 100, 100)).photo.size
        (2560, 43)
        """
        width, height = photo.size
        if box is not None and not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
            raise InputError(
                f"What was seen, {tuple(box)} as left, top, right and bottom, does not lie in the original of {width} x {height} "
                "pixels: is it the same picture?"
            )
        small = photo.convert("RGB")
        if max(photo.size) > _MOST:
            small = small.resize([max(1, round(side * _MOST / max(photo.size))) for side in photo.size])
        return cls(small, photo.size, box)

    def drawn(self, room: tuple[int, int], scale: float) -> Image.Image:
        """The photo as large as it goes into that room, with its frame."""
        larger = min(most * scale / side for most, side in zip(room, self.size, strict=True))
        size = [max(8, round(side * larger)) for side in self.size]
        picture = self.photo.resize((size[0], size[1]), Image.Resampling.LANCZOS)
        if self.box is not None and self.box != (0, 0, *self.size):
            draw, thick = ImageDraw.Draw(picture), max(1, round(scale))
            left, top, right, bottom = (round(v * size[i % 2] / self.size[i % 2]) for i, v in enumerate(self.box))
            for i, colour in enumerate((*_FRAME, _FRAME[0])):
                inside = i * thick
                box = (
                    left + inside,
                    top + inside,
                    max(right - 1 - inside, left + inside),
                    max(bottom - 1 - inside, top + inside),
                )
                draw.rectangle(box, outline=colour, width=thick)
        return picture
