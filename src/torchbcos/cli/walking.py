"""The walk over pictures that `explain` and `predict` share: found, read, answered, counted; and stopped without a loss."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from torchbcos._core.errors import BcosError, InputError, shorten
from torchbcos._core.names import quote
from torchbcos.cli.common import print_json, say, shown, tell
from torchbcos.cli.overhearing import is_tiff, overheard
from torchbcos.cli.stopping import Stopped

if TYPE_CHECKING:
    from torchbcos.pictures import Found
    from torchbcos.zoo import Classifier
    from torchbcos.zoo.records import Record

__all__ = ["PIPED", "STDIN", "Batch", "Walk", "finish", "gather", "refuse_missing", "walk"]

Batch: TypeAlias = list[tuple["Found", Any]]  # pictures with what was read of each
_Work: TypeAlias = Callable[["Classifier", Batch], Iterable["Record"]]
_Show: TypeAlias = Callable[["Record"], None]

STDIN = "-"
PIPED = "stdin"  # what a picture from there is called
_MAGIC = frozenset("*?[")
_QUOTED = re.compile(r"^'[^']*'|^\"[^\"]*\"")
_NUMBER = re.compile(r"-?\d[\d.,e+-]*")


@dataclass
class Walk:
    """What a command was asked to answer, and what it has answered so far.

    Attributes:
        found: the pictures.
        missing: a record for each path that names none.
        kind: what one is called: "picture", "signal" or "volume".
        piped: the one of them that came from stdin, and its bytes.
        skipped: the records of pictures that are not answered again.
        records: one a picture that is answered, in the order of the files.
        stopped: the code that a signal ends the command with; None: it went to its end.
    """

    found: list[Found]
    missing: list[Record]
    kind: str = "picture"
    piped: tuple[Found, bytes] | None = None
    skipped: dict[Found, Record] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    stopped: int | None = None

    @property
    def pending(self) -> list[Found]:
        """The pictures that are to be answered."""
        return [item for item in self.found if item not in self.skipped]

    @property
    def all_records(self) -> list[Record]:
        """One for each picture so far, in the order of the files, and for each path that names none."""
        answered = iter(self.records)
        each = (self.skipped[item] if item in self.skipped else next(answered, None) for item in self.found)
        return [record for record in each if record is not None] + self.missing


def refuse_missing(paths: list[str], *, as_json: bool) -> None:
    """Leave with exit code 2 where no path can name anything: before a model is loaded, which may take a download.

    Raises:
        InputError: nothing is piped, though a path says so.
    """
    if STDIN in paths and sys.stdin.isatty():
        raise InputError("'-' reads a picture from a pipe, and here is a terminal: curl ADDRESS | torchbcos explain -")
    if not any(path == STDIN or os.path.lexists(path) or _MAGIC & set(path) for path in paths):
        gather(paths, None, as_json=as_json)


def gather(paths: list[str], classifier: Classifier | None, *, as_json: bool) -> Walk:
    """What `paths` name of all that a classifier takes, and a record for each path that names nothing; those are said.

    Leaves with exit code 2 where there is nothing at all.
    """
    from torchbcos.pictures import find_images
    from torchbcos.zoo.records import failed_record

    errors: list[BcosError] = []
    missing: list[Record] = []

    def each() -> Iterator[str]:
        for path in paths:
            if path == STDIN:
                continue
            yield path  # the error of this one, if any, is there when the next is asked for
            if len(errors) > len(missing):
                missing.append(failed_record(path, errors[-1]))

    form = None if classifier is None else classifier.transform.form
    found = find_images(each(), errors=errors, form=form) if set(paths) != {STDIN} else []
    walk = Walk(found, missing, "picture" if form is None else form.kind)
    if STDIN in paths:
        try:
            walk.piped = _piped(found)
            walk.found = [walk.piped[0], *found]
        except BcosError as error:
            errors.append(error)
            missing.append(failed_record(PIPED, error))
    for each_error in errors:
        say(f"torchbcos: {each_error}")
    if not walk.found:
        if as_json:
            print_json(missing)
        raise typer.Exit(2)
    return walk


def _piped(found: list[Found]) -> tuple[Found, bytes]:
    """The picture that comes from stdin, with a place for its output that no other has, and its bytes."""
    from torchbcos.pictures import Found, decode_image
    from torchbcos.pictures.containers import identify
    from torchbcos.pictures.read import MAX_BYTES

    data = sys.stdin.buffer.read(512)
    if not _is_array_or_scan(data) and identify(data) is None:
        decode_image(data, PIPED)  # says what it seems to be; no more of it is read
    data += sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{PIPED} has more than the {MAX_BYTES:,} bytes that are read.")
    taken, place, number = {str(item.relative.with_suffix("")).casefold() for item in found}, PIPED, 1
    while place in taken:
        number += 1
        place = f"{PIPED}-{number}"
    return Found(Path(PIPED), Path(place)), data


def _is_array_or_scan(data: bytes) -> bool:
    """Whether the first bytes are those of a `.npy`, DICOM or NIfTI file."""
    from torchbcos.pictures.kinds import NUMPY, scan_suffix

    return data.startswith(NUMPY) or scan_suffix(data) is not None


def walk(
    job: Walk, classifier: Classifier, batch_size: int, work: _Work, show: _Show | None,
    value_range: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """Read pictures batch by batch and hand them to `work`; name those that fail on stderr.

    Args:
        job: the pictures; gets a record a picture as soon as it is there, with a "warning" where its numbers fill a sixteenth
            of their range only, its file is damaged in part, or its explanation does not add up, which is said on stderr once.
            A signal ends it: `job.stopped` is the code, then.
        classifier: says how files are read.
        batch_size: how many are read at a time.
        work: answers for the pictures of one batch that could be read.
        show: prints the record of a picture as soon as it is there; None prints nothing, and shows no progress bar.
        value_range: the stored numbers of black and white.
    """
    from torchbcos.pictures.samples import heard

    reader, answer = _Reader(job, classifier, value_range), partial(work, classifier)
    pending = job.pending
    starts = range(0, len(pending), batch_size)
    try:
        with heard():  # what is said of each was said when it was read
            for start in shown(starts, len(starts), quiet=show is None):
                batch = [(item, *reader.read(item)) for item in pending[start : start + batch_size]]
                for (item, _, note), record in zip(batch, _answers(batch, answer), strict=True):
                    words = " ".join(filter(None, (note, record.get("warning"))))
                    job.records.append(record | {"warning": words} if words else record)
                    if _inexact(record) and not any(map(_inexact, job.records[:-1])):
                        say(f"torchbcos: {quote(item.path)}: {record['warning']} (Said once.)")
                    if record["error"] is not None:
                        _say_failure(item, record["error"])
                    elif show is not None:
                        show(record)
    except Stopped as stop:
        job.stopped = stop.code


def _inexact(record: Record) -> bool:
    """Whether an explanation of this picture does not add up."""
    return any(not e["complete"] for e in record["explanations"])


def _answers(batch: list[tuple[Found, Any, str]], work: Callable[[Batch], Iterable[Record]]) -> Iterator[Record]:
    """A record for each picture of a batch: of those that could not be read the failed one."""
    from torchbcos.zoo.records import attempt

    good = [(item, picture) for item, picture, _ in batch if not isinstance(picture, dict)]
    answers = attempt(work, good, lambda pair: str(pair[0].path)) if good else iter(())
    for _, picture, _ in batch:
        yield picture if isinstance(picture, dict) else next(answers)


class _Reader:
    """Reads one picture after another; says once that animations are cut, and that numbers are dark."""

    def __init__(self, job: Walk, classifier: Classifier, value_range: tuple[float, float] | None) -> None:
        self.transform, self.value_range = classifier.transform, value_range
        self.other_size, self.sized = classifier.other_size, False
        self.piped = job.piped
        self.cut = self.warned = False
        self.noted: set[str] = set()

    def read(self, item: Found) -> tuple[Any, str]:
        """A picture as the classifier takes it, or its failed record; and what a user should hear of it, or ""."""
        from torchbcos.pictures.samples import heard, other_range

        with heard() as notes:
            found, note = self._read(item)
        other = other_range(self.transform.value_range, self.value_range)
        notes = [one for one in notes if one != other]
        if other is not None:
            self._say_once(other)
        for one in notes:
            self._say_once(one)
        return found, " ".join([*([other] if other else []), *notes, *([note] if note else [])])

    def _read(self, item: Found) -> tuple[Any, str]:
        from torchbcos.zoo.records import failed_record

        data = self.piped[1] if self.piped is not None and item is self.piped[0] else None
        try:
            if self._is_picture(item.path, data):
                return self._read_picture(item.path, data)
            source = item.path if data is None else io.BytesIO(data)
            found = self.transform.read(source, str(item.path), value_range=self.value_range)
            self._note(item.path, getattr(found, "facts", {}).get("notes", ()))
            return found, self._size_note(item.path, found)
        except BcosError as error:
            return failed_record(str(item.path), error), ""

    def _note(self, path: Path, notes: Iterable[str]) -> None:
        """Say what the reader of a scan noted, each thing once; all of it is in the records."""
        from torchbcos.pictures.samples import OUT_OF_RANGE

        for note in notes:
            if OUT_OF_RANGE not in note:  # that is heard
                self._say_once(note, f"{quote(path)}: ")

    def _say_once(self, note: str, before: str = "") -> None:
        kind = _NUMBER.sub("", _QUOTED.sub("", note))
        if kind not in self.noted:
            self.noted.add(kind)
            say(f"torchbcos: {before}{note} (Said once.)")

    def _size_note(self, path: Path, found: Any) -> str:
        """What is to be said of a signal or volume that has another size than those that were trained on; said once."""
        from torchbcos.zoo.sizes import mark_as_said

        if self.transform.axes == 2:
            return ""
        pixels = getattr(found, "pixels", found)
        note = self.other_size(pixels.shape[1:])
        if note is None:
            return ""
        if not self.sized:
            say(f"torchbcos: {quote(path)}: {note} (Said once.)")
        self.sized = True
        mark_as_said(note)
        return note

    def _is_picture(self, path: Path, data: bytes | None) -> bool:
        """Whether this classifier takes pictures, and here is something that is no array and no scan."""
        from torchbcos.pictures.kinds import ARRAYS, ends_with
        from torchbcos.pictures.scans import is_scan

        if not self.transform.form.takes_pictures:
            return False
        return not (_is_array_or_scan(data) if data is not None else ends_with(path, ARRAYS) or is_scan(path))

    def _read_picture(self, path: Path, data: bytes | None) -> tuple[Any, str]:
        from torchbcos.pictures import decode_image, is_animated, read_image, take_note

        limits = self.value_range or self.transform.value_range
        lines: list[str] = []
        with overheard() if is_tiff(path if data is None else data) else nullcontext(lines) as lines:
            image = read_image(path, value_range=limits) if data is None else decode_image(data, PIPED, value_range=limits)
        notes = []
        if lines:
            notes.append(f"{quote(path)}: the decoder says {shorten(lines[0], 200)!r}: the file may be damaged in part.")
            say(f"torchbcos: {notes[0]}")
        if (dark := take_note(image)) is not None:
            notes.append(dark)
            if not self.warned:
                say(f"torchbcos: {dark} (Said once.)")
            self.warned = True
        if is_animated(image) and not self.cut:
            say(f"torchbcos: {quote(path)} is animated or has pages: the first is used (said once).")
            self.cut = True
        return self.transform.read(image, str(path)), " ".join(notes)


def _say_failure(found: Found, error: str) -> None:
    """Name a picture that failed on stderr."""
    named = repr(found.path.name)[1:-1] in error or found.path.name in error
    say(f"torchbcos: {error if named else f'{quote(found.path)}: {error}'}")


def finish(job: Walk, *, as_json: bool, go_on: str = "") -> None:
    """Print the JSON list or the count, and leave: 0 if all is done, 1 if something failed, 130 if it was interrupted.

    A picture whose explanation does not add up has not been explained exactly, which is what was asked for: 1, as a script that
    reads nothing else must not go on as if it had been.

    `go_on` is what follows a word about the interruption.
    """
    pending = len(job.pending)
    failed = len(job.missing) + sum(record["error"] is not None for record in job.records)
    total, inexact = pending + len(job.missing), sum(map(_inexact, job.records))
    if job.stopped is not None:
        say(f"torchbcos: stopped after {len(job.records)} of {pending} {job.kind}s{go_on if job.records else ''}.")
    if as_json and (job.records or job.stopped is None):
        print_json(job.all_records)
    elif not as_json and job.stopped is None and total > 1:
        doubtful = f", {inexact} of them not explained exactly" if inexact else ""
        tell(f"{total - failed} of {total} {job.kind}s done{doubtful}.")
    raise typer.Exit(job.stopped if job.stopped is not None else 1 if failed or inexact else 0)
