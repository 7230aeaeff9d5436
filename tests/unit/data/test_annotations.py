"""Boxes and masks beside labelled pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchbcos._core.errors import InputError
from torchbcos.data.annotations import read_boxes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,cx,cy,w,h\ngrün,.5,.5,1,1\n".encode("latin-1"), r"line 2, is not text in UTF-8 \(byte 0xfc\)"),
        (b"file,cx,cy,w,h\na\0,.5,.5,1,1\n", "line 2, contains a zero byte"),
        (b'file,cx,cy,w,h\n"a,.5,.5,1,1\n', "line 2, begins no row of a CSV file"),
        (b"file;cx;cy;w;h\n", "is separated by semicolons"),
        (b"file,cx\na,1\n", "lacks the columns cy, w, h; it has file, cx"),
        (b"file,cx,cy,w,h\n\na,.5,.5,1\n", "line 3: cx, cy, w and h must be numbers"),
        (b"file,cx,cy,w,h\na,.5,.5,nan,1\n", "line 2: a box is given in fractions between 0 and 1"),
    ],
)
def test_wrong_tables_of_boxes(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "boxes.csv").write_bytes(content)
    with pytest.raises(InputError, match=f"boxes.csv'(, | ){message}"):
        read_boxes(tmp_path / "boxes.csv")
