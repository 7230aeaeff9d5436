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
from torchbcos.cli.completing import model_names

__all__ = [
    "MACHINE", "READING", "AllowCode", "BatchSize", "Classes", "Contrast",
    "Device", "DeviceOption", "Fit", "FitOption", "Json", "Model", "OutputError", "Paths",
    "RangeOption", "SplitName", "TopK", "Weights",
    "flush", "given_path", "parse_range", "percent", "print_json", "remarks", "say", "shown", "tell",
    "usage_errors", "voice",
]  # fmt: skip

if TYPE_CHECKING:
    from torchbcos.zoo.records import Record


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


class SplitName(str, enum.Enum):
    """Which part of the data."""

    val = "val"
    train = "train"
    all = "all"
    selection = "selection"
    report = "report"


READING, MACHINE = "How pictures are read", "The machine"  # panels of --help
FitOption = Annotated[
    Fit | None,
    typer.Option(
        "--fit", show_default="as the model's card says", rich_help_panel=READING,
        help="crop: cut out the centre; letterbox: the whole picture, with bars in the colour that weighs least.",
    ),
]  # fmt: skip
Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Pictures, arrays (.npy) and scans (DICOM, NIfTI), as the model takes them; folders, searched to the bottom; "
        "patterns in quotes: 'a/*.jpg'; or - for a picture from a pipe.",
    ),
]  # fmt: skip
Model = Annotated[
    str,
    typer.Option(
        "--model", metavar="SOURCE", show_default="imagenet", autocompletion=model_names,
        help="imagenet, imagenette, a name with official weights ('torchbcos models' lists them), a folder written "
        "by torchbcos.save or 'torchbcos train', or hf-hub:org/name, with @revision if need be. Any other classifier: timm:NAME, "
        "torchvision:NAME, import:package.module:builder, a program FILE.pt2, or bcosification:NAME with a checkpoint.",
    ),
]  # fmt: skip
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", metavar="",
        help="Let a model run code: import:… and the function that a card names are imported and called, a program .pt2 is run.",
    ),
]  # fmt: skip
DeviceOption = Annotated[
    Device, typer.Option("--device", help="Where to run; auto takes an accelerator if there is any.", rich_help_panel=MACHINE)
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print a JSON list, one record for each picture.")]
TopK = Annotated[int, typer.Option("--top-k", metavar="K", min=1, help="Explain the K highest classes of each picture.")]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="NAME|INDEX", help="Explain this class instead of the highest; may be repeated."),
]
Contrast = Annotated[
    str | None,
    typer.Option("--contrast", metavar="NAME|INDEX", help="Explain why the class rather than this one: the difference."),
]
RangeOption = Annotated[
    str | None,
    typer.Option(
        "--range", metavar="LOW..HIGH", show_default="as the model's card says, or what the files' types hold",
        rich_help_panel=READING,
        help="The stored numbers of black and white: 0..4095 for 12 bits in files of 16. What lies outside is cut to these ends.",
    ),
]  # fmt: skip
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size", metavar="N", min=1, help="Pictures at a time; fewer take less memory.", rich_help_panel=MACHINE
    ),
]  # fmt: skip


_LONGEST = 520  # of a line on stderr: an error of 500 characters and who says it


class OutputError(Exception):
    """Standard output could not be written."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass
class _Voice:
    """What this call of the program has said so far: the last line on stderr, and whether there was an answer in JSON.

    `above` writes a line above a progress bar, while one is on the terminal.
    """

    said: str = ""
    answered: bool = False
    above: Callable[[str], None] | None = None


voice = _Voice()


def say(message: str) -> None:
    """One line on stderr, whatever stands in the names that it quotes; where nobody can read it, it is lost."""
    voice.said = shorten(" ".join(message.split()), _LONGEST)
    with contextlib.suppress(OSError):
        if voice.above is not None:
            voice.above(printable(voice.said))
        else:
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
        if voice.above is not None and sys.stdout.isatty():
            voice.above(text)
        else:
            print(text)
    except OSError as error:
        raise OutputError(error) from error


def given_path(text: str) -> Path:
    """A path from the command line; an empty one is a variable that was never set, not the current folder."""
    if not text:
        raise typer.BadParameter("the path is empty")
    return Path(text)


Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FILE", parser=given_path, show_default="those of the model",
        help="A file of weights (.pth, .safetensors) for the network that --model names: --model timm:resnet18 --weights "
        "resnet18.pth.",
    ),
]  # fmt: skip


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
    seen = Seen(**{**record["crop"], "box": tuple(record["crop"]["box"])}, scan=record.get("scan"))
    found += [seen.note] if seen.note else []
    return f" ({'; '.join(found)})" if found else ""


def percent(number: float | None, digits: int = 1) -> str:
    """A probability in per cent, or a dash for what is no number; one below one half is never shown as 50.

    Where only a further digit tells it from one half, that is shown.

    >>> percent(0.123), percent(0.49999), percent(float("nan")), percent(None)
    ('12.3%', '49.9%', '–', '–')
    >>> percent(0.494, 0), percent(0.499, 0), percent(0.5, 0)
    ('49%', '49.9%', '50%')
    """
    from torchbcos._core.probability import short_of_half

    if number is None or not math.isfinite(number):
        return "–"
    if number < 0.5 and round(100 * number) == 50:
        digits = max(digits, 1)  # 49.9 % in one place and 49 % in another would be two answers
    return f"{short_of_half(number, digits):.{digits}%}"


def shown(batches: Iterable[_T], count: int, *, quiet: bool = False, label: str = "pictures") -> Iterator[_T]:
    """The batches, with a progress bar where stderr is a terminal and somebody may wait."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if quiet or count < 2 or not console.is_terminal:
        yield from batches
        return
    # rich would send what is printed meanwhile to the bar's console, broken at the terminal's width: names that are cut in two
    # cannot be copied. `say` and `tell` write above the bar themselves, and what goes to a pipe or a file is left alone.
    with Progress(console=console, transient=True, redirect_stdout=False) as bar:
        voice.above = lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)
        try:
            yield from bar.track(batches, total=count, description=label)
        finally:
            voice.above = None
