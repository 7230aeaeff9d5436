"""Each private name of torch is taken away in turn, and the laws hold: slower, or with a refusal, never with other numbers."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from torchbcos._core import torch_private

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("without.py")

CONTAINERS = ("_autograd", "_functorch", "_nn", "_ops", "_python_dispatch")
NAMES = (
    "_current_graph_task_id", "_top_saved_tensors_default_hooks", "maybe_current_level", "_get_current_dispatch_mode",
    "_version", "_is_view", "_base", "OpOverloadPacket", "_opoverload",
    "_forward_hooks", "_forward_pre_hooks", "_orig_mod", "_compiled_call_impl", "_call_impl",
    "batch_norm_update_stats", "convolution_backward", "avg_pool2d_backward", "_convolution_pointwise",
    "mkldnn_reorder_conv2d_weight", "make_fx", "tracing", "TracingContext", "FakeTensorMode",
)  # fmt: skip
# "!": the name is there and takes other arguments; "?": it gives other numbers
CHANGED = (
    "_current_graph_task_id!", "_top_saved_tensors_default_hooks!", "maybe_current_level!", "_get_current_dispatch_mode!",
    "batch_norm_update_stats!", "convolution_backward!", "_convolution_pointwise!", "mkldnn_reorder_conv2d_weight!",
    "_convolution_pointwise?", "TracingContext!",
)  # fmt: skip
CASES = (*NAMES, *CONTAINERS, *CHANGED)

# the laws that may be refused then, and with which words
REFUSED = {"make_fx": ("graph", "cannot record")}
UNPACKED = {
    "maybe_current_level", "_functorch", "_get_current_dispatch_mode", "_python_dispatch", "_version",
    "_convolution_pointwise", "mkldnn_reorder_conv2d_weight", "_nn",
}  # fmt: skip


@functools.cache
def outcome() -> dict[str, dict[str, Any]]:
    """What became of the laws in every case; one process for all of them, since importing torch takes the longest."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *CASES], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=250
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line.pop("case", "asked"): line for line in lines}


@pytest.mark.parametrize("case", ["", *CASES], ids=lambda case: case or "all names")
def test_the_laws_hold_without(case: str) -> None:
    found, name = dict(outcome()[case]), case.rstrip("!?")
    refused, words = REFUSED.get(name, ("", ""))
    if refused:
        assert words in found.pop(refused)
    packs = name not in UNPACKED and torch_private.packing.works is not False
    assert (found.pop("remembers"), found.pop("packs")) == (packs, packs)
    found.pop("seconds")
    assert {law: text for law, text in found.items() if text} == {}
    assert len(found) >= 4


def test_every_private_name_has_its_case() -> None:
    asked = set(outcome()["asked"]["asked"])
    assert asked - {"default", "__module__"} == {*NAMES, *CONTAINERS}  # those two are public


def test_a_law_that_breaks_is_seen() -> None:
    broken = subprocess.run(
        [sys.executable, "-c", BREAK], env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert broken.returncode == 0, broken.stderr
    found = json.loads(broken.stdout.splitlines()[-1])
    assert found["training"].startswith("AssertionError") and found["memory"].startswith("AssertionError"), found


BREAK = """
import json
from tests.unit._core import without
laws = without.Laws()
laws.run(())
centre = without.reload(getattr)
right = centre.convolution_backward.public
centre.convolution_backward.private = None
centre.convolution_backward.public = lambda *a: tuple(t if t is None else 1.001 * t for t in right(*a))
import torchbcos.kernels.seal as seal
seal.Seal.holds = lambda self, weight: True  # a memory that never notices
print(json.dumps(laws.run(())))
"""


def test_a_trial_decides_once() -> None:
    calls: list[str] = []

    def private(x: int) -> int:
        calls.append("private")
        if x < 0:
            raise RuntimeError("other arguments")
        return x

    def public(x: int) -> int:
        calls.append("public")
        if x < -9:
            raise ValueError("the caller's fault")
        return x

    works, gone = torch_private.Trial(private, public), torch_private.Trial(private, public)
    assert [works(1), works(2)] == [1, 2]
    with pytest.raises(RuntimeError):  # it worked before: the arguments are at fault
        works(-1)
    with pytest.raises(ValueError, match="caller's fault"):  # neither takes them: nothing is decided
        gone(-10)
    assert not gone.settled
    assert [gone(-1), gone(3)] == [-1, 3]
    assert calls == ["private"] * 3 + ["private", "public"] * 2 + ["public"]
    assert torch_private.Trial(None, public)(4) == 4


def test_a_checkpoint_is_known_by_the_file_it_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(module: str) -> object:
        def pack(tensor: Tensor) -> Tensor:
            return tensor

        pack.__module__ = module
        return lambda _: (pack, pack)

    places = {
        "torch.utils.checkpoint": True, "torch.utils.elsewhere": True, "torch.autograd.graph": False, "__main__": False,
        "torchvision.ops": False,
    }  # fmt: skip
    for module, expected in places.items():
        monkeypatch.setattr(torch_private, "_TOP_HOOKS", hook(module))
        assert torch_private.checkpointed() is expected, module
    monkeypatch.setattr(torch_private, "_TOP_HOOKS", lambda _: None)
    assert not torch_private.checkpointed()
    monkeypatch.setattr(torch_private, "_TOP_HOOKS", None)  # torch before 2.7: who called?
    assert not torch_private.checkpointed()
    seen: list[bool] = []

    def step(x: Tensor) -> Tensor:
        seen.append(torch_private.checkpointed())
        return 2 * x

    for reentrant in (False, True):
        checkpoint(step, torch.ones(1, requires_grad=True), use_reentrant=reentrant)
    assert seen == [True, True]


def test_inference_tensors_have_no_version() -> None:
    with torch.inference_mode():
        assert torch_private.version(torch.ones(1)) is None
    x = torch.ones(1)
    x.add_(1)
    assert torch_private.version(x) == 1
