"""Pictures inside a page: small ones side by side, each opens a panel."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from torchbcos.rendering.files import to_uint8
from torchbcos.rendering.markup import Html, element
from torchbcos.rendering.page import facts

__all__ = ["Shot", "data_uri", "link", "strip", "thumbnail"]

_LARGEST = 512  # pixels of a side: a page is read on a screen, and sent by post
_QUALITY = 85


@dataclass(frozen=True)
class Shot:
    """One or more pictures that belong together: a photo and its map.

    Attributes:
        pictures: PIL images, or arrays (H, W), (H, W, 3) or (H, W, 4), integers up to 255 or numbers in [0, 1].
        caption: below them, and above the panel.
        facts: in the panel, a name and a value a row.
        names: what each picture is, for those who do not see it.
        place: by which `link` finds it.
    """

    pictures: Sequence[Image.Image | NDArray[Any]]
    caption: str
    facts: dict[str, object]
    names: Sequence[str] = ()
    place: str = ""


def strip(shots: Iterable[Shot | Html]) -> Html:
    """Thumbnails in a row that wraps; a click or the Enter key opens the panel, arrow keys go to the next.

    Args:
        shots: or what `thumbnail` made of them, which holds no pictures as numbers.

    >>> strip([Shot([Image.new("RGB", (4, 4))], "black", {"value": 0.5})])[:37]
    '<ul class="strip"><li><button type="b'
    """
    items = (shot if isinstance(shot, Html) else thumbnail(shot) for shot in shots)
    return element("ul", *items, attributes={"class": "strip"})


def link(words: str, place: str) -> Html:
    """Words that open the panel of the shot at this place; in a table whose rows have one, it sorts and filters the strip, too.

    >>> link("bus.jpg", "p1")
    '<a href="#p1">bus.jpg</a>'
    """
    return element("a", words, attributes={"href": f"#{place}"})


def thumbnail(shot: Shot, *, largest: int = _LARGEST, quality: int = _QUALITY) -> Html:
    """One of a strip.

    Args:
        shot: what it shows.
        largest: pixels of a side; quality: of JPEG and WebP, up to 100.
    """
    names = [*shot.names, *[f"picture {i + 1}" for i in range(len(shot.names), len(shot.pictures))]]
    images = [
        _image(picture, f"{name}: {shot.caption}", largest, quality) for picture, name in zip(shot.pictures, names, strict=True)
    ]
    button = element("button", *images, attributes={"type": "button", "aria-haspopup": "dialog", "aria-label": shot.caption})
    more = element("template", facts(shot.facts)) if shot.facts else ""
    about = {"id": shot.place} if shot.place else {}
    return element("li", button, element("p", shot.caption), more, attributes={**about})


def _image(picture: Image.Image | NDArray[Any], words: str, largest: int, quality: int) -> Html:
    image = _flat(picture, largest)
    when = {"width": str(image.width), "height": str(image.height), "alt": words, "loading": "lazy", "decoding": "async"}
    return element("img", attributes={"src": data_uri(image, quality=quality), **when})


def data_uri(picture: Image.Image | NDArray[Any], *, quality: int = _QUALITY) -> str:
    """A picture as an address that holds it: as PNG, WebP or JPEG, whichever is shortest.

    Args:
        picture: a PIL image or an array, as in `Shot`; sides above 512 pixels are made smaller, what is clear becomes white.
        quality: of JPEG and WebP, up to 100.

    >>> data_uri(Image.new("RGB", (8, 8), "white"))[:11]
    'data:image/'
    """
    image = _flat(picture, _LARGEST)
    kinds: dict[str, dict[str, Any]] = {"PNG": {"optimize": True}, "JPEG": {"quality": quality, "optimize": True}}
    if features.check("webp"):
        kinds = {"PNG": kinds["PNG"], "WEBP": {"quality": quality, "method": 4}}
    found: list[tuple[bytes, str]] = []
    for kind, settings in kinds.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **settings)
        found.append((buffer.getvalue(), kind.lower()))
    data, kind = min(found, key=lambda pair: len(pair[0]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _flat(picture: Image.Image | NDArray[Any], largest: int) -> Image.Image:
    """In RGB on white, no side too long."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(to_uint8(picture))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = Image.fromarray(np.asarray(image.convert("RGB")))  # the pixels alone: no profile, comment or place of a camera
    image.thumbnail((largest, largest))
    return image
