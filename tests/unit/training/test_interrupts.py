"""What ends a run before its time: kills, SIGTERM, and signals to one of several processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training.data import squares, tiny
from tests.unit.training.killing import members
from torchbcos.data.loading import one_thread
from torchbcos.training import Interrupted, Progress, to_toml, train

ROOT = Path(__file__).parents[3]
KILLS = os.environ.get("TORCHBCOS_KILLS")
ONE: dict[str, Any] = {"accelerator": "cpu", "devices": 1}
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares"))


@pytest.mark.parametrize(("mode", "usual"), [("random", 2), ("writing", 2), ("several", 1)])
def test_a_killed_run_reaches_the_same_weights(mode: str, usual: int, data: Path, tmp_path: Path) -> None:
    """Real processes, really killed; TORCHBCOS_KILLS=20 for the whole experiment."""
    kills = int(KILLS or usual)
    out = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killing.py")), mode, str(data), str(tmp_path), str(kills),
         str(random.Random(7).randrange(100))],
        capture_output=True, text=True, timeout=280 + 240 * kills, cwd=ROOT,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr[-2000:]
    found = json.loads(out.stdout.splitlines()[-1])
    assert len(found) == kills
    assert all(difference == 0 for difference, _ in found), found
    assert sum(len(killed) for _, killed in found) >= kills // 2


def test_sigterm_ends_the_step_and_keeps_it(data: Path, tmp_path: Path) -> None:
    recipe = tiny(mixup=0.2, checkpoint_steps=0)

    def terminate(now: Progress) -> None:
        if now.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    lines: list[str] = []
    with pytest.raises(Interrupted, match=r"interrupted; the same command goes on in .*run from step 2\.") as caught:
        train(recipe, data, tmp_path / "run", say=lines.append, progress=terminate, **ONE)
    assert caught.value.code == 143 and lines[-1] == "Interrupted: finishing this step (once more: at once)."
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    train(recipe, data, tmp_path / "run", say=lines.append, **ONE)
    assert "from step 2 of 6" in lines[-5]
    train(recipe, data, tmp_path / "whole", say=lines.append, **ONE)
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(one[key], value) for key, value in two.items())


def test_a_handler_of_the_caller_stays(data: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        train(tiny(epochs=1), data, tmp_path / "run", say=lambda _: None,
              progress=lambda now: os.kill(os.getpid(), signal.SIGTERM), **ONE)  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [signal.SIGTERM] * 3


def begin(data: Path, place: Path, *words: str, **values: Any) -> tuple[subprocess.Popen[str], Path]:
    """A long run of the command in a group of its own, that has saved something."""
    recipe = place / "recipe.toml"
    recipe.write_text(to_toml(tiny(epochs=500, checkpoint_steps=1, judge_every=500, **values)))
    command = [sys.executable, "-m", "torchbcos.cli", "train", str(recipe), "--data", str(data), "--out", str(place / "run")]
    run = subprocess.Popen(
        [*command, "--accelerator", "cpu", *words], start_new_session=True, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while run.poll() is None and not (place / "run" / "checkpoints" / "previous.ckpt").exists():
        time.sleep(0.05)
    return run, place / "run"


def stopped(run: subprocess.Popen[str], out: Path, code: int) -> None:
    """The run ends with a code and one sentence, which tells the step that was saved; nobody is left."""
    text, errors = run.communicate(timeout=120)
    done = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["torchbcos"]["done"]
    assert run.returncode == code, errors
    said = [line for line in errors.splitlines() if line.startswith("torchbcos:")]  # once; torch may warn of other things
    assert said == [f"torchbcos: interrupted; the same command goes on in {out} from step {done}."]
    assert text.count("Interrupted: finishing this step") <= 1 and "Traceback" not in errors
    assert not members(run.pid)
    assert not (out / "report.json").exists()


def test_sigterm_to_every_process_of_a_job(data: Path, tmp_path: Path) -> None:
    """As SLURM sends it: the processes that read pictures get it, too."""
    run, out = begin(data, tmp_path, "--devices", "1", workers=1)
    os.killpg(run.pid, signal.SIGTERM)
    stopped(run, out, 143)


@pytest.mark.parametrize(
    ("send", "code"),
    [(lambda run: os.kill(members(run.pid)[1], signal.SIGTERM), 143), (lambda run: os.killpg(run.pid, signal.SIGINT), 130)],
    ids=["SIGTERM to the second", "Ctrl-C"],
)
def test_several_processes_stop_at_the_same_step(
    send: Callable[[subprocess.Popen[str]], None], code: int, data: Path, tmp_path: Path
) -> None:
    run, out = begin(data, tmp_path, "--devices", "2", "--strategy", "ddp")
    send(run)
    stopped(run, out, code)


def test_a_reading_process_outlives_sigterm_for_a_while() -> None:
    """Not for ever: one that hangs must end with the training."""
    child = os.fork()
    if child == 0:
        one_thread(0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        os._exit(7 if 0 < signal.alarm(0) <= 30 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
