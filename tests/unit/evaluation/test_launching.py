"""How processes are started, and what is said where they cannot be."""

from __future__ import annotations

import sys

import pytest
import torch

from torchbcos._core.errors import InputError
from torchbcos.evaluation.launching import how_many, launch


@pytest.mark.parametrize("wrong", ["0", "many", "-2", "1.5", "", "²"])
def test_devices_are_how_many(wrong: str) -> None:
    with pytest.raises(InputError, match="devices is how many"):
        how_many(wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_all_devices_of_a_machine_without_any_are_one_process() -> None:
    assert how_many("auto") == how_many("-1") == 1


@pytest.mark.parametrize(
    "surroundings", [{}, {"MASTER_ADDR": "a"}, {"NODE_RANK": "0"}, {"MASTER_ADDR": "a", "NODE_RANK": "2"}], ids=str
)
def test_of_several_machines_each_says_which_it_is(surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODE_RANK", "SLURM_NODEID", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="MASTER_ADDR"):
        launch([sys.executable], 1, nodes=2)
