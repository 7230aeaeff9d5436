"""The machine under a run: what it leaves as it was, and the sentences for what goes wrong."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.unit.training.data import squares, tiny
from torchbcos._core.errors import InputError, StateError
from torchbcos.training import Recipe, find_recipe, machine, train
from torchbcos.training.machine import NOISY, build_fabric, generator_kept, readable_errors


@pytest.fixture
def levels() -> Iterator[dict[str, int]]:
    before = {name: logging.getLogger(name).level for name in NOISY}
    wanted = {name: logging.DEBUG + k for k, name in enumerate(NOISY)}
    for name, level in wanted.items():
        logging.getLogger(name).setLevel(level)
    yield wanted
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("succeeds", [True, False])
def test_log_levels_are_those_of_the_caller_again(succeeds: bool, levels: dict[str, int], tmp_path: Path) -> None:
    """They stayed at ERROR, and Lightning was silent for the rest of the program."""
    data = squares(tmp_path / "data", 4)
    recipe = tiny(epochs=1, selection_share=0.0, report_share=0.0, **({} if succeeds else {"accumulate": 8, "batch_size": 800}))
    try:
        train(recipe, data, tmp_path / "run", accelerator="cpu", devices=1 if succeeds else 64, say=lambda _: None)
    except ValueError:
        assert not succeeds
    assert {name: logging.getLogger(name).level for name in levels} == levels


class Accelerator:
    """Stands for torch.cuda."""

    def __init__(self) -> None:
        self.state = "the caller's"

    def get_rng_state(self) -> str:
        return self.state

    def set_rng_state(self, state: str) -> None:
        self.state = state


@pytest.mark.parametrize("fails", [False, True])
def test_the_generator_of_an_accelerator_is_the_callers_again(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the processor's was."""
    module = Accelerator()
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    try:
        with generator_kept(torch.device("cuda", 0)):
            module.state = "a step's"
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert module.state == "the caller's"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_run_leaves_the_cuda_generator_alone(tmp_path: Path) -> None:
    torch.cuda.manual_seed(3)
    expected = torch.rand(2, device="cuda")
    torch.cuda.manual_seed(3)
    train(tiny(epochs=1), squares(tmp_path / "data"), tmp_path / "run", accelerator="cuda", devices=1, say=lambda _: None)
    assert torch.equal(torch.rand(2, device="cuda"), expected)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("DataLoader worker (pid 7) exited unexpectedly"), "A process that reads pictures died"),
        (RuntimeError("[gloo/pair.cc:1] Connection closed by peer [127.0.0.1]:5"), "Another process of this run ended"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "The device ran out of memory"),
        (OSError(28, "No space left on device", "history.csv"), "could not write 'history.csv': No space left on device"),
    ],
)
def test_one_sentence_for_what_the_machine_does_wrong(error: Exception, message: str) -> None:
    with pytest.raises(StateError, match=message), readable_errors():
        raise error
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), readable_errors():
        raise RuntimeError("shapes cannot be multiplied")


CHILD = """
import os, sys, time
from torchbcos.training.machine import end_with
end_with(int(sys.argv[1]))
print("watching", flush=True)
time.sleep(60)
"""


def test_a_process_ends_with_the_one_that_started_it() -> None:
    """Whatever that one died of: nobody else would end a process that waits for it."""
    program = f"import subprocess, sys, os; subprocess.Popen([sys.executable, '-c', {CHILD!r}, str(os.getpid())]).wait()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None and launcher.stdout.readline() == "watching\n"
        launcher.kill()
        began = time.time()
        assert launcher.stdout.read() == ""  # returns when the child has ended, too, and with it the pipe
        assert time.time() - began < 20


def test_children_are_told_who_started_them_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str | None] = []

    class Fabric:
        world_size = 2

        def launch(self) -> None:
            os.write(1, b"something\n")
            told.append(os.environ.get(machine.LAUNCHER))

    monkeypatch.delenv(machine.LAUNCHER, raising=False)
    machine.launch(Fabric())  # type: ignore[arg-type]
    assert told == [str(os.getpid())] and machine.LAUNCHER not in os.environ
    os.write(1, b"the report\n")
    said = capfd.readouterr()  # what libraries say meanwhile is no part of the report
    assert said.out == "the report\n" and "something\n" in said.err


@pytest.mark.parametrize("devices", ["²", "two", "", "1.5", "0;1", "-2", "1,,2", "9" * 5000, "\x1b[2J"])
def test_devices_that_are_no_number(devices: str) -> None:
    """The words of Python's int() stood in the message."""
    with pytest.raises(InputError, match="devices is how many") as caught:
        build_fabric(Recipe(), devices, 1, "auto", "cpu")
    assert "invalid literal" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("devices", "strategy", "accelerator"),
    [(0, "auto", "cpu"), ("auto", "foo", "cpu"), (1, "auto", "abacus"), ("0,1,2", "dp", "cpu")],
)
def test_a_machine_that_is_not_there_in_our_own_words(devices: int | str, strategy: str, accelerator: str) -> None:
    with pytest.raises(InputError, match=r"These devices cannot be used: .*This machine has") as caught:
        build_fabric(Recipe(), devices, 1, strategy, accelerator)
    assert not any(word in str(caught.value) for word in ("Fabric", "lightning", "Accelerator", "Misconfiguration"))
    assert repr(strategy) in str(caught.value) and repr(accelerator) in str(caught.value)


def test_nothing_is_said_of_many_workers(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch warns twice, where there are more of them than processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    recipe = tiny(epochs=1, max_steps=1, selection_share=0.5, report_share=0.0, workers=2)
    train(recipe, squares(tmp_path / "data", 4), tmp_path / "run", accelerator="cpu", devices=1, say=lambda _: None)
    assert [str(w.message) for w in recwarn if "worker" in str(w.message)] == []


def test_no_more_readers_than_processors_unless_somebody_chose_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python calls read with all that a recipe came with, on however small a machine."""
    monkeypatch.setattr(machine, "processors", lambda: 1)
    folder = find_recipe("folder")
    assert folder.workers == 2 and machine.with_readers(folder, None).workers == 1
    assert machine.with_readers(folder, 2).workers == 2 and machine.with_readers(folder.changed(workers=5), None).workers == 5
    assert machine.with_readers(Recipe(), None).workers == 1
