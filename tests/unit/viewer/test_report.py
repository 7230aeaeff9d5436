"""The report: every number that was computed stands there, and nothing of a stranger becomes markup."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchbcos
from tests.pages import read_page
from torchbcos.viewer import Entry, entry_of, failed_entry, report_page
from torchbcos.zoo.records import failed_record, iter_explained

PHOTOS = Path(__file__).parents[3] / "docs" / "photos"
NAMES = ("bus.jpg", "tower.jpg", "llama.jpg")


@pytest.fixture(scope="module")
def classifier() -> torchbcos.Classifier:
    return torchbcos.load("imagenette", device="cpu")


def entries_of(classifier: torchbcos.Classifier, truths: dict[str, str], **options: Any) -> list[Entry]:
    found: list[Entry] = []

    def draw(i: int, e: torchbcos.Explanation, k: int, record: dict[str, Any]) -> None:
        best = [asdict(row) for row in classifier.predictions(e.outputs)[0]]
        whole = {"file": NAMES[i], "predictions": best}
        found.append(entry_of(e, k, whole, record, len(found), truth=truths.get(NAMES[i], ""), expected=3))

    list(iter_explained(classifier, NAMES, [PHOTOS / name for name in NAMES], draw=draw, **options))
    return found


def test_numbers_verdicts_and_pictures(classifier: torchbcos.Classifier) -> None:
    entries = entries_of(classifier, {"tower.jpg": "church", "bus.jpg": "tench"}, top_k=2)
    page = report_page(entries, classifier.card, {"model": "imagenette"}, title="Three")
    seen = read_page(page)
    e = classifier.explain([PHOTOS / name for name in NAMES], top_k=2)
    for i, name in enumerate(NAMES):
        for k in range(2):
            assert (
                f"{float(e.values[i, k]):.2f}" in page and f'href="#p{2 * i + k}">{name}' in page and f'id="p{2 * i + k}"' in page
            )
    assert page.count('class="strip"') == 1 and len(re.findall(r"<img ", page)) == 6 * 3
    assert "1 of 2 pictures with a known label are rightly named (50.0 %)." in page
    assert "6 explanations of 3 pictures" in page and "rightly" in page and "wrongly" in page
    assert "What it says" in page and "Settings and versions" in page and seen
    assert not re.search(r"(src|href)=.(https?:|//)", page)


def test_a_contrast_has_its_column(classifier: torchbcos.Classifier) -> None:
    page = report_page(entries_of(classifier, {}, contrast=3), classifier.card, {})
    assert page.count("rather than") >= 4 and "label" not in re.findall(r'<button type="button">(\w+)</button>', page)


def test_strangers_words_stay_words(classifier: torchbcos.Classifier) -> None:
    (entry, *_) = entries_of(classifier, {})
    word = "<img src=x onerror=alert(1)>\x1b[31m\u202e"
    bad = Entry(word, {**(entry.record or {}), "label": word}, entry.thumbnail, truth=word, right=False)
    page = report_page([bad, failed_entry(failed_record(word, word))], classifier.card, {"model": word}, title=word)
    assert "<img src=x" not in page and "\x1b" not in page and "\u202e" not in page and "&lt;img src=x" in page


def test_what_a_reader_must_know_is_said(classifier: torchbcos.Classifier) -> None:
    entry = entries_of(classifier, {})[0]
    assert entry.record is not None
    low = Entry("a.jpg", {**entry.record, "share": 0.1, "complete": False, "probability": 0.2, "residual": None}, entry.thumbnail)
    page = report_page([entry, low, failed_entry(failed_record("b.jpg", "'b.jpg' is empty."))], classifier.card, {})
    assert "In 1 of 2 explanations constants have more than a tenth of the say" in page
    assert "1 explanations do not add up" in page and "1 pictures could not be explained" in page and "is empty." in page
    assert "below one half in 1 of 2 pictures" in page
    alone = report_page([failed_entry(failed_record("b.jpg", "'b.jpg' is empty."))], classifier.card, {})
    assert "Not explained" in alone and 'class="strip"' not in alone


def test_many_pictures_are_made_smaller() -> None:
    e, sizes = torchbcos.load(device="cpu").explain(PHOTOS / "bus.jpg"), []
    for expected in (10, 1000, 5000):
        record = {"file": "bus.jpg", "predictions": [{"label": "church", "probability": 1.0}] * 4}
        sizes.append(len(entry_of(e, 0, record, e.to_dict()["explanations"][0][0], 0, expected=expected).thumbnail))
    assert sizes[0] > sizes[1] > sizes[2] and sizes[1] * 1000 < 60_000_000


def test_an_ordinary_network_has_a_map_and_its_constants() -> None:
    torch.manual_seed(0)
    classifier = torchbcos.Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), torchbcos.nn.GlobalAveragePool()))
    e = classifier.explain(torch.rand(3, 16, 16))
    record = {"file": "a", "predictions": [{"label": "class 0", "probability": 0.5}] * 4}
    made = entry_of(e, 0, record, e.to_dict()["explanations"][0][0], 0)
    assert made.thumbnail.count("<img") == 2 and "constant 0.bias" in made.thumbnail
