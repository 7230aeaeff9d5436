"""What leaves the program: names that obey nobody, and an answer in JSON with every exit code."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos import training
from torchbcos.cli.__main__ import app
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Card, Classifier

SRC = Path(__file__).parents[2] / "src" / "torchbcos"
EVIL = (
    "\x1b]0;owned\x07\x1b[2J", "fake: 100%\r", "one\ntwo\b\b", "\u202eflog", "\x9b31m[bold red]x[/]", "go\u200blf\x00",
    "x" * 5000, "and/or", "and or", "And-Or", "..", "金魚",
)  # fmt: skip


def make(classes: tuple[str, ...]) -> Classifier:
    torch.manual_seed(0)
    network = torchbcos.create_model("cifar10_resnet20", num_classes=len(classes))
    torchbcos.recalibrate(network, [torch.rand(8, 6, 32, 32)])
    card = Card(name="tiny", architecture="cifar10_resnet20", num_classes=len(classes),
                preprocess=Preprocess(resize=32, crop=32).to_dict())  # fmt: skip
    found = Classifier(network.eval(), card)
    found.class_names = classes  # as they might have come before cards were checked, or from Python
    return found


@pytest.fixture(scope="module")
def evil() -> Classifier:
    return make(EVIL)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 120, 3), np.uint8)).save(path)
    return path


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(w) for w in words], prog_name="torchbcos")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def obeyed(text: str) -> set[str]:
    """Letters that a terminal would obey, or that hide."""
    return {c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


def test_what_a_terminal_obeys_is_seen() -> None:
    assert (
        obeyed("a\x1b[2J\r\n") == {"\x1b", "\r"} and obeyed("\x9b\u202e") == {"\x9b", "\u202e"} and obeyed("Größe 金魚") == set()
    )


# -- names ---------------------------------------------------------------------------------------------------------


def test_class_names_obey_nobody(evil: Classifier, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchbcos.zoo.load", lambda *_, **__: evil)
    words = [word for i in range(len(EVIL)) for word in ("--class", i)]
    code, out, err = call("explain", photo, "--out", tmp_path / "out", *words, "--contrast", 6)
    assert (code, err) == (0, "") and obeyed(out) == set()
    assert out.count("\n") == 2 + len(EVIL) and "[bold red]x[/]" in out and "\\x1b]0;owned\\x07" in out
    files = [path.name for path in (tmp_path / "out").iterdir()]
    assert len(files) == len(EVIL) and not any(obeyed(name) or "\n" in name for name in files)  # no two classes share a file
    assert all(len(name.encode()) <= 255 for name in files)
    code, out, _ = call("explain", photo, "--out", tmp_path / "out", *words[:10], "--json")
    assert code == 0 and obeyed(out) == set()
    assert [e["label"] for e in json.loads(out)[0]["explanations"]] == list(EVIL[:5])  # JSON keeps what they are
    code, out, _ = call("predict", photo, "--top-k", len(EVIL))
    assert code == 0 and out.count("\n") == 1 and obeyed(out) == set() and len(out) < 1200


@pytest.mark.parametrize(
    "name", ["esc\x1b[31m.png", "one\ntwo.png", "\u202egnp.png", "\x9bm.png", "a" * 240 + ".png", "é" * 125 + ".png"]
)
def test_file_names_obey_nobody(
    evil: Classifier, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:  # fmt: skip
    monkeypatch.setattr("torchbcos.zoo.load", lambda *_, **__: evil)
    (tmp_path / "in").mkdir()
    photo.rename(tmp_path / "in" / name)
    (tmp_path / "in" / f"{name[:-8]}b.png").write_text("no picture")
    code, out, err = call("explain", tmp_path / "in", "--out", tmp_path / "out", "--class", 3)
    assert code == 1 and obeyed(out) == obeyed(err) == set() and (out.count("\n"), err.count("\n")) == (4, 1)
    [file] = (tmp_path / "out").iterdir()
    assert not obeyed(file.name) and "\n" not in file.name and len(file.name.encode()) <= 255
    code, out, _ = call("predict", tmp_path / "in", "--json")
    assert obeyed(out) == set() and {Path(r["file"]).name for r in json.loads(out)} >= {name}


def test_long_file_names_stay_apart(evil: Classifier, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchbcos.zoo.load", lambda *_, **__: evil)
    (tmp_path / "in").mkdir()
    for end in ("1.png", "2.png"):
        (tmp_path / "in" / ("n" * 250 + end)).write_bytes(photo.read_bytes())
    code, _, err = call("explain", tmp_path / "in", "--out", tmp_path / "out")
    assert (code, err) == (0, "") and len(list((tmp_path / "out").iterdir())) == 2


def bare_prints(text: str) -> list[int]:
    """Lines that write to standard output or error without `tell`, `say` or `print_json`."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or (isinstance(node.func, ast.Attribute) and node.func.attr in ("echo", "secho"))
        ):
            found.append(node.lineno)
    return found


def test_all_that_is_printed_passes_one_door() -> None:
    found = {path.name: bare_prints(path.read_text("utf-8")) for path in (SRC / "cli").glob("*.py")}
    assert {name for name, lines in found.items() if lines} == {"common.py"}  # the door
    assert len(found["common.py"]) == 2
    assert bare_prints("tell(1)\nprint(2)\ntyper.echo(3)") == [2, 3]


def test_rich_takes_no_name_for_a_style() -> None:
    for path in (SRC / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "TextColumn":
                assert "markup" in {keyword.arg for keyword in node.keywords}, path.name


# -- JSON with every exit code ---------------------------------------------------------------------------------------

PHOTO, FOLDER, LONG = "{photo}", "{folder}", "x" * 5000
WRONG: dict[str, list[tuple[str, ...]]] = {
    "explain": [
        (), (PHOTO, "--model"), (PHOTO, "--model", "resnt50"), (PHOTO, "--model", ""), (PHOTO, "--model", LONG),
        (PHOTO, "--model", "hf-hub:"), (PHOTO, "--class", "gren"), (PHOTO, "--class", "²"), (PHOTO, "--class", "9" * 5000),
        (PHOTO, "--contrast", "1099"), (PHOTO, "--top-k", "1001"), (PHOTO, "--top-k", "0"), (PHOTO, "--topk", "2"),
        (PHOTO, "--out", ""), (PHOTO, "--out", PHOTO), (PHOTO, "--out", LONG), (PHOTO, "--out", "y/" * 3000),
        (PHOTO, "--\x1b[31mx"), (PHOTO, "--class", "\x9b31m\u202e"),
        (PHOTO, "--device", "gpu"), (PHOTO, "--fit", "box"), (PHOTO, "--batch-size", "0"),
    ],
    "predict": [(PHOTO, "--model", "a/b"), (PHOTO, "--tpo-k", "2"), (PHOTO, "--batch-size", "two"), ()],
    "models": [("resnt",), ("a", "b"), ("--weights", "x"), ("--verify", "resnet5000"), ("--data", "")],
    "check": [
        (), ("fack",), ("imagenette",), ("resnet50", "--weights", "absent.pth"), ("resnet50", "--weights", LONG),
        ("resnet50", "--weights", PHOTO), ("resnet50", "--labels", "x.csv"),
    ],
    "evaluate": [
        (), ("accurate",), ("accuracy",), ("accuracy", "--data", ""), ("accuracy", "--data", "nowhere"),
        ("accuracy", "--data", LONG), ("accuracy", "--data", FOLDER, "--model", LONG),
        ("accuracy", "--data", FOLDER, "--split", "test"),
    ],
    "train": [
        (), ("folde",), ("folder",), ("./none.toml",), (LONG,), ("folder", "--data", ""), ("folder", "--data", "nowhere"),
        ("folder", "--data", LONG), ("folder", "--data", FOLDER, "--out", LONG), ("folder", "--set", "epoch=3"),
        ("--list", "zebra"), ("--nodes", "0"), ("--settings", "zebra"),
    ],
    "explane": [(PHOTO,)],
}  # fmt: skip


@pytest.mark.parametrize(("command", "words"), [(name, words) for name, all_of in WRONG.items() for words in all_of])
def test_a_wrong_value_is_answered_in_json(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, words: tuple[str, ...]
) -> None:
    if command == "train":
        pytest.importorskip("lightning")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = call(command, *(w.format(photo=photo, folder=tmp_path / "folder") for w in words), "--json")
    answer = json.loads(out)
    assert code in (1, 2) and set(answer) == {"error"} and 10 < len(answer["error"]) <= 520
    assert err.splitlines()[-1] == f"torchbcos: {answer['error']}" and "Traceback" not in err and obeyed(err) == set()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "photo.png"]


def test_records_stay_a_list(photo: Path) -> None:
    """What is known of each picture is no error of the whole."""
    for words, codes in ((("predict", "absent.png"), 2), (("predict", photo, "absent.png"), 1), (("predict", ""), 2)):
        code, out, _ = call(*words, "--json")
        assert code == codes and isinstance(json.loads(out), list)


def test_interrupted_and_broken_programs_answer_too(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(error: BaseException) -> Callable[..., Any]:
        def load(*_: object, **__: object) -> Any:
            raise error

        return load

    for error, code, text in (
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "too little memory"),
        (PermissionError(13, "Permission denied", "card.json"), 2, "'card.json': Permission denied."),
    ):
        monkeypatch.setattr("torchbcos.zoo.load", raises(error))
        found, out, err = call("predict", photo, "--json")
        assert found == code and text in json.loads(out)["error"] and text in err
    monkeypatch.setattr("torchbcos.zoo.load", raises(KeyError("a fault of ours")))
    result = CliRunner().invoke(app, ["predict", str(photo), "--json"])
    assert isinstance(result.exception, KeyError) and "Internal error, KeyError" in json.loads(result.stdout)["error"]


def test_only_the_first_process_of_a_training_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "is_first_process", lambda: False)
    assert call("train", "folder", "--json")[:2] == (2, "")


def test_lists_of_train_are_json() -> None:
    pytest.importorskip("lightning")
    assert {"name", "about", "first"} == set(json.loads(call("train", "--list", "--json")[1])[0])
    assert json.loads(call("train", "folder", "--show", "--json")[1])["name"] == "folder"


def test_unreadable_pictures_give_the_same_code_with_json(tmp_path: Path, photo: Path) -> None:
    for name in ("tench", "church"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").write_bytes(photo.read_bytes())
    (tmp_path / "data" / "tench" / "b.png").write_text("no picture")
    words = ["evaluate", "accuracy", "--data", tmp_path / "data", "--workers", 0, "--on-error", "skip"]
    code, out, _ = call(*words, "--fit", "letterbox", "--json")
    assert code == 1 and json.loads(out)["unreadable"] and json.loads(out)["fit"] == "letterbox"
    assert call(*words)[0] == 1


# -- streams that are closed, full or not for writing ------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("streams", "said"),
    [
        (">&-", "torchbcos: could not write to standard output: it is closed.\n"),
        ("</dev/null 1<&0", "torchbcos: could not write to standard output: Bad file descriptor.\n"),
        ("<&- >&-", "torchbcos: could not write to standard output: it is closed.\n"),
        (">/dev/full", "torchbcos: could not write to standard output: No space left on device.\n"),
    ],
)
def test_closed_streams(tmp_path: Path, streams: str, said: str) -> None:
    done = shell(f"--version {streams}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full"])
def test_without_stderr_stdout_is_still_json(tmp_path: Path, streams: str) -> None:
    """Python prints to stdout what is meant for a stderr that is closed."""
    done = shell(f"explane --json {streams}", tmp_path)
    assert done.returncode == 2 and "Did you mean 'explain'" in json.loads(done.stdout)["error"] and done.stderr == ""


def shell(words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = f"'{sys.executable}' -W ignore -m torchbcos.cli {words}"
    return subprocess.run(
        ["sh", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=60, check=False, env={**os.environ}
    )


# -- what was looked at, and whether there is an answer -----------------------------------------------------------------


def test_what_was_not_looked_at_is_said(photo: Path, tmp_path: Path) -> None:
    code, out, _ = call("predict", photo)
    assert code == 0 and "centre crop, 26 % of the picture" in out
    [record] = json.loads(call("predict", photo, "--json")[1])
    assert record["crop"] == {"fit": "crop", "share": pytest.approx(0.875**2 / 3, rel=1e-3), "box": [42, 2, 78, 38]}
    code, out, _ = call("explain", photo, "--fit", "letterbox", "--out", tmp_path / "out")
    assert code == 0 and "whole picture, letterboxed" in out
    [record] = json.loads(call("explain", photo, "--fit", "letterbox", "--out", tmp_path / "out", "--json")[1])
    assert record["crop"] == {"fit": "letterbox", "share": 1.0, "box": [0, 0, 120, 40]}
    Image.new("RGB", (64, 64)).save(photo)
    assert "of the picture" not in call("predict", photo, "--model", "imagenette")[1]


def test_no_class_reaches_one_half(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def say(probability: float) -> str:
        rows = [[torchbcos.zoo.Prediction(0, "tench", probability, 0.0)]]
        monkeypatch.setattr(Classifier, "predictions", lambda *_, **__: rows)
        return call("predict", photo)[1]

    assert "no class reaches 50 %" in say(0.49) and "no class" not in say(0.5)
    assert "nan" not in say(float("nan")) and "tench –" in say(float("nan"))
    say(0.3)
    assert json.loads(call("predict", photo, "--json")[1])[0]["undecided"] is True


@pytest.mark.parametrize("chance", [0.4951, 0.49996, 0.5 - 1e-9, 0.5])
def test_what_is_printed_does_not_contradict_itself(
    chance: float, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two classes were shown at 50 %, and behind them stood that no class reaches 50 %."""
    rows = [[torchbcos.zoo.Prediction(k, name, chance, 0.0) for k, name in enumerate(("tench", "church"))]]
    monkeypatch.setattr(Classifier, "predictions", lambda *_, **__: rows)
    for words in (("predict", photo), ("explain", photo, "--out", tmp_path / "out")):
        line = next(line for line in call(*words)[1].splitlines() if "tench" in line and "church" in line and "knows" not in line)
        assert ("no class reaches 50 %" in line) == (chance < 0.5) == ("tench 50" not in line), line
    assert json.loads(call("predict", photo, "--json")[1])[0]["predictions"][0]["probability"] == chance


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("predict", "--bogusx\x1b[31m"), "option '--bogusx\\x1b[31m'."), (("predict", "--bogus\\x"), "option '--bogus\\x'."),
        (("fo\x1bo",), "command 'fo\\x1bo'."), (("models", "no\u202ene"), "matches 'no\\u202ene'"),
        (("train", "rec\x1b[31m"), "no recipe 'rec\\x1b[31m'"), (("train", "folder", "--set", "e\x1bp=3"), "no key 'e\\x1bp'"),
        (("predict", "no\x1bne.png"), "'no\\x1bne.png' does not exist"),
    ],
)  # fmt: skip
def test_names_are_escaped_once(words: tuple[str, ...], named: str) -> None:
    """An option's backslashes were doubled: it was escaped twice."""
    code, _, err = call(*words)
    assert code == 2 and named in err, err
