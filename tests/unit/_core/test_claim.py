"""One process writes a folder at a time: the lock ends with its holder, and names it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from torchbcos._core import claim
from torchbcos._core.claim import LOCK, claimed
from torchbcos._core.errors import StateError


def held(folder: Path, ready: Path, until: Path) -> None:
    """Hold a folder in a process of its own, with a child of that process that lives longer."""
    with claimed(folder, "trains"):
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        ready.touch()
        while not until.exists():
            time.sleep(0.01)


def begin(folder: Path, place: Path) -> int:
    child = os.fork()
    if child == 0:
        held(folder, place / "ready", place / "until")
        os._exit(0)
    while not (place / "ready").exists():
        time.sleep(0.01)
    return child


def test_the_second_is_told_by_whom(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    child = begin(folder, tmp_path)
    with pytest.raises(StateError) as caught, claimed(folder, "trains"):
        pass
    assert f"Another process trains here (process {child} on {socket.gethostname()}, since 20" in str(caught.value)
    assert "Wait for it, end it, or choose another folder." in str(caught.value) and (folder / LOCK).is_file()
    os.kill(child, signal.SIGKILL)  # its own child goes on living
    os.waitpid(child, 0)
    with claimed(folder, "trains") as sure:
        assert sure and json.loads((folder / LOCK).read_text())["pid"] == os.getpid()
    assert not folder.joinpath(LOCK).exists()


def test_a_folder_that_was_made_for_the_lock_goes_with_it(tmp_path: Path) -> None:
    for name in ("empty", "written"):
        with claimed(tmp_path / name, "trains"):
            if name == "written":
                (tmp_path / name / "a").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["written"]
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "written", "trains"):
        raise ZeroDivisionError
    with claimed(tmp_path / "written", "trains"):
        pass
    assert [path.name for path in (tmp_path / "written").iterdir()] == ["a"]


def test_what_an_ended_process_left_is_no_lock(tmp_path: Path) -> None:
    """Numbers of processes repeat, in containers always: only the kernel knows who has it."""
    (tmp_path / LOCK).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": "now"}))
    with claimed(tmp_path, "trains") as sure:
        assert sure


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}', "[" * 5000, '{"pid": 1, "host": "\\u001b[2J", "since": [1]}'])
def test_a_holder_that_says_nothing_of_use(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_PATIENCE", 0.05)
    with claimed(tmp_path, "trains"):
        (tmp_path / LOCK).write_text(text)
        with pytest.raises(StateError, match="Another process trains here") as caught, claimed(tmp_path, "trains"):
            pass
    assert str(caught.value).isprintable()


def test_a_link_in_the_locks_place_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(StateError, match=r"\.lock' is no file"), claimed(tmp_path / "run", "trains"):
        pass
    assert (tmp_path / "precious").read_text() == "text"
    (tmp_path / "run" / LOCK).unlink()
    for make in (os.mkdir, os.mkfifo):
        make(tmp_path / "run" / LOCK)
        with pytest.raises(StateError, match=r"\.lock' is no file"), claimed(tmp_path / "run", "trains"):
            pass
        os.rmdir(tmp_path / "run" / LOCK) if make is os.mkdir else os.unlink(tmp_path / "run" / LOCK)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(claim._FCNTL, "flock", none)
    before = len(os.listdir("/proc/self/fd"))
    with claimed(tmp_path, "trains") as sure:
        assert not sure
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setattr(claim, "_FCNTL", None)
    with claimed(tmp_path, "trains") as sure:
        assert not sure


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = os.open

    def refused(path: object, *rest: int) -> int:
        if str(path).endswith(LOCK):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return usual(path, *rest)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OSError, match="Read-only file system"), claimed(tmp_path, "trains"):
        pass


def _count(place: str, times: int) -> None:
    for _ in range(times):
        with claimed(Path(place, "folder"), "counts", wait=60):
            file = Path(place, "number")
            number = int(file.read_text())
            time.sleep(0.0005)
            file.write_text(str(number + 1))


def test_a_link_to_nothing_in_the_folders_place_ends_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    with pytest.raises(FileExistsError), claimed(tmp_path / "run", "trains"):
        pass


def test_who_waits_comes_next(tmp_path: Path) -> None:
    """Folder and file come and go all the time, and still no two are in the block at once: not one count is lost."""
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_count, args=(str(tmp_path), 50)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert (tmp_path / "number").read_text() == "200"
