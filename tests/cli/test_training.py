"""`torchbcos train` and `torchbcos evaluate accuracy`: a whole way, and one sentence for each wrong request."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import torchbcos
from tests.pages import read_page
from tests.unit.training.data import squares
from torchbcos import training
from torchbcos._core.claim import claimed
from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.cli.__main__ import app
from torchbcos.evaluation import measure_accuracy, open_model
from torchbcos.judging import fingerprint, predict

cli_train = importlib.import_module("torchbcos.cli.train")  # the name of the module is also that of the command
SMALL = ["model=cifar10_resnet20", "options={}", "image_size=16", "crop=pad", "epochs=2", "batch_size=8", "workers=0"]
SET = [word for setting in SMALL for word in ("--set", setting)]


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(w) for w in words], prog_name="torchbcos")
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("training")
    data = squares(place / "data")
    code, out, err = call("train", "folder", "--data", data, "--out", place / "run", "--device", "cpu", "--devices", 1, *SET)
    assert code == 0, err
    assert "Done in" in out and "pictures/s, the data could give" in out
    return data, place / "run"


def test_the_model_of_a_run_explains(run: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = run
    code, text, err = call("explain", data / "red" / "00.png", "--model", out / "model", "--out", tmp_path)
    assert code == 0, err
    assert "why" in text and list(tmp_path.rglob("*.png"))
    code, text, _ = call("train", "folder", "--data", data, "--out", out, "--accelerator", "cpu", "--devices", 1, *SET)
    assert code == 0 and "is finished (2 epochs)" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train"], "which recipe?"),
        (["train", "folde"], "There is no recipe 'folde'. Did you mean 'folder'?"),
        (["train", "folder"], "what data?"),
        (["train", "folder", "finetune"], "One recipe at a time, not 'folder' and 'finetune'"),
        (["train", "folder", "--data", "nowhere"], "There is no data at 'nowhere'"),
        (["train", "folder", "--set", "epoch=3"], "no key 'epoch'. It is 'epochs' here"),
        (["train", "./none.toml"], "There is no recipe file"),
        (["train", "--list", "zebra"], "no recipe matches 'zebra'"),
        (["evaluate", "accuracy", "--data", "nowhere"], "There is no data at 'nowhere'"),
    ],
)
def test_wrong_requests(words: list[str], message: str) -> None:
    code, _, err = call(*words)
    assert code == 2
    assert message in err and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize("words", ["my photos", "./my photos", "my photos/"])
def test_a_folder_of_pictures_in_the_place_of_a_recipe(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos" / "cat").mkdir(parents=True)
    code, _, err = call("train", words)
    assert code == 2 and f"'torchbcos train folder --data '{words}'' trains on the pictures in it." in err
    assert err.count("\n") == 1
    (tmp_path / "finetune").mkdir()
    assert call("train", "finetune")[2].startswith("torchbcos: what data?")  # the recipe, as ever


def test_lists_and_shows() -> None:
    code, out, _ = call("train", "--list")
    assert code == 0 and "finetune" in out and "300 recipes" in out and len(out.splitlines()) < 60
    code, out, _ = call("train", "--list", "cifar10_resnet20")
    assert len(out.splitlines()) == 75
    code, out, _ = call("train", "--show", "bcos_final", "--set", "epochs=7")
    assert code == 0 and "epochs = 7" in out and 'clip = "agc"' in out


def test_a_shown_recipe_explains_itself_and_is_a_recipe_file(tmp_path: Path) -> None:
    code, out, _ = call("train", "--show", "finetune", "--set", "epochs=7")
    assert code == 0 and "# passes over the training data (1 to 1,000,000 epochs)\nepochs = 7\n" in out
    assert "# === Optimisation ===" in out and max(map(len, out.splitlines())) <= 130
    (tmp_path / "mine.toml").write_text(out, "utf-8")
    assert training.read_recipe(tmp_path / "mine.toml")[0] == training.find_recipe("finetune").changed(epochs=7)
    assert call("train", "--show", tmp_path / "mine.toml")[1] == out


def test_settings_are_explained_as_tables_and_as_json() -> None:
    code, out, _ = call("train", "--settings")
    words = {word.strip('",') for word in out.split()}
    assert code == 0 and words >= {*training.list_settings(), "Optimisation", "Guidance"} and out.isascii()
    code, out, _ = call("train", "--settings", "warmup", "batch")
    assert code == 0 and "batch_size *" in out and "1 to 10,000,000" in out and "same value only" in out
    assert "Pictures" not in out and "smoothing" not in out and max(map(len, out.splitlines())) <= 120
    code, out, _ = call("train", "--settings", "crop_scale", "--json")
    assert code == 0 and [record["key"] for record in json.loads(out)] == ["crop_scale"]
    code, _, err = call("train", "--settings", "epohcs")
    assert code == 2 and "Did you mean 'epochs'" in err and err.count("\n") == 1


def test_settings_may_stand_as_words_and_the_report_is_json(run: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, _ = call("train", "--show", "folder", "--set", "epochs=3", "lr=0.5", "options.norm=layer")
    assert code == 0 and "epochs = 3\n" in out and "lr = 0.5\n" in out and '"norm" = "layer"' in out
    data, _ = run
    words = ["train", "folder", "--data", data, "--out", tmp_path / "run", "--accelerator", "cpu", "--devices", 1, "--json"]
    code, out, err = call(*words, "--set", *SMALL, "max_steps=1")
    assert code == 0, err
    assert json.loads(out)["steps"] == 1 and "Done in" in err
    page = read_page((tmp_path / "run" / "report.html").read_text("utf-8"))
    assert not page.faults and "Training: run" in page.words and "Losses" in page.words


def test_lines_between_epochs(run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_train, "EVERY", 0)
    words = ["train", "folder", "--data", run[0], "--out", tmp_path / "run", "--accelerator", "cpu", "--devices", 1, *SET]
    code, out, err = call(*words)
    assert code == 0, err
    assert [line[:8] for line in out.splitlines() if line.startswith("step")] == [f"step {k}/6" for k in range(1, 6)]


def test_an_interrupted_training_says_how_it_goes_on(
    run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = training.train

    def interrupted(*args: Any, **options: Any) -> Any:
        follow = options["progress"]

        def progress(now: training.Progress) -> None:
            follow(now)
            if now.done == 3:
                os.kill(os.getpid(), signal.SIGINT)

        return usual(*args, **{**options, "progress": progress})

    words = ["train", "folder", "--data", run[0], "--out", tmp_path / "run", "--accelerator", "cpu", "--devices", 1, *SET]
    monkeypatch.setattr(training, "train", interrupted)
    code, _, err = call(*words)
    assert code == 130 and "the same command goes on in" in err and "from step 3." in err and "Traceback" not in err
    monkeypatch.undo()
    code, out, _ = call(*words)
    assert code == 0 and "from step 3 of 6" in out


def test_evaluation_of_what_a_run_left(run: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = run
    words = ("evaluate", "accuracy", "--data", data, "--model", out)
    code, text, err = call(*words, "--json", "--out", tmp_path / "a.json", "--split", "all")
    assert code == 0, err
    found = json.loads(text)
    assert found == json.loads((tmp_path / "a.json").read_text())
    assert found["pictures"] == 36 and found["split"] == "all" and 0 <= found["top1"] <= 100
    clf = torchbcos.load(out / "model")
    right = [clf.predict(p, top_k=1)[0][0].label == p.parent.name for p in sorted(data.rglob("*.png"))]
    assert found["top1"] == pytest.approx(100 * sum(right) / 36)
    code, _, err = call(*words, "--split", "all", "--report", tmp_path / "a.html")
    page = read_page((tmp_path / "a.html").read_text("utf-8"))
    assert code == 0 and not page.faults and f"{found['top1']:.2f} %" in page.words, err
    for wrong in (tmp_path / "a.txt", tmp_path / "none" / "a.html", tmp_path):
        code, _, err = call(*words, "--report", wrong)
        assert code == 2 and err.startswith("torchbcos: --report ") and err.count("\n") == 1, err
    for weights in ("ema", "last", "best"):
        code, text, err = call(*words, "--weights", weights, "--split", "all")
        assert code == 0 and "on 36 pictures" in text, err


def test_what_a_run_held_out_is_measured_by_itself(run: tuple[Path, Path], tmp_path: Path) -> None:
    """What was reported by the run, and never what it learned from, unless that is asked for."""
    data, out = run
    report = json.loads((out / "report.json").read_text())
    for split in ("report", "selection"):
        found = measure_accuracy(open_model(out), data, split=split, run=out, workers=0)
        assert found["split"] == split and found["top1"] == pytest.approx(report[split]["top1"], abs=1e-3)
    assert measure_accuracy(open_model(out), data, run=out, workers=0)["split"] == "report"
    shutil.copytree(data, tmp_path / "other")
    (tmp_path / "other" / "red" / "03.png").unlink()
    assert measure_accuracy(open_model(out), tmp_path / "other", run=out, workers=0)["split"] == "all"
    with pytest.raises(InputError, match="No example of this data was held out as 'selection'"):
        measure_accuracy(open_model(out), tmp_path / "other", split="selection", run=out)


def test_other_classes_and_broken_pictures(run: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = run
    own = tmp_path / "data"
    shutil.copytree(data, own)
    (own / "red" / "03.png").write_bytes(b"broken")
    code, _, err = call("evaluate", "accuracy", "--data", own, "--model", out, "--split", "all")
    assert code == 2 and "03.png" in err
    code, text, err = call("evaluate", "accuracy", "--data", own, "--model", out, "--on-error", "skip", "--split", "all")
    assert code == 1 and "on 35 pictures" in text and "1 pictures could not be read, the first 'red/03.png'" in err
    (own / "red").rename(own / "rde")
    code, _, err = call("evaluate", "accuracy", "--data", own, "--model", out)
    assert code == 2 and "knows no class 'rde'" in err and "Did you mean 'red'" in err
    with pytest.raises(MissingFileError, match="is no run's folder"):
        open_model("imagenette", weights="last")
    with pytest.raises(InputError, match="There is no split 'vall'"):
        measure_accuracy(open_model(out), data, split="vall")


def test_an_interrupted_measurement_goes_on(run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = run
    monkeypatch.setattr(predict, "SAVE_EVERY", 1)
    clf, seen = open_model(out), 0
    whole = measure_accuracy(clf, data, batch_size=5, workers=0)

    def stop(batches: object, count: int) -> object:
        for k, batch in enumerate(batches):  # type: ignore[call-overload]
            if k == 3:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        measure_accuracy(clf, data, batch_size=5, workers=0, out=tmp_path / "a.json", progress=stop)  # type: ignore[arg-type]

    def count(batches: object, total: int) -> object:
        nonlocal seen
        seen = total
        return batches

    again = measure_accuracy(clf, data, batch_size=5, workers=0, out=tmp_path / "a.json", progress=count)  # type: ignore[arg-type]
    assert seen == 5  # of eight
    assert {k: v for k, v in again.items() if k != "data"} == {k: v for k, v in whole.items() if k != "data"}
    assert not list(tmp_path.glob(".*"))


def test_a_measurement_of_other_weights_begins_anew(run: tuple[Path, Path]) -> None:
    last, ema = (open_model(run[1], weights=weights) for weights in ("last", "ema"))
    # one card, of which the temperature belongs to the weights that it was fitted for
    cards = [dataclasses.replace(one.card, temperature=None) for one in (last, ema)]
    assert cards[0] == cards[1] and fingerprint(last.model) != fingerprint(ema.model)
    assert fingerprint(ema.model) == fingerprint(open_model(run[1], weights="ema").model)


@pytest.mark.parametrize("before", [False, True])
def test_training_leaves_the_processor_as_it_was(before: bool) -> None:
    """Denormals are zeros while it trains: Python's own numbers, too, so nothing after it may inherit that."""
    try:
        torch.set_flush_denormal(before)
        with suppress(ZeroDivisionError), cli_train.flushing_denormals():
            assert sys.float_info.min / 2 == 0
            raise ZeroDivisionError
        assert (sys.float_info.min / 2 == 0) is before
    finally:
        torch.set_flush_denormal(False)


def test_a_runs_folder_is_a_recipe(run: tuple[Path, Path]) -> None:
    _, out = run
    whole = call("train", out / "recipe.toml", "--show")
    assert call("train", out, "--show") == whole and whole[0] == 0 and "cifar10_resnet20" in whole[1]


def evil(place: Path) -> Path:
    """A module beside a recipe: it writes a file when it is imported."""
    place.mkdir()
    (place / "evil.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nPath(__file__).with_name('marker').touch()\n"
        "def net(num_classes, in_channels, **options):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    return place / "marker"


def test_code_that_a_file_asks_for_does_not_run(run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe, and the folder of a run; the person's word, in one of three ways, lets it run."""
    marker = evil(tmp_path / "here")
    small = training.with_settings(training.find_recipe("folder"), [*SMALL, "max_steps=1"])
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    Path("evil.toml").write_text(training.to_toml(small.changed(model="evil:net")))
    words = ["train", "evil.toml", "--data", run[0], "--device", "cpu", "--devices", 1, "--out"]
    code, out, err = call(*words, "run")
    assert code == 2 and not out and err.count("\n") == 1 and not Path("run").exists()
    assert "'evil.toml' sets model = 'evil:net', which imports a module and calls its function" in err and "--allow-code" in err
    assert (
        call("train", "evil.toml", "--show")[0] == 0 and not marker.exists() and "evil" not in sys.modules
    )  # to read is not to run
    assert call(*words, "run", "--set", "options.path=x")[0] == 2 and not marker.exists()
    for k, word in enumerate((["--allow-code"], ["--set", "model=evil:net"], ["model=evil:net"])):
        code, _, err = call(*words, f"run-{k}", *word)
        assert code == 0 and marker.exists(), err
        marker.unlink()
        sys.modules.pop("evil")
        assert str(tmp_path / "here") not in sys.path and os.getcwd() not in sys.path
    for given in ("run-0", "run-0/recipe.toml"):  # a run's folder from a stranger, with which to go on
        (tmp_path / "here" / "run-0" / "report.json").unlink(missing_ok=True)
        code, _, err = call("train", given, "--out", "run-0", "--device", "cpu", "--devices", 1)
        assert code == 2 and "sets model = 'evil:net'" in err and not marker.exists()
    code, _, err = call("train", "run-0", "--out", "run-0", "--device", "cpu", "--devices", 1, "--set", "model=evil:net")
    assert code == 0 and marker.exists(), err
    sys.modules.pop("evil")


def test_one_file_alone_runs_nothing(run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that takes any argument, with arguments of the file, and programs: nothing is imported or opened."""
    marker = evil(tmp_path / "repository")
    (tmp_path / "repository" / "hubconf.py").write_text((tmp_path / "repository" / "evil.py").read_text())
    hub = {"repo_or_dir": str(tmp_path / "repository"), "model": "net", "source": "local", "trust_repo": True}
    base = training.find_recipe("folder")
    monkeypatch.chdir(tmp_path)
    recipes = [
        base.changed(model="torch.hub:load", options=hub), base.changed(model="antigravity:fly"),
        base.changed(model="os:system", options={"command": "touch marker"}),
        base.changed(teacher="evil.pt2", teacher_weight=1.0),
    ]  # fmt: skip
    words = ["--data", run[0], "--device", "cpu", "--devices", 1, "--out", tmp_path / "run"]
    for recipe in recipes:
        Path("r.toml").write_text(training.to_toml(recipe))
        code, _, err = call("train", "r.toml", *words)
        assert code == 2 and "files do not run code by themselves" in err and err.count("\n") == 1
    code, _, err = call("train", "r.toml", *words, "--set", "teacher=evil.pt2")
    assert code == 2 and "There is no teacher 'evil.pt2'" in err  # typed: now it is looked for
    Path("r.toml").write_text(training.to_toml(recipes[0]))
    code, _, err = call("train", "r.toml", *words, "--set", "model=torch.hub:load")
    assert code == 2 and "sets options = " in err and "gives that function its arguments" in err
    assert not marker.exists() and "antigravity" not in sys.modules and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/elsewhere", "..", "a/b", "a\x1b[2J", ""])
def test_the_name_of_a_recipe_leads_nowhere_else(
    name: str, run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    Path("r.toml").write_text(training.to_toml(training.find_recipe("folder").changed(name=name)))
    code, _, err = call("train", "r.toml", "--data", run[0])
    assert code == 2 and "cannot be the name of a folder: set --out" in err and err.isprintable() is False and "\x1b" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["in"] and [path.name for path in Path.cwd().iterdir()] == ["r.toml"]


@pytest.mark.parametrize("devices", ["²", "9" * 5000, "-1", "٣²", "0x2"])
def test_devices_that_are_no_number(devices: str, run: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["--data", run[0], "--out", tmp_path / "run", "--device", "cpu", "--devices", devices, *SET]
    code, _, err = call("train", "folder", *words)
    assert code == 2 and "Traceback" not in err and err.count("\n") == 1, err


def test_names_that_no_file_can_have(run: tuple[Path, Path], tmp_path: Path) -> None:
    long = "a" * 5000
    settings = [f"teacher={long}", f"pretrained=./{long}", f"options.x={'[' * 3000}"]
    wrong = [[long], [f"{long}.toml"], [f"./{long}"], ["folder", "--out", long], ["folder", "--out", run[0] / "red/00.png"]]
    for words in [*wrong, *(["folder", "--set", one, "teacher_weight=1"] for one in settings)]:
        out = [] if "--out" in words else ["--out", tmp_path / "run"]
        code, _, err = call("train", *words, "--data", run[0], *out, "--device", "cpu", "--devices", 1)
        assert code == 2 and "Traceback" not in err and err.count("\n") == 1 and len(err) < 600, (words[0][:9], err)


def test_another_training_in_the_folder_is_named(run: tuple[Path, Path]) -> None:
    more = ["train", "folder", "--data", run[0], "--out", run[1], "--device", "cpu", "--devices", 1]
    with claimed(run[1], "trains"):
        code, _, err = call(*more, "--set", "epochs=3", *(one for one in SMALL if not one.startswith("epochs")))
    assert code == 2 and f"Another process trains here (process {os.getpid()} on " in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"), [((), 1), (("--set", "workers=3"), 3), (("workers=3",), 3), (("--set", "lr=0.1"), 1)]
)
def test_no_more_workers_than_processors_unless_somebody_asks(
    words: tuple[str, ...], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[training.Recipe] = []
    monkeypatch.setattr(cli_train, "_processors", lambda: 1)
    monkeypatch.setattr(cli_train, "run", lambda recipe, *_, **__: chosen.append(recipe) or {})
    assert call("train", "folder", "--data", tmp_path, *words)[0] == 0
    (tmp_path / "r.toml").write_text("workers = 2")
    assert call("train", tmp_path / "r.toml", "--data", tmp_path)[0] == 0
    assert [recipe.workers for recipe in chosen] == [expected, 2]  # a file's number is somebody's, too


def test_processors_of_this_process() -> None:
    assert 1 <= cli_train._processors() <= (os.cpu_count() or 1)
