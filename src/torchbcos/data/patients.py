"""Scans of one patient: pictures that look alike, of which none should be judged by a network that was trained on the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from torchbcos._core.errors import BcosError, MissingPackageError
from torchbcos.data.copies import pair_in_words
from torchbcos.data.labelled import ARRAY, FileReader, Split
from torchbcos.data.notes import count_of
from torchbcos.pictures.find import SUFFIXES
from torchbcos.pictures.origin import LEVELS, Origin, origin_of

__all__ = ["MOST_HEADERS", "growing_sets", "with_patients"]

MOST_HEADERS = 20_000  # a millisecond each; on a network disk ten
_OTHERS = (*SUFFIXES, ARRAY, ".nii", ".nii.gz")  # files that say nothing of patients
_MANY = {"patient": "patients", "study": "studies", "series": "series"}
_Place = tuple[int, int]  # split, example
_Origins = Mapping[_Place, Origin]


def with_patients(train: Split, report: Split | None, copies: Iterable[Sequence[_Place]]) -> tuple[Split, tuple[str, ...]]:
    """The split to train on, which knows what of it belongs together, and sentences on that.

    DICOM files of one patient belong together; where they tell no patients apart, those of one study, or else of one series.
    Byte-identical copies belong together, too, where there are such files.

    Args:
        train: to train on.
        report: to report, if there is such a split.
        copies: sets of copies, see `torchbcos.data.copies.copies_among`.
    """
    splits = [train] if report is None else [train, report]
    scans = [(s, i) for s, split in enumerate(splits) for i in _scans_in(split)]
    if len(scans) > MOST_HEADERS:
        more = "are too many to be asked which are of one patient"
        return train, (f"{count_of(len(scans), 'scan')} {more}: hold out some patients yourself, in val/ beside train/ say.",)
    origins = _origins(splits, scans)
    notes = _crossing(splits, origins) if report is not None else ()
    mine = {place: origin for place, origin in origins.items() if place[0] == 0}
    if len(mine) < 2:
        return train, notes
    level, sets = _level(mine)
    count = len(set(sets.values()))
    if count == len(mine):
        return train, notes
    if count == 1 and len(mine) == len(train):
        return train, (*notes, _alone(count_of(len(mine), "scan"), level))
    kept = replace(train, groups=_groups(len(train), sets, copies))
    return kept, (*notes, _together(count_of(len(mine), "scan"), count, level))


def _scans_in(split: Split) -> list[int]:
    """Examples that may be DICOM; the others were found by their suffixes."""
    reader = split.reader
    if not isinstance(reader, FileReader):
        return []
    return [i for i, row in enumerate(split.rows) if not reader.files[row].lower().endswith(_OTHERS)]


def _origins(splits: Sequence[Split], scans: Iterable[_Place]) -> dict[_Place, Origin]:
    """Whose each scan is, where that can be read: whoever reads its pixels says what is wrong with it."""
    found: dict[_Place, Origin] = {}
    for s, i in scans:
        reader = splits[s].reader
        assert isinstance(reader, FileReader)
        try:
            found[s, i] = origin_of(reader.files[splits[s].rows[i]])
        except MissingPackageError:
            return {}
        except BcosError:
            continue
    return found


def _level(origins: _Origins) -> tuple[str, dict[_Place, _Place]]:
    """The coarsest level that tells scans apart, the finest if none does; and the sets of scans that are one there."""
    for k, level in enumerate(LEVELS):
        different = {number for origin in origins.values() if (number := getattr(origin, level)) is not None}
        sets = _linked(origins, ([(key, getattr(origin, key)) for key in LEVELS[k:]] for origin in origins.values()))
        if len(different) > 1 and len(set(sets.values())) > 1:
            break
    return level, sets


def _linked(places: Iterable[_Place], keys: Iterable[Iterable[tuple[str, bytes | None]]]) -> dict[_Place, _Place]:
    """The first place of the set of each: what shares a key is one set, and what shares one with that."""
    find, join = growing_sets()
    first: dict[tuple[str, bytes], _Place] = {}
    places = list(places)
    for place, own in zip(places, keys, strict=True):
        for level, number in own:
            if number is not None:
                join(first.setdefault((level, number), place), place)
    return {place: find(place) for place in places}


def growing_sets() -> tuple[Callable[[_Place], _Place], Callable[[_Place, _Place], None]]:
    """Sets that grow together: what finds the first member of one's set, and what joins two sets."""
    above: dict[_Place, _Place] = {}

    def find(place: _Place) -> _Place:
        while (up := above.get(place, place)) != place:
            above[place] = above.get(up, up)  # halves the way for the next
            place = up
        return place

    def join(a: _Place, b: _Place) -> None:
        a, b = find(a), find(b)
        if a != b:
            above[max(a, b)] = min(a, b)

    return find, join


def _groups(count: int, sets: Mapping[_Place, _Place], copies: Iterable[Sequence[_Place]]) -> tuple[int, ...]:
    """One number an example to train on: that of the first with which it belongs together."""
    find, join = growing_sets()
    for place, first in sets.items():
        join(place, first)
    for group in copies:
        mine = [place for place in group if place[0] == 0]
        for place in mine[1:]:
            join(mine[0], place)
    return tuple(find((0, i))[1] for i in range(count))


def _crossing(splits: Sequence[Split], origins: _Origins) -> tuple[str, ...]:
    """A sentence on scans to report of a patient who is trained on."""
    level, sets = _level(origins)
    trained: dict[_Place, _Place] = {}
    for place, first in sets.items():
        if place[0] == 0:
            trained.setdefault(first, place)
    leaked = [place for place, first in sets.items() if place[0] == 1 and first in trained]
    if not leaked:
        return ()
    pair = pair_in_words(splits, (trained[sets[leaked[0]]], leaked[0]))
    return (
        f"{count_of(len(leaked), 'scan')} to report {'is' if len(leaked) == 1 else 'are'} of {_MANY[level]} that are trained on "
        f"as well: {pair}. The result says that much less about other patients: divide the data by patients.",
    )


def _together(scans: str, count: int, level: str) -> str:
    why = "" if level == LEVELS[0] else ", whose files tell no patients apart"
    sets = f"{count:,} {_MANY[level] if count > 1 else level}"
    return f"{scans} are of {sets}{why}: those of one {level} stay on one side where the data is divided."


def _alone(scans: str, level: str) -> str:
    return (
        f"All {scans} are of one {level}: what is held out of them looks like what is trained on, and the result says little "
        "about other patients."
    )
