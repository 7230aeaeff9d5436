"""Small labelled data for tests."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

from PIL import Image


def picture(shade: int, side: int = 12) -> Image.Image:
    return Image.new("RGB", (side, side), (shade, 0, 255 - shade))


def png(shade: int) -> bytes:
    file = io.BytesIO()
    picture(shade).save(file, "PNG")
    return file.getvalue()


def classes_in(place: Path, count: int = 3, names: tuple[str, ...] = ("a", "b")) -> Path:
    for k, name in enumerate(names):
        (place / name).mkdir(parents=True)
        for i in range(count):
            picture(10 * i + 100 * k).save(place / name / f"{i}.png")
    return place


def write_table(file: Path, rows: list[dict[str, object]]) -> Path:
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def write_shard(file: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(file, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
