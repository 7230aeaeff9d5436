"""Files that appear whole or not at all, and strangers' files, of which no kind hangs."""

from __future__ import annotations

import json
import math
import os
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchbcos._core.errors import InputError
from torchbcos._core.files import finite_or_null, read_whole, replacing, write_json


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target, old = tmp_path / "a", tmp_path / "old"
    target.write_text("first")
    with replacing(target, keep=old) as partial:
        partial.write_text("second")
        assert target.read_text() == "first"
    assert (target.read_text(), old.read_text()) == ("second", "first")
    with pytest.raises(IsADirectoryError), replacing(target, keep=old):
        tmp_path.write_text("what fails in the block")
    assert (target.read_text(), old.read_text()) == ("second", "first")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "old"]


def test_durable_files_are_on_the_disk_before_they_take_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append((tmp_path / "a").exists()))
    for durable in (False, True):
        with replacing(tmp_path / "a", durable=durable) as partial:
            partial.write_text("x")
        (tmp_path / "a").unlink()
    assert seen == [False]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "expected"), [(0o077, 0o600), (0o027, 0o640), (0o002, 0o664), (0, 0o666)])
def test_new_files_obey_the_umask(tmp_path: Path, umask: int, expected: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a", {})
        (tmp_path / "plain").touch()
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == mode(tmp_path / "plain") == expected


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o666, 0o444])
@pytest.mark.parametrize("keep", [False, True])
def test_a_file_that_is_replaced_hands_its_permissions_on(tmp_path: Path, permissions: int, keep: bool) -> None:
    target, old = tmp_path / "a", tmp_path / "old"
    target.write_text("first")
    target.chmod(permissions)
    with replacing(target, keep=old if keep else None) as partial:
        partial.write_text("second")
    assert target.read_text() == "second" and mode(target) == permissions
    assert old.exists() == keep
    if keep:
        assert (old.read_text(), mode(old)) == ("first", permissions)


def test_the_longest_names_that_a_folder_allows(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with replacing(target) as partial:
        partial.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_what_json_has_no_word_for_is_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"top1": float("nan"), "of": [float("-inf"), 1.5]})
    assert (tmp_path / "a").read_text("utf-8").split() == ["{", '"top1":', "null,", '"of":', "[", "null,", "1.5", "]", "}"]


NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@settings(max_examples=40)
@given(value=st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner)))
def test_whatever_it_is_strict_json_can_hold_it(value: object) -> None:
    found = json.loads(json.dumps(finite_or_null(value), allow_nan=False))
    assert found == finite_or_null(found)
    if isinstance(value, float) and math.isfinite(value):
        assert found == value


def test_a_regular_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for size in (0, 1, 99, 100):
        file.write_bytes(bytes(size))
        assert read_whole(file, 100) == bytes(size)
    (tmp_path / "link").symlink_to(file)
    assert read_whole(tmp_path / "link", 100) == bytes(100)
    os.truncate(file, 2**40)  # sparse: to read it would take all memory
    with pytest.raises(InputError, match=r"'.*/a' has more than 100 bytes, the most that is read of such a file: divide it"):
        read_whole(file, 100, "divide it.")
    with pytest.raises(InputError, match="more than 3 MB"):
        read_whole(file, 3 * 2**20)


def test_no_pipe_no_device_and_no_socket_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "pipe link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(tmp_path / "socket"))  # a path of a socket has 107 bytes at most
        for name in ("pipe", "zero", "pipe link", "socket"):
            with pytest.raises(InputError, match=f"{name}' is no regular file"):
                read_whole(tmp_path / name, 100)
    with pytest.raises(IsADirectoryError):
        read_whole(tmp_path, 100)
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "none", 100)


def test_a_file_that_becomes_a_pipe_or_grows_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"a" * 10)
    before = file.stat()
    file.unlink()
    os.mkfifo(file)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", lambda *_, **__: before)
        with pytest.raises(InputError, match="is no regular file"):
            read_whole(file, 100)
    file.unlink()
    file.write_bytes(b"a" * 90)
    with monkeypatch.context() as patch:  # the size is that of a moment ago
        patch.setattr(os, "fstat", lambda _: before)
        assert read_whole(file, 90) == b"a" * 90
        with pytest.raises(InputError, match="more than 89 bytes"):
            read_whole(file, 89)
