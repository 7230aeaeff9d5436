"""One process, three, and three of which one is killed: the same comparison, and no map is computed twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from torchbcos._core.errors import InputError
from torchbcos.evaluation.processes import Processes

TOGETHER = Path(__file__).with_name("together.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `together.same` says."""
    place = tmp_path_factory.mktemp("processes")
    # torch prints the call stack of its own C++ where the first process is gone
    surroundings = {**os.environ, "TORCH_CPP_LOG_LEVEL": "FATAL"}
    ran = subprocess.run(
        [sys.executable, str(TOGETHER), "same", str(place)], capture_output=True, text=True, timeout=250, env=surroundings
    )
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr[-3000:]
    return json.loads(ran.stdout)


def test_three_processes_say_what_one_says(found: Any) -> None:
    """To the last bit, although each has another number of threads, and one flushed denormals before."""
    assert found["three"] == [found["alone"]] * 3
    assert len(found["computed"]) == len(set(found["computed"])), "a map was computed by two processes"
    assert found["left behind"] == []


def test_what_a_killed_process_kept_is_not_computed_again(found: Any) -> None:
    first, killed, third = found["with one killed"]
    assert "Process 1 of 3 gave no sign of life" in first and killed == "" and "Process 1 of 3" in third
    assert found["again"] == [found["alone"]] * 3
    assert set(found["kept"]).isdisjoint(found["computed again"])
    assert sorted(found["kept"] + found["computed again"]) == sorted(found["computed"])
    assert found["computed again"], "the process was killed after everything was done"


def test_what_methods_warned_of_is_kept_with_their_maps(found: Any) -> None:
    """A process that was killed after it kept a map and before it noted the numbers left a comparison without the warning."""
    assert found["from maps alone"] == found["alone"]
    assert "Guided Backprop found no ReLU" in found["alone"]


def test_nobody_waits_for_a_first_process_that_is_gone(found: Any) -> None:
    killed, *others = found["first killed"]
    assert killed == "" and all("The first process of this comparison" in other for other in others)


def test_processes_that_measure_different_things_refuse(found: Any) -> None:
    assert all("models differ between the first and process 2" in said for said in found["other networks"])


def test_folders_that_are_not_shared_are_refused(found: Any) -> None:
    assert all("is not the folder of that name on the first process" in said for said in found["apart"])


def test_nothing_is_computed_where_only_one_process_would_know_the_folder() -> None:
    with pytest.raises(InputError, match="a folder of maps that all of them see"):
        Processes().check(False, {})
