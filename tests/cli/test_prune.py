"""`torchbcos prune`: what it writes, what it refuses, and a search that is killed and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import torchbcos
from tests.cli.test_training_arrays import call

WORDS = ("--evaluations", "8", "--population", "4", "--calibration", "16", "--pictures", "20", "--grids", "4", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coloured")
    generator = np.random.default_rng(0)
    for name, colour in {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "grey": (120, 120, 120)}.items():
        (folder / name).mkdir()
        for i in range(12):
            noise = generator.integers(-30, 30, (24, 24, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = torchbcos.create_model("resnet18", num_classes=4, width_factor=0.25, antialias=True)
    torchbcos.recalibrate(network, [torch.rand(8, 6, 24, 24)])
    small = {"resize": 24, "crop": 24}
    classifier = torchbcos.Classifier(network.eval(), class_names=("red", "green", "blue", "grey"), preprocess=small)
    torchbcos.save(classifier, tmp_path_factory.mktemp("model") / "model")
    return next(tmp_path_factory.getbasetemp().glob("model*/model"))


def test_a_smaller_network_is_written_that_loads_and_explains(data: Path, model: Path, tmp_path: Path) -> None:
    code, out, err = call("prune", "--data", data, "--model", model, "--out", tmp_path / "small", *WORDS, "--flops", "0.6")
    assert code == 0, err
    assert "Chosen: " in out and "torchbcos train finetune" in out and "cannot be cut" in out
    front = json.loads((tmp_path / "small" / "front.json").read_text())
    assert front["chosen"]["flops"] <= 0.6 and front["evaluations"] == 8 and front["left"]
    assert "a residual stream" in " ".join(front["left"].values())
    lines = (tmp_path / "small" / "candidates.jsonl").read_text().splitlines()
    assert len(lines) == 9
    with Image.open(tmp_path / "small" / "front.png") as picture:
        assert picture.width > 400
    small, whole = torchbcos.load(tmp_path / "small" / "model"), torchbcos.load(model)
    assert sum(p.numel() for p in small.model.parameters()) < sum(p.numel() for p in whole.model.parameters())
    e = small.explain(data / "red" / "0.png", top_k=1)
    assert float(e.residual.abs().max()) <= 1e-5 and small.card.pruned
    code, out, _ = call("explain", data / "red" / "0.png", "--model", tmp_path / "small" / "model", "--out", tmp_path / "why")
    assert code == 0 and "residual" in out


def test_a_search_that_is_killed_comes_to_the_same_front(data: Path, model: Path, tmp_path: Path) -> None:
    words = ["--data", str(data), "--model", str(model), *WORDS, "--flops", "0.6"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert call("prune", *words, "--out", whole)[0] == 0
    command = [sys.executable, "-m", "torchbcos.cli", "prune", *words, "--out", str(killed)]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    journal, since = killed / "candidates.jsonl", time.monotonic()
    while process.poll() is None and time.monotonic() - since < 120:
        if journal.exists() and len(journal.read_text().splitlines()) >= 4:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait()
    kept = len(journal.read_text().splitlines())
    assert kept >= 4
    journal.write_text(journal.read_text()[:-20])  # as if it had been killed in the middle of a line
    assert call("prune", *words, "--out", killed)[0] == 0
    rows = [[json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()] for folder in (whole, killed)]
    assert [row.get("steps") for row in rows[0]] == [row.get("steps") for row in rows[1]]
    found = [json.loads((folder / "front.json").read_text()) for folder in (whole, killed)]
    assert [one["steps"] for one in found[0]["front"]] == [one["steps"] for one in found[1]["front"]]
    assert found[0]["chosen"]["accuracy"] == pytest.approx(found[1]["chosen"]["accuracy"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--flops", "1.5"), "flops is the share of the operations"),
        (("--pictures", "500"), "ask for fewer with --calibration and --pictures"),
        (("--flops", "0.001"), "the smallest needs"),
        (("--model", "imagenet"), "The model knows no class"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    words: tuple[str, ...], sentence: str, data: Path, model: Path, tmp_path: Path
) -> None:
    given = () if "--model" in words else ("--model", model)
    code, out, err = call("prune", "--data", data, "--out", tmp_path / "out", *WORDS, *given, *words)
    assert code == 2 and out == "" and err.splitlines()[-1] and any(word in err for word in sentence.split("|")), err
    assert "Traceback" not in err


def test_another_search_is_not_mixed_with_this_one(data: Path, model: Path, tmp_path: Path) -> None:
    words = ("prune", "--data", data, "--model", model, "--out", tmp_path / "out", *WORDS, "--flops", "0.6")
    assert call(*words)[0] == 0
    code, _, err = call(*words, "--seed", "1")
    assert code == 2 and "is of another search" in err
