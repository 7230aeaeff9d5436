"""The file of a proof: small, exact in what it promises, and never more than it promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torchbcos
from torchbcos._core.errors import InputError
from torchbcos.explanation import proving
from torchbcos.explanation.proving import _packed, _unpacked, card_hash, file_hash


@given(
    shape=st.lists(st.integers(1, 7), max_size=3), size=st.floats(1e-30, 1e30), seed=st.integers(0, 10**6),
    sparse=st.floats(0, 1),
)  # fmt: skip
def test_maps_keep_eleven_bits(shape: list[int], size: float, seed: int, sparse: float) -> None:
    rng = np.random.default_rng(seed)
    map_ = size * rng.standard_normal(shape) * (rng.random(shape) < sparse)
    back, slack = _unpacked(_packed(map_), Path("a.json"))
    assert back.shape == map_.shape
    assert abs(back - map_).sum() <= slack and abs(back.sum() - map_.sum()) <= slack
    assert (np.sign(back) * np.sign(map_) >= 0).all()


def test_a_map_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(proving, "_MOST_NUMBERS", 63)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(InputError, match="more than a proof holds"):
        torchbcos.explain(net, torch.rand(1, 3, 8, 8)).prove(tmp_path / "a.json")


def test_the_same_explanation_gives_the_same_bytes(tmp_path: Path) -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2)), torch.rand(1, 3, 8, 8)
    one, two = (torchbcos.explain(net, x).prove(tmp_path / name).read_bytes() for name in ("a.json", "b.json"))
    assert one == two and json.loads(one)["format"] == proving.FORMAT


def test_signals_and_inputs_without_space(tmp_path: Path) -> None:
    signal = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(18, 2))
    x, flat = torch.rand(1, 2, 8), torch.rand(1, 4)
    assert torchbcos.verify(torchbcos.explain(signal, x).prove(tmp_path / "a.json"), signal, input=x).agrees
    line = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    try:
        e = torchbcos.explain(line, flat)
    except InputError:
        pytest.skip("inputs without space are not explained")
    assert torchbcos.verify(e.prove(tmp_path / "b.json"), line, input=flat).agrees


def test_hashes_of_cards_and_files(tmp_path: Path) -> None:
    card = torchbcos.load("imagenette", device="cpu").card.to_dict()
    assert card_hash(card) == card_hash({**card, "file": "elsewhere"}) == card_hash({**card, "classes": list(card["classes"])})
    assert card_hash(card) != card_hash({**card, "temperature": 3.0})
    assert card_hash({"notes": float("nan")}) != card_hash({"notes": None})
    (tmp_path / "a").write_bytes(b"")
    assert file_hash(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(InputError):
        file_hash(tmp_path)
