"""Members of tar shards: dots in names, what is left over, and tar files that lie."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.make import png, write_shard
from torchbcos._core.errors import BcosError, InputError
from torchbcos.data import members
from torchbcos.data.labelled import Labelled
from torchbcos.data.members import read_index
from torchbcos.data.sources import open_labelled


def shown(data: Labelled) -> dict[str, str]:
    """Each picture's name and class."""
    names = (name.partition(".tar/")[2] for name in data.train.names)
    return {name: data.classes[i] for name, i in zip(names, data.train.targets.tolist(), strict=True)}


def shard(folder: Path, *names: str) -> Path:
    """A shard in which '.cls' members hold their name's first letter."""
    folder.mkdir(exist_ok=True)
    texts = {name: name.rpartition("/")[2][:1].encode() for name in names if name.endswith((".cls", ".txt", ".json"))}
    write_shard(folder / "train-0.tar", [(name, texts.get(name, png(i))) for i, name in enumerate(names)])
    return folder


def test_names_with_dots_in_both_forms(tmp_path: Path) -> None:
    """Of eight pictures six were read where classes stood in '.cls', five where they were folders."""
    labelled = [f"{k}00{dots}.{end}" for k in "ab" for dots in ("", ".v2", ".2020.01") for end in ("png", "cls")]
    found = open_labelled(shard(tmp_path / "labelled", *labelled))
    assert shown(found) == {name: name[0] for name in labelled if name.endswith("png")} and len(found.train) == 6
    folders = [f"{k}/IMG.2020.{i}.png" for k in "ab" for i in range(3)] + ["a/3.png", "b/v1.2/x.y.JPG"]
    assert shown(open_labelled(shard(tmp_path / "folders", *folders))) == {
        **{name: name[0] for name in folders[:-1]}, "b/v1.2/x.y.JPG": "v1.2",
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_picture_is_read_or_counted(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    part = st.text("ab1._ é", min_size=1, max_size=6).filter(lambda text: text.strip("."))
    kind = st.sampled_from([".png", ".JPG", ".cls", ".json", ".seg.png", ".cls.txt", "", ".npy"])
    names = data.draw(st.lists(st.builds("{}{}{}".format, st.sampled_from(["", "a/", "b.1/", "./c/"]), part, kind), max_size=8))
    place = tmp_path_factory.mktemp("shards")
    write_shard(place / "train-0.tar", [(name, b"dog" if ".cls" in name else png(i)) for i, name in enumerate(names)])
    try:
        found = read_index([place / "train-0.tar"])
    except InputError as error:
        assert len(str(error)) <= 500 and "train-0.tar" in str(error)
        return
    counted = sum(int(note.split(" ")[0].replace(",", "")) for note in found.notes if "of shards" in note)
    used = {name.rpartition(".cls")[0] for name in names if name.endswith((".cls", ".cls.txt"))}
    assert len(found.members) + counted + len(used) >= len(names) >= len(found.members) + counted


def test_masks_beside_a_picture_are_not_pictures(tmp_path: Path) -> None:
    labelled = open_labelled(shard(tmp_path / "x", "a.jpg", "a.seg.png", "a.cls", "b.image.png", "b.cls", "c.png", "c.cls.txt"))
    assert shown(labelled) == {"a.jpg": "a", "b.image.png": "b", "c.png": "c"}
    assert any(
        "1 member of shards: pictures beside the one" in note and "train-0.tar/a.seg.png" in note for note in labelled.notes
    )
    folders = open_labelled(shard(tmp_path / "y", "k/a.jpg", "k/a.seg.png", "l/b.png"))
    assert shown(folders) == {"k/a.jpg": "k", "l/b.png": "l"} and "a.seg.png" in folders.notes[0]
    for names in (("a.left.png", "a.right.png", "a.cls"), ("a.jpg", "a.png", "a.cls")):
        with pytest.raises(InputError, match=rf"'a\.cls' may be of '{names[0]}' or of '{names[1]}'"):
            open_labelled(shard(tmp_path / "z", *names))


def test_what_is_left_over_is_counted(tmp_path: Path) -> None:
    place = shard(
        tmp_path, "a.png", "a.cls", "b.png", "b.cls", "a.json", "b.json", "b.txt", "c.cls", "._a.png", ".x/d.png", "b.cls"
    )
    with tarfile.open(place / "train-0.tar", "a") as tar:
        for name, kind in (("hard.png", tarfile.LNKTYPE), ("soft.png", tarfile.SYMTYPE), ("zero.png", tarfile.CHRTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "a.png"
            tar.addfile(link)
    found = open_labelled(place)
    assert shown(found) == {"a.png": "a", "b.png": "b"}
    assert found.notes == (
        "3 members of shards: not read as pictures and not used (2 .json, 1 .txt); the first is 'train-0.tar/a.json'.",
        "2 members of shards: hidden and not used; the first is 'train-0.tar/._a.png'.",
        "3 members of shards: links, devices or the like and not used; the first is 'train-0.tar/hard.png'.",
        "1 member of shards: labels without a picture and not used; the first is 'train-0.tar/c.cls'.",
        "1 member of shards: replaced by later members of their names, as in unpacking; the first is 'train-0.tar/b.cls'.",
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", png(1)), ("a.cls", b" \n")], r"'a\.cls': the name of the class, '', is empty"),
        ([("a.png", png(1)), ("a.cls", b"x" * 201)], "has 201 characters, more than 200"),
        ([("a.png", png(1)), ("a.cls", b"x" * 5000)], r"'a\.cls' has 5,000 bytes: that is no name of a class"),
        ([("a.png", png(1)), ("a.cls", b"\xff\xfe")], r"'a\.cls' is not text in UTF-8 \(byte 0xff\)"),
        ([("a.png", png(1)), ("a.cls", b"c\x1b[2J")], r"contains the control character U\+001B"),
        ([("k\x07/a.png", png(1))], r"the folder of 'k\\x07/a\.png': the name of the class, .*U\+0007"),
        ([("./a.png", png(1)), ("./b.png", png(2))], r"'\./a\.png' has neither a '\.cls' beside it nor a folder"),
        ([("d/a.png", png(1)), ("d/a.cls", b"0"), ("d/b.png", png(2))], r"'d/b\.png' has no '\.cls' beside it, and others have"),
        ([("a.json", b"{}")], r"holds no pictures\. 1 member of shards: not read as pictures"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    write_shard(tmp_path / "train-0.tar", members)
    with pytest.raises(InputError, match=message) as caught:
        open_labelled(tmp_path)
    assert len(str(caught.value)) <= 500 and str(caught.value).isprintable()


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header whose size field holds any twelve bytes."""
    info = tarfile.TarInfo(name)
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157] = size, kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def large(size: int) -> bytes:
    return size.to_bytes(12, "big", signed=True) if size < 0 else b"\x80" + size.to_bytes(11, "big")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("a/1.png", large(-512)) + bytes(1024), "size below zero|cannot be read|no uncompressed tar"),
        (header("a/1.png", large(-1024)) + bytes(1024), "size below zero|cannot be read|no uncompressed tar"),
        (header("x", large(2**40), b"L") + bytes(1024), "a header of 1,099,511,627,776 bytes"),
        (header("x", large(-1), b"L") + bytes(1024), "a header of|size below zero|header"),
        (header("x", large(2**33), b"x") + bytes(1024), "a header of 8,589,934,592 bytes"),
        (header("x", large(2**33), b"g") + bytes(1024), "a header of 8,589,934,592 bytes"),
        (header("a/1.png", large(2**62)) + bytes(1024), "unexpected end of data|cannot be read|no uncompressed tar"),
        (b"\x1f\x8b" + bytes(1000), "no uncompressed tar file"),
        (b"(\xb5/\xfd" + bytes(1000), "no uncompressed tar file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "is a pointer of Git LFS"),
    ],
    ids=range(10),
)
def test_tar_files_that_lie(tmp_path: Path, content: bytes, message: str) -> None:
    """A negative size went around in circles or read the whole file, a long name was read whatever size it claimed."""
    (tmp_path / "train-0.tar").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_labelled(tmp_path)


def test_nothing_lies_unread_behind_the_end(tmp_path: Path) -> None:
    """tarfile ends in silence at a damaged header, and at the end of the first of two archives."""
    write_shard(tmp_path / "train-0.tar", [(f"{k}/{i}.png", png(i)) for i in range(3) for k in "ab"])
    whole = (tmp_path / "train-0.tar").read_bytes()
    (tmp_path / "train-0.tar").write_bytes(whole[:1024] + b"\xff" + whole[1025:])
    with pytest.raises(InputError, match="more after its end, at byte 1,024, which is not read: a header there is damaged"):
        open_labelled(tmp_path)
    (tmp_path / "train-0.tar").write_bytes(whole + whole)
    with pytest.raises(InputError, match="more after its end, at byte 10,240, which is not read: two archives joined"):
        open_labelled(tmp_path)
    (tmp_path / "train-0.tar").write_bytes(whole[:-1024].rstrip(b"\0") + bytes(512))
    assert len(open_labelled(tmp_path)) == 6  # no mark at the end: all members are there


def test_pictures_that_cannot_be_read_are_left_to_on_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member of 5 GB was read whole; of a sparse one other bytes than its own."""
    with tarfile.open(tmp_path / "train-0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, size, pax in (
            ("a/1.png", len(png(1)), {}),
            ("b/2.png", 512, {"GNU.sparse.map": "0,512", "GNU.sparse.size": "9000"}),
        ):
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = size, pax
            tar.addfile(info, io.BytesIO(png(1) + bytes(512)))
    found = open_labelled(tmp_path)
    assert len(found.train) == 2 and found.train.read(0).getpixel((0, 0))[0] == 1  # type: ignore[union-attr, index]
    with pytest.raises(InputError, match=r"'b/2\.png' in 'train-0\.tar' is stored as a sparse file"):
        found.train.read(1)
    monkeypatch.setattr("torchbcos.data.shards.MAX_BYTES", 20)
    with pytest.raises(
        InputError, match=r"'a/1\.png' in 'train-0\.tar' has \d+ bytes, more than the 20 that are read of a picture"
    ):
        found.train.read(0)
    (tmp_path / "train-0.tar").unlink()
    monkeypatch.undo()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        found.train.read(0)


def test_the_guard_against_sizes_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train-0.tar").write_bytes(header("x", large(2**21), b"L") + bytes(2**21 + 1024))
    monkeypatch.setattr(members, "_LONGEST_HEADER", 2**22)
    with pytest.raises(BcosError) as caught:
        open_labelled(tmp_path)
    assert "a header of" not in str(caught.value)
