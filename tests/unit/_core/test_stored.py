"""Archives of torch.save that are not as torch writes them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchbcos._core.stored import NotStored, check_directory, load_stored


def archive(path: Path, change: Callable[[str, bytes], bytes] = lambda _, data: data, pressed: int = zipfile.ZIP_STORED) -> Path:
    """A checkpoint that was written again, with other members."""
    sound = io.BytesIO()
    torch.save({"network.a": torch.arange(6.0).view(2, 3), "done": 3, "optimiser": {"state": [1.5, None]}}, sound)
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, "w", pressed) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


def test_tensors_and_plain_values_come_back(tmp_path: Path) -> None:
    found = load_stored(archive(tmp_path / "a.ckpt"))
    assert found["done"] == 3 and found["optimiser"] == {"state": [1.5, None]}
    torch.testing.assert_close(found["network.a"], torch.arange(6.0).view(2, 3))


def test_a_small_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.ckpt", lambda name, data: bytes(1 << 26) if name.endswith("data/0") else data, zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 1 << 18
    with pytest.raises(NotStored, match="is compressed"):
        load_stored(path)


def test_members_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.ckpt")
    data = path.read_bytes()
    for member in ("data/0", "data.pkl"):  # sizes in the list of members, of 2 GB each
        at = data.rindex(b"archive/" + member.encode()) - 46
        data = data[: at + 20] + b"\xff\xff\xff\x7f" * 2 + data[at + 28 :]
    path.write_bytes(data)
    with pytest.raises(NotStored, match="promises more bytes than it has"):
        load_stored(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    def longer(name: str, data: bytes) -> bytes:
        return data.replace(b"K\x02K\x03\x86", b"K\x02K\x7f\x86") if name.endswith("data.pkl") else data

    assert longer("data.pkl", pickle.dumps((2, 3), 2)) != pickle.dumps((2, 3), 2)
    with pytest.raises(ValueError, match="beyond its storage"):
        load_stored(archive(tmp_path / "a.ckpt", longer))


def test_code_is_never_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",)

    program = pickle.dumps({"a": Payload()}, 2)
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        load_stored(archive(tmp_path / "a.ckpt", lambda name, data: program if name.endswith("data.pkl") else data))
    assert not (tmp_path / "ran").exists()
    pickle.loads(program)  # the payload could have run
    assert (tmp_path / "ran").exists()


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"no archive of torch\.save"):
        load_stored(tmp_path / "a.ckpt")


def test_members_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(2)}, tmp_path / "a.ckpt")
    finally:
        torch.serialization.set_crc32_options(True)
    with pytest.raises(zipfile.BadZipFile), zipfile.ZipFile(tmp_path / "a.ckpt") as plain:
        plain.read("a/data.pkl")
    torch.testing.assert_close(load_stored(tmp_path / "a.ckpt")["a"], torch.ones(2))


def test_a_single_checksum_that_is_absent_is_a_damage(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.ckpt")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"archive/data.pkl") - 46
    data[at + 16 : at + 20] = bytes(4)
    path.write_bytes(bytes(data))
    with pytest.raises(zipfile.BadZipFile):
        load_stored(path)


def test_nothing_hides_behind_a_foreign_object(tmp_path: Path) -> None:
    """torch would go on to a tensor beyond its storage."""
    program = b"\x80\x02}(X\x01\x00\x00\x00acbuiltins\nbytearray\n)Ru."
    with pytest.raises(pickle.UnpicklingError, match=r"the file holds builtins\.bytearray"):
        load_stored(archive(tmp_path / "a.ckpt", lambda name, data: program if name.endswith("data.pkl") else data))


def test_a_list_of_members_that_takes_minutes_is_not_read() -> None:
    end = b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + (1 << 30).to_bytes(4, "little") + bytes(6)
    with pytest.raises(NotStored, match="more members than any"):
        check_directory(io.BytesIO(bytes(100) + end))
