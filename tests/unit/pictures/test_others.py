"""What lies where a picture should be is called by its name."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from torchbcos import pictures
from torchbcos._core.errors import InputError
from torchbcos.pictures.others import name_other

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a2146" * 8 + b"\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (LFS, "a Git LFS pointer, not the picture itself (fetch it: git lfs pull)"),
        (b"/annex/objects/SHA256E-s31390--f50.jpg\n", "a git-annex pointer"),
        (b"../.git/annex/objects/x/y/SHA256E-s31390--f50.jpg/SHA256E-s31390--f50.jpg", "a git-annex pointer"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "macOS's notes about another file"),
        (b"[InternetShortcut]\r\nURL=https://example.org", "a link to a web address"),
        (b"L\0\0\0\1\x14\2\0\0\0\0\0", "a Windows shortcut"),
        (b"data:image/png;base64,iVBORw0KGgo=", "a picture written as text"),
        (b"iVBORw0KGgoAAAANSUhEUgAA", "text that looks like a PNG in base64"),
        (b"<!DOCTYPE html><title>404</title>", "an error page saved under this name?"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an error page saved under this name?"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b'{"error": "quota exceeded"}', "JSON text (an error message saved under this name?)"),
        ("Grüße, ".encode() * 200, "it contains text"),
        ("äöü".encode() + b"a" * 400 + "ü".encode()[:1], "it contains text"),
        ("text".encode("utf-16"), "it contains text"),
        (bytes(5000), "zero bytes only (a copy or download that failed?)"),
        (bytes(range(1, 256)) * 3, "unknown data"),
        (
            bytes(128) + b"DICM" + bytes(50),
            "a DICOM picture (call it .dcm; reading it needs pydicom: in a clone of torchbcos, pip install '.[medical]')",
        ),
        (b"\0\0\0\x20ftypcrx isom", "a camera's raw picture"),
        (b"RIFF\0\0\0\0WAVEfmt ", "a sound"),
        (b"P6\n3 2\n255\n" + b"\xff" * 18, "a Netpbm picture"),
        (b"x" * 257 + b"ustar\x0000" + b"x" * 300, "a tar archive"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
        (b"\xff\x4f\xff\x51\0\x29", "a JPEG 2000 picture"),
        (b"", "is empty (0 bytes): copy or download it again."),
    ],
)
def test_stand_ins_and_other_formats_are_named(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    for call in (lambda: pictures.read_image(tmp_path / "a.jpg"), lambda: pictures.decode_image(content, "a.jpg")):
        with pytest.raises(InputError) as caught:
            call()
        text = str(caught.value)
        assert what in text
        assert "a.jpg" in text and len(text) <= 500 and "damaged" not in text


def test_formats_that_pillow_writes_have_names() -> None:
    for kind, what in {
        "JPEG2000": "a JPEG 2000 picture",
        "ICO": "an icon",
        "ICNS": "an icon",
        "SGI": "an SGI picture",
        "DDS": "a DDS ",
    }.items():
        stream = io.BytesIO()
        Image.new("RGB", (32, 32)).save(stream, kind)
        assert what in name_other(stream.getvalue()[:512]), kind


def test_nothing_is_called_nothing() -> None:
    assert name_other(b"") == "nothing (0 bytes)"
