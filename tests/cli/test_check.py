"""`torchbcos check`: hashes and accuracies, against a file and a folder made here."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos.cli.__main__ import app
from torchbcos.pictures import Preprocess
from torchbcos.zoo.card import Card, read_official_cards
from torchbcos.zoo.official import to_official
from torchbcos.zoo.store import hash_file

CLASSES = ("red fox", "green tea", "blue jay")


def run(*arguments: str | Path | int) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the lines of stderr."""
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr.splitlines()


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """Official weights "fake", whose network always says the last class; the file lies in the folder `server`."""
    torch.manual_seed(0)
    model = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    torchbcos.recalibrate(model, [torch.rand(8, 6, 32, 32)])
    (tmp_path / "server").mkdir()
    file = tmp_path / "server" / "fake.pth"
    torch.save(to_official(model), file)
    made = Card(
        name="fake", architecture="cifar10_resnet20", classes=CLASSES, num_classes=3, file="fake.pth",
        preprocess=Preprocess(resize=32, crop=32).to_dict(), sha256=hash_file(file)[:10], top1=50.0, top5=100.0,
        url="http://127.0.0.1:9/fake.pth", measured="six pictures made here",
    )  # fmt: skip
    monkeypatch.setitem(read_official_cards(), "fake", made)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return made


@pytest.fixture
def weights(tmp_path: Path, card: Card) -> Path:
    return tmp_path / "server" / "fake.pth"


@pytest.fixture
def served(tmp_path: Path, card: Card, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server on this machine has the file."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    handler = functools.partial(Quiet, directory=str(tmp_path / "server"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/fake.pth"
    monkeypatch.setitem(read_official_cards(), "fake", dataclasses.replace(card, url=url))
    yield
    server.shutdown()
    server.server_close()


def pictures(folder: Path, names: tuple[str, ...] = CLASSES, each: int = 2) -> Path:
    """A folder with a subfolder a class."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(rng.integers(0, 255, (40, 36, 3), np.uint8)).save(folder / name / f"{name}-{i}.png")
    return folder


def truth(weights: Path, folder: Path, card: Card) -> float:
    """Top-1, computed picture by picture, another way."""
    model = torchbcos.create_model("cifar10_resnet20", weights=weights, num_classes=3).eval()
    hits = []
    for file in sorted(folder.rglob("*.png")):
        x = Preprocess(resize=32, crop=32).batch([Image.open(file)])
        with torch.no_grad():
            hits.append(CLASSES[int(model(x)[0].argmax())] == file.parent.name)
    return 100 * sum(hits) / len(hits)


def test_a_given_file(weights: Path, card: Card) -> None:
    code, out, errors = run("check", "fake", "--weights", weights)
    assert (code, errors) == (0, []) and hash_file(weights) in out and "the official file" in out
    [record] = json.loads(run("check", "fake", "--weights", weights, "--json")[1])
    assert record == {"name": "fake", "file": str(weights), "sha256": hash_file(weights), "official": True}


def test_a_file_from_the_network_is_kept_in_the_cache(served: None, tmp_path: Path) -> None:
    code, out, errors = run("check", "fake")
    assert (code, errors) == (0, []) and str(tmp_path / "hub" / "checkpoints" / "fake.pth") in out
    assert [p.name for p in (tmp_path / "hub" / "checkpoints").iterdir()] == ["fake.pth"]


def test_a_wrong_file_and_no_network_are_one_sentence(card: Card, weights: Path, tmp_path: Path) -> None:
    code, out, errors = run("check", "fake")
    assert (code, out) == (1, "") and len(errors) == 1 and errors[0].startswith("torchbcos: No connection for fake.pth")
    weights.write_bytes(weights.read_bytes() + b"\0")
    code, out, errors = run("check", "fake", "--weights", weights)
    assert (code, out) == (1, "") and len(errors) == 1 and "is not the official fake: its SHA-256 begins with" in errors[0]


def test_accuracy_beside_the_card(card: Card, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "val")
    measured = truth(weights, folder, card)
    monkeypatch.setitem(read_official_cards(), "fake", dataclasses.replace(card, top1=measured))
    code, out, errors = run("check", "fake", "--weights", weights, "--data", folder, "--batch-size", 4)
    assert (code, errors) == (0, []), out
    assert f"{measured:.2f} % of 6 pictures; on the card: {measured:.2f} % (six pictures made here)" in out
    assert "They agree: +0.00 points apart" in out
    [record] = json.loads(run("check", "fake", "--weights", weights, "--data", folder, "--json")[1])
    assert record["top1"] == record["card_top1"] == pytest.approx(measured) and record["agrees"] is True
    assert (record["images"], record["classes"], record["top5"], record["failed"]) == (6, 3, 100.0, [])


def test_another_accuracy_is_said(card: Card, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "val", each=10)
    away = 100.0 if truth(weights, folder, card) < 50 else 0.0
    monkeypatch.setitem(read_official_cards(), "fake", dataclasses.replace(card, top1=away))
    code, _, errors = run("check", "fake", "--weights", weights, "--data", folder)
    assert code == 1 and len(errors) == 1 and "points from its card, and samples of this size differ by up to 0.10" in errors[0]


def test_some_classes_and_broken_pictures(card: Card, weights: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "val", names=CLASSES[:2])
    code, out, errors = run("check", "fake", "--weights", weights, "--data", folder)
    assert (code, errors) == (0, []) and "show 2 of 3 classes: not comparable" in out
    (folder / CLASSES[0] / "broken.jpg").write_text("text")
    code, out, errors = run("check", "fake", "--weights", weights, "--data", folder)
    assert code == 1 and len(errors) == 1 and "broken.jpg" in errors[0] and "of 4 pictures" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("check", "fack"), "Did you mean 'fake'"),
        (("check", "imagenette"), "comes with the package"),
        (("check", "fake", "--weights", "absent.pth"), "no weights file 'absent.pth'"),
        (("models", "--data", "x"), "--data belongs to 'torchbcos check NAME'"),
        (("check",), "Missing argument 'NAME'"),
        (("check", "fake", "--labels", "x.csv"), "give that, too"),
    ],
)
def test_wrong_requests(card: Card, arguments: tuple[str, ...], text: str) -> None:
    code, out, errors = run(*arguments)
    assert (code, out) == (2, "") and len(errors) == 1 and text in errors[0]


def test_no_folder_and_no_labels(card: Card, weights: Path, tmp_path: Path) -> None:
    for folder, text in ((tmp_path / "none", "There is no folder"), (tmp_path / "flat", "neither subfolders")):
        (tmp_path / "flat").mkdir(exist_ok=True)
        code, _, errors = run("check", "fake", "--weights", weights, "--data", folder)
        assert code == 2 and len(errors) == 1 and text in errors[0]


def test_the_old_name_works_and_names_the_new_one(card: Card, weights: Path) -> None:
    code, out, errors = run("models", "--verify", "fake", "--weights", weights, "--json")
    assert code == 0 and out == run("check", "fake", "--weights", weights, "--json")[1]
    assert errors == [
        "torchbcos: 'torchbcos models --verify NAME' is called 'torchbcos check NAME' now; the old name goes with 1.0."
    ]
    weights.write_bytes(b"other")
    assert run("models", "--verify", "fake", "--weights", weights)[0] == 1
    assert run("models", "--verify", "fack")[0] == 2
    assert "--verify" not in run("models", "--help")[1]


def test_a_folder_of_broken_pictures_among_others(card: Card, weights: Path, tmp_path: Path) -> None:
    """More of them in a row than training would try: each is named, and the others are counted."""
    folder = pictures(tmp_path / "val")
    for i in range(12):
        (folder / CLASSES[1] / f"broken-{i:02}.jpg").write_text("text")
    code, out, errors = run("check", "fake", "--weights", weights, "--data", folder)
    assert code == 1 and "of 6 pictures" in out
    assert [f"broken-{i:02}.jpg" in line for i, line in enumerate(errors[:12])] == [True] * 12
    for file in folder.rglob("*.png"):
        file.unlink()
    code, _, errors = run("check", "fake", "--weights", weights, "--data", folder)
    assert code == 2 and "None of the 12 pictures can be read; the first: " in errors[0]
