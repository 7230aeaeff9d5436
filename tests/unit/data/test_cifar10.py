"""CIFAR-10 in its forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torchbcos._core.errors import InputError
from torchbcos.data.sources import open_labelled


def test_cifar10_binary_and_jpeg(tmp_path: Path) -> None:
    records = np.zeros((20, 3073), np.uint8)
    records[:, 0] = np.arange(20) % 10
    records[:, 1:1025] = 7  # red comes first
    for i in range(1, 6):
        records.tofile(tmp_path / f"data_batch_{i}.bin")
    records[:10].tofile(tmp_path / "test_batch.bin")
    found = open_labelled(tmp_path)
    assert (found.kind, len(found.train), found.classes[1]) == ("cifar10", 100, "automobile")
    assert found.report is not None and len(found.report) == 10
    assert found.train.read(5).getpixel((3, 3)) == (7, 0, 0)
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(InputError, match=r"CIFAR-10 in .* cannot be read"):
        open_labelled(tmp_path)
