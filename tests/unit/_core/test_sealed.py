"""Sealed records: what was written comes back, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reference import proofs as slow
from torchbcos._core.errors import InputError, MissingFileError, StateError
from torchbcos._core.sealed import canonical, read_sealed, seal, write_sealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8,
)  # fmt: skip
RECORDS = st.dictionaries(st.text(max_size=6).filter(lambda name: name != "sha256"), JSON, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=RECORDS)
def test_there_and_back(tmp_path: Path, record: dict[str, Any]) -> None:
    path = write_sealed(tmp_path / "a.json", record, limit=10**6)
    assert read_sealed(path, limit=10**6, what="record") == record
    assert seal(record) == slow.sealed(record) == path.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=RECORDS, data=st.data())
def test_every_byte_counts(tmp_path: Path, record: dict[str, Any], data: st.DataObject) -> None:
    whole = seal(record)
    at, by = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    path = tmp_path / "b.json"
    path.write_bytes(whole[:at] + bytes([whole[at] ^ by]) + whole[at + 1 :])
    with pytest.raises(InputError):
        read_sealed(path, limit=10**6, what="record")


def test_another_spelling_of_the_same_is_another_file(tmp_path: Path) -> None:
    record = json.loads(seal({"a": 1.0, "b": [1]}))
    path = tmp_path / "c.json"
    for text in (
        json.dumps(record),
        json.dumps(record, separators=(",", ":")),
        seal({"a": 1.0, "b": [1]}).decode().replace("1.0", "1.00"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match="was changed"):
            read_sealed(path, limit=10**6, what="record")


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_sealed(tmp_path / "none.json", limit=10, what="record")
    with pytest.raises(InputError):
        read_sealed(tmp_path, limit=10, what="record")
    (tmp_path / "large.json").write_bytes(b"1" * 11)
    with pytest.raises(InputError, match="more than"):
        read_sealed(tmp_path / "large.json", limit=10, what="record")
    with pytest.raises(MissingFileError, match="folder"):
        write_sealed(tmp_path / "none" / "a.json", {}, limit=1000)
    with pytest.raises(InputError, match="would have"):
        write_sealed(tmp_path / "a.json", {"a": "x" * 1000}, limit=100)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StateError, match="Nothing was left behind"):
        write_sealed(tmp_path / "folder", {}, limit=1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "large.json"]
    with pytest.raises(ValueError, match=r"NaN|nan|JSON"):
        canonical({"a": float("nan")})
