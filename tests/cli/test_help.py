"""What a stranger is told: the help, words that other programs use, what to type next, the tab key."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from torchbcos import __version__
from torchbcos.cli.__main__ import app
from torchbcos.cli.completing import model_names
from torchbcos.zoo.card import official_cards
from torchbcos.zoo.sources import embedded_names


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "100", "TERM": "dumb"}).invoke(app, [str(w) for w in words], prog_name="torchbcos")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The program and every command below it, each with the words that name it."""
    command = typer.main.get_command(app) if command is None else command
    yield path, command
    for name, below in getattr(command, "commands", {}).items():  # only groups have them
        yield from commands(below, (*path, name))


ALL = list(commands())


def plain(text: str) -> str:
    """A help text without its frames, in one line."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize(("path", "command"), ALL, ids=lambda each: " ".join(each) if isinstance(each, tuple) else "")
def test_help_is_plain(path: tuple[str, ...], command: Any) -> None:
    code, out, err = call(*path, "--help")
    assert (code, err) == (0, "") and call(*path, "-h")[1] == call("help", *path)[1] == out
    usage = next(line for line in out.splitlines() if "Usage:" in line)
    assert "{" not in usage and "......" not in usage and "<bool>" not in out
    words = plain(out)
    for paragraph in inspect.getdoc(command.callback).split("\n\n") if path and command.callback else ():
        assert " ".join(paragraph.split()) in words  # no line ends in the middle of a sentence
    seen = words.replace(" ", "")
    for parameter in command.get_params(typer.Context(command)):
        if not getattr(parameter, "hidden", False):
            # rich takes words in square brackets for styles, and leaves them out
            assert all(word in seen for word in (parameter.help or "").split()), (parameter.name, parameter.help)


def test_what_matters_is_on_the_first_screen() -> None:
    lines = call("explain", "--help")[1].splitlines()
    first = "\n".join(lines[: next(i for i, line in enumerate(lines) if "How pictures are read" in line)])
    for option in ("PATH...", "--model", "--out", "--top-k", "--class", "--json", "--help"):
        assert option in first, option
    assert len(first.splitlines()) < 48 and "--batch-size" not in first and "--slices" not in first


@pytest.mark.parametrize("command", ["explain", "predict", "models", "check", "train", "evaluate accuracy"])
def test_json_says_what_comes(command: str) -> None:
    """A list where records come, an object where one comes."""
    [text] = [p.help for path, c in ALL if " ".join(path) == command for p in c.params if "--json" in p.opts]
    kind = "object" if command == "evaluate accuracy" else "report" if command == "train" else "list"
    assert kind in text and "a record a" not in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("version",), 2, "There is no command 'version'. Did you mean '--version'?"),
        (("-V",), 2, "There is no option '-V'. Did you mean '--version'?"),
        (("list",), 2, "Did you mean 'models'?"),
        (("classify", "x.jpg"), 2, "Did you mean 'predict'?"),
        (("Heatmap", "x.jpg"), 2, "Did you mean 'explain'?"),
        (("photo.jpg",), 2, "There is no command 'photo.jpg'. Did you mean 'torchbcos explain photo.jpg'?"),
        (("folder",), 2, "Did you mean 'torchbcos explain folder'?"),
        (("explain", "-k", "3", "x.jpg"), 2, "There is no option '-k'. Did you mean '--top-k'?"),
        (("explain", "-o", "out", "x.jpg"), 2, "There is no option '-o'. Did you mean '--out'?"),
        (("predict", "-m", "resnet50", "x.jpg"), 2, "There is no option '-m'. Did you mean '--model'?"),
        (("predict",), 2, "Missing argument 'PATH...'; for example 'torchbcos predict photo.jpg --top-k 3'."),
        (("check",), 2, "Missing argument 'NAME'; for example 'torchbcos check resnet50'."),
        (("evaluate",), 2, "Missing command (accuracy"),
        (("evaluate", "accuracy"), 2, "Missing option '--data'; for example 'torchbcos evaluate accuracy --model "),
        (("evaluate", "acuracy"), 2, "Did you mean 'accuracy'?"),
        (("evaluate", "list"), 2, "There is no command 'list'. See 'torchbcos evaluate --help'."),
        (("help", "explan"), 2, "There is no command 'explan'. Did you mean 'explain'"),
        (("explain", "help"), 2, "'help' does not exist."),
        (("explain", "x.jpg", "--verify", "a"), 2, "There is no option '--verify'. See 'torchbcos explain --help'."),
        (("predict", "x.jpg", "--csv"), 2, "There is no option '--csv'. It is '--json' here: records"),
        (("train", "folder", "--epochs", "3"), 2, "There is no option '--epochs'. It is '--set epochs=…' here."),
        (("train", "folder", "--learning-rate", "3"), 2, "It is 'lr' here (--set KEY=VALUE)."),
        (("train", "folder", "--output-dir", "x"), 2, "It is '--out' here."),
        (("train", "folder", "--num_labels", "3"), 2, "The data has the classes: nothing is set"),
        (
            ("explain", "x.dcm", "--window", "40/400"),
            2,
            "It is '--range LOW..HIGH' here, black and white: the window 40/400 is --range -160..240.",
        ),
        (("evaluate", "accuracy", "--gpu", "0"), 2, "It is '--device' here."),
        (("models", "--window", "1"), 2, "There is no option '--window'. See 'torchbcos models --help'."),
        (("temperature",), 2, "There is no command 'temperature'. Did you mean 'calibrate'?"),
        (("info",), 2, "There is no command 'info'. Did you mean 'models'?"),
    ],
)
def test_words_of_other_programs(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    found, out, err = call(*words)
    assert (found, out, err.count("\n")) == (code, "", 1) and said in err, err


def test_models_says_what_to_type_next() -> None:
    code, out, err = call("models", "dense")  # a part of a name, as a pattern
    assert code == 0 and [line.split()[0] for line in out.splitlines()][-1] == "densenet201" and "cifar10_densenet52" in out
    assert "Next: torchbcos explain photo.jpg --model densenet121" in err and "torchbcos.create_model(NAME)" in err
    code, out, err = call("models", "resnet18")
    assert len(out.splitlines()) == 1 and "no weights yet" not in err
    assert call("models", "*dense*")[1] == call("models", "DENSE")[1]
    assert call("models", "resnet18", "--json")[2] == ""


# -- python -m torchbcos, and the tab key -------------------------------------------------------------------------------


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-W", "ignore", "-m", "torchbcos", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The modules that a process loaded, by their packages."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


def test_python_m_torchbcos(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"torchbcos {__version__}\n")
    assert {"torchbcos", "typer"} <= imported(done) and not {"torch", "numpy", "PIL"} & imported(done)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("torchbcos ex", {"explain", "export"}),
        ("torchbcos explain --mo", {"--model"}),
        ("torchbcos explain --model imag", {"imagenet", "imagenette"}),
        ("torchbcos check resnet50", {"resnet50", "resnet50_long"}),
        ("torchbcos explain --device c", {"cpu", "cuda"}),
        ("torchbcos explain photo", set()),  # the shell offers files then
    ],
)
def test_the_tab_key(line: str, offered: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in asking(line).items():
        monkeypatch.setenv(name, value)
    code, out, err = call()
    assert (code, set(out.split()), err) == (0, offered, "")


def asking(line: str) -> dict[str, str]:
    """What bash sets while it asks what may stand at the end of a line."""
    return {"_TORCHBCOS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}


def test_the_tab_key_is_quick(tmp_path: Path) -> None:
    done = run(cwd=tmp_path, **asking("torchbcos explain --model imag"))
    assert (done.returncode, done.stdout) == (0, "imagenet\nimagenette\n") and not {"torch", "numpy", "PIL"} & imported(done)


def test_all_models_with_weights_are_offered() -> None:
    assert set(model_names("")) == {*official_cards(), *embedded_names()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_the_shell_is_told(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer's own words; here they must pass through our program."""
    monkeypatch.setenv("_TORCHBCOS_COMPLETE", f"source_{shell}")
    code, out, err = call()
    assert (code, err) == (0, "") and "_TORCHBCOS_COMPLETE=complete_" in out
