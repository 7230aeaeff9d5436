"""`torchbcos bcosify`: a classifier of any library becomes a B-cos network with its weights."""

from __future__ import annotations

import contextlib
import enum
import io
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import quote
from torchbcos.cli.common import (
    AllowCode,
    Device,
    DeviceOption,
    RangeOption,
    given_path,
    parse_range,
    print_json,
    say,
    tell,
    usage_errors,
)
from torchbcos.cli.completing import model_names
from torchbcos.cli.places import check_page, write_page

if TYPE_CHECKING:
    from torchbcos.conversion import Report

__all__ = ["bcosify"]

_REPORT = "report.json"


class _Biases(str, enum.Enum):
    """What becomes of biases."""

    norm = "norm"
    keep = "keep"
    drop = "drop"


class _Border(str, enum.Enum):
    """What the first layer sees beyond the picture."""

    repeat = "repeat"
    mean = "mean"


def bcosify(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", autocompletion=model_names,
            help="A classifier: timm:NAME, torchvision:NAME, import:package.module:builder, or a folder written by "
            "torchbcos.save.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", parser=given_path,
            help="Write model.safetensors, card.json, report.json and, of networks that can be recorded, program.pt2 here; every "
            "command takes this folder as --model.",
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", metavar="FILE", parser=given_path, show_default="those of the source",
            help="A file of weights (.pth, .safetensors) for the network that SOURCE names.",
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--example", metavar="FOLDER", show_default="noise, and a worse fit",
            help="Pictures of the kind that the network is for, to whose values its layers are fitted: a folder or pattern, or "
            "data as 'torchbcos train' takes it, whose labels are not looked at.",
        ),
    ] = None,
    b: Annotated[
        list[str] | None,
        typer.Option(
            "--b", metavar="B|RULE=B", show_default="2",
            help="The exponent B: 1 is a linear layer, 2 what B-cos networks are trained with. A number for all layers, or for "
            "some, and may then be repeated: --b expand=1.5 --b 'layer4.*=2'. A rule is a layer's name, a pattern, or what "
            "layers do: stem (the first), expand (more channels out than in), project (fewer), pointwise, depthwise, conv, "
            "linear, attention, classifier (the last). Layers without a rule get 1.",
        ),
    ] = None,
    biases: Annotated[
        _Biases,
        typer.Option(
            "--biases",
            help="norm: they grow with what they are added to, and are no constants; keep: named constants; drop: none.",
        ),
    ] = _Biases.norm,
    unit_norm: Annotated[
        bool, typer.Option("--unit-norm", metavar="", help="Bring filters to unit norm, with a gain for each.")
    ] = False,
    antialias: Annotated[
        bool, typer.Option("--antialias", metavar="", help="Low-pass before strides: finer explanations, other values.")
    ] = False,
    border: Annotated[
        _Border,
        typer.Option("--border", help="What padding of the first layer looks like: the edge of the picture, or the mean colour."),
    ] = _Border.mean,
    blur: Annotated[
        list[str] | None,
        typer.Option(
            "--blur", metavar="N | RULE=N", show_default="0",
            help="Low-pass what the first layer sees N times, or what layers of a rule see: less speckle. May be given again.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many pictures of --example are read.")] = 64,
    no_program: Annotated[
        bool,
        typer.Option(
            "--no-program", metavar="",
            help="Leave out program.pt2, the network recorded so that it opens where SOURCE's library is not installed.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", parser=given_path, help="Write the report as a page, too."),
    ] = None,
    number_range: RangeOption = None,
    device: DeviceOption = Device.auto,
    allow_code: AllowCode = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print the report as one JSON object.")] = False,
) -> None:  # fmt: skip
    """Convert a classifier into a B-cos network with its weights, and say what became of each layer.

    Every logit of the converted network is a linear map of the picture. Nothing is trained: layers are fitted to the given
    network's values on a few pictures without labels, and the report says how well each fits and which constants are left.

    It knows less than the given network until it is fine-tuned ('torchbcos train finetune'): after --b 2 as good as
    nothing, after --b 1 more than half.
    """
    with usage_errors():
        exponents, passes = _rules("--b", b or ["2"]), _rules("--blur", blur or ["0"])
        value_range = parse_range(number_range)
        _check_places(source, out, report, example)
        with _doing() as now:
            now("loading")
            from torchbcos.zoo import load, save
            from torchbcos.zoo.converting import bcosify as convert
            from torchbcos.zoo.converting import pixels_of

            classifier = load(source, weights=weights, device=device.value, deploy=False, allow_code=allow_code)
            pixels = None
            if example is not None:
                now("reading pictures")
                pixels = pixels_of(classifier, example, limit=limit, value_range=value_range)
            now("converting" if pixels is None else f"converting, and fitting layers to {len(pixels)} pictures")
            made, found = convert(
                classifier, b=exponents, biases=biases.value, example=pixels, unit_norm=unit_norm, antialias=antialias,
                border=border.value, blur=_whole(passes), limit=limit,
            )  # fmt: skip
            now("writing")
            save(made, out, program=False if no_program else None)
            _write(found, out, report, f"{source} as a B-cos network")
    if json:
        print_json({**found.to_dict(), "model": str(out), "architecture": made.card.architecture})
        return
    _show(found)
    tell(f"The model is in {out}: torchbcos explain PHOTO --model {out}")


def _rules(option: str, words: list[str]) -> float | dict[str, float]:
    """The numbers of an option: one, or one for each rule.

    >>> _rules("--b", ["2"]), _rules("--b", ["expand=1.5", "layer4.*=2"])
    (2.0, {'expand': 1.5, 'layer4.*': 2.0})
    """
    found = {}
    for word in words:
        rule, _, number = word.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{option} is a number, or a rule and a number, as in expand=1.5; got {shorten(repr(word), 80)}.")
        if rule in found:
            raise InputError(
                f"{option} says twice what {'all layers get' if not rule else shorten(repr(rule), 80) + ' gets'}: once will do."
            )
        found[rule] = value
    if "" in found and len(found) > 1:
        raise InputError(f"{option} is one number for all layers, or a number for each rule, not both.")
    return found.get("", found)


def _whole(rules: float | dict[str, float]) -> Any:
    """Numbers as whole ones, where they are.

    >>> _whole(2.0), _whole({"stem": 2.0})
    (2, {'stem': 2})
    """
    if isinstance(rules, dict):
        return {rule: _whole(value) for rule, value in rules.items()}
    return int(rules) if rules == int(rules) else rules


def _check_places(source: str, out: Path, report: Path | None, example: str | None) -> None:
    """Refuse where nothing can be written before anything is computed.

    Raises:
        InputError: a file has the name of the folder, a folder is missing, or the given network lies there.
    """
    from torchbcos.evaluation.destination import check_folder, keep_out_of

    check_folder(out)
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise InputError(f"--out {quote(out)} is the given network, which would be lost: name another folder.")
    if example is not None:
        keep_out_of(example, out)
    if report is not None:
        check_page(report)


@contextlib.contextmanager
def _doing() -> Iterator[Callable[[str], None]]:
    """Say on a terminal what is being done; elsewhere nobody waits for it."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda words: None
        return
    with console.status("starting") as status:
        yield lambda words: status.update(f"{words} …")


def _write(found: Report, out: Path, report: Path | None, title: str) -> None:
    """The report beside the model, and as a page."""
    from torchbcos._core.files import write_json

    write_json(out / _REPORT, found.to_dict())
    if report is not None:
        from torchbcos.conversion.pages import report_page

        write_page(report, report_page(found, title))


def _show(found: Report) -> None:
    """The report on stdout: on a terminal in its width, elsewhere a line a layer."""
    if not sys.stdout.isatty():
        lines = str(found).splitlines()
    else:
        from rich.console import Console

        written = io.StringIO()
        Console(file=written, width=shutil.get_terminal_size().columns, color_system=None).print(found)
        lines = written.getvalue().splitlines()
    for line in lines:
        tell(line)
    if found.noise and found.settings.get("calibrated"):
        say("torchbcos: layers were fitted to noise; --example FOLDER fits them to pictures.")
