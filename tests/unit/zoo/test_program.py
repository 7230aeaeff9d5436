"""Programs are looked into before they are opened: what would run code is refused, and does not run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.zoo.program import load_program

Members = list[tuple[str, bytes]]


class Means(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("shift", torch.rand(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3))) + self.shift


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Members, nn.Module]:
    network, file = Means().eval(), tmp_path_factory.mktemp("program") / "good.pt2"
    torch.export.save(torch.export.export(network, (torch.rand(4, 3, 8, 8),)), file)
    with zipfile.ZipFile(file) as archive:
        return file, [(name, archive.read(name)) for name in archive.namelist()], network


def written(file: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of members that are there twice
        for name, data in members:
            archive.writestr(name, data)
    return file


def saved(value: object, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    if compression == zipfile.ZIP_STORED:
        return buffer.getvalue()
    again = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(again, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return again.getvalue()


def test_a_program_is_that_which_was_saved(program: tuple[Path, Members, nn.Module]) -> None:
    file, _, network = program
    x = torch.rand(4, 3, 8, 8)
    assert torch.equal(load_program(file)(x), network(x))


def old_form(payload: bytes) -> Members:
    """As torch wrote before 2.8."""
    empty = saved({})
    return [
        ("serialized_exported_program.json", b"{}"), ("serialized_state_dict.pt", payload), ("version", b"8.8"),
        ("serialized_constants.pt", empty), ("serialized_example_inputs.pt", saved(((), {}))),
    ]  # fmt: skip


def test_what_would_be_unpickled_is_refused_and_does_not_run(program: tuple[Path, Members, nn.Module], tmp_path: Path) -> None:
    """Every place from which one release of torch or another unpickles."""
    _, members, _ = program
    root, marker = members[0][0].partition("/")[0] if "/" in members[0][0] else "old", tmp_path / "marker"
    evil, plain = Payload(marker), pickle.dumps(Payload(marker))
    config = {"config": {"shift": {"path_name": "weight_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}}
    opaque = {"config": {"k": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}}}
    cases: dict[str, Members] = {
        "weights by pickle": [(f"{root}/data/weights/model_weights_config.json", json.dumps(config).encode()),
                              (f"{root}/data/weights/weight_0", saved(evil))],
        "an object among constants": [(f"{root}/data/constants/model_constants_config.json", json.dumps(opaque).encode()),
                                      (f"{root}/data/constants/opaque_obj_0", plain)],
        "weights of 2.8": [(f"{root}/data/weights/model.pt", saved({"a": evil}))],
        "constants of 2.8": [(f"{root}/data/constants/model.pt", saved({"a": evil}))],
        "inputs": [(f"{root}/data/sample_inputs/model.pt", saved((evil,)))],
        "inputs by plain pickle": [(f"{root}/data/sample_inputs/model.pt", plain)],
        "compressed inputs": [(f"{root}/data/sample_inputs/model.pt", saved(((), {}), compression=zipfile.ZIP_DEFLATED))],
        "a compiled library": [(f"{root}/data/aotinductor/model/a.so", b"\\x7fELF")],
        "another folder": [(f"{root}/data/weights/../aotinductor/model/a.so", b"")],
        "of 2.6": old_form(saved({"a": evil})), "of 2.6 by plain pickle": old_form(plain),
    }  # fmt: skip
    for name, changed in cases.items():
        mine = dict(changed)
        whole = (
            changed if name.startswith("of 2.6") else [(key, mine.pop(key, value)) for key, value in members] + [*mine.items()]
        )
        file = written(tmp_path / "evil.pt2", whole)
        with pytest.raises(InputError, match=r"evil\.pt2' holds .* and is not opened: that could run code") as caught:
            load_program(file)
        assert not marker.exists(), name
        assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


def test_the_payload_can_run(program: tuple[Path, Members, nn.Module], tmp_path: Path) -> None:
    """The test above can fail: torch itself runs it."""
    _, members, _ = program
    payload = saved((Payload(tmp_path / "marker"),))
    changed = [(name, payload if name.endswith(".pt") else data) for name, data in members]
    with contextlib.suppress(Exception):  # of any class, or none: what it finds there is no example
        torch.export.load(written(tmp_path / "evil.pt2", changed))
    assert (tmp_path / "marker").exists()


def test_a_member_twice_and_a_compressed_archive(program: tuple[Path, Members, nn.Module], tmp_path: Path) -> None:
    _, members, _ = program
    with pytest.raises(InputError, match="holds a member twice"):
        load_program(written(tmp_path / "a.pt2", [*members, members[0]]))
    with pytest.raises(InputError, match=r"compressed, which torch\.export\.save never writes"):
        load_program(written(tmp_path / "a.pt2", members, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    "spoil",
    [lambda data: b"", lambda data: b"no archive", lambda data: data[: len(data) // 2], lambda data: data[:100] + data[200:]],
)
def test_other_files_get_one_sentence(
    spoil: Callable[[bytes], bytes], program: tuple[Path, Members, nn.Module], tmp_path: Path
) -> None:
    (tmp_path / "a.pt2").write_bytes(spoil(program[0].read_bytes()))
    with pytest.raises(
        InputError, match=r"a\.pt2' (is no program of torch\.export\.save|holds '.*data\.pkl', which is no part of)"
    ):
        load_program(tmp_path / "a.pt2")
    for name in ("none.pt2", "a" * 5000):
        with pytest.raises((MissingFileError, InputError), match=r"There is no teacher|is no program"):
            load_program(tmp_path / name)
