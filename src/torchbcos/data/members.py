"""The members of tar shards: which of them are pictures, what labels each, and what is left over."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from torchbcos._core.errors import InputError
from torchbcos._core.foreign import foreign, refuse_pointer
from torchbcos._core.names import quote
from torchbcos._core.tables import tidy
from torchbcos.data.labelled import ARRAY
from torchbcos.data.notes import check_class, count_of, kinds_of
from torchbcos.pictures.find import SUFFIXES

__all__ = ["BENT", "Index", "read_index", "read_pictures", "split_name"]

BENT = -1  # the offset of a picture whose bytes do not lie in the tar as they are
_LABELS = (".cls", ".cls.txt")
_TABLE = "labels.csv"
_LONGEST_HEADER = 2**20  # bytes: long names and pax headers are read whole by tarfile, whatever size they claim
_LONGEST_LABEL = 4096  # bytes of a '.cls'
_AFTER = 2**24  # bytes after the end of an archive that are looked at: writers fill up to 10 KiB with zeros
_Place = tuple[int, int, int, str]  # tar, offset, size, name


class Index(NamedTuple):
    """Pictures of shards.

    Attributes:
        members: (tar, offset, size, name) of each picture.
        classes: of each, as the shards write it.
        notes: a sentence for each kind of thing that is there and not used.
    """

    members: list[_Place]
    classes: list[str]
    notes: tuple[str, ...] = ()


def split_name(name: str) -> tuple[str, str]:
    """A member's key and suffix: the key ends at the first dot of the last part, as in WebDataset.

    >>> split_name("a.b/001.seg.png")
    ('a.b/001', '.seg.png')
    """
    folder, _, last = name.rpartition("/")
    base, _, suffix = last.partition(".")
    return (f"{folder}/{base}" if folder else base), f".{suffix}".lower()


@dataclass
class _Left:
    """What is left over of shards, by kind: how many, and the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def add(self, kind: str, tar: Path, name: str) -> None:
        self.counts[kind] += 1
        self.firsts.setdefault(kind, f"{tar.name}/{name}")
        if kind == "other":
            self.others.append(name)

    def notes(self) -> tuple[str, ...]:
        """A sentence a kind."""
        said = {
            "other": f"not read as pictures and not used ({kinds_of(self.others)})",
            "hidden": "hidden and not used",
            "link": "links, devices or the like and not used",
            "beside": "pictures beside the one that a label or a key stands for, and not used",
            "label": "labels without a picture and not used",
            "replaced": "replaced by later members of their names, as in unpacking",
        }
        return tuple(
            f"{count_of(self.counts[kind], 'member')} of shards: {text}; the first is {quote(self.firsts[kind])}."
            for kind, text in said.items()
            if self.counts[kind]
        )


@dataclass
class _Shard:
    """What one tar file holds."""

    path: Path
    pictures: dict[str, _Place] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)  # stem -> class


def read_index(tars: list[Path]) -> Index:
    """The index, from the headers of all members.

    Raises:
        InputError: a tar file cannot be read, a label is none, or a picture has none.
    """
    left = _Left()
    shards = [_scan(tar, k, left) for k, tar in enumerate(tars)]
    labelled = any(shard.labels for shard in shards)
    table = next((name for name in left.others if os.path.basename(name).lower() == _TABLE), None)
    if table is not None and not labelled:
        raise InputError(
            f"{quote(tars[0].parent)} holds shards with a table {quote(table)} in them, which is not read there: unpack them, "
            "and name the folder with the table."
        )
    members, classes = list[_Place](), list[str]()
    for shard in shards:
        for place, label in _labelled_in(shard, left) if labelled else _in_folders(shard, left):
            members.append(place)
            classes.append(label)
    if not members:
        notes = " ".join(left.notes())
        raise InputError(
            f"{str(tars[0])!r}{' and the other shards hold' if tars[1:] else ' holds'} no pictures. {notes}".rstrip()
        )
    return Index(members, classes, left.notes())


def read_pictures(tars: list[Path]) -> Index:
    """The index of all pictures, whatever labels there are; masks and the like beside a picture of their key are left over.

    Raises:
        InputError: a tar file cannot be read.
    """
    left = _Left()
    members = [place for k, tar in enumerate(tars) for place in _main_ones(_scan(tar, k, left), left)]
    return Index(members, [""] * len(members), left.notes())


def _main_ones(shard: _Shard, left: _Left) -> list[_Place]:
    """The pictures of a shard but those beside one of their key ('1.seg.png' beside '1.jpg')."""
    plain = {key for name in shard.pictures if (key := split_name(name)[0]) == os.path.splitext(name)[0]}
    found = []
    for name, place in shard.pictures.items():
        key = split_name(name)[0]
        if key in plain and key != os.path.splitext(name)[0]:
            left.add("beside", shard.path, name)
        else:
            found.append(place)
    return found


def _scan(tar: Path, k: int, left: _Left) -> _Shard:
    """All members of one tar file, by their headers; labels are read."""
    shard = _Shard(tar)
    with foreign(f"{str(tar)!r} is no uncompressed tar file that can be read"), open(tar, "rb") as raw:
        refuse_pointer(raw.read(64), quote(tar))
        raw.seek(0)
        with tarfile.open(fileobj=_Headers(raw), mode="r:", errors="surrogateescape") as file:  # type: ignore[call-overload]
            end = 0
            while (member := file.next()) is not None:
                file.members.clear()  # a shard of millions of members would fill gigabytes
                if member.size < 0 or member.offset_data < end:
                    raise InputError(f"{quote(tar)}: the member {quote(member.name)} has a size below zero: it is damaged.")
                end = member.offset_data
                _sort(member, raw, k, shard, left)
            _check_end(raw, file.offset, tar)
    return shard


class _Headers:
    """A tar file of which no more is read at once than a header may need, whatever the header before it claims."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.name, self.mode = file.name, "rb"

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _sort(member: tarfile.TarInfo, raw: BinaryIO, k: int, shard: _Shard, left: _Left) -> None:
    """One member into pictures, labels, or what is left over."""
    name = member.name
    suffix = next((s for s in _LABELS if name.lower().endswith(s)), "")
    if member.isdir():
        return
    if any(part.startswith(".") for part in name.split("/") if part not in (".", "..")):
        left.add("hidden", shard.path, name)  # those that begin with ._ are a Mac's notes on files
    elif not member.isfile():
        left.add("link", shard.path, name)
    elif suffix:
        stem = name[: -len(suffix)]
        if stem in shard.labels:
            left.add("replaced", shard.path, name)
        shard.labels[stem] = _read_label(member, raw, shard.path)
    elif os.path.splitext(name)[1].lower() in (*SUFFIXES, ARRAY):
        if name in shard.pictures:
            left.add("replaced", shard.path, name)
        # a later member takes the place of an earlier one of its name, as when the archive is unpacked
        shard.pictures[name] = k, BENT if member.issparse() else member.offset_data, member.size, name
    else:
        left.add("other", shard.path, name)


def _read_label(member: tarfile.TarInfo, raw: BinaryIO, tar: Path) -> str:
    """The class in a '.cls'.

    Raises:
        InputError: it is no name of a class.
    """
    where = f"{quote(tar)}: {quote(member.name)}"
    if member.size > _LONGEST_LABEL or member.issparse():
        raise InputError(f"{where} has {member.size:,} bytes: that is no name of a class.")
    raw.seek(member.offset_data)
    data = raw.read(member.size)
    try:
        name = tidy(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not text in UTF-8 (byte 0x{data[error.start]:02x}).") from None
    check_class(name, where)
    return name


def _check_end(raw: BinaryIO, end: int, tar: Path) -> None:
    """Refuse an archive that goes on after its end: tarfile stops in silence at a damaged header, and at the end of the first of
    two archives in one file."""
    raw.seek(end)
    rest = raw.read(_AFTER)
    if rest.strip(b"\0"):
        first = end + len(rest) - len(rest.lstrip(b"\0"))
        why = "a header there is damaged" if rest[:1] != b"\0" else "two archives joined into one file, perhaps"
        raise InputError(f"{quote(tar)} holds more after its end, at byte {first:,}, which is not read: {why}. Pack it again.")


def _labelled_in(shard: _Shard, left: _Left) -> list[tuple[_Place, str]]:
    """The pictures of a shard whose classes stand in '.cls' members.

    A label is of the picture of its name; or of the one picture of its key, which ends at the first dot ('001.cls' of
    '001.image.png'). Further pictures of the key are masks and the like.

    Raises:
        InputError: a picture has no label, or nothing says which of several pictures one label is of.
    """
    of: dict[str, list[_Place]] = {}
    for name, place in shard.pictures.items():
        stem = os.path.splitext(name)[0]
        key = split_name(name)[0]
        label = next((form for form in (stem, key) if form in shard.labels), None)
        if label is None:
            lone = _folder_of(name) is None
            why = (
                "neither a '.cls' beside it nor a folder that names its class."
                if lone
                else "no '.cls' beside it, and others have."
            )
            raise InputError(f"{quote(shard.path)}: {quote(name)} has {why}")
        of.setdefault(label, []).append(place)
    for label in shard.labels:
        if label not in of:
            left.add("label", shard.path, f"{label}.cls")
    chosen = {label: _the_one(shard, f"{label}.cls", label, places, left) for label, places in of.items()}
    return [(place, shard.labels[label]) for label, place in chosen.items()]


def _the_one(shard: _Shard, owner: str, stem: str, places: list[_Place], left: _Left) -> _Place:
    """Of several pictures the one whose name without its suffix is `stem`; the others are left over."""
    plain = [place for place in places if os.path.splitext(place[3])[0] == stem] if len(places) > 1 else places
    if len(plain) != 1:
        a, b = (quote(place[3]) for place in places[:2])
        raise InputError(f"{quote(shard.path)}: {quote(owner)} may be of {a} or of {b}: give each picture a '.cls' of its own.")
    for place in places:
        if place is not plain[0]:
            left.add("beside", shard.path, place[3])
    return plain[0]


def _in_folders(shard: _Shard, left: _Left) -> list[tuple[_Place, str]]:
    """The pictures of a shard whose classes are their folders; those beside a picture of their key ('1.seg.png' beside '1.jpg')
    are masks and the like.

    Raises:
        InputError: a picture lies in no folder.
    """
    lone = next((name for name in shard.pictures if _folder_of(name) is None), None)
    if lone is not None:
        raise InputError(f"{quote(shard.path)}: {quote(lone)} has neither a '.cls' beside it nor a folder that names its class.")
    found = []
    for place in _main_ones(shard, left):
        label = tidy(_folder_of(place[3]) or "")
        check_class(label, f"{quote(shard.path)}: the folder of {quote(place[3])}")
        found.append((place, label))
    return found


def _folder_of(name: str) -> str | None:
    """The folder right above a member; None where there is none."""
    folder = os.path.basename(os.path.dirname(name))
    return None if folder in ("", ".", "..") else folder
