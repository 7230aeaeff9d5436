"""`torchbcos report`: many explanations on one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from torchbcos._core.errors import InputError
from torchbcos._core.names import quote
from torchbcos.cli.common import (
    AllowCode,
    BatchSize,
    Classes,
    Contrast,
    Device,
    DeviceOption,
    FitOption,
    Model,
    Paths,
    RangeOption,
    TopK,
    Weights,
    given_path,
    parse_range,
    tell,
    usage_errors,
)
from torchbcos.cli.places import check_page, write_page
from torchbcos.cli.stopping import answering_signals
from torchbcos.cli.walking import Walk, finish, gather, refuse_missing, walk

if TYPE_CHECKING:
    from torchbcos.cli.walking import Batch
    from torchbcos.explanation import Explanation
    from torchbcos.pictures import Found
    from torchbcos.viewer import Entry
    from torchbcos.zoo import Classifier
    from torchbcos.zoo.records import Record

__all__ = ["report"]


def report(
    paths: Paths,
    model: Model = "default",
    weights: Weights = None,
    allow_code: AllowCode = False,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.html", parser=given_path, help="The page; an earlier one is replaced.")
    ] = Path("report.html"),
    title: Annotated[str, typer.Option("--title", help="Of the page.")] = "Explanations",
    top_k: TopK = 1,
    classes: Classes = None,
    contrast: Contrast = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="CSV", parser=given_path, show_default="folders that are called like a class",
            help="What the pictures show: a line a picture, its file and its class.",
        ),
    ] = None,
    fit: FitOption = None,
    number_range: RangeOption = None,
    batch_size: BatchSize = 16,
    device: DeviceOption = Device.auto,
) -> None:  # fmt: skip
    """Explain pictures on one page: a table to sort and filter, and of each picture why.

    One file that opens without a server or a network, prints, and can be sent. Ctrl-C writes the page of what is finished.
    """
    from torchbcos.viewer import report_page
    from torchbcos.zoo import load

    with answering_signals(), usage_errors():
        check_page(out, "--out")
        value_range = parse_range(number_range)
        refuse_missing(paths, as_json=False)
        classifier = load(model, weights=weights, device=device.value, fit=fit.value if fit else None, allow_code=allow_code)
        if top_k > len(classifier.class_names):
            raise InputError(f"--top-k {top_k} is more than the {len(classifier.class_names)} classes of this model.")
        named = [classifier.class_index(c) for c in classes] if classes else None
        other = classifier.class_index(contrast) if contrast is not None else None
        job = gather(paths, classifier, as_json=False)
        known = _Labels.of(labels, classifier)
        work = _Report(known, named, top_k, other, len(job.found) * (len(named) if named else top_k))
        walk(job, classifier, batch_size, work.answer, lambda record: None, value_range)
        settings = {
            "model": model, "classes": classes or f"the {top_k} highest", "compared with": contrast, "labels": known.said,
            "fit": classifier.transform.fit if classifier.transform.axes == 2 else None, "device": device.value,
        }  # fmt: skip
        page = report_page(work.entries(job), classifier.card, settings, title=title)
        write_page(out, page)
        tell(f"{len(work.made)} explanations on one page, {len(page.encode()) / 1e6:.1f} MB -> {out}")
        finish(job, as_json=False)


@dataclass
class _Labels:
    """What is known of pictures.

    Attributes:
        said: in one sentence, where it comes from.
        files: labels by the file's path or name, in lower case, of a table.
        known: names of classes in lower case, with what the model calls them: for folders.
    """

    said: str
    files: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(table: Path | None, classifier: Classifier) -> _Labels:
        """Of a table, or of the names of folders.

        Raises:
            InputError: a line of the table has no file and class of this model.
        """
        from torchbcos._core.tables import read_rows, tidy
        from torchbcos.zoo.card import imagenet_wnids

        names = classifier.class_names
        known = {name.casefold(): name for name in names}
        if classifier.card.classes == "imagenet":
            known |= dict(zip(imagenet_wnids(), names, strict=True))
        if table is None:
            return _Labels("folders that are called like a class", known=known)
        known |= {str(i): name for i, name in enumerate(names)}
        files: dict[str, str] = {}
        for number, row in read_rows(table):
            cells = [tidy(cell) for cell in row]
            label = known.get(cells[1].casefold()) if len(cells) > 1 else None
            if label is None and number > 1:
                raise InputError(
                    f"{quote(table)}, line {number}: expected a file and a class of this model, got {quote(str(cells)[:100])}."
                )
            if label is not None:
                files[cells[0].replace("\\", "/").casefold()] = label
        return _Labels(f"of {table.name}", files=files)

    def label(self, found: Found) -> str:
        """What a picture shows; "" where that is not known."""
        path = found.path.as_posix().casefold()
        relative = found.relative.as_posix().casefold()
        by_table = next((self.files[name] for name in (path, relative, found.path.name.casefold()) if name in self.files), "")
        return by_table or self.known.get(found.path.parent.name.casefold(), "")


@dataclass
class _Report:
    """What is explained of each picture, and what became of it.

    Attributes:
        labels: what is known.
        classes: indices of those that were named; None: the `top_k` highest.
        top_k: how many.
        contrast: the class that each is compared to.
        expected: how many explanations there will be about.
        made: an entry an explanation.
    """

    labels: _Labels
    classes: list[int] | None
    top_k: int
    contrast: int | None
    expected: int
    made: list[Entry] = field(default_factory=list)

    def answer(self, classifier: Classifier, batch: Batch) -> Iterator[Record]:
        """Explain the pictures of one batch, and keep what the page shows of each."""
        from torchbcos.viewer import entry_of
        from torchbcos.zoo.records import iter_explained

        files, pictures = [str(item.path) for item, _ in batch], [picture for _, picture in batch]

        def draw(i: int, e: Explanation, k: int, record: Record) -> None:
            truth, number = self.labels.label(batch[i][0]), len(self.made)
            best = [asdict(row) for row in classifier.predictions(e.outputs)[0]]
            whole: Record = {"file": files[i], "predictions": best}
            self.made.append(entry_of(e, k, whole, record, number, truth=truth, expected=self.expected))

        return iter_explained(
            classifier, files, pictures, self.classes, top_k=self.top_k, contrast=self.contrast, draw=draw
        )  # fmt: skip

    def entries(self, job: Walk) -> list[Entry]:
        """Those that were made, and those that failed."""
        from torchbcos.viewer import failed_entry

        return [*self.made, *(failed_entry(record) for record in job.all_records if record["error"] is not None)]
