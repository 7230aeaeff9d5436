"""The service on Ray: what its arguments are, and two replicas, one of which is killed while callers ask."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from torchbcos._core.errors import InputError, MissingPackageError
from torchbcos.service import Limits, ray_app, replicas
from torchbcos.service.refusals import Refused

ROOT = Path(__file__).parents[3]
HERE = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(HERE, reason="Ray is installed")
def test_a_missing_ray_is_one_sentence_with_its_command() -> None:
    with pytest.raises(MissingPackageError, match=r"ray_app needs the package 'ray'.*pip install '\.\[scale\]'"):
        ray_app()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"source": "imagenet"}, "Did you mean 'sources'"),
        ({"sources": []}, "needs a model"),
        ({"sources": [3]}, "are texts"),
        ({"sources": "a=x,a=y"}, "Two models"),
        ({"limits": {"queues": 3}}, "limits is a mapping of bytes"),
        ({"limits": {"queue": 0}}, "positive number"),
        ({"limits": "queue"}, "limits is a mapping"),
        ({"allow_code": "perhaps"}, "true or false"),
        ({"allow_code": 1}, "true or false"),
    ],
)
def test_arguments_that_do_not_do(args: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ray_app(args)


def test_arguments_of_a_shell_are_texts() -> None:
    assert replicas._several("imagenet, mine=runs/mine ,") == ("imagenet", "mine=runs/mine")
    assert replicas._several(["a,b"]) == ("a,b",)
    assert replicas._options({"allow_code": "true", "device": "cpu"}) == {"allow_code": True, "device": "cpu"}
    assert replicas._options({}) == {"allow_code": False, "device": "auto"}
    assert replicas._limits({"queue": 3}).queue == 3 and replicas._limits(limits := Limits(queue=2)) is limits


def test_each_replica_opens_its_model_before_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas.Service, "application", lambda service: service.shelf.loaded())
    assert replicas._builder({"a": "imagenette"}, Limits(), None, (), {"device": "cpu"})() == ["a"]
    with pytest.raises(Refused):
        replicas._builder({"a": "/nowhere"}, Limits(), None, (), {"device": "cpu"})()


@pytest.mark.slow
@pytest.mark.skipif(not HERE, reason="make scale brings Ray")
@pytest.mark.timeout(600)
def test_a_caller_that_asks_again_gets_every_answer_though_replicas_are_killed(tmp_path: Path) -> None:
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.replicas", "--kills", "2", "--clients", "4", "--json", str(tmp_path / "found.json")],
        cwd=ROOT, text=True, capture_output=True, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert found["answers"] > 20 and found["wrong"] == found["failed for a caller that asks again"] == 0
    assert found["longest"] < 60
