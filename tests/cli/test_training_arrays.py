"""Training and measuring on arrays, scans and labels of several kinds, as commands; recipes without Lightning."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_training import call
from tests.unit.training.data import COLOURS, squares

CPU = ["--accelerator", "cpu", "--devices", 1]
TINY = ["workers=0", "epochs=1", "batch_size=8", "channels_last=false"]
SMALL = ["model=cifar10_resnet20", "options={}", "image_size=16", *TINY]
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("lightning", "torchvision", "tensorboard", "timm", "torchmetrics"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from torchbcos.cli.__main__ import main
for words in (["--list", "resnet50"], ["--show", "folder"], ["--settings", "crop"]):
    sys.argv = ["torchbcos", "train", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
"""


def arrays(folder: Path, shape: tuple[int, ...], top: int = 1) -> Path:
    rng = np.random.default_rng(0)
    for k, name in enumerate(("low", "high")):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            np.save(
                folder / name / f"{i}.npy",
                ((rng.random(shape) * 0.4 + 0.5 * k) * top).astype(np.float32 if top == 1 else np.int16),
            )
    return folder


def test_a_newcomers_scans_train_and_are_measured_with_their_range(tmp_path: Path) -> None:
    data, run = arrays(tmp_path / "scans", (20, 24), top=2000), tmp_path / "run"
    code, out, err = call("train", "folder", "--data", data, "--out", run, *CPU, "--set", *SMALL)
    assert code == 2 and ".npy' holds numbers" in err and "--range" in err and err.count("\n") == 1
    code, out, err = call("train", "folder", "--data", data, "--out", run, "--range", "0..2000", *CPU, "--set", *SMALL)
    assert code == 0 and "; grey pictures 1 x 16 x 16, encoded as 2 channels; 2 classes;" in out, err
    card = json.loads((run / "model" / "card.json").read_text())
    assert card["preprocess"]["value_range"] == [0, 2000] and card["preprocess"]["raw_channels"] == 1
    for split in ("report", "selection"):
        code, out, err = call("evaluate", "accuracy", "--model", run, "--data", data, "--split", split, "--json", "--workers", 0)
        assert code == 0 and json.loads(out)["split"] == split and json.loads(out)["pictures"] == 2, err


def test_a_network_of_ones_own_needs_no_options_of_anothers(tmp_path: Path) -> None:
    """`--set model=` alone was answered with an unknown option of the recipe's own network."""
    data = arrays(tmp_path / "signals", (2, 40))
    words = ["--data", data, "--out", tmp_path / "run", *CPU, "--set", "model=tests.unit.training.data:signal", *TINY]
    code, out, err = call("train", "folder", *words)
    assert code == 0 and "signals of 2 channels, 40 long, encoded as 4 channels" in out, err
    assert "Signals are trained on whole and as they are" in out


def labelled(folder: Path, cells: dict[str, list[str]]) -> Path:
    pictures = squares(folder / "pictures")
    rows = [f"{p.relative_to(folder).as_posix()},{','.join(cells[p.parent.name])}" for p in sorted(pictures.rglob("*.png"))]
    (folder / "labels.csv").write_text("\n".join(["file,red,warm,dark", *rows]) + "\n")
    return folder


def test_several_labels_all_the_way(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    cells = {"red": ["1", "0.9", "0"], "green": ["0", "-1", "0"], "blue": ["0", "", "0"]}
    data, run = labelled(tmp_path / "data", cells), tmp_path / "run"
    assert set(cells) == set(COLOURS)
    base = ["train", "folder", "--data", data, "--out", run, *CPU, "--set", *SMALL, "report_share=0.4"]
    code, _, err = call(*base)
    assert code == 2 and "-1 is no label" in err and "uncertain=ignore" in err and err.count("\n") == 1
    code, out, err = call(*base, "uncertain=ignore", "mixup=0.2")
    assert code == 0 and "24 of 108 labels" in out and "12 labels in" in out and "f1 at 0.5" in out, err
    code, out, err = call("evaluate", "accuracy", "--model", run, "--data", data, "--workers", 0)
    lines = out.splitlines()
    assert code == 0 and "map " in lines[0] and "f1 at 0.5 " in lines[0] and "None" not in out, err
    assert lines[1].split() == ["label", "average", "precision", "f1", "at", "0.5", "holds", "for", "known", "of"]
    assert lines[4].split()[:4] == ["dark", "–", "–", "0"] and "1 label holds for none" in err
    code, out, _ = call(
        "evaluate", "accuracy", "--model", run, "--data", data, "--workers", 0, "--uncertain", "negative", "--json"
    )
    found = {one["label"]: one for one in json.loads(out)["labels"]}
    assert found["warm"]["known"] > found["warm"]["positive"] > 0 and found["dark"]["ap"] is None
    assert not [w for w in recwarn if "torchmetrics" in str(w.filename)]


def test_a_label_of_which_nothing_is_known_cannot_be_trained_on(tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", {"red": ["1", "", "0"], "green": ["0", "-1", "1"], "blue": ["0", "", "0"]})
    words = ["--data", data, "--out", tmp_path / "run", *CPU, "--set", *SMALL, "uncertain=ignore"]
    code, _, err = call("train", "folder", *words)
    assert code == 2 and "says whether 'warm' holds: there is nothing to learn" in err and err.count("\n") == 1


def test_recipes_are_data_and_need_no_lightning() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert all(word in done.stdout for word in ("bcos_final-resnet50", "epochs = 30", "crop_scale"))


def test_the_recipes_of_a_beginner_come_first_and_are_marked() -> None:
    code, out, _ = call("train", "--list")
    starred = [line.split()[1] for line in out.splitlines() if line.startswith("* ")]
    assert (
        code == 0
        and starred == ["folder", "finetune", "align", "imagenette", "surface", "two-stage"]
        and out.splitlines()[1].startswith("* folder")
    )
    code, out, _ = call("train", "--list", "resnet50")
    assert code == 0 and all("resnet50" in line for line in out.splitlines()) and len(out.splitlines()) == 3
    assert [one["first"] for one in json.loads(call("train", "--list", "fold", "--json")[1])] == [True]
