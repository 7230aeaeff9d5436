"""`torchbcos compare` and `torchbcos evaluate METRIC`: tables, files, errors a user can cause."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos.cli import compared
from torchbcos.cli.__main__ import app
from torchbcos.cli.compare import METRIC_NAMES, seconds
from torchbcos.evaluation.measures import MEASURES
from torchbcos.metrics import METRICS

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0), "white": (255, 255, 255)}
MODULE = '''
"""A network that knows four colours, exactly."""
import torch
from torch import nn


class Colours(nn.Module):
    def __init__(self, num_classes=4, in_channels=3):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.class_names = ("blue", "green", "red", "white")
        weight = torch.tensor([[-1.0, -1, 1], [-1, 1, -1], [1, -1, -1], [0.6, 0.6, 0.6]])
        with torch.no_grad():
            self.net[0].weight.copy_(weight[:, :, None, None].expand(-1, -1, 3, 3))

    def forward(self, x):
        return self.net(x)


def build(**options):
    return Colours(**options)
'''


def call(*words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    found = CliRunner().invoke(app, [str(word) for word in words])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of four colours, and a module with a network that knows them."""
    root = tmp_path_factory.mktemp("colours")
    (root / "fourcolours.py").write_text(MODULE)
    generator = torch.Generator().manual_seed(0)
    for name, colour in COLOURS.items():
        (root / "data" / name).mkdir(parents=True)
        for i in range(6):
            pixels = torch.tensor(colour).float().view(1, 1, 3) * (0.6 + 0.4 * torch.rand(12, 12, 1, generator=generator))
            Image.fromarray(pixels.byte().numpy()).save(root / "data" / name / f"{i}.png")
    return root


@pytest.fixture
def model(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options that open the network."""
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "fourcolours", raising=False)
    if not (place / "model").is_dir():
        network = importlib.import_module("fourcolours").build()
        prepare = {"encoding": "none", "resize": 12, "crop": 12}
        torchbcos.save(
            torchbcos.Classifier(network, class_names=sorted(COLOURS), preprocess=prepare, builder="fourcolours:build"),
            place / "model",
        )
    return ["--model", str(place / "model"), "--allow-code"]


def test_the_metrics_are_those_that_can_be_measured() -> None:
    assert set(METRIC_NAMES) == set(MEASURES)
    assert {name: METRICS[name].summary for name in METRIC_NAMES} == METRIC_NAMES


def test_a_comparison_prints_tables_and_writes_files(place: Path, model: list[str], tmp_path: Path) -> None:
    out = tmp_path / "found"
    words = ["--data", place / "data", "--methods", "inherent,ixg,random", "--metrics", "grid-pointing,deletion", "--limit", 3]
    code, stdout, stderr = call("compare", *model, *words, "--confidence", 0, "--out", out)
    assert code == 0, stderr
    assert "grid-pointing on " in stdout and "deletion on " in stdout
    assert "Its limits: " in stdout
    assert {"compare.json", "compare.csv", "compare.values.csv", "compare.md", "compare.html", "compare.cost.json"} <= {
        f.name for f in out.iterdir()
    }
    found = json.loads((out / "compare.json").read_text("utf-8"))
    assert {row["n"] for row in found["rows"]} == {3}
    games = [(one["metric"], frozenset([one["method"], one["other"]])) for one in found["pairs"]]
    assert len(games) == len(set(games)) == 2 * 3  # each two methods are one test
    by = {(row["method"], row["metric"]): row["mean"] for row in found["rows"]}
    assert by["inherent", "grid-pointing"] == pytest.approx(1.0, abs=0.15)
    assert by["random", "grid-pointing"] == pytest.approx(0.25, abs=0.02)


def test_a_new_metric_takes_the_maps_that_are_there(place: Path, model: list[str], tmp_path: Path) -> None:
    words = [
        "--data",
        place / "data",
        "--methods",
        "inherent",
        "--limit",
        2,
        "--confidence",
        0,
        "--out",
        tmp_path / "e",
        "--json",
    ]
    assert call("evaluate", "gini", *model, *words)[0] == 0
    before = sorted((tmp_path / "e" / "maps" / "maps").rglob("*.safetensors"))
    times = [file.stat().st_mtime_ns for file in before]
    code, stdout, _ = call("evaluate", "entropy", *model, *words)
    assert code == 0
    assert json.loads(stdout)["metrics"][0]["name"] == "entropy"
    after = sorted((tmp_path / "e" / "maps" / "maps").rglob("*.safetensors"))
    assert (before, times) == (after, [file.stat().st_mtime_ns for file in after])
    assert len(before) == 2


def test_a_picture_that_cannot_be_read_is_named(place: Path, model: list[str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    for file in (place / "data").rglob("*.png"):
        target = data / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    (data / "red" / "broken.png").write_bytes(b"no picture")
    code, _, stderr = call(
        "evaluate", "gini", *model, "--data", data, "--methods", "ixg", "--limit", 2, "--confidence", 0, "--out", tmp_path / "e"
    )
    assert code == 1
    assert "broken.png" in stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "inherentt"], "Unknown method 'inherentt'. Did you mean 'inherent'"),
        (["--methods", "rise:mask=3"], "rise has no setting 'mask'"),
        (["--methods", "inherent", "--budget", "soon"], "A time is written 90s, 10m or 1h30m"),
        (["--methods", "inherent", "--protocol", "codaa"], "There is no protocol 'codaa'"),
        (["--methods", "inherent", "--set", "smoth=3"], "grid-pointing has no setting 'smoth'"),
        (["--methods", "ixg,input_x_gradient"], "Two methods are called 'input_x_gradient'"),
        (["--methods", "inherent", "--set", "n=3"], "need 9 classes"),
        (["--methods", "inherent", "--maps", "nowhere"], "There is no folder of maps 'nowhere'"),
    ],
)
def test_what_a_user_may_get_wrong(place: Path, model: list[str], tmp_path: Path, words: list[str], said: str) -> None:
    code, _, stderr = call(
        "evaluate", "grid-pointing", *model, "--data", place / "data", "--confidence", 0, "--out", tmp_path, *words
    )
    assert code == 2
    assert said in stderr
    assert "Traceback" not in stderr


def test_times_in_words() -> None:
    assert [seconds(text) for text in ("90", "90s", "1.5m", "2h", "1h30m", "10min")] == [90, 90, 90, 7200, 5400, 600]


def test_results_do_not_become_a_class_of_the_data(
    place: Path, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--methods", "inherent", "--metrics", "gini", "--limit", 1, "--confidence", 0]
    monkeypatch.chdir(place / "data")
    before = sorted(file.name for file in (place / "data").iterdir())
    for more in ([], ["--out", place / "data" / "red" / "x"], ["--out", tmp_path, "--cache", "maps"]):
        code, _, stderr = call("compare", *model, "--data", ".", *words, *more)
        assert code == 2 and "taken for a class" in stderr
    assert sorted(file.name for file in (place / "data").iterdir()) == before


def test_two_models_of_one_name_are_told_apart(place: Path, model: list[str], tmp_path: Path) -> None:
    words = ["--data", place / "data", "--methods", "inherent", "--metrics", "gini", "--limit", 1, "--confidence", 0]
    for given in ("{0},{0}", "a={0},a={0}", "a={0},b 1={0}"):
        models = given.format(place / "model")
        code, _, stderr = call("compare", "--models", models, "--allow-code", *words, "--out", tmp_path)
        assert code == 0, stderr
        found = json.loads((tmp_path / "compare.json").read_text("utf-8"))
        assert len({one["label"] for one in found["models"]}) == 2 and len(found["rows"]) == 2


def test_a_terminal_is_not_flooded(place: Path, model: list[str], tmp_path: Path) -> None:
    methods = "inherent,ixg,rollout,raw_attention,gradient_attention,random,edges,integrated_gradients:samples=16"
    words = [
        "--data",
        place / "data",
        "--methods",
        methods,
        "--metrics",
        "grid-pointing,deletion",
        "--limit",
        3,
        "--confidence",
        0,
    ]
    code, stdout, stderr = call("compare", *model, *words, "--out", tmp_path)
    found = json.loads((tmp_path / "compare.json").read_text("utf-8"))["sentences"]
    lines = stderr.splitlines()
    assert code == 0 and len(found) > 6 and len(lines) <= 6
    assert max(map(len, lines)) <= 260 and "is first in" not in stderr  # the tables say that
    assert stdout.count("not measured. ") == 1 and stdout.count("not measured; why stands above") == 1
    assert "rollout, raw_attention, gradient_attention: not measured. " in stdout
    assert "random *" in stdout and "* asks no network" in stdout
    table = [line for line in stdout.splitlines() if line.startswith("  ") and "." in line[-40:] and ": " not in line]
    assert len(table) > 8 and max(map(len, table)) <= 80
    assert "is among the best methods by" in stdout


def test_of_many_sentences_those_about_all_methods_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(compared, "say", said.append)
    facts: dict[str, Any] = {
        "methods": [{"label": "lime", "dumb": False}], "models": [{"label": "m"}], "metrics": [], "rows": [], "pairs": [],
        "items": {}, "rankings": [], "sentences": [*(f"lime on m: warning {i} {'x' * 500}" for i in range(9)), "Few pictures."],
    }  # fmt: skip
    compared.tell_comparison(facts, Path("compare.html"))
    assert len(said) == 6 and said[0].endswith("Few pictures.") and max(map(len, said)) < 260
    assert said[-1] == "torchbcos: 5 more sentences stand on the page."


def test_pictures_without_labels(place: Path, model: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, name in enumerate(COLOURS):
        (tmp_path / "photos" / f"{i}.png").write_bytes((place / "data" / name / "0.png").read_bytes())
    words = [
        "--data",
        tmp_path / "photos",
        "--methods",
        "ixg",
        "--limit",
        4,
        "--confidence",
        0,
        "--out",
        tmp_path / "e",
        "--json",
    ]
    code, stdout, stderr = call("evaluate", "gini", *model, *words, "--targets", "predicted")
    assert code == 0, stderr
    assert json.loads(stdout)["items"]["pictures"]["count"] == 4
