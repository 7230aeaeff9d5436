"""What the commands share: options, messages, and the walk over pictures."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchbcos._core.errors import BcosError

if TYPE_CHECKING:
    from PIL import Image

    from torchbcos.data import Found


class Device(str, enum.Enum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders (walked recursively) or patterns.")]
Model = Annotated[
    str, typer.Option("--model", help="Embedded name, official name, folder written by save(), or hf-hub:org/name.")
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to run.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON list, a record a picture.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures at a time.")]


def say(message: str) -> None:
    """One line on stderr."""
    print(" ".join(message.split()), file=sys.stderr)


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn an error in the request itself into one sentence and exit code 2."""
    try:
        yield
    except BcosError as error:
        say(f"torchbcos: {error}")
        raise typer.Exit(2) from None


def print_json(records: list[dict[str, Any]]) -> None:
    """One JSON list on stdout."""
    print(json.dumps(records, ensure_ascii=False, indent=1, allow_nan=False))


def empty_record(file: str, error: str | None) -> dict[str, Any]:
    """The record of a picture that could not be read."""
    return {"file": file, "error": error, "predictions": [], "explanations": []}


def walk(
    paths: list[str], batch_size: int, work: Callable[[list[Found], list[Image.Image]], list[dict[str, Any]]], *, quiet: bool
) -> tuple[list[dict[str, Any]], bool]:
    """Read pictures batch by batch and hand them to `work`; name those that fail on stderr.

    Returns:
        The records in the order of the files, and whether anything failed.
    """
    from rich.console import Console
    from rich.progress import track

    from torchbcos.data import find_images, is_animated, read_image

    errors: list[BcosError] = []
    found = find_images(paths, errors=errors)
    for error in errors:
        say(f"torchbcos: {error}")
    if not found:
        raise typer.Exit(2)
    records: dict[int, dict[str, Any]] = {}
    failed, told = bool(errors), False
    console = Console(stderr=True)
    starts = range(0, len(found), batch_size)
    for start in track(starts, "pictures", console=console, transient=True, disable=quiet or len(starts) < 2):
        good: list[int] = []
        pictures = []
        for i in range(start, min(start + batch_size, len(found))):
            try:
                picture = read_image(found[i].path)
            except BcosError as error:
                failed = True
                say(f"torchbcos: {error}")
                records[i] = empty_record(str(found[i].path), str(error))
                continue
            if is_animated(picture) and not told:
                say(f"torchbcos: {found[i].path} is animated: its first frame is used (said once).")
                told = True
            good.append(i)
            pictures.append(picture)
        if good:
            done = work([found[i] for i in good], pictures)
            records.update(zip(good, done, strict=True))
            failed = failed or any(record["error"] for record in done)
    return [records[i] for i in sorted(records)], failed


def predictions_of(rows: list[Any]) -> list[dict[str, Any]]:
    """Predictions as JSON-able dicts."""
    return [{"index": p.index, "label": p.label, "probability": p.probability, "logit": p.logit} for p in rows]
