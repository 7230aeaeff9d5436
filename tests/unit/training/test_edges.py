"""Runs at their edges: what is refused in one sentence, what is remembered, and every ingredient in a real run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import torchbcos
from tests.unit.training.data import squares, tiny
from torchbcos._core.errors import InputError, MissingFileError, WeightsError
from torchbcos.data.sources import open_labelled
from torchbcos.evaluation import measure_accuracy, open_model
from torchbcos.runs import RunFolder
from torchbcos.training import Recipe, judge, read_recipe, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("edges") / "data")


def run(recipe: Recipe, data: Path, out: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    return train(recipe, data, out, **{"accelerator": "cpu", "devices": 1, "say": lines.append, **options}), lines


def state(out: Path) -> dict[str, Tensor]:
    return dict(torchbcos.load(out / "model", deploy=False).model.state_dict())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "values",
    [
        {"augment": "augmix"}, {"augment": "trivialaugment"}, {"augment": "randaugment"}, {"precision": "bf16"},
        {"erasing": 1.0, "brightness": 0.5}, {"repeats": 3}, {"accumulate": 2}, {"crop": "none"}, {"crop": "random"},
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-3}, {"optimizer": "adamw", "weight_decay": 1e-2},
        {"schedule": "step", "step_size": 1, "schedule_by": "epoch"}, {"schedule": "exponential"}, {"warmup_steps": 3},
        {"loss": "bce_uniform", "smoothing": 0.1}, {"loss": "cross_entropy"}, {"clip": "agc", "clip_value": 0.01},
        {"channels_last": True}, {"options": {"stochastic_depth": 0.1}, "model": "resnet18", "image_size": 32},
    ],
    ids=str,
)  # fmt: skip
def test_every_ingredient_trains(values: dict[str, Any], data: Path, tmp_path: Path) -> None:
    """Each in a run of its own: the weights are numbers, differ from those without it, and are the same twice."""
    twice = []
    for name in ("a", "b"):
        report, _ = run(tiny(**{"epochs": 1, **values}), data, tmp_path / name)
        assert report["steps"] >= 1
        twice.append(state(tmp_path / name))
    assert same(*twice) and all(bool(v.isfinite().all()) for v in twice[0].values())
    run(tiny(epochs=1, **{k: values[k] for k in ("model", "options", "image_size") if k in values and k != "options"}), data,
        tmp_path / "without")  # fmt: skip
    without = state(tmp_path / "without")
    assert without.keys() != twice[0].keys() or not same(without, twice[0])


@pytest.mark.newest
def test_a_compiled_run_is_that_of_an_eager_one(data: Path, tmp_path: Path) -> None:
    reports = [run(tiny(epochs=1, compile=on), data, tmp_path / str(on))[0] for on in (False, True)]
    a, b = (state(tmp_path / str(on)) for on in (False, True))
    assert reports[0]["steps"] == reports[1]["steps"]
    for key, value in a.items():
        torch.testing.assert_close(b[key], value, rtol=1e-2, atol=1e-3)


def test_what_is_kept_and_when_it_is_judged(data: Path, tmp_path: Path) -> None:
    run(tiny(epochs=4, keep_every=2, judge_every=3), data, tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").glob("epoch-*")) == ["epoch-0002.ckpt", "epoch-0004.ckpt"]
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    column = lines[0].split(",").index("selection_top1")
    judged = [bool(line.split(",")[column]) if len(line.split(",")) > column else False for line in lines[1:]]
    assert judged == [False, False, True, True]


def test_shards_train_as_their_folder_does(data: Path, tmp_path: Path) -> None:
    """The same pictures in a tar: the same names of classes, and a whole run."""
    import tarfile

    place = tmp_path / "shards"
    place.mkdir()
    with tarfile.open(place / "train-000.tar", "w") as tar:
        for file in sorted(data.rglob("*.png")):
            tar.add(file, arcname=f"{file.parent.name}/{file.name}")
    report, _ = run(tiny(epochs=1), place, tmp_path / "run")
    assert report["steps"] == 3 and torchbcos.load(tmp_path / "run").class_names == ("blue", "green", "red")


@pytest.mark.parametrize("kind", ["grey", "five"])
def test_other_channels_train_and_are_measured(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k, name in enumerate(("dark", "light")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(10):
            pixels = (rng.random((18, 18)) * 0.4 + 0.6 * k) * 255
            if kind == "grey":
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "data" / name / f"{i}.png")
            else:
                np.save(tmp_path / "data" / name / f"{i}.npy", np.stack([pixels.astype(np.uint8)] * 5))
    report, _ = run(tiny(epochs=6), tmp_path / "data", tmp_path / "run")
    for split in ("report", "selection"):
        found = measure_accuracy(open_model(tmp_path / "run"), tmp_path / "data", run=tmp_path / "run", split=split, workers=0)
        assert found["top1"] == pytest.approx(report[split]["top1"], abs=1e-3)


def table(place: Path, pictures: Path, header: str, cell: Any) -> Path:
    rows = [f"{p.relative_to(place.parent).as_posix()},{cell(p.parent.name)}" for p in sorted(pictures.rglob("*.png"))]
    place.write_text("\n".join([header, *rows]) + "\n")
    return place


def test_one_label_and_several_are_measured(tmp_path: Path) -> None:
    pictures = squares(tmp_path / "pictures")
    cells = {"file,red": lambda c: f"{int(c == 'red')}", "file,red,warm": lambda c: f"{int(c == 'red')},{int(c != 'blue')}"}
    for header, cell in cells.items():
        labels = table(tmp_path / "labels.csv", pictures, header, cell)
        out = tmp_path / f"run{header.count(',')}"
        report, _ = run(tiny(epochs=1, watch_every=2, selection_share=0.2, report_share=0.2), labels, out)
        found = measure_accuracy(open_model(out), labels, split="report", run=out, workers=0)
        assert found["map"] == pytest.approx(report["report"]["map"], abs=1e-3)
        assert "watch/residual" in (out / "history.csv").read_text()


@pytest.mark.parametrize(
    ("header", "cells", "message"),
    [
        ("split,file", [("train", "a.png"), ("train", "")], "needs a column|names no file"),
        ("red,file", [("1", "a.png"), ("0", "")], "line 3, names no file"),
        ("file,red,split", [("a.png", "1", "val")], "no row whose split is 'train'"),
        ("file,class,weight", [("a.png", "blue", "1")], "has a column 'class' and 'weight' beside it"),
    ],
)
def test_tables_that_say_too_little_or_too_much(header: str, cells: list[tuple[str, ...]], message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("\n".join([header, *(",".join(row) for row in cells)]) + "\n")
    with pytest.raises(InputError, match=message):
        open_labelled(tmp_path)


def test_masks_beside_the_classes_are_no_class(tmp_path: Path) -> None:
    squares(tmp_path)
    for picture in sorted(tmp_path.rglob("*.png")):
        mask = tmp_path / "masks" / picture.relative_to(tmp_path)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), 255).save(mask)
    assert open_labelled(tmp_path).classes == ("blue", "green", "red")
    squares(tmp_path / "other", names={"masks": (9, 9, 9), "gloves": (99, 9, 9)})  # a class may well be called so
    assert open_labelled(tmp_path / "other").classes == ("gloves", "masks")


def test_compressed_shards_are_named(tmp_path: Path) -> None:
    (tmp_path / "train-000.tar.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"'train-000\.tar\.gz': shards are plain .tar files"):
        open_labelled(tmp_path)


@pytest.mark.parametrize("values", [np.full((3, 8, 8), 200.0), np.full((3, 8, 8), 900, np.uint16), np.full((1, 9), -0.5)])
def test_arrays_out_of_range_are_named(values: np.ndarray, tmp_path: Path) -> None:
    """They were cut to [0, 1], every picture the same white one."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "0.npy", values)
    with pytest.raises(InputError, match=r"0.npy' holds numbers from .*bring them to \[0, 1\]"):
        open_labelled(tmp_path).train.read(0)


@pytest.mark.parametrize(
    ("shape", "values", "message"),
    [
        ((5, 20, 20), {"augment": "randaugment"}, "works on one or three channels, the data has 5"),
        ((2, 30), {"mixup": 0.2, "model": "own:net"}, r"mixup change pictures, and the data are arrays \(2, 30\)"),
        ((30,), {}, r"is an array \(30,\), and pictures have 2 axes of space, or one more for the channels: set axes to what"),
        ((2, 6, 20, 20), {}, r"is an array \(2, 6, 20, 20\), and pictures have 2 axes"),
        ((20, 30, 2), {}, r"channels come first, as in \(2, 20, 30\)"),
        ((2, 30), {"axes": 1}, "takes pictures, and axes=1 asks for signals: set model to a function of your own"),
    ],
)
def test_what_arrays_cannot_undergo(shape: tuple[int, ...], values: dict[str, Any], message: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(6):
            np.save(tmp_path / "data" / name / f"{i}.npy", np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=message):
        run(tiny(**values), tmp_path / "data", tmp_path / "run")


def test_ones_own_network_beside_the_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_mine.py").write_text(
        "from torch import nn\nfrom torchbcos.nn import BcosConv2d\n"
        "def good(num_classes, in_channels):\n"
        "    return nn.Sequential(BcosConv2d(in_channels, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "def bad(classes):\n    return None\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    with pytest.raises(InputError, match=r"model='nets_of_mine:bad' needs 'classes', .* must take num_classes, in_channels"):
        run(tiny(model="nets_of_mine:bad"), data, tmp_path / "run")
    report, _ = run(tiny(model="nets_of_mine:good"), data, tmp_path / "run")  # nothing was trained: the folder is free
    assert report["steps"] == 6
    assert str(tmp_path) not in sys.path  # the caller's imports are as before
    for source in (tmp_path / "run", tmp_path / "run" / "model"):
        with pytest.raises(InputError, match="'nets_of_mine' would be imported and its 'good' called, and files do not run code"):
            torchbcos.load(source)
        loaded = torchbcos.load(source, device="cpu", allow_code=True)
        assert loaded.class_names == ("blue", "green", "red") and loaded.card.recipe["model"] == "nets_of_mine:good"
    assert str(tmp_path) not in sys.path


def test_an_old_run_of_ones_own_network_says_what_to_do(tmp_path: Path) -> None:
    """Earlier releases wrote weights alone."""
    RunFolder(tmp_path / "run").write_own_weights(torch.nn.Linear(2, 2).state_dict())
    for source in (tmp_path / "run", tmp_path / "run" / "model"):
        with pytest.raises(MissingFileError, match="a network of your own: build it"):
            torchbcos.load(source)


def test_a_run_is_a_model_when_it_is_finished(data: Path, tmp_path: Path) -> None:
    run(tiny(max_steps=2, checkpoint_steps=1), data, tmp_path / "run")
    assert torchbcos.load(tmp_path / "run").class_names == ("blue", "green", "red")
    for file in (tmp_path / "run" / "model").iterdir():
        file.unlink()
    with pytest.raises(MissingFileError, match="is not finished: the command that began it goes on"):
        torchbcos.load(tmp_path / "run")


def test_a_finished_run_writes_what_is_missing_and_refuses_what_is_new(data: Path, tmp_path: Path) -> None:
    recipe = tiny(epochs=1)
    first, _ = run(recipe, data, tmp_path / "run")
    whole = state(tmp_path / "run")
    with pytest.raises(InputError, match=r"is finished, with other settings \(lr was 0.002, now 0.5\)"):
        run(recipe.changed(lr=0.5), data, tmp_path / "run")
    assert "is finished" in run(recipe.changed(workers=1), data, tmp_path / "run")[1][0]
    for file in (tmp_path / "run" / "model").iterdir():
        file.unlink()
    (tmp_path / "run" / "model").rmdir()
    (tmp_path / "run" / "report.json").write_text("{")
    again, _ = run(recipe, data, tmp_path / "run")
    assert again["report"] == first["report"] and same(state(tmp_path / "run"), whole)
    other, _ = run(recipe.changed(export="last"), data, tmp_path / "run")
    assert other["export"] == "last" and not same(state(tmp_path / "run"), whole)
    with pytest.raises(InputError, match="has trained 3 steps, and the recipe now has 2"):
        run(recipe.changed(max_steps=2), data, tmp_path / "run")


def test_best_weights_that_are_gone_or_damaged(data: Path, tmp_path: Path) -> None:
    recipe = tiny(epochs=1, export="best")
    run(recipe, data, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    for damage, message in ((lambda: best.write_bytes(b"no"), "is damaged"), (best.unlink, "is gone")):
        damage()
        (tmp_path / "run" / "report.json").unlink(missing_ok=True)
        with pytest.raises(WeightsError, match=f"best.ckpt' {message}.*export=last"):
            run(recipe, data, tmp_path / "run")


def test_without_a_split_to_choose_by_the_last_weights_are_called_so(data: Path, tmp_path: Path) -> None:
    report, _ = run(tiny(epochs=1, ema_decay=0.0, selection_share=0.0), data, tmp_path / "run")
    assert report["export"] == "last"


def test_averaged_weights_of_the_last_checkpoint_have_norm_statistics_of_their_own(data: Path, tmp_path: Path) -> None:
    """They were those of the average's way, and the same weights judged 33 % from the checkpoint and 100 % as the model."""
    run(tiny(epochs=2, selection_share=0.0), data, tmp_path / "run")
    kept = open_model(tmp_path / "run", weights="ema").model.state_dict()
    for key, value in torchbcos.load(tmp_path / "run", deploy=False).model.state_dict().items():
        torch.testing.assert_close(kept[key], value)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_norm_statistics_are_computed_once_for_the_same_weights(
    share: float, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    usual = judge.recalibrate
    monkeypatch.setattr(judge, "recalibrate", lambda network, batches: (steps.append(1), usual(network, batches))[1])
    run(tiny(epochs=2, selection_share=share), data, tmp_path / "run")
    assert len(steps) == (2 if share else 1)  # at every judging, or at the end


def test_a_changed_setting_is_written_down(data: Path, tmp_path: Path) -> None:
    recipe = tiny(max_steps=3)
    run(recipe, data, tmp_path / "run")
    _, lines = run(recipe.changed(max_steps=0, lr=0.05), data, tmp_path / "run")
    assert "Settings change from step 3: lr 0.002 -> 0.05" in lines[0]
    assert read_recipe(tmp_path / "run" / "recipe.toml")[1]["changes"] == ["from step 3: lr 0.002 -> 0.05"]


def test_paths_of_other_models_are_whole(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a recipe's file means the same in any folder; and a run's folder teaches as its model does."""
    run(tiny(epochs=1), data, tmp_path / "runs" / "teacher")
    monkeypatch.chdir(tmp_path)
    run(tiny(epochs=1, teacher="runs/teacher", teacher_weight=1.0), data, tmp_path / "student")
    kept, _ = read_recipe(tmp_path / "student" / "recipe.toml")
    assert kept.teacher == str(tmp_path / "runs" / "teacher")
    assert json.loads((tmp_path / "student" / "splits.json").read_text())["report"]


def test_ten_unreadable_files_in_a_row(tmp_path: Path) -> None:
    place = squares(tmp_path / "data")
    for file in sorted((place / "red").iterdir()):
        file.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"10 examples in a row cannot be read, the first of them: .*png"):
        run(tiny(on_error="skip"), place, tmp_path / "run")


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def test_a_program_without_dynamic_shapes(data: Path, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Fixed(), (torch.rand(4, 3, 16, 16),)), tmp_path / "t.pt2")
    with pytest.raises(InputError, match=r"does not take a batch of shape \(8, 3, 16, 16\).*needs dynamic shapes"):
        run(tiny(teacher=str(tmp_path / "t.pt2"), teacher_weight=1.0), data, tmp_path / "run")


def test_links_in_the_data_are_counted_once_and_said(tmp_path: Path) -> None:
    data, lines = squares(tmp_path / "data", 4), list[str]()
    for name in ("blue", "red"):
        (data / name / "loop").symlink_to(".")
        (data / name / "again.png").symlink_to("00.png")
    train(
        tiny(epochs=1, selection_share=0, report_share=0), data, tmp_path / "run", say=lines.append, accelerator="cpu", devices=1
    )
    assert sum("; 12 to train on;" in line for line in lines) == 1, lines
    assert "2 further names of the same files (links, rows that are there twice) are counted once." in lines
