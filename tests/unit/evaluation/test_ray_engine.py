"""Two workers of a Ray cluster, one of which is killed: what one process says. And what is said where Ray cannot be used."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torchbcos._core.errors import InputError, MissingPackageError, StateError
from torchbcos.evaluation import ray_engine

ROOT = Path(__file__).parents[3]
HERE = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(HERE, reason="Ray is installed")
def test_a_missing_ray_is_one_sentence_with_its_command() -> None:
    with pytest.raises(MissingPackageError, match=r"--engine ray needs the package 'ray'.*pip install '\.\[scale\]'"):
        ray_engine.Ray(2)


@pytest.mark.parametrize("wrong", ["0", "many", "1.5"])
def test_workers_are_how_many(wrong: str) -> None:
    with pytest.raises(InputError, match="devices is how many workers"):
        ray_engine.Ray(wrong)


def test_work_of_which_workers_die_is_given_up(tmp_path: Path) -> None:
    """Ray gives it to the next worker for ever."""
    work = tmp_path / "7"
    for _ in range(ray_engine._TRIES):
        with pytest.raises(ZeroDivisionError), ray_engine._tried(work):
            raise ZeroDivisionError  # as a worker that is gone: it does not come to the end
    with pytest.raises(StateError, match="workers died of the same pictures"), ray_engine._tried(work):
        pass
    with ray_engine._tried(tmp_path / "8"):
        pass
    assert not (tmp_path / "8").exists()


def test_a_sentence_of_ours_is_found_in_the_call_stack_of_a_worker() -> None:
    text = "The actor died\n  File x\ntorchbcos._core.errors.StateError: 'a' on a worker is not the folder.\n"
    assert ray_engine._told(RuntimeError(text)) == "'a' on a worker is not the folder."
    assert ray_engine._told(RuntimeError("The actor died")) is None


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="make scale brings Ray")
@pytest.mark.timeout(900)
def test_two_workers_say_what_one_process_says(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        [sys.executable, "-m", "tests.unit.evaluation.together", "cluster", str(tmp_path)], cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["killed"] and found["cluster"] == found["alone"]
    assert found["writers"] >= 2, "one worker did everything"
    assert found["left behind"] == []
    assert "workers died of the same pictures" in found["always killed"]
    assert "is not the folder of that name here" in found["another folder"]
