"""`torchbcos explain`: pictures of why."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.names import brief, file_parts, panel_name
from torchbcos.cli.common import (
    AllowCode,
    BatchSize,
    Device,
    DeviceOption,
    FitOption,
    Json,
    Model,
    Paths,
    RangeOption,
    finish,
    gather,
    given_path,
    parse_range,
    percent,
    remarks,
    say,
    tell,
    usage_errors,
    walk,
)

if TYPE_CHECKING:
    from PIL import Image

    from torchbcos.explanation import Explanation
    from torchbcos.pictures import Found
    from torchbcos.zoo import Classifier
    from torchbcos.zoo.records import Record

__all__ = ["explain"]


def explain(
    paths: Paths,
    model: Model = "default",
    allow_code: AllowCode = False,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", parser=given_path, help="Where the pictures go; made if need be.")
    ] = Path("explanations"),
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", min=1, help="Explain the K highest classes of each picture.")] = 1,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME|INDEX", help="Explain this class instead of the highest; may be repeated."),
    ] = None,
    contrast: Annotated[
        str | None,
        typer.Option("--contrast", metavar="NAME|INDEX", help="Explain why the class rather than this one: the difference."),
    ] = None,
    fit: FitOption = None,
    number_range: RangeOption = None,
    batch_size: BatchSize = 16,
    device: DeviceOption = Device.auto,
    json: Json = False,
) -> None:
    """Explain pictures exactly: for each explained class a picture of why, and numbers that add up to its logit."""
    from torchbcos.zoo import load
    from torchbcos.zoo.records import explained

    with usage_errors():
        value_range = parse_range(number_range)
        found, missing = gather(paths, as_json=json)
        found = _without_results(found, paths, out)
        _check_writable(out)
        classifier = load(model, device=device.value, fit=fit.value if fit else None, allow_code=allow_code)
        targets = [classifier.class_index(c) for c in classes] if classes else None
        other = classifier.class_index(contrast) if contrast is not None else None
        if top_k > len(classifier.class_names):
            raise InputError(f"--top-k {top_k} is more than the {len(classifier.class_names)} classes of this model.")
        named = file_parts(classifier.class_names)
        if not json:
            _announce(classifier)

        def work(batch: list[tuple[Found, Image.Image]]) -> list[Record]:
            files, pictures = [str(item.path) for item, _ in batch], [picture for _, picture in batch]

            def draw(i: int, e: Explanation, k: int, record: Record) -> str:
                return str(_write(e, k, out / _place_of(batch[i][0], record, named)))

            return explained(classifier, files, pictures, targets, top_k=top_k, contrast=other, draw=draw)

        records = walk(found, batch_size, work, None if json else _print_record, value_range)
    finish(records, missing, as_json=json)


def _place_of(found: Found, record: Record, named: Sequence[str]) -> Path:
    """Where the panel of one explanation of a picture goes, below the output folder."""
    other = named[record["contrast"]["index"]] if "contrast" in record else None
    return found.relative.parent / panel_name(found.relative.name, named[record["index"]], other)


def _write(e: Explanation, k: int, target: Path) -> Path:
    """Write the panel of one explanation, and make its folder if need be."""
    _make_folder(target.parent)
    return e.save(target, 0, k)


def _without_results(found: list[Found], paths: list[str], out: Path) -> list[Found]:
    """Leave out what an earlier run wrote to `out`, unless a path lies in there itself."""
    results = out.resolve()
    if any(Path(path).resolve().is_relative_to(results) for path in paths):
        return found
    kept = [item for item in found if not item.path.resolve().is_relative_to(results)]
    if not kept:
        raise InputError(f"All {len(found)} pictures lie in {str(out)!r}, where explanations go: name another folder with --out.")
    if len(kept) < len(found):
        say(f"torchbcos: {len(found) - len(kept)} pictures in {str(out)!r}, where explanations go, are left out.")
    return kept


def _make_folder(folder: Path) -> None:
    """Create a folder for pictures, or say why not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"Could not make the folder {str(folder)!r}: {_reason(error)}.") from None


def _check_writable(out: Path) -> None:
    """Raise before any work where nothing could be written: a file of that name, no permission, a read-only disk."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.stat(out)  # or another error: a name that no disk takes
    there = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.exists(path))
    if not os.path.isdir(there):
        raise InputError(f"--out {str(out)!r}: {str(there)!r} is a file, not a folder.")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(f"--out {str(out)!r}: nothing can be written to {str(there)!r}: {_reason(error)}.") from None


def _reason(error: OSError) -> str:
    """What the operating system says."""
    return error.strerror or type(error).__name__


def _announce(classifier: Classifier) -> None:
    """Which model answers, and what it knows."""
    names = classifier.class_names
    known = f": {', '.join(map(brief, names))}" if len(names) <= 12 else ""
    tell(f"{brief(classifier.card.name)} knows {len(names)} classes{known}")


def _print_record(record: Record) -> None:
    """One picture: its classes, and for each explanation where it is and how far its numbers add up."""
    best = ", ".join(f"{brief(p['label'])} {percent(p['probability'], 0)}" for p in record["predictions"][:3])
    tell(f"{record['file']}: {best}{remarks(record)}")
    for e in record["explanations"]:
        why = f"why {brief(e['label'])}" + (f" rather than {brief(e['contrast']['label'])}" if "contrast" in e else "")
        what = "difference" if "contrast" in e else "logit"
        value, share, residual = _written(e["value"], ".2f"), _written(e["share"], ".1%"), _written(e["residual"], ".0e")
        tell(f"  {why}: {what} {value}, of which the pixels carry {share}, residual {residual} -> {e['picture']}")


def _written(number: float | None, form: str) -> str:
    """A number, or a dash for what is none."""
    return "–" if number is None else format(number, form)
