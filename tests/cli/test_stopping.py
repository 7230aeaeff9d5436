"""Ctrl-C and SIGTERM: what is finished is kept and counted, and the same command goes on with `--skip-existing`."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos.cli.__main__ import app
from torchbcos.cli.stopping import Stopped, answering_signals
from torchbcos.explanation import Explanation
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Card, Classifier


@pytest.fixture(scope="module")
def small() -> Classifier:
    torch.manual_seed(0)
    network = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    torchbcos.recalibrate(network, [torch.rand(8, 6, 32, 32)])
    card = Card(name="small", architecture="cifar10_resnet20", classes=("red", "green", "blue"), num_classes=3,
                preprocess=Preprocess(resize=16, crop=16).to_dict())  # fmt: skip
    return Classifier(network.eval(), card)


@pytest.fixture
def folder(small: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchbcos.zoo.load", lambda *_, **__: small)
    Path("in").mkdir()
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (20, 20, 3), np.uint8)).save(f"in/p{i}.png")
        os.utime(f"in/p{i}.png", (1_000_000_000, 1_000_000_000))
    return tmp_path


def call(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(w) for w in words], prog_name="torchbcos")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def panels() -> list[str]:
    return sorted(path.name for path in Path("explanations").rglob("*.png"))


def after(count: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes while the panel after `count` others is drawn."""
    save, drawn = Explanation.save, 0

    def spy(self: Explanation, *words: Any, **more: Any) -> Path:
        nonlocal drawn
        drawn += 1
        if drawn > count:
            signal.raise_signal(number)
        return save(self, *words, **more)

    monkeypatch.setattr(Explanation, "save", spy)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_says_how_far_it_came_and_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    with monkeypatch.context() as patch:
        after(4, number, patch)
        found, out, err = call("explain", "in", "--batch-size", 3)
    assert (found, err) == (code, "torchbcos: stopped after 4 of 6 pictures; --skip-existing goes on.\n")
    assert len(panels()) == 4 and "done" not in out and out.count(" -> ") == 4  # one more than whole batches
    before = {path: path.stat().st_mtime_ns for path in Path("explanations").iterdir()}
    found, out, err = call("explain", "in", "--skip-existing")
    assert found == 0 and "4 of 6 pictures are left out" in err and "2 of 2 pictures done." in out
    assert len(panels()) == 6 and all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize("command", ["explain", "predict"])
def test_json_stays_json(folder: Path, small: Classifier, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    with monkeypatch.context() as patch:
        if command == "explain":
            after(2, signal.SIGINT, patch)
        else:
            answer, asked = small.iter_seen, []

            def stop(*words: Any, **more: Any) -> Any:
                asked.append(words)
                if len(asked) > 2:
                    signal.raise_signal(signal.SIGINT)
                return answer(*words, **more)

            patch.setattr(Classifier, "iter_seen", lambda self, *words, **more: stop(*words, **more))
        code, out, err = call(command, "in", "--batch-size", 1, "--json")
    assert code == 130 and "stopped after 2 of 6 pictures" in err
    assert [(Path(r["file"]).name, r["error"]) for r in json.loads(out)] == [("p0.png", None), ("p1.png", None)]


def test_before_the_first_picture_json_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after(0, signal.SIGTERM, monkeypatch)
    code, out, err = call("explain", "in", "--json")
    assert code == 143 and json.loads(out) == {"error": "stopped after 0 of 6 pictures."} and err.count("\n") == 1
    assert panels() == []


def test_while_the_model_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("torchbcos.zoo.load", load)
    code, out, err = call("predict", "in", "--json")
    assert code == 143 and "interrupted" in json.loads(out)["error"] and err.count("\n") == 1


def test_signals_are_answered_in_the_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        with answering_signals():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)  # at once: what is being said is said to its end

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped) as caught:
        twice()
    assert caught.value.code == 143
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        with answering_signals():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, usual)
    monkeypatch.setattr("torchbcos.cli.stopping._NERVOUS", 0.0)
    with pytest.raises(Stopped) as caught:
        twice()  # a later one stops again
    assert caught.value.code == 130

    def elsewhere() -> None:
        with answering_signals():
            pass

    thread = threading.Thread(target=elsewhere)  # no other thread may set a handler
    thread.start()
    thread.join()


# -- what an earlier run wrote ---------------------------------------------------------------------------------------


def test_what_counts_as_written(folder: Path) -> None:
    assert call("explain", "in/p0.png", "in/p1.png", "--class", "red")[0] == 0

    def left_out(*words: object) -> int:
        code, out, _ = call("explain", "in/p0.png", "in/p1.png", "--skip-existing", "--json", "--out", "explanations", *words)
        assert code == 0
        return sum("skipped" in record for record in json.loads(out))

    assert left_out("--class", "red") == 2
    assert left_out("--class", 0) == left_out("--class", "red", "--class", "red") == 2  # the same class
    assert left_out("--class", "green") == 0  # and now it is there
    assert left_out("--class", "red", "--class", "green") == left_out("--top-k", 2) == 2
    assert left_out("--contrast", "blue", "--class", "red") == 0
    assert left_out("--contrast", "blue", "--class", "red") == 2
    os.utime("in/p0.png", (4_000_000_000, 4_000_000_000))  # changed since
    assert left_out("--class", "red") == 1


def test_a_model_that_was_trained_again_explains_again(folder: Path) -> None:
    Path("model").mkdir()
    Path("model", "card.json").touch()
    os.utime("model/card.json", (1_000_000_000, 1_000_000_000))
    words = ("explain", "in/p0.png", "--model", "model", "--skip-existing", "--json")
    call(*words)
    assert "skipped" in json.loads(call(*words)[1])[0]
    os.utime("model/card.json", (4_000_000_000, 4_000_000_000))
    assert "skipped" not in json.loads(call(*words)[1])[0]


def test_names_that_begin_alike_and_long_ones(folder: Path) -> None:
    for name in ("p0.png.red.png", "p0.pngx.png", "n" * 240 + ".png"):
        Path("in", name).write_bytes(Path("in/p0.png").read_bytes())
        os.utime(Path("in", name), (1_000_000_000, 1_000_000_000))
    assert call("explain", "in/p0.png.red.png", "in/" + "n" * 240 + ".png", "--class", "green")[0] == 0
    done = json.loads(call("explain", "in", "--class", "green", "--skip-existing", "--json")[1])
    assert {Path(r["file"]).name[:14] for r in done if "skipped" in r} == {"p0.png.red.png", "n" * 14}


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["good", "text", "empty", "absent", "done"]), min_size=1, max_size=5),
    batch=st.integers(1, 3),
    as_json=st.booleans(),
)
def test_any_mixture(folder: Path, kinds: list[str], batch: int, as_json: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A record for each path in order, the exit code of the worst of them, and no picture takes another with it."""
    place = tmp_path_factory.mktemp("mixture")
    paths = [place / f"{i}-{kind}.png" for i, kind in enumerate(kinds)]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != "absent":
            path.write_bytes({"text": b"no picture", "empty": b""}.get(kind, Path("in/p0.png").read_bytes()))
            os.utime(path, (1_000_000_000, 1_000_000_000))
    done = [path for path, kind in zip(paths, kinds, strict=True) if kind == "done"]
    if done:
        assert call("explain", *done, "--out", place / "out")[0] == 0
    words = ("explain", *paths, "--out", place / "out", "--batch-size", batch, "--skip-existing")
    code, out, err = call(*words, *(["--json"] if as_json else []))
    bad = [kind for kind in kinds if kind in ("text", "empty", "absent")]
    nothing = all(kind == "absent" for kind in kinds)
    assert code == (2 if nothing else 1 if bad else 0)
    assert len(err.splitlines()) == len(bad) + bool(done)
    if as_json:
        records = json.loads(out)
        ordered = [p for p, k in zip(paths, kinds, strict=True) if k != "absent"]
        ordered += [p for p, k in zip(paths, kinds, strict=True) if k == "absent"]
        assert [record["file"] for record in records] == [str(path) for path in ordered]
        assert [record["file"] for record in records if "skipped" in record] == [str(path) for path in done]
        assert sum(record["error"] is not None for record in records) == len(bad)
    assert len(list((place / "out").glob("*.png"))) == kinds.count("good") + kinds.count("done")
