from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.pages import read_page
from torchbcos.rendering import page_pictures
from torchbcos.rendering.page_pictures import Shot, data_uri, strip


def opened(uri: str) -> Image.Image:
    head, _, data = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:image/{(image.format or '').lower()}"
    return image


def test_the_shortest_kind_is_taken() -> None:
    flat, noise = np.full((64, 64, 3), 200, np.uint8), np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert len(data_uri(noise)) > 10 * len(data_uri(flat))
    assert opened(data_uri(noise)).format in ("WEBP", "JPEG")
    checkers = np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((2, 2)))[..., None].repeat(3, -1)
    assert opened(data_uri(checkers)).format == "PNG"


def test_without_webp_there_is_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_pictures.features, "check", lambda _: False)
    assert opened(data_uri(np.random.default_rng(0).random((64, 64, 3)))).format == "JPEG"


def test_large_pictures_are_made_smaller_and_clear_ones_stand_on_white() -> None:
    assert opened(data_uri(np.zeros((700, 1400, 3)))).size == (512, 256)
    clear = opened(data_uri(np.zeros((8, 8, 4)))).convert("RGB")
    assert clear.getpixel((4, 4)) == (255, 255, 255)
    assert opened(data_uri(Image.new("LA", (4, 4), (0, 0)))).convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_what_a_camera_wrote_stays_at_home() -> None:
    image = Image.new("RGB", (64, 64))
    image.info |= {"icc_profile": b"secret" * 99, "comment": b"secret"}
    assert b"secret" not in base64.b64decode(data_uri(image).partition(",")[2])


def test_a_thumbnail_is_a_button_with_words() -> None:
    shots = [Shot([np.zeros((4, 4, 3)), np.ones((4, 4, 4))], "dog <1>", {"value": 0.5}, ["picture", "map"])]
    html = strip(shots)
    reader = read_page(html)
    assert reader.faults == [] and reader.open == []
    assert [given["alt"] for tag, given in reader.elements if tag == "img"] == ["picture: dog <1>", "map: dog <1>"]
    assert 'aria-haspopup="dialog" aria-label="dog &lt;1&gt;"' in html and "<template><table" in html
