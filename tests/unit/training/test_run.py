"""Two runs in one folder, and what a damaged folder does to a run that goes on."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.data import squares, tiny
from torchbcos._core.claim import claimed
from torchbcos._core.errors import BcosError, InputError, StateError, WeightsError
from torchbcos.runs import RunFolder
from torchbcos.training import read_recipe, train
from torchbcos.training.begun import find_begun, finished_report

training_run = importlib.import_module("torchbcos.training.run")
ROOT = Path(__file__).parents[3]
LATE = "is finished, with other settings (lr was "


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("run") / "data", 6)


@pytest.fixture(scope="module")
def halfway(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs that ended after its first."""
    out = tmp_path_factory.mktemp("halfway") / "run"
    run(data, out, max_steps=1)
    (out / "report.json").unlink()
    shutil.rmtree(out / "model")
    return out


def run(data: Path, out: Path, **values: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    return train(tiny(**values), data, out, accelerator="cpu", devices=1, say=lines.append), lines


def together(data: Path, out: Path, times: int) -> None:
    words = [sys.executable, "tests/unit/training/together.py", str(data), str(out), str(times)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=280)
    found = json.loads(done.stdout)
    assert len(found) == times, done.stderr[-2000:]
    for ends, whole in found:
        assert sorted(end == "trained" for end in ends) == [False, True], ends
        # the second may come when the first trains, or, on a busy machine, when it has ended
        assert any(end.startswith("Another process trains here (process ") or LATE in end for end in ends) and whole, ends


def test_of_two_that_begin_together_one_trains(data: Path, tmp_path: Path) -> None:
    together(data, tmp_path, 2)


@pytest.mark.slow
def test_of_two_that_begin_together_one_trains_twenty_times(data: Path, tmp_path: Path) -> None:
    together(data, tmp_path, 20)


def test_who_comes_after_the_end_while_it_prepares_does_not_train_over_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process begins and ends between this one's first look at the folder and its claim on it."""
    whole = training_run.claimed

    def late(folder: Path, doing: str) -> Any:
        monkeypatch.setattr(training_run, "claimed", whole)
        run(data, folder, epochs=1, lr=1e-3)
        return whole(folder, doing)

    monkeypatch.setattr(training_run, "claimed", late)
    with pytest.raises(InputError, match=re.escape(LATE)):
        run(data, tmp_path / "run", epochs=1, lr=1e-4)
    assert read_recipe(tmp_path / "run" / "recipe.toml")[0].lr == 1e-3
    monkeypatch.setattr(training_run, "claimed", late)
    report, lines = run(data, tmp_path / "same", epochs=1, lr=1e-3)
    assert report["steps"] == 1 and "is finished (1 epochs)" in lines[-1] and not any("Going on" in line for line in lines)


def test_a_folder_in_use_is_left_as_it_is(data: Path, halfway: Path, tmp_path: Path) -> None:
    shutil.copytree(halfway, tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with claimed(tmp_path / "run", "trains"), pytest.raises(StateError, match="Another process trains here"):
        run(data, tmp_path / "run")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    report, lines = run(data, tmp_path / "run")
    assert report["steps"] == 2 and "from step 1 of 2" in lines[0]
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_run_that_is_refused_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no network"):
        run(data, tmp_path / "run", model="resnt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe\xfa", b"step,loss\n1,\xe9\n", b'step,loss\n"1,0.5\n', b"step,loss\n1,0\x00\n", b"step,loss\n\xc2\xb2,0.5\n"],
)
def test_a_damaged_log_does_not_stop_a_run(text: bytes, data: Path, halfway: Path, tmp_path: Path) -> None:
    shutil.copytree(halfway, tmp_path / "run")
    (tmp_path / "run" / "history.csv").write_bytes(text)
    report, lines = run(data, tmp_path / "run")
    assert report["steps"] == 2
    kept = tmp_path / "run" / "history-damaged.csv"
    if b"\xb2" not in text:  # a table whose one row has no number
        assert any("It is kept as 'history-damaged.csv', and a new one begins." in line for line in lines), lines
        assert kept.read_bytes() == text
    assert [line.split(",")[0] for line in (tmp_path / "run" / "history.csv").read_text().splitlines()] == ["step", "2"]


def test_a_damaged_report_is_written_anew(data: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    folder, recipe = RunFolder(tmp_path / "run"), tiny(epochs=1)
    begun = find_begun(folder, recipe)
    assert finished_report(folder, begun, recipe) is not None
    for text in ("3", "null", "{}", '{"epochs": 2, "report": 3}', '{"epochs": "a"}', "[" * 5000, "\x00", "[]"):
        folder.report.write_text(text)
        assert finished_report(folder, begun, recipe) is None
    report, _ = run(data, folder.out, epochs=1)
    assert report == json.loads(folder.report.read_text()) and report["steps"] == 1


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    run(data, out, epochs=1)
    return out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("classes = 5", "classes in .run. must be a list of texts, not 5"),
        ("classes = [1, 2]", "classes in .run. must be a list of texts"),
        ("fingerprint = 3", "fingerprint in .run. must be a text"),
        ("changes = {a = 1}", "changes in .run. must be a list of texts"),
        ("data = [1]", "data in .run. must be a text"),
        ("pictures = '3'", "pictures in .run. must be a whole number"),
        ("a = " + "[" * 3000, "nests brackets too deeply"),
        ("a = " + "9" * 5000, "is no recipe file"),
    ],
)
def test_a_damaged_table_of_facts(line: str, message: str, data: Path, halfway: Path, tmp_path: Path) -> None:
    shutil.copytree(halfway, tmp_path / "run")
    file = tmp_path / "run" / "recipe.toml"
    key = line.partition(" ")[0]
    lines = [old for old in file.read_text().splitlines() if not old.startswith(f'"{key}" =')]
    file.write_text("\n".join([*lines, line]))
    with pytest.raises(InputError, match=message) as caught:
        run(data, tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_facts_that_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("run = 5\n")
    with pytest.raises(InputError, match="run must be a table"):
        read_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize("done", [-5, "3", 10**6])
def test_a_checkpoint_of_other_contents(done: Any, data: Path, halfway: Path, tmp_path: Path) -> None:
    shutil.copytree(halfway, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    kept = torch.load(last, weights_only=True)
    kept["torchbcos"]["done"] = done
    torch.save(kept, last)
    with pytest.raises((WeightsError, InputError), match=r"its 'done' is|has trained 1000000 steps"):
        run(data, tmp_path / "run")


def test_classes_that_were_renamed_are_noticed(data: Path, halfway: Path, finished: Path, tmp_path: Path) -> None:
    """While it trains, and when it is finished: that a run is finished was said of whatever data was given."""
    own = tmp_path / "data"
    shutil.copytree(data, own)
    (own / "red").rename(own / "rot")
    for source, values in ((halfway, {}), (finished, {"epochs": 1})):
        out = tmp_path / source.parent.name
        shutil.copytree(source, out)
        with pytest.raises(StateError, match=r"without red and with rot\)\. Then: blue, green, red; now: blue, green, rot\."):
            run(own, out, **values)
    shutil.rmtree(own)
    assert "is finished" in run(own, out, epochs=1)[1][0]  # a finished run needs its data no more


def test_every_file_of_a_run_in_which_anything_stands(data: Path, halfway: Path, tmp_path: Path) -> None:
    """Each of them empty, of zeros, cut and deep: a sentence, or a run that goes on; never another error."""
    spoils: list[Callable[[bytes], bytes]] = [lambda _: b"", lambda _: b"\x00" * 99, lambda _: b"[" * 9999, lambda old: old[:-9]]
    files = ["recipe.toml", "splits.json", "card.json", "history.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"]
    for k, name in enumerate(files):
        spoil = spoils[k % len(spoils)]
        out = tmp_path / str(k)
        shutil.copytree(halfway, out)
        (out / name).write_bytes(spoil((out / name).read_bytes()))
        try:
            assert run(data, out)[0]["steps"] == 2
        except BcosError as error:
            assert "\n" not in str(error)
