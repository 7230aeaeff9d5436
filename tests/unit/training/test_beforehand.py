"""What can be known before a training is asked before it: nothing was trained, and nothing was said, when it is refused."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unit.training.data import squares, tiny
from torchbcos import zoo
from torchbcos._core.errors import BcosError, InputError, StateError, WeightsError
from torchbcos.training import beforehand, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("beforehand") / "data", 6)


def refused(data: Path, out: Path, error: type[BcosError], message: str, **values: Any) -> None:
    steps = list[object]()
    with pytest.raises(error, match=message) as caught:
        train(tiny(epochs=1, **values), data, out, accelerator="cpu", devices=1, say=lambda _: None, progress=steps.append)
    assert not steps and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["report.json", "history.csv", "splits.json", "card.json", "recipe.toml", "checkpoints/last.ckpt"]
)
def test_a_folder_where_a_run_writes_a_file(name: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / name).mkdir(parents=True)
    refused(data, tmp_path / "run", StateError, f"{Path(name).name}' is a folder, where a run writes a file")


@pytest.mark.parametrize("name", ["model", "checkpoints", "tensorboard"])
def test_a_file_where_a_run_has_a_folder(name: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).touch()
    refused(data, tmp_path / "run", StateError, f"{name}' is a file, where a run has a folder")


def test_places_that_no_run_can_have(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, reason in (("file", "is a file"), ("a" * 5000, "File name too long"), ("a\0b", "no folder can have this name")):
        refused(data, tmp_path / name, InputError, f"--out .* {reason}")


def test_one_class_alone(tmp_path: Path) -> None:
    """In each form of data that can have one."""
    place = squares(tmp_path / "squares", 6, {"red": (220, 40, 40)})
    (tmp_path / "table").mkdir()
    shutil.copytree(place, tmp_path / "table" / "squares")
    with (tmp_path / "table" / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class"])
        writer.writerows([path.relative_to(tmp_path / "table"), "red"] for path in sorted((tmp_path / "table").rglob("*.png")))
    for source in (place, tmp_path / "table"):
        refused(source, tmp_path / "run", InputError, r"one class|two at least|two are needed")
    assert not (tmp_path / "run").exists()


def test_the_best_of_no_epochs(data: Path, tmp_path: Path) -> None:
    refused(data, tmp_path / "run", InputError, "needs pictures to choose by", export="best", selection_share=0.0)


def test_best_weights_that_an_interrupted_run_has_lost(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "say": lambda _: None}
    train(tiny(epochs=2, max_steps=1, export="best"), data, tmp_path / "run", **options)
    (tmp_path / "run" / "report.json").unlink()
    (tmp_path / "run" / "checkpoints" / "best.ckpt").write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"best\.ckpt' is damaged .*export=last"):
        train(tiny(epochs=2, export="best"), data, tmp_path / "run", **options)
    report = train(tiny(epochs=2, export="last"), data, tmp_path / "run", **options)
    assert report["export"] == "last"


def test_a_model_that_could_not_be_opened(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card is read as `load` reads it, before it describes anything."""

    def strict(values: object, *, where: str) -> None:
        raise WeightsError(f"{where}: a class has no name.")

    monkeypatch.setattr(zoo.Card, "from_dict", strict)
    refused(
        data,
        tmp_path / "run",
        InputError,
        "The model of this run could not be opened: its card: a class has no name. Nothing was",
    )


class Fixed(nn.Module):
    """Takes pictures of 16 pixels only, and keeps a part of itself in eval mode."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(6 * 16 * 16, classes)
        self.norm = nn.BatchNorm1d(classes).eval()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.linear(x.flatten(1)))
        return out


def fixed(num_classes: int, in_channels: int) -> nn.Module:
    return Fixed(num_classes)


def wide(num_classes: int, in_channels: int) -> nn.Module:
    return Fixed(num_classes + 1)


def nothing(num_classes: int, in_channels: int) -> None:
    return None


def test_a_function_that_returns_no_network(data: Path, tmp_path: Path) -> None:
    refused(
        data, tmp_path / "run", InputError, r"must return a torch\.nn\.Module, and returned NoneType", model=f"{__name__}:nothing"
    )


def test_pictures_that_the_network_is_judged_by_only(data: Path, tmp_path: Path) -> None:
    """It trained on crops of 16 pixels, and met those of 20 when it was judged: at the end, where nothing chooses."""
    own = f"{__name__}:fixed"
    values: dict[str, Any] = {"model": own, "test_size": 20, "selection_share": 0.0, "ema_decay": 0.0}
    refused(data, tmp_path / "run", InputError, r"does not take the examples that judge it, \(1, 6, 20, 20\): ", **values)
    refused(
        data,
        tmp_path / "run",
        InputError,
        r"returns \(1, 4\) for one example .* not logits of \(1, 3\)",
        model=f"{__name__}:wide",
    )
    report = train(tiny(model=own, epochs=1), data, tmp_path / "run", accelerator="cpu", devices=1, say=lambda _: None)
    assert report["steps"] == 1


def test_a_rehearsal_leaves_no_trace() -> None:
    network, x = Fixed(3), torch.rand(1, 6, 16, 16)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert beforehand._answer(network, x) == (1, 3)
    assert network.training and network.linear.training and not network.norm.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("key", ["num_classes", "in_channels", "plain", "name", "weights", "pretrained"])
def test_options_that_the_data_decides(key: str, data: Path, tmp_path: Path) -> None:
    refused(data, tmp_path / "run", InputError, f"options cannot set {key}: the data", options={key: 3})


def test_arrays_of_one_axis_are_rehearsed_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("low", "high"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(6):
            np.save(tmp_path / "data" / name / f"{i}.npy", rng.random((1, 30)).astype(np.float32))
    recipe = tiny(model="tests.unit.training.test_runs:signals", flip=0.0, epochs=1)
    assert train(recipe, tmp_path / "data", tmp_path / "run", accelerator="cpu", devices=1, say=lambda _: None)["steps"] == 1
