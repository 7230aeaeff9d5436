"""Pictures that are copies of others, byte for byte: found by size first, so that almost nothing is read.

Packed scans (`.nii.gz`) are compared by what they unpack to: one volume that was packed twice, or lies there unpacked as well,
is a copy. The last eight bytes of a gzip file are the checksum and the length of what it unpacks to (RFC 1952), so few are
unpacked.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace

from torchbcos._core.names import quote
from torchbcos.data.labelled import FileReader, Split, Stored
from torchbcos.data.notes import count_of

__all__ = ["MOST_EXAMPLES", "MOST_READ", "copies_among", "copies_in_words", "pair_in_words", "with_twins"]

# Beyond these, data is not compared: asking for a million sizes takes seconds on a local disk and minutes on a network one, and
# of a million files nearly every one shares its size with another.
MOST_EXAMPLES, MOST_READ = 200_000, 20_000
_LARGEST = 2**28  # bytes of one example
_TAIL = 4096  # bytes at the end are compared before whole files: headers are often alike, ends of compressed pictures never
_PACKED, _TRAILER = ".nii.gz", 8
_PIECE = 2**20  # bytes that are unpacked at a time
_Place = tuple[int, int]  # split, example


def copies_among(splits: Sequence[Split]) -> list[list[_Place]]:
    """Sets of examples whose bytes are the same, as (split, example); none where there are too many to compare quickly."""
    stored = [split for split in splits if isinstance(split.reader, Stored)]
    if len(stored) < len(splits) or sum(map(len, splits)) > MOST_EXAMPLES:
        return []
    size = _asking(
        splits, lambda reader, i: n if 0 < (n := _length(reader, i)) <= _LARGEST else None
    )  # an empty one is no picture
    alike = list(_alike([[(s, i) for s, split in enumerate(splits) for i in range(len(split))]], size))
    if sum(map(len, alike)) > MOST_READ:
        return []
    tail = _asking(splits, lambda reader, i: reader.raw(i, max(0, reader.size(i) - _TAIL)))
    checksum = _asking(splits, _checksum)
    whole = _asking(splits, lambda reader, i: hashlib.blake2b(_content(reader, i)).digest())
    packed = _asking(splits, _is_packed)
    mixed = [any(map(packed, group)) for group in alike]
    likely = (part for group, some in zip(alike, mixed, strict=True) for part in _alike([group], checksum if some else tail))
    return list(_alike(likely, whole))


def _is_packed(reader: Stored, i: int) -> bool:
    return isinstance(reader, FileReader) and reader.files[i].lower().endswith(_PACKED)


def _trailer(reader: Stored, i: int) -> tuple[int, int]:
    """Checksum and length of what a packed example says that it unpacks to."""
    end = reader.raw(i, max(0, reader.size(i) - _TRAILER))
    return int.from_bytes(end[:4], "little"), int.from_bytes(end[4:], "little")


def _length(reader: Stored, i: int) -> int:
    return _trailer(reader, i)[1] if _is_packed(reader, i) else reader.size(i)


def _checksum(reader: Stored, i: int) -> int:
    return _trailer(reader, i)[0] if _is_packed(reader, i) else zlib.crc32(reader.raw(i))


def _content(reader: Stored, i: int) -> bytes:
    """The bytes of an example, unpacked.

    Raises:
        ValueError: it unpacks to more than it says, or to less.
    """
    data = reader.raw(i)
    if not _is_packed(reader, i):
        return data
    length, found, unpack = _trailer(reader, i)[1], bytearray(), zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        while data and not unpack.eof and len(found) <= length:
            found += unpack.decompress(data, _PIECE)
            data = unpack.unconsumed_tail
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(found) != length:
        raise ValueError(f"{len(found)} bytes instead of {length}")
    return bytes(found)


def _asking(splits: Sequence[Split], question: Callable[[Stored, int], Hashable]) -> Callable[[_Place], Hashable]:
    """A question about the bytes of an example; None where they cannot be read: whoever reads the picture says so."""

    def answer(place: _Place) -> Hashable:
        split = splits[place[0]]
        try:
            return question(split.reader, split.rows[place[1]]) if isinstance(split.reader, Stored) else None
        except (OSError, ValueError, MemoryError):
            return None

    return answer


def _alike(groups: Iterable[list[_Place]], key: Callable[[_Place], Hashable]) -> Iterable[list[_Place]]:
    """Each group divided by a key, without what stands alone then."""
    for group in groups:
        found: dict[Hashable, list[_Place]] = {}
        for place in group:
            found.setdefault(key(place), []).append(place)
        yield from (places for answer, places in found.items() if answer is not None and len(places) > 1)


def with_twins(train: Split, copies: Sequence[Sequence[_Place]]) -> Split:
    """The first split of `copies_among`, which knows its own copies."""
    sets = [[i for s, i in group if s == 0] for group in copies]
    if all(len(members) < 2 for members in sets):
        return train
    twins = list(range(len(train)))
    for members in sets:
        for i in members:
            twins[i] = members[0]
    return replace(train, twins=tuple(twins))


def copies_in_words(train: Split, report: Split | None, copies: Sequence[Sequence[_Place]]) -> tuple[str, ...]:
    """What a person should know of `copies_among`: what is reported and trained on, what has two labels, what is there twice."""
    splits = [train] if report is None else [train, report]
    crossing, contrary, twice = list[tuple[_Place, _Place]](), list[tuple[_Place, _Place]](), list[tuple[_Place, _Place]]()
    leaked = further = 0
    for group in copies:
        first = group[0]
        other = next((place for place in group if place[0] != first[0]), None)
        differs = next((place for place in group if _contradict(splits, place, first)), None)
        if other is not None:
            crossing.append((first, other))
            leaked += sum(place[0] == 1 for place in group)
        if differs is not None:
            contrary.append((first, differs))
        if other is None and differs is None:
            twice.append((first, group[1]))
            further += len(group) - 1
    found = []
    if crossing:
        found.append(
            f"{count_of(leaked, 'picture')} to report {'is' if leaked == 1 else 'are'} trained on as well, as byte-identical "
            f"copies: {pair_in_words(splits, crossing[0])}. The result says that much less about other pictures: remove the "
            "copies."
        )
    if contrary:
        found.append(
            f"Byte-identical pictures have different labels ({count_of(len(contrary), 'picture')}): "
            f"{pair_in_words(splits, contrary[0])}. One of the labels is wrong: remove it."
        )
    if twice:
        found.append(
            f"{count_of(further, 'picture')} {'is a byte-identical copy' if further == 1 else 'are byte-identical copies'} of "
            f"another: {pair_in_words(splits, twice[0])}. Remove copies that are not meant."
        )
    return tuple(found)


def _contradict(splits: Sequence[Split], place: _Place, other: _Place) -> bool:
    """Whether two examples have different labels; one that is not known contradicts none."""
    a, b = (splits[s].targets[i] for s, i in (place, other))
    return bool(((a != b) & ~a.isnan() & ~b.isnan()).any())


def pair_in_words(splits: Sequence[Split], pair: tuple[_Place, _Place]) -> str:
    """The names of two examples, with their splits where these differ."""
    roles = [" (to train on)", " (to report)"] if pair[0][0] != pair[1][0] else ["", ""]
    names = [splits[s].names[i] for s, i in pair]
    roots = [_root(splits[s], i) for s, i in pair]
    if roots[0] != roots[1]:  # each split counts from a folder of its own, `train/` and `val/` say
        names = [f"{os.path.basename(root)}/{name}" if root else name for root, name in zip(roots, names, strict=True)]
    return " and ".join(f"{quote(name)}{role}" for name, role in zip(names, roles, strict=True))


def _root(split: Split, i: int) -> str:
    """The folder that the name of an example counts from; empty where there is none."""
    file = split.reader.files[split.rows[i]].replace(os.sep, "/") if isinstance(split.reader, FileReader) else ""
    return file.removesuffix("/" + split.names[i]) if file.endswith("/" + split.names[i]) else ""
