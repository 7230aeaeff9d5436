"""Runs: what they leave, how they go on, and one sentence for everything that can go wrong."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import torchbcos
from tests.unit.training.data import COLOURS, squares, tiny
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, MissingFileError, StateError, WeightsError
from torchbcos.data import open_labelled
from torchbcos.data.loading import seed_of
from torchbcos.judging import Outputs
from torchbcos.training import Progress, Recipe, judge, loop, losses, network, read_recipe, train
from torchbcos.training.plan import hold_out
from torchbcos.zoo.store import read_card

ONE: dict[str, Any] = {"accelerator": "cpu", "devices": 1}


def run(recipe: Recipe, data: Path, out: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    return train(recipe, data, out, say=lines.append, **{**ONE, **options}), lines


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "model" / "model.safetensors")


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest number of each tensor."""
    return max(float((a[k] - b[k]).abs().max() / a[k].abs().max().clamp_min(1e-3)) for k in a if a[k].is_floating_point())


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Killed(BaseException):
    """Stands for the end of the process."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Stop as a kill would, right before this step's bookkeeping."""
    usual = loop.after_step

    def after_step(run: Any, state: Any, journal: Any, **options: Any) -> None:
        if state.done == step:
            raise Killed
        usual(run, state, journal, **options)

    monkeypatch.setattr(loop, "after_step", after_step)
    return lambda: monkeypatch.setattr(loop, "after_step", usual)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    out = tmp_path_factory.mktemp("runs") / "whole"
    report, lines = run(tiny(mixup=0.2, cutmix=1.0, checkpoint_steps=2), data, out)
    return out, report, lines


def test_what_a_run_leaves(finished: tuple[Path, dict[str, Any], list[str]], data: Path) -> None:
    out, report, lines = finished
    recipe, facts = read_recipe(out / "recipe.toml")
    assert recipe == tiny(mixup=0.2, cutmix=1.0, checkpoint_steps=2)
    assert facts["classes"] == sorted(COLOURS) and facts["data"] == str(data) and torch.__version__.startswith(facts["torch"])
    assert json.loads((out / "report.json").read_text()) == report
    assert report["export"] == "ema" and report["steps"] == 6 and set(report["report"]) == {"top1", "ece", "loss"}
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert "3 classes; 30 to train on, 3 held out to choose by, 3 to report; 2 epochs of 3 steps" in lines[0]
    assert "pictures/s, the data could give" in lines[1]
    assert list((out / "tensorboard").glob("events*"))
    clf = torchbcos.load(out / "model")
    assert clf.class_names == tuple(sorted(COLOURS))
    assert clf.card.top1 == pytest.approx(report["report"]["top1"], abs=1e-3)
    prediction = clf.predict(data / "red" / "00.png", top_k=1)[0][0]
    assert prediction.label in COLOURS
    assert float(clf.explain(data / "red" / "00.png").residual.abs().max()) < 1e-4


def test_a_finished_run_says_so(finished: tuple[Path, dict[str, Any], list[str]], data: Path) -> None:
    out, report, _ = finished
    before = weights(out)
    again, lines = run(tiny(mixup=0.2, cutmix=1.0, checkpoint_steps=2), data, out)
    assert again == report
    assert len(lines) == 1 and "is finished (2 epochs): top1" in lines[0]
    assert same(weights(out), before)


@pytest.mark.parametrize("step", [1, 2, 3, 5, 6])
def test_interrupted_runs_reach_the_same_weights(
    step: int, finished: tuple[Path, dict[str, Any], list[str]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(mixup=0.2, cutmix=1.0, checkpoint_steps=2)
    undo = killed_at(step, monkeypatch)
    with pytest.raises(Killed):
        run(recipe, data, tmp_path / "run")
    undo()
    _, lines = run(recipe, data, tmp_path / "run")
    saved = {1: 0, 2: 0, 3: 2, 5: 4, 6: 4}[step]
    assert (f"from step {saved} of 6" in lines[0]) == (saved > 0)
    assert same(weights(tmp_path / "run"), weights(finished[0]))


def test_a_run_killed_after_its_last_step_is_finished(
    finished: tuple[Path, dict[str, Any], list[str]], data: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    shutil.rmtree(tmp_path / "run" / "model")
    report, lines = run(tiny(mixup=0.2, cutmix=1.0, checkpoint_steps=2), data, tmp_path / "run")
    assert "from step 6 of 6" in lines[0]
    assert same(weights(tmp_path / "run"), weights(finished[0]))
    assert report["report"] == finished[1]["report"]


def test_accumulation_and_workers_resume_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(accumulate=2, workers=1, checkpoint_steps=1, optimizer="sgd", lr=0.05, erasing=0.3, flip=0.5)
    run(recipe, data, tmp_path / "whole")
    undo = killed_at(4, monkeypatch)
    with pytest.raises(Killed):
        run(recipe, data, tmp_path / "run")
    undo()
    run(recipe, data, tmp_path / "run")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_a_run_reproduces_from_its_file(finished: tuple[Path, dict[str, Any], list[str]], tmp_path: Path) -> None:
    recipe, facts = read_recipe(finished[0] / "recipe.toml")
    run(recipe, Path(facts["data"]), tmp_path / "again")
    assert same(weights(tmp_path / "again"), weights(finished[0]))
    run(recipe.changed(seed=1, name="other"), Path(facts["data"]), tmp_path / "other")
    assert not same(weights(tmp_path / "other"), weights(finished[0]))


def interrupted(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, step: int = 4) -> Recipe:
    recipe = tiny(checkpoint_steps=1)
    undo = killed_at(step, monkeypatch)
    with pytest.raises(Killed):
        run(recipe, data, out)
    undo()
    return recipe


def test_a_damaged_checkpoint_falls_back_to_the_one_before(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = interrupted(data, tmp_path / "run", monkeypatch)
    run(recipe, data, tmp_path / "whole")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    _, lines = run(recipe, data, tmp_path / "run")
    assert "last.ckpt' is damaged" in lines[0] and "from step 2 of 6" in lines[1]
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_no_checkpoint_that_can_be_read(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = interrupted(data, tmp_path / "run", monkeypatch)
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / "run" / "checkpoints" / name).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="No other checkpoint of this run is left"):
        run(recipe, data, tmp_path / "run")


def test_a_full_disk_loses_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, count = tiny(checkpoint_steps=1), 0
    run(recipe, data, tmp_path / "whole")
    usual = os.fsync

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count > 3:  # the recipe, and two checkpoints
            raise OSError(errno.ENOSPC, "No space left on device")
        usual(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match=r"Could not write the checkpoint .*No space left on device\. The one before is kept"):
        run(recipe, data, tmp_path / "run")
    monkeypatch.setattr(os, "fsync", usual)
    assert not list((tmp_path / "run" / "checkpoints").glob("*.part"))
    _, lines = run(recipe, data, tmp_path / "run")
    assert "from step 2 of 6" in lines[0]
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_data_that_is_gone_or_changed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "data"
    shutil.copytree(data, own)
    recipe = interrupted(own, tmp_path / "run", monkeypatch)
    own.rename(tmp_path / "elsewhere")
    with pytest.raises(MissingFileError, match="There is no data at"):
        run(recipe, own, tmp_path / "run")
    (tmp_path / "elsewhere").rename(own)
    (own / "red").rename(own / "rot")
    with pytest.raises(StateError, match=r"begun with 3 classes, the data now has 3 \(without red and with rot\)"):
        run(recipe, own, tmp_path / "run")
    (own / "rot").rename(own / "red")
    (own / "red" / "00.png").rename(own / "red" / "99.png")
    with pytest.raises(StateError, match="has changed since the run was begun"):
        run(recipe, own, tmp_path / "run")
    (own / "red" / "99.png").rename(own / "red" / "00.png")
    run(recipe, own, tmp_path / "run")


def test_another_recipe_in_the_same_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = interrupted(data, tmp_path / "run", monkeypatch)
    with pytest.raises(InputError, match=r"begun with another recipe \(batch_size was 8, now 4\)"):
        run(recipe.changed(batch_size=4), data, tmp_path / "run")
    run(recipe.changed(lr=1e-5), data, tmp_path / "run")  # what does not decide the order may change


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="the last good checkpoint is kept"):
        run(tiny(plain=True, optimizer="sgd", lr=1e6, clip="", checkpoint_steps=1, epochs=9), data, tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    network = {k: v for k, v in kept["state_dict"].items() if k.startswith("network.")}
    assert len(network) > 50 and all(bool(v.isfinite().all()) for v in network.values())


def test_unreadable_files_stop_or_are_skipped_and_counted(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "data"
    shutil.copytree(data, own)
    for name in ("red/03.png", "blue/05.png"):
        (own / name).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"(03|05).png.*--on-error skip"):
        run(tiny(), own, tmp_path / "stop")
    report, lines = run(tiny(on_error="skip", epochs=3, selection_share=0.0, report_share=0.0), own, tmp_path / "skip")
    assert len(report["unreadable"]) == 2
    assert "2 files could not be read and were skipped" in lines[-1]


@pytest.mark.parametrize("export", ["best", "last", "ema"])
def test_what_is_exported(export: str, data: Path, tmp_path: Path) -> None:
    report, _ = run(tiny(export=export), data, tmp_path / "run")
    assert report["export"] == export
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    found = weights(tmp_path / "run")
    prefix = {"last": "network.", "ema": "average."}.get(export)
    if prefix:
        keys = [k for k in found if not k.endswith(("running_var", "running_mean", "num_batches_tracked"))]
        assert all(torch.equal(found[k], checkpoint[prefix + k]) for k in keys)
    else:
        best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
        assert same(found, best["state"])


def test_plain_twins_and_softmax(data: Path, tmp_path: Path) -> None:
    run(tiny(plain=True, loss="cross_entropy", optimizer="sgd", ema_decay=0.0), data, tmp_path / "run")
    clf = torchbcos.load(tmp_path / "run" / "model", deploy=False)
    assert clf.card.plain and clf.card.probability == "softmax" and clf.transform.encoding == "normalize"


def test_several_labels(data: Path, tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "red", "warm"])
        for path in sorted(data.rglob("*.png")):
            writer.writerow([path, int(path.parent.name == "red"), int(path.parent.name != "blue")])
    report, _ = run(tiny(), tmp_path, tmp_path / "run")
    assert set(report["report"]) == {"map", "f1", "ece"}
    assert torchbcos.load(tmp_path / "run" / "model").class_names == ("red", "warm")


def signals(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(bnn.BcosConv1d(in_channels, 8, 5, padding=2), bnn.GlobalAveragePool(), bnn.BcosLinear(8, num_classes))


def volumes(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(bnn.BcosConv3d(in_channels, 8, 3, padding=1), bnn.GlobalAveragePool(), bnn.BcosLinear(8, num_classes))


@pytest.mark.parametrize(("network", "shape"), [("signals", (1, 30)), ("volumes", (2, 5, 6, 7))])
def test_signals_and_volumes_with_a_network_of_ones_own(network: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for k, name in enumerate(("low", "high")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(10):
            np.save(tmp_path / "data" / name / f"{i}.npy", (rng.random(shape) * 0.3 + 0.6 * k).astype(np.float32))
    recipe = tiny(model=f"tests.unit.training.test_runs:{network}", flip=0.0, epochs=4, lr=0.02, channels_last=True)
    report, _ = run(recipe, tmp_path / "data", tmp_path / "run")
    assert report["report"]["top1"] >= 50
    card = read_card(tmp_path / "run" / "model")
    assert card.architecture == f"import:{recipe.model}" and card.classes == ("high", "low") and card.parameters
    with pytest.raises(InputError, match="names no function that can be imported"):
        run(recipe.changed(model="tests.nowhere:net"), tmp_path / "data", tmp_path / "other")


def test_finetuning_freezes_then_learns_everything(
    finished: tuple[Path, dict[str, Any], list[str]], data: Path, tmp_path: Path
) -> None:
    own = tmp_path / "two"
    shutil.copytree(data / "red", own / "warm")
    shutil.copytree(data / "blue", own / "cold")
    before = weights(finished[0])
    for epochs, learned in ((1, False), (2, True)):
        recipe = tiny(
            model="", pretrained=str(finished[0] / "model"), freeze_epochs=1, epochs=epochs, export="last", seed=3, refresh=False
        )
        run(recipe, own, tmp_path / f"run{epochs}")
        after = weights(tmp_path / f"run{epochs}")
        assert after["fc.weight"].shape[0] == 2
        assert (not torch.equal(after["conv1.weight"], before["conv1.weight"])) == learned
        assert torch.equal(after["bn1.running_var"], before["bn1.running_var"]) != learned


def test_training_on_keeps_the_classifier_where_the_classes_are_its_own(
    finished: tuple[Path, dict[str, Any], list[str]], data: Path, tmp_path: Path
) -> None:
    own = tmp_path / "other"
    shutil.copytree(data, own)
    (own / "red").rename(own / "rot")
    before = weights(finished[0])
    still = {"lr": 0.0, "epochs": 1, "export": "last", "ema_decay": 0.0, "model": "", "pretrained": str(finished[0] / "model")}
    for place, kept in ((data, True), (own, False)):
        run(tiny(**still, refresh=False), place, tmp_path / f"kept-{kept}")
        after = weights(tmp_path / f"kept-{kept}")
        assert torch.equal(after["fc.weight"], before["fc.weight"]) == kept
        assert torchbcos.load(tmp_path / f"kept-{kept}" / "model").card.terms is None
        assert torch.equal(after["conv1.weight"], before["conv1.weight"])


def test_a_model_says_under_which_terms_it_began(data: Path, tmp_path: Path) -> None:
    size = {"image_size": 32, "epochs": 1, "max_steps": 1, "model": ""}
    run(tiny(**size, pretrained="imagenette", teacher=""), data, tmp_path / "run")
    terms = torchbcos.load(tmp_path / "run" / "model").card.terms
    assert terms is not None and terms.startswith("began with weights trained on Imagenette") and "non-commercial" in terms


def test_more_pictures_a_step_than_there_are(data: Path, tmp_path: Path) -> None:
    report, lines = run(tiny(batch_size=64, accumulate=4, epochs=1), data, tmp_path / "run")  # 30 to train on: parts of 7
    assert report["steps"] == 1 and "1 epochs of 1 steps" in lines[0]
    with pytest.raises(InputError, match="30 pictures to train on are too few for steps of 32 parts on 1 processes"):
        run(tiny(batch_size=64, accumulate=32), data, tmp_path / "other")


def test_unreadable_files_that_were_held_out_do_not_count(data: Path, tmp_path: Path) -> None:
    own = tmp_path / "data"
    shutil.copytree(data, own)
    splits = hold_out(open_labelled(own), tiny())
    assert splits.report is not None and len(splits.report) == 3
    broken = splits.report.names[1]
    (own / broken).write_bytes(b"broken")
    scored: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        usual = judge.judge

        def judged(outputs: Outputs, probability: str, **options: Any) -> dict[str, float]:
            scored.append(len(outputs.rows))
            return usual(outputs, probability, **options)

        patch.setattr(judge, "judge", judged)
        report, lines = run(tiny(on_error="skip", epochs=1), own, tmp_path / "run")
    assert scored[-1] == 2  # of three
    assert len(report["unreadable"]) == 1 and broken in report["unreadable"][0]
    assert "1 files could not be read" in lines[-1]


def test_what_a_resumed_run_may_change(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = interrupted(data, tmp_path / "run", monkeypatch)
    for values, message in (
        ({"optimizer": "sgd"}, "optimizer was 'adam', now 'sgd'"), ({"decay_all": False}, "decay_all was True, now False"),
        ({"ema_decay": 0.0}, "averaged was True, now False"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            run(recipe.changed(**values), data, tmp_path / "run")
    seen: list[float] = []
    usual = loop.set_rates

    def set_rates(optimizer: torch.optim.Optimizer, *args: Any) -> None:
        seen.extend(group["weight_decay"] for group in optimizer.param_groups)
        usual(optimizer, *args)

    monkeypatch.setattr(loop, "set_rates", set_rates)
    run(recipe.changed(weight_decay=0.25), data, tmp_path / "run")
    assert set(seen) == {0.25}


def test_a_folder_that_cannot_be_written_gets_one_sentence(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match=r"The run could not write .*file"):
        run(tiny(), data, tmp_path / "file" / "run")


def test_the_classifier_is_what_a_reset_replaces() -> None:
    for name in ("resnet18", "densenet121", "vgg11_bnu", "convnext_tiny", "simple_vit_ti_patch16_224", "vitc_ti_patch1_14"):
        with torch.device("meta"):
            net = torchbcos.create_model(name, num_classes=7)
            before = dict(net.named_parameters())
            head = {key for key, p in before.items() if id(p) in network.head_of(net)}
            net.reset_classifier(5)  # type: ignore[operator]
        replaced = {key for key, p in net.named_parameters() if p is not before[key]}
        assert head == replaced and len(head) == 1, name
    with pytest.raises(InputError, match=r"Sequential is no torchbcos\.models\.Network"):
        network.check_head(nn.Sequential(bnn.BcosLinear(2, 2)), tiny(freeze_epochs=1))


def test_crops_grow_and_a_resumed_run_grows_alike(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(image_size=48, grow_from=16, epochs=4, crop="random", checkpoint_steps=1, ema_decay=0.0)
    sides: list[int] = []
    usual = losses.Objective.forward

    def forward(self: losses.Objective, batch: losses.Batch) -> Tensor:
        sides.append(batch.x.shape[-1])
        return usual(self, batch)

    monkeypatch.setattr(losses.Objective, "forward", forward)
    run(recipe, data, tmp_path / "whole")
    assert sides == [16] * 6 + [48] * 6
    undo = killed_at(5, monkeypatch)
    with pytest.raises(Killed):
        run(recipe, data, tmp_path / "run")
    undo()
    run(recipe, data, tmp_path / "run")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    with pytest.raises(InputError, match="grow_from 64 is larger than image_size 48"):
        tiny(image_size=48, grow_from=64)


def test_the_classifier_may_learn_faster(data: Path, tmp_path: Path) -> None:
    found = {}
    for factor in (0.0, 1.0):
        run(tiny(head_lr=factor, epochs=1, export="last", ema_decay=0.0), data, tmp_path / str(factor))
        found[factor] = weights(tmp_path / str(factor))
    torch.manual_seed(seed_of(tiny().seed, 0))
    fresh = network.build_network(tiny(), 3, 6)[0].state_dict()
    assert torch.equal(found[0.0]["fc.weight"], fresh["fc.weight"])
    assert not torch.equal(found[0.0]["conv1.weight"], fresh["conv1.weight"])
    assert not torch.equal(found[1.0]["fc.weight"], fresh["fc.weight"])


def test_a_run_may_end_early_and_go_on_later(
    finished: tuple[Path, dict[str, Any], list[str]], data: Path, tmp_path: Path
) -> None:
    recipe = tiny(mixup=0.2, cutmix=1.0, checkpoint_steps=2)
    report, lines = run(recipe.changed(max_steps=4), data, tmp_path / "run")
    assert report["steps"] == 4 and "2 epochs of 3 steps, of which 4 steps." in lines[0]
    assert [line.split(":")[0] for line in lines[1:3]] == ["epoch 1/2", "epoch 2/2"]
    assert all("pictures/s, the data could give" in line for line in lines[1:3])
    _, lines = run(recipe.changed(max_steps=4), data, tmp_path / "run")
    assert "is finished" in lines[0]
    _, lines = run(recipe, data, tmp_path / "run")
    assert "from step 4 of 6" in lines[0]
    assert same(weights(tmp_path / "run"), weights(finished[0]))


def test_every_step_is_reported(data: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    run(tiny(), data, tmp_path / "run", progress=seen.append)
    assert [p.done for p in seen] == [1, 2, 3, 4, 5, 6] and {p.total for p in seen} == {6}
    assert [p.epoch for p in seen] == [1, 1, 2, 2, 2, 2] and seen[-1].left == 0
    assert all(p.rate > 0 and p.pipeline > 0 for p in seen)


def test_the_first_interrupt_ends_the_step_and_keeps_it(
    finished: tuple[Path, dict[str, Any], list[str]], data: Path, tmp_path: Path
) -> None:
    recipe = tiny(mixup=0.2, cutmix=1.0, checkpoint_steps=0)

    def interrupt(now: Progress) -> None:
        if now.done == 2:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; the same command goes on in .*run from step 2\."):
        run(recipe, data, tmp_path / "run", progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run" / "report.json").exists()
    _, lines = run(recipe, data, tmp_path / "run")
    assert "from step 2 of 6" in lines[0]
    assert same(weights(tmp_path / "run"), weights(finished[0]))


def test_the_second_interrupt_ends_the_run_at_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    usual = loop.check_finite

    def check_finite(loss: Tensor, step: int) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            while "Interrupted" not in lines[-1]:  # two at once would be one: signals do not queue
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
        usual(loss, step)

    monkeypatch.setattr(loop, "check_finite", check_finite)
    with pytest.raises(KeyboardInterrupt, match=r"goes on in .* from its last checkpoint"):
        train(tiny(), data, tmp_path / "run", say=lines.append, **ONE)
    monkeypatch.undo()
    _, lines = run(tiny(), data, tmp_path / "run")
    assert "from step 3 of 6" in lines[0]


def test_a_run_that_ignores_interrupts_goes_on_doing_so(data: Path, tmp_path: Path) -> None:
    """Started in the background of a shell: Ctrl-C is meant for another program."""

    def interrupt(now: Progress) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        report, _ = run(tiny(epochs=1), data, tmp_path / "run", progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert report["steps"] == 3


def test_the_callers_generator_and_warnings_stay(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(tiny(epochs=1), data, tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_devices_that_are_not_there(data: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="These devices cannot be used"):
        run(tiny(), data, tmp_path / "run", accelerator="gpu")


def test_two_processes_reach_the_weights_of_one(data: Path, tmp_path: Path) -> None:
    # Adam divides rounding errors of gradients near zero by their own size; SGD lets differences be seen as they are
    recipe = tiny(epochs=2, optimizer="sgd", lr=0.1, selection_share=0.2)
    run(recipe, data, tmp_path / "one")
    file, out = str(tmp_path / "one" / "recipe.toml"), str(tmp_path / "two")
    command = [sys.executable, "-m", "torchbcos.cli", "train", file, "--out", out]
    done = subprocess.run(
        [*command, "--devices", "2", "--strategy", "ddp", "--accelerator", "cpu"], capture_output=True, text=True, timeout=280,
        cwd=Path(__file__).parents[3], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    run(recipe.changed(batch_size=4), data, tmp_path / "half")
    one, two, half = (weights(tmp_path / name) for name in ("one", "two", "half"))
    assert distance(one, two) < 1e-4 < 1e-2 < distance(one, half)
    reports = [json.loads((tmp_path / k / "report.json").read_text()) for k in ("one", "two")]
    assert reports[0]["report"]["loss"] == pytest.approx(reports[1]["report"]["loss"], rel=1e-3)


@pytest.mark.slow
def test_two_processes_with_unknown_labels_reach_the_weights_of_one(data: Path, tmp_path: Path) -> None:
    cells = {"red": ("1", ""), "green": ("0", "1"), "blue": ("", "0")}
    rows = [f"{path},{','.join(cells[path.parent.name])}" for path in sorted(data.rglob("*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(["file,red,warm", *rows]))
    recipe = tiny(epochs=2, optimizer="sgd", lr=0.1, selection_share=0.2)
    run(recipe, tmp_path, tmp_path / "one")
    command = [
        sys.executable,
        "-m",
        "torchbcos.cli",
        "train",
        str(tmp_path / "one" / "recipe.toml"),
        "--out",
        str(tmp_path / "two"),
    ]
    done = subprocess.run(
        [*command, "--devices", "2", "--strategy", "ddp", "--accelerator", "cpu"], capture_output=True, text=True, timeout=280,
        cwd=Path(__file__).parents[3], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    run(recipe.changed(seed=1), tmp_path, tmp_path / "other")
    one, two, other = (weights(tmp_path / name) for name in ("one", "two", "other"))
    assert distance(one, two) < 1e-4 < 1e-2 < distance(one, other)
    reports = [json.loads((tmp_path / k / "report.json").read_text()) for k in ("one", "two")]
    assert reports[0]["report"] == pytest.approx(reports[1]["report"], rel=1e-3, nan_ok=True)
