"""What the commands share: options, messages, and the walk over pictures."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from torchbcos._core.errors import BcosError, InputError, shorten
from torchbcos._core.files import finite_or_null
from torchbcos._core.letters import printable, unseen
from torchbcos._core.names import quote

__all__ = [
    "AllowCode", "BatchSize", "Device", "DeviceOption", "Fit", "FitOption", "Json", "Model", "OutputError", "Paths",
    "RangeOption", "finish", "flush", "gather", "given_path", "parse_range", "percent", "print_json", "remarks", "say", "shown",
    "tell", "usage_errors", "voice", "walk",
]  # fmt: skip

if TYPE_CHECKING:
    from PIL import Image

    from torchbcos.pictures import Found
    from torchbcos.zoo.records import Record

    _Work = Callable[[list[tuple[Found, Image.Image]]], list[Record]]
    _Show = Callable[[Record], None]


_T = TypeVar("_T")


class Device(str, enum.Enum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Fit(str, enum.Enum):
    """How a picture becomes the square that a network sees."""

    crop = "crop"
    letterbox = "letterbox"


FitOption = Annotated[
    Fit | None,
    typer.Option(
        "--fit", show_default="as the model's card says",
        help="crop: cut out the centre; letterbox: the whole picture, with bars in the colour that weighs least.",
    ),
]  # fmt: skip
Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Pictures, folders (searched to the bottom) or patterns in quotes: 'a/*.jpg'."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", metavar="SOURCE", show_default="the embedded ten-class model",
        help="imagenette (embedded), a name with official weights ('torchbcos models' lists them), a folder written by "
        "torchbcos.save, or hf-hub:org/name[@revision].",
    ),
]  # fmt: skip
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", metavar="",
        help="Let a model of somebody's own network run code: the function that its card names is imported and called.",
    ),
]  # fmt: skip
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to run; auto takes an accelerator if there is any.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON list, a record a picture.")]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--range", metavar="LOW..HIGH", show_default="what the files' types hold",
        help="The stored numbers of black and white: 0..4095 for 12 bits in files of 16. What lies outside is cut to these ends.",
    ),
]  # fmt: skip
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Pictures at a time; fewer take less memory.")]


_LONGEST = 520  # of a line on stderr: an error of 500 characters and who says it


class OutputError(Exception):
    """Standard output could not be written."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass
class _Voice:
    """What this call of the program has said so far: the last line on stderr, and whether there was an answer in JSON."""

    said: str = ""
    answered: bool = False


voice = _Voice()


def say(message: str) -> None:
    """One line on stderr, whatever stands in the names that it quotes; where nobody can read it, it is lost."""
    voice.said = shorten(" ".join(message.split()), _LONGEST)
    with contextlib.suppress(OSError):
        print(printable(voice.said), file=sys.stderr)


def tell(line: str, *, at_once: bool = False) -> None:
    """One line on stdout, whatever stands in the names in it.

    Raises:
        OutputError: it could not be written.
    """
    _write(printable(line))
    if at_once:
        flush()


def flush() -> None:
    """Send what was printed on its way.

    Raises:
        OutputError: it could not be written.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(error) from error


def print_json(records: list[dict[str, Any]] | dict[str, Any]) -> None:
    """JSON on stdout; ASCII where the stream has no Unicode, and letters that a terminal would obey as JSON escapes them.

    Raises:
        OutputError: it could not be written.
    """
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    text = json.dumps(finite_or_null(records), ensure_ascii=ascii_only, indent=1, allow_nan=False)
    lines = (line if line.isprintable() else _escaped(line) for line in text.split("\n"))
    voice.answered = True
    _write("\n".join(lines))


def _escaped(line: str) -> str:
    return "".join(json.dumps(c)[1:-1] if unseen(line, i) else c for i, c in enumerate(line))


def _write(text: str) -> None:
    try:
        print(text)
    except OSError as error:
        raise OutputError(error) from error


def given_path(text: str) -> Path:
    """A path from the command line; an empty one is a variable that was never set, not the current folder."""
    if not text:
        raise typer.BadParameter("the path is empty")
    return Path(text)


def parse_range(text: str | None) -> tuple[float, float] | None:
    """The two numbers of `--range`.

    Raises:
        InputError: there are not two, or the first is not below the second.

    >>> parse_range("-1000..400")
    (-1000.0, 400.0)
    """
    if text is None:
        return None
    from torchbcos.pictures import check_range

    try:
        low, high = (float(part) for part in text.split(".."))
        return check_range((low, high))
    except (ValueError, BcosError):  # BcosError says it in Python's words
        raise InputError(f"--range is two numbers, black below white, as in 0..4095; got {text!r:.80}.") from None


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn an error in the request itself into one sentence and exit code 2."""
    try:
        yield
    except BcosError as error:
        say(f"torchbcos: {error}")
        raise typer.Exit(2) from None
    except OSError as error:  # of a path that was typed: too long a name, no permission, a loop of links
        if error.filename is None or error.strerror is None:
            raise
        say(f"torchbcos: {quote(error.filename)}: {error.strerror}.")
        raise typer.Exit(2) from None
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        say("torchbcos: the device has too little memory for this: try a smaller --batch-size, or --device cpu.")
        raise typer.Exit(2) from None


def remarks(record: Record) -> str:
    """What stands behind the classes of a picture: that none reaches one half, and what was not looked at; "" if all is well."""
    from torchbcos.pictures import Seen

    found = ["no class reaches 50 %"] if record["undecided"] else []
    found += [note] if (note := Seen(**{**record["crop"], "box": tuple(record["crop"]["box"])}).note) else []
    return f" ({'; '.join(found)})" if found else ""


def percent(number: float | None, digits: int = 1) -> str:
    """A probability in per cent, or a dash for what is no number; one below one half is never shown as 50.

    >>> percent(0.123), percent(0.49999), percent(float("nan")), percent(None)
    ('12.3%', '49.9%', '–', '–')
    """
    from torchbcos._core.probability import short_of_half

    return "–" if number is None or not math.isfinite(number) else f"{short_of_half(number, digits):.{digits}%}"


def gather(paths: list[str], *, as_json: bool) -> tuple[list[Found], list[dict[str, Any]]]:
    """The pictures that `paths` name, and a record for each path that names none; those are named on stderr.

    Leaves with exit code 2 where there is no picture at all.
    """
    from torchbcos.pictures import find_images
    from torchbcos.zoo.records import failed_record

    errors: list[BcosError] = []
    missing: list[dict[str, Any]] = []

    def each() -> Iterator[str]:
        for path in paths:
            yield path  # the error of this one, if any, is there when the next is asked for
            if len(errors) > len(missing):
                missing.append(failed_record(path, errors[-1]))

    found = find_images(each(), errors=errors)
    for error in errors:
        say(f"torchbcos: {error}")
    if not found:
        if as_json:
            print_json(missing)
        raise typer.Exit(2)
    return found, missing


def shown(batches: Iterable[_T], count: int, *, quiet: bool = False, label: str = "pictures") -> Iterator[_T]:
    """The batches, with a progress bar where stderr is a terminal and somebody may wait."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if quiet or count < 2 or not console.is_terminal:
        yield from batches
        return
    # rich would send what is printed meanwhile to the bar's console, which is not where a pipe or a file reads
    with Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        yield from bar.track(batches, total=count, description=label)


def walk(
    found: list[Found], batch_size: int, work: _Work, show: _Show | None, value_range: tuple[float, float] | None = None
) -> list[Record]:
    """Read pictures batch by batch and hand them to `work`; name those that fail on stderr.

    Args:
        found: the pictures.
        batch_size: how many are read at a time.
        work: answers for the pictures of one batch that could be read.
        show: prints the record of a picture as soon as it is there; None prints nothing, and shows no progress bar.
        value_range: the stored numbers of black and white.

    Returns:
        A record a picture, in the order of the files; with a "warning" where its numbers fill a sixteenth of their range only.
    """
    from torchbcos.pictures import take_note
    from torchbcos.zoo.records import attempt

    records: list[Record] = []
    read = _reader(value_range)
    warned = False
    starts = range(0, len(found), batch_size)
    for start in shown(starts, len(starts), quiet=show is None):
        batch = [(item, read(item)) for item in found[start : start + batch_size]]
        good = [(item, picture) for item, picture in batch if not isinstance(picture, dict)]
        notes = [take_note(picture) for _, picture in batch]
        answers = iter(attempt(work, good, lambda pair: str(pair[0].path)) if good else [])
        for (item, picture), note in zip(batch, notes, strict=True):
            record = picture if isinstance(picture, dict) else next(answers)
            records.append(record if note is None else record | {"warning": note})
            if note is not None and not warned:
                say(f"torchbcos: {note} (Said once.)")
                warned = True
            if record["error"] is not None:
                _say_failure(item, record["error"])
            elif show is not None:
                show(record)
    return records


def _reader(value_range: tuple[float, float] | None) -> Callable[[Found], Image.Image | Record]:
    """Reads a picture, or gives its failed record; says once that animations are cut."""
    from torchbcos.pictures import is_animated, read_image
    from torchbcos.zoo.records import failed_record

    cut: list[Found] = []

    def read(item: Found) -> Image.Image | Record:
        try:
            picture = read_image(item.path, value_range=value_range)
        except BcosError as error:
            return failed_record(str(item.path), error)
        if is_animated(picture):
            if not cut:
                say(f"torchbcos: {quote(item.path)} is animated or has pages: the first is used (said once).")
            cut.append(item)
        return picture

    return read


def _say_failure(found: Found, error: str) -> None:
    """Name a picture that failed on stderr."""
    named = repr(found.path.name)[1:-1] in error or found.path.name in error
    say(f"torchbcos: {error if named else f'{quote(found.path)}: {error}'}")


def finish(records: list[dict[str, Any]], missing: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the JSON list or the count, and leave: 0 if all is done, 1 if something failed."""
    failed = len(missing) + sum(record["error"] is not None for record in records)
    total = len(records) + len(missing)
    if as_json:
        print_json(records + missing)
    elif total > 1:
        tell(f"{total - failed} of {total} pictures done.")
    raise typer.Exit(1 if failed else 0)
