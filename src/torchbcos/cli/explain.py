"""`torchbcos explain`: pictures of why."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchbcos._core.errors import InputError
from torchbcos._core.names import brief, file_parts, quote, whole_number
from torchbcos.cli.common import (
    AllowCode,
    BatchSize,
    Classes,
    Contrast,
    Device,
    DeviceOption,
    FitOption,
    Json,
    Model,
    Paths,
    RangeOption,
    TopK,
    Weights,
    given_path,
    parse_range,
    percent,
    remarks,
    say,
    tell,
    usage_errors,
)
from torchbcos.cli.places import Places, changed_last, check_writable, make_folder, without_results
from torchbcos.cli.stopping import answering_signals
from torchbcos.cli.walking import Walk, finish, gather, refuse_missing, walk

if TYPE_CHECKING:
    from torchbcos.cli.walking import Batch
    from torchbcos.explanation import Explanation
    from torchbcos.pictures import Found
    from torchbcos.zoo import Classifier
    from torchbcos.zoo.records import Record

__all__ = ["Format", "Products", "explain", "parse_slices"]

_PARTS = {"signal": "samples", "picture": "pixels", "volume": "voxels"}
_MOST_SLICES = 64  # of one panel
_WRITTEN, _VOLUMES = "What is written", "Volumes"  # panels of --help


class Format(str, enum.Enum):
    """Of the pictures of why."""

    png = "png"
    pdf = "pdf"
    jpg = "jpg"
    webp = "webp"


class Products(str, enum.Enum):
    """To which of two signals their product goes."""

    half = "half"
    first = "first"
    second = "second"


def explain(
    paths: Paths,
    model: Model = "default",
    weights: Weights = None,
    allow_code: AllowCode = False,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", parser=given_path, help="Where the pictures go; made if need be.")
    ] = Path("explanations"),
    top_k: TopK = 1,
    classes: Classes = None,
    contrast: Contrast = None,
    products: Annotated[
        Products | None,
        typer.Option(
            "--products", show_default="such a network is refused",
            help="Where a network multiplies two signals: half of the product goes to each, or all of it to one.",
        ),
    ] = None,
    json: Json = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing", metavar="",
            help="Leave out pictures whose explanations are in --out already, newer than the picture and the model's folder.",
        ),
    ] = False,
    fit: FitOption = None,
    number_range: RangeOption = None,
    form: Annotated[
        Format, typer.Option("--format", help="Of the pictures of why; pdf is for print.", rich_help_panel=_WRITTEN)
    ] = Format.png,
    dpi: Annotated[
        int | None,
        typer.Option(
            "--dpi", metavar="N", min=1, max=2400, show_default="none in the file", rich_help_panel=_WRITTEN,
            help="Dots an inch, for print.",
        ),
    ] = None,
    arrays: Annotated[
        bool,
        typer.Option(
            "--arrays", metavar="", rich_help_panel=_WRITTEN,
            help="Write the numbers, too: beside each picture an .npz file with W(x), contributions and the rest.",
        ),
    ] = False,
    proof: Annotated[
        Path | None,
        typer.Option(
            "--proof", metavar="FILE|FOLDER", parser=given_path, rich_help_panel=_WRITTEN,
            help="Write a proof, too, which 'torchbcos verify' checks: a .json file, or a folder with one for each explanation.",
        ),
    ] = None,
    axis: Annotated[
        int | None,
        typer.Option(
            "--axis", metavar="0|1|2", min=0, max=2, show_default="0", rich_help_panel=_VOLUMES,
            help="The axis that is cut into slices.",
        ),
    ] = None,
    slices: Annotated[
        str | None,
        typer.Option(
            "--slices", metavar="N,N,…", show_default="those that carry most", rich_help_panel=_VOLUMES,
            help="Which slices are shown, counted from 0: 10,20,30 or 10..15.",
        ),
    ] = None,
    batch_size: BatchSize = 16,
    device: DeviceOption = Device.auto,
) -> None:  # fmt: skip
    """Explain pictures, signals and volumes exactly: for each a picture of why, and numbers that add up to the logit.

    Ctrl-C keeps what is finished; with --skip-existing the same command goes on.
    """
    from torchbcos.zoo import load

    with answering_signals(), usage_errors():
        value_range, chosen = parse_range(number_range), parse_slices(slices)
        if dpi is not None and form is Format.webp:
            raise InputError("--dpi is for png, jpg and pdf: files of webp have no place for it.")
        refuse_missing(paths, as_json=json)
        check_writable(out)
        classifier = load(model, weights=weights, device=device.value, fit=fit.value if fit else None, allow_code=allow_code)
        named = [classifier.class_index(c) for c in classes] if classes else None
        other = classifier.class_index(contrast) if contrast is not None else None
        if top_k > len(classifier.class_names):
            raise InputError(f"--top-k {top_k} is more than the {len(classifier.class_names)} classes of this model.")
        places = Places(out, file_parts(classifier.class_names), other, f".{form.value}", arrays)
        how = products.value if products else None
        request = _Request(places, named, top_k, _view(classifier, axis, chosen), dpi, how, proof)
        job = gather(paths, classifier, as_json=json)
        job.found = without_results(job.found, paths, out)
        request.check_proof(len(job.found))
        if skip_existing:
            request.skip(job, max(changed_last(model), changed_last(str(weights)) if weights else 0.0))
        if not json:
            _announce(classifier)
        show = None if json else partial(_print_record, _PARTS[job.kind])
        walk(job, classifier, batch_size, request.answer, show, value_range)
        finish(job, as_json=json, go_on="; --skip-existing goes on")


def parse_slices(text: str | None) -> list[int] | None:
    """The numbers of `--slices`.

    Raises:
        InputError: there is something else, or more than a panel could show.

    >>> parse_slices("10,20..22")
    [10, 20, 21, 22]
    """
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        ends = [whole_number(first.strip()), whole_number(last.strip()) if dots else whole_number(first.strip())]
        if ends[0] is None or ends[1] is None or not ends[0] <= ends[1] < ends[0] + _MOST_SLICES:
            raise InputError(f"--slices are numbers from 0 and spans of them, as in 10,20,30 or 10..15; got {text!r:.80}.")
        found += range(ends[0], ends[1] + 1)
    if len(found) > _MOST_SLICES:
        raise InputError(f"--slices names {len(found)} slices, and one picture shows at most {_MOST_SLICES}: name fewer.")
    return found


@dataclass
class _Request:
    """What is explained of each picture, and how it is written.

    Attributes:
        places: where the files go.
        classes: the indices of those that were named; None: the `top_k` highest.
        top_k: how many.
        view: arguments of a panel.
        dpi: of its file; None: the file says none.
        products: what becomes of products of two signals.
        proof: a file (.json) or a folder for proofs; None: none are written.
    """

    places: Places
    classes: list[int] | None
    top_k: int
    view: dict[str, Any] = field(default_factory=dict)
    dpi: int | None = None
    products: str | None = None
    proof: Path | None = None

    def check_proof(self, pictures: int) -> None:
        """Refuse one file for several proofs, before any work.

        Raises:
            InputError: there would be several, or nothing can be written there.
        """
        if self.proof is None:
            return
        if self.proof.suffix != ".json":
            check_writable(self.proof, "--proof")
            return
        count = pictures * (len(set(self.classes)) if self.classes else self.top_k)
        if count > 1:
            raise InputError(f"{count} explanations have as many proofs: name a folder with --proof, not {quote(self.proof)}.")
        check_writable(self.proof.parent, "--proof")

    def _prove(self, e: Explanation, k: int, item: Found, index: int) -> Path | None:
        """Write the proof of one explanation, if it is wanted; a picture that was piped has no file to be hashed."""
        if self.proof is None:
            return None
        target = self.proof
        if target.suffix != ".json":
            target = self.proof / self.places.panel(item, index, ".proof.json").relative_to(self.places.out)
        make_folder(target.parent)
        return e.prove(target, 0, k, picture=item.path if item.path.is_file() else None)

    def answer(self, classifier: Classifier, batch: Batch) -> Iterator[Record]:
        """Explain the pictures of one batch, and write what is asked for of each."""
        from torchbcos.viewer.cortex import draw_cortex
        from torchbcos.viewer.selection import draw_selection
        from torchbcos.zoo.records import iter_explained

        files, pictures = [str(item.path) for item, _ in batch], [picture for _, picture in batch]

        def draw(i: int, e: Explanation, k: int, record: Record) -> str:
            target = self.places.panel(batch[i][0], record["index"])
            make_folder(target.parent)
            if self.places.arrays:
                record["arrays"] = str(_alone(e, k).save_arrays(self.places.numbers(batch[i][0], record["index"])))
            if (proof := self._prove(e, k, batch[i][0], record["index"])) is not None:
                record["proof"] = str(proof)
            if classifier.transform.axes == 1:
                drawn = draw_cortex(classifier.model, e, target, k)
            else:
                drawn = draw_selection(classifier.model, e, target, k, dpi=self.dpi, **self.view)
            return str(drawn or e.save(target, 0, k, dpi=self.dpi, **self.view))

        return iter_explained(
            classifier, files, pictures, self.classes, top_k=self.top_k, contrast=self.places.contrast, draw=draw,
            products=self.products,
        )  # fmt: skip

    def skip(self, job: Walk, since: float) -> None:
        """Leave out the pictures whose explanations are there already."""
        from torchbcos.zoo.records import failed_record

        count = len(set(self.classes)) if self.classes else self.top_k
        for item in job.found:
            there = self.places.written(item, self.classes, count, since)
            if there:
                job.skipped[item] = {**failed_record(str(item.path), ""), "error": None, "skipped": [str(path) for path in there]}
        if job.skipped:
            where = f"{len(job.skipped)} of {len(job.found)} {job.kind}s are left out"
            say(f"torchbcos: {where}: what explains them is in {quote(self.places.out)} already.")


def _alone(e: Explanation, k: int) -> Explanation:
    """The explanation of one target."""
    rows = slice(k, k + 1)
    return dataclasses.replace(
        e, targets=e.targets[:, rows], values=e.values[:, rows], weights=e.weights[:, rows],
        contrast=None if e.contrast is None else e.contrast[:, rows], constants={n: c[:, rows] for n, c in e.constants.items()},
    )  # fmt: skip


def _view(classifier: Classifier, axis: int | None, slices: list[int] | None) -> dict[str, Any]:
    """The arguments of a panel for `--axis` and `--slices`.

    Raises:
        InputError: the model does not take volumes.
    """
    given = {name: value for name, value in (("axis", axis), ("slices", slices)) if value is not None}
    if given and classifier.transform.axes != 3:
        options = " and ".join(f"--{name}" for name in given)
        verb = "are" if len(given) > 1 or "slices" in given else "is"
        raise InputError(f"{options} {verb} for volumes, and this model takes {classifier.transform.form.words}.")
    return given


def _announce(classifier: Classifier) -> None:
    """Which model answers, and what it knows."""
    names = classifier.class_names
    known = f": {', '.join(map(brief, names))}" if len(names) <= 12 else ""
    tell(f"{brief(classifier.card.name)} knows {len(names)} classes{known}")


def _print_record(parts: str, record: Record) -> None:
    """One picture, made of such parts: its classes, and for each explanation where it is and how far its numbers add up."""
    best = ", ".join(f"{brief(p['label'])} {percent(p['probability'], 0)}" for p in record["predictions"][:3])
    tell(f"{record['file']}: {best}{remarks(record)}")
    for e in record["explanations"]:
        why = f"why {brief(e['label'])}" + (f" rather than {brief(e['contrast']['label'])}" if "contrast" in e else "")
        what = "difference" if "contrast" in e else "logit"
        tell(f"  {why}: {what} {_written(e['value'], '.2f')}{_carried(parts, e)} -> {e['picture']}")
        if "arrays" in e:
            tell(f"    the numbers -> {e['arrays']}")
        if "proof" in e:
            tell(f"    the proof -> {e['proof']}")


def _carried(parts: str, e: Record) -> str:
    """How much of a value is in the picture: behind the value, as the rest of a sentence."""
    if not e["complete"]:
        return f", which {parts} and constants miss by {_written(e['residual'], '.2g')}: not explained exactly"
    aside = _written(e["aside"], ".2f")
    of = ", of which" if aside in ("0.00", "-0.00", "–") else f" ({aside} of it in every class), of the rest"
    return f"{of} the {parts} carry {_written(e['share'], '.1%')}, residual {_written(e['residual'], '.0e')}"


def _written(number: float | None, form: str) -> str:
    """A number, or a dash for what is none."""
    return "–" if number is None else format(number, form)
