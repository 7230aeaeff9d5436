"""A run's folder: whole checkpoints, the weights in them, and what each state of the folder means."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch

from torchbcos._core.errors import InputError, MissingFileError, StateError, WeightsError
from torchbcos.runs import RunFolder


def checkpoint(step: int, **state: torch.Tensor) -> dict[str, object]:
    return {"torchbcos": {"done": step}, "state_dict": state}


def step_of(run: RunFolder) -> tuple[int, list[str]]:
    found, complaints = run.read_checkpoint()
    assert found is not None
    return found["torchbcos"]["done"], complaints


def test_a_new_folder_has_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.read_checkpoint() == (None, []) and not run.begun and not run.finished
    run.sweep()
    assert run.locate_model(weights="w", card="c") == run.out and not run.out.exists()


def test_the_checkpoint_before_the_last_is_kept_and_taken(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2, 3):
        run.write_checkpoint("last.ckpt", checkpoint(step))
        run.write_checkpoint("best.ckpt", {"state": {}})
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert step_of(run) == (3, [])
    run.last.write_bytes(run.last.read_bytes()[:100])
    step, [complaint] = step_of(run)
    assert step == 2 and complaint.startswith(f"{str(run.last)!r} is damaged (")
    torch.save({"something": "else"}, run.last)
    assert step_of(run) == (2, [f"{str(run.last)!r} is no checkpoint of torchbcos."])
    run.previous.write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"is no checkpoint of torchbcos.*is damaged.*begin again with another --out"):
        run.read_checkpoint()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    run.write_checkpoint("last.ckpt", checkpoint(1))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match=r"last\.ckpt': No space left on device\. The one before is kept"):
        run.write_checkpoint("last.ckpt", checkpoint(2))
    assert step_of(run) == (1, []) and [p.name for p in run.checkpoints.iterdir()] == ["last.ckpt"]


def test_weights_of_a_checkpoint(tmp_path: Path) -> None:
    run, one, two, three = RunFolder(tmp_path), *(torch.full((2,), float(n)) for n in (1, 2, 3))
    with pytest.raises(MissingFileError, match=r"There is no checkpoint .*best\.ckpt"):
        run.weights("best")
    run.write_checkpoint("last.ckpt", checkpoint(1, **{"network.fc.weight": one, "average.fc.weight": two, "guide.x": three}))
    run.write_checkpoint("best.ckpt", {"state": {"fc.weight": three}, "score": 90.0})
    for which, expected in (("last", one), ("ema", two), ("best", three)):
        [(name, value)] = run.weights(which).items()
        assert name == "fc.weight" and torch.equal(value, expected)
    with pytest.raises(InputError, match=r"not 'bst'\. Did you mean 'best'"):
        run.weights("bst")
    run.write_checkpoint("last.ckpt", checkpoint(1, **{"network.fc.weight": one}))
    with pytest.raises(InputError, match="has no averaged weights: its recipe has ema_decay = 0"):
        run.weights("ema")


OTHERS = [
    ["a", "list"], {"other": 1}, {"state": 3, "state_dict": 3}, {"state": [1], "state_dict": [[1, 2]]}, 7,
    {"state": {3: torch.ones(1)}, "state_dict": {3: torch.ones(1)}},
    {"state": {"fc": "a"}, "state_dict": {"network.fc": "a", "average.fc": 3}},
]  # fmt: skip


@pytest.mark.parametrize("content", OTHERS, ids=str)
def test_something_else_under_a_checkpoints_name(content: object, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for name in ("last.ckpt", "best.ckpt"):
        run.write_checkpoint(name, content)
    for which in ("last", "ema", "best"):
        with pytest.raises(WeightsError, match=r"\.ckpt' is damaged \("):
            run.weights(which)


def test_a_compressed_checkpoint_is_named_and_the_one_before_is_taken(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_checkpoint("last.ckpt", checkpoint(1))
    run.write_checkpoint("last.ckpt", checkpoint(2))
    with zipfile.ZipFile(run.last) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(run.last, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members.items():
            new.writestr(name, data)
    step, (complaint,) = step_of(run)
    assert step == 1 and "is compressed" in complaint


def test_best_weights_that_are_gone_or_damaged_name_another_choice(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(WeightsError, match=r"best.ckpt' is gone: --set export=last takes"):
        run.read_best()
    run.checkpoints.mkdir()
    run.best.write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"best.ckpt' is damaged \(\w+\): --set export=last takes"):
        run.read_best()


def test_begun_and_finished(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.recipe.write_text("")
    run.checkpoints.mkdir()
    assert not run.begun  # nothing was trained
    run.write_checkpoint("last.ckpt", checkpoint(1))
    assert run.begun and not run.finished
    run.report.write_text("{}")
    assert not run.finished
    run.model.mkdir()
    assert run.finished


def test_where_the_model_is(tmp_path: Path) -> None:
    run, names = RunFolder(tmp_path), {"weights": "model.safetensors", "card": "card.json"}
    run.checkpoints.mkdir()
    with pytest.raises(MissingFileError, match="is not finished: the command that began it goes on"):
        run.locate_model(**names)
    run.write_own_weights({})
    with pytest.raises(MissingFileError, match="a network of your own: build it"):
        run.locate_model(**names)
    with pytest.raises(MissingFileError, match="a network of your own: build it"):
        RunFolder(run.model).locate_model(**names)
    (run.model / "card.json").write_text("{}")
    assert run.locate_model(**names) == run.model
    (run.model / "model.safetensors").write_bytes(b"")
    assert RunFolder(run.model).locate_model(**names) == run.model


def test_unfinished_files_are_swept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_checkpoint("last.ckpt", checkpoint(1))
    run.model.mkdir()
    for folder in (run.out, run.checkpoints, run.model):
        (folder / ".last.ckpt-x.part").write_bytes(b"half")
    run.sweep()
    assert not list(tmp_path.rglob("*.part")) and run.last.is_file()
