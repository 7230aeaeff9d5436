"""`torchbcos models --verify`: hashes and accuracies, against a file and a folder made here."""

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
from torchbcos.zoo.card import Card, imagenet_classes, imagenet_wnids, official_card, read_official_cards
from torchbcos.zoo.labels import read_labels
from torchbcos.zoo.official import to_official
from torchbcos.zoo.store import hash_file
from torchbcos.zoo.verify import Accuracy

CLASSES = ("red fox", "green tea", "blue jay")


def run(*arguments: str | Path | int) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the lines of stderr."""
    done = CliRunner().invoke(app, ["models", *map(str, arguments)], catch_exceptions=False)
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
    code, out, errors = run("--verify", "fake", "--weights", weights)
    assert (code, errors) == (0, []) and hash_file(weights) in out and "the official file" in out
    [record] = json.loads(run("--verify", "fake", "--weights", weights, "--json")[1])
    assert record == {"name": "fake", "file": str(weights), "sha256": hash_file(weights), "official": True}


def test_a_file_from_the_network_is_kept_in_the_cache(served: None, tmp_path: Path) -> None:
    code, out, errors = run("--verify", "fake")
    assert (code, errors) == (0, []) and str(tmp_path / "hub" / "checkpoints" / "fake.pth") in out
    assert [p.name for p in (tmp_path / "hub" / "checkpoints").iterdir()] == ["fake.pth"]


def test_a_wrong_file_and_no_network_are_one_sentence(card: Card, weights: Path, tmp_path: Path) -> None:
    code, out, errors = run("--verify", "fake")
    assert (code, out) == (1, "") and len(errors) == 1 and errors[0].startswith("torchbcos: No connection for fake.pth")
    weights.write_bytes(weights.read_bytes() + b"\0")
    code, out, errors = run("--verify", "fake", "--weights", weights)
    assert (code, out) == (1, "") and len(errors) == 1 and "is not the official fake: its SHA-256 begins with" in errors[0]


def test_accuracy_beside_the_card(card: Card, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "val")
    measured = truth(weights, folder, card)
    monkeypatch.setitem(read_official_cards(), "fake", dataclasses.replace(card, top1=measured))
    code, out, errors = run("--verify", "fake", "--weights", weights, "--data", folder, "--batch-size", 4)
    assert (code, errors) == (0, []), out
    assert f"{measured:.2f} % of 6 pictures; on the card: {measured:.2f} % (six pictures made here)" in out
    assert "They agree: +0.00 points apart" in out
    [record] = json.loads(run("--verify", "fake", "--weights", weights, "--data", folder, "--json")[1])
    assert record["top1"] == record["card_top1"] == pytest.approx(measured) and record["agrees"] is True
    assert (record["images"], record["classes"], record["top5"], record["failed"]) == (6, 3, 100.0, [])


def test_another_accuracy_is_said(card: Card, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path / "val", each=10)
    away = 100.0 if truth(weights, folder, card) < 50 else 0.0
    monkeypatch.setitem(read_official_cards(), "fake", dataclasses.replace(card, top1=away))
    code, _, errors = run("--verify", "fake", "--weights", weights, "--data", folder)
    assert code == 1 and len(errors) == 1 and "points from its card, and chance explains ±0.10" in errors[0]


def test_some_classes_and_broken_pictures(card: Card, weights: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "val", names=CLASSES[:2])
    code, out, errors = run("--verify", "fake", "--weights", weights, "--data", folder)
    assert (code, errors) == (0, []) and "show 2 of 3 classes: not comparable" in out
    (folder / CLASSES[0] / "broken.jpg").write_text("text")
    code, out, errors = run("--verify", "fake", "--weights", weights, "--data", folder)
    assert code == 1 and len(errors) == 1 and "broken.jpg" in errors[0] and "of 4 pictures" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--verify", "fack"), "Did you mean 'fake'"),
        (("--verify", "imagenette"), "comes with the package"),
        (("--verify", "fake", "--weights", "absent.pth"), "no weights file 'absent.pth'"),
        (("--data", "x"), "--data belongs to a verification: add --verify NAME"),
        (("--verify", "fake", "--labels", "x.csv"), "give that, too"),
    ],
)
def test_wrong_requests(card: Card, arguments: tuple[str, ...], text: str) -> None:
    code, out, errors = run(*arguments)
    assert (code, out) == (2, "") and len(errors) == 1 and text in errors[0]


def test_no_folder_and_no_labels(card: Card, weights: Path, tmp_path: Path) -> None:
    for folder, text in ((tmp_path / "none", "There is no folder"), (tmp_path / "flat", "neither subfolders")):
        (tmp_path / "flat").mkdir(exist_ok=True)
        code, _, errors = run("--verify", "fake", "--weights", weights, "--data", folder)
        assert code == 2 and len(errors) == 1 and text in errors[0]


# -- which picture shows which class ---------------------------------------------------------------


def flat(folder: Path, table: str, name: str = "labels.csv") -> Path:
    folder.mkdir()
    for file in ("a.png", "b.jpg"):
        Image.new("RGB", (8, 8)).save(folder / file)
    (folder / name).write_text(table, "utf-8")
    return folder


def found(folder: Path, card: Card, labels: Path | None = None) -> dict[str, int]:
    return {path.name: index for path, index in read_labels(folder, card, labels)}


@pytest.mark.parametrize(
    "table",
    [
        "a.png,red fox\nb.jpg,blue jay\n",
        "file,class\na.png,Red_Fox\nb.jpg,2\n",
        "\ufefffile,width,height,label\na.png,2,1,0\nb.jpg,1,0,blue jay\n",
        "image,name,index\na,?,0\nb,?,002\n\n",
    ],
)
def test_tables(tmp_path: Path, card: Card, table: str) -> None:
    assert found(flat(tmp_path / "f", table), card) == {"a.png": 0, "b.jpg": 2}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("", "is empty"),
        ("file,class\n", "names no picture"),
        ("a.png,red fox\nc.png,red fox\n", r"labels\.csv, line 2: there is no picture 'c\.png'"),
        ("c.png,red fox\n", r"line 1: there is no picture 'c\.png'"),
        ("file,class\na.png,red fix\n", "line 2: 'red fix' is no class of this model. Did you mean 'red fox'"),
        ("file,class\na.png\n", "line 2: expected a file and its class"),
    ],
)
def test_wrong_tables(tmp_path: Path, card: Card, table: str, text: str) -> None:
    with pytest.raises(torchbcos.BcosError, match=text):
        read_labels(flat(tmp_path / "f", table), card)


def test_a_table_elsewhere_and_kaggles(tmp_path: Path) -> None:
    folder = flat(tmp_path / "f", "nothing,here", name="other.txt")
    (tmp_path / "t.csv").write_text("ImageId,PredictionString\na,n01440764 1 2 30 40 n01440764 5 6 7 8\nb,n15075141\n")
    assert found(folder, official_card("resnet18"), tmp_path / "t.csv") == {"a.png": 0, "b.jpg": 999}
    with pytest.raises(torchbcos.BcosError, match=r"no file of labels .*u\.csv"):
        read_labels(folder, official_card("resnet18"), tmp_path / "u.csv")


def test_imagenet_folders(tmp_path: Path) -> None:
    card = official_card("resnet18")
    folder = pictures(tmp_path / "val", names=("n01440764", "goldfish", "207", "Great_White_shark"), each=1)
    (folder / "n15075141").mkdir()  # an empty one is passed over
    assert sorted(found(folder, card).values()) == [0, 1, 2, 207]
    pictures(folder, names=("tensch",), each=1)
    with pytest.raises(torchbcos.BcosError, match=r"subfolder 'tensch' is no class of this model\. Did you mean 'tench'"):
        read_labels(folder, card)


def test_wnids_are_imagenets(data_dir: Path) -> None:
    assert len(set(imagenet_wnids())) == 1000 and list(imagenet_wnids()) == sorted(imagenet_wnids())
    table = data_dir / "imagenet-samples" / "labels.csv"
    if not table.is_file():
        pytest.skip("no table of ImageNet classes here")
    rows = [line.split(",") for line in table.read_text("utf-8").splitlines()[1:]]
    assert len(rows) == 500 and all(imagenet_wnids()[int(index)] == wnid for _, wnid, index, _ in rows)
    assert sum(imagenet_classes()[int(index)] == name for _, _, index, name in rows) >= 499


def test_what_chance_explains() -> None:
    few, many = (Accuracy(images=n, classes=2, correct=n // 2, correct5=n) for n in (100, 50_000))
    assert few.tolerance(75.0) == pytest.approx(12.99, abs=0.01) and many.tolerance(75.0) == pytest.approx(0.58, abs=0.01)
    assert few.tolerance(100.0) == 0.1
