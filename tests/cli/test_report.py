"""`torchbcos report` and `torchbcos verify` as a person uses them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PHOTOS = Path(__file__).parents[2] / "docs" / "photos"


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "torchbcos.cli", *words, "--device", "cpu"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for folder, name in (("church", "tower"), ("tench", "bus"), ("", "llama")):
        (tmp_path / "photos" / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(PHOTOS / f"{name}.jpg", tmp_path / "photos" / folder / f"{name}.jpg")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def test_a_page_of_a_folder_whose_subfolders_are_classes(photos: Path) -> None:
    code, out, err = run(photos, "report", "photos", "--model", "imagenette", "-o", "why.html", "--title", "Mine & yours")
    assert code == 1 and "broken.jpg" in err and "3 explanations on one page" in out and "-> why.html" in out
    page = (photos / "why.html").read_text("utf-8")
    assert "1 of 2 pictures with a known label" in page and "Mine &amp; yours" in page and "Not explained" in page
    assert sorted(path.name for path in photos.iterdir()) == ["photos", "why.html"]


def test_labels_of_a_table(photos: Path) -> None:
    (photos / "labels.csv").write_text("file,class\nbus.jpg,church\nllama.jpg,3\n")
    code, _, _ = run(photos, "report", "photos/tench", "--model", "imagenette", "--labels", "labels.csv", "--top-k", "2")
    page = (photos / "report.html").read_text("utf-8")
    assert code == 0 and "of 1 pictures with a known label" in page and "2 explanations of 1 pictures" in page
    (photos / "labels.csv").write_text("file,class\nbus.jpg,unicorn\n")
    code, _, err = run(photos, "report", "photos", "--model", "imagenette", "--labels", "labels.csv")
    assert code == 2 and "line 2" in err and "unicorn" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "why.pdf"], "FILE.html"), (["-o", "none/why.html"], "none"), (["--class", "unicorn"], "unicorn"),
        (["--top-k", "11"], "more than the 10 classes"), (["--labels", "none.csv"], "none.csv"),
    ],
)  # fmt: skip
def test_wrong_requests_are_one_sentence(photos: Path, words: list[str], said: str) -> None:
    code, _, err = run(photos, "report", "photos/llama.jpg", "--model", "imagenette", *words)
    assert code == 2 and said in err and "Traceback" not in err and err.count("\n") <= 2
    assert not list(photos.glob("*.html"))


def test_proofs_are_written_and_verified(photos: Path) -> None:
    code, out, _ = run(photos, "explain", "photos/tench/bus.jpg", "--model", "imagenette", "--proof", "bus.proof.json")
    assert code == 0 and "the proof -> bus.proof.json" in out
    picture = ("--picture", "photos/tench/bus.jpg")
    code, out, _ = run(photos, "verify", "bus.proof.json", *picture, "--double")
    assert code == 0 and "Computed anew, and it holds." in out and "DIFFERS" not in out and "\\n" not in out
    code, out, _ = run(photos, "verify", "bus.proof.json", "--picture", "photos/llama.jpg", "--json")
    assert code == 1 and json.loads(out)["agrees"] is False
    assert run(photos, "verify", "bus.proof.json")[0] == 0
    assert run(photos, "verify", "bus.proof.json", "--model", "imagenet", *picture)[0] == 1
    spoiled = (photos / "bus.proof.json").read_text().replace('"value":', '"value": ')
    (photos / "bus.proof.json").write_text(spoiled)
    code, _, err = run(photos, "verify", "bus.proof.json", *picture)
    assert code == 2 and "was changed after it was written" in err


def test_a_proof_each_and_where_they_go(photos: Path) -> None:
    words = ("explain", "photos/tench", "photos/church", "--model", "imagenette", "--top-k", "2")
    code, _, err = run(photos, *words, "--proof", "all.json")
    assert code == 2 and "4 explanations have as many proofs" in err
    code, out, _ = run(photos, *words, "--proof", "proofs", "--json")
    proofs = sorted((photos / "proofs").rglob("*.proof.json"))
    assert code == 0 and len(proofs) == 4
    said = [e["proof"] for record in json.loads(out) for e in record["explanations"]]
    assert sorted(str(path.relative_to(photos)) for path in proofs) == sorted(said)
