"""Signals: traces over an axis, bars and colours where a contribution was planted."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.rendering.test_panel import drawn, words
from torchbcos._core.errors import InputError
from torchbcos.rendering import heatmap, overlay, panel
from torchbcos.rendering.signal import ticks

LEFT, PLOT = 36 + 124, 1352 - 124 - 12  # where the axis begins on the page, and its length
caption = dataclasses.replace(words, parts="samples")


def planted(length: int = 300, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A slow wave; two fifths from the left something speaks for the class, at four fifths against it, in the last channel."""
    wave = torch.sin(torch.linspace(0, 20, length)).expand(channels, length)
    parts = torch.zeros(channels, length)
    parts[-1, length * 2 // 5 : length * 2 // 5 + length // 20] = 1.0
    parts[-1, length * 4 // 5 : length * 4 // 5 + length // 20] = -0.5
    return wave, parts


def coloured(picture: Image.Image, top: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts of the axis's length where that band of the page is red, and where it is blue."""
    band = np.asarray(picture)[top:bottom, LEFT : LEFT + PLOT].astype(int)
    red, blue = (band[..., 0] - band[..., 2] > 60).any(0), (band[..., 2] - band[..., 0] > 60).any(0)
    return np.flatnonzero(red) / PLOT, np.flatnonzero(blue) / PLOT


@pytest.mark.parametrize("length", [300, 20_000])
def test_a_planted_contribution_is_red_at_its_place_in_bars_and_overlay(length: int) -> None:
    wave, parts = planted(length)
    picture = panel(caption, parts[0], image=wave, by_channel=parts)
    assert picture.size == (1424, 778)
    tops = [142 + i * 168 for i in range(3)]  # rows of 104 and axes of 24, 40 apart
    assert all(len(found) == 0 for found in coloured(picture, tops[0], tops[0] + 104))  # the input is ink alone
    for top in tops[1:]:
        red, blue = coloured(picture, top, top + 104)
        assert red.min() == pytest.approx(0.4, abs=0.01) and red.max() == pytest.approx(0.45, abs=0.01)
        assert blue.min() == pytest.approx(0.8, abs=0.01) and blue.max() == pytest.approx(0.85, abs=0.01)
    bars = np.asarray(picture)[tops[1] : tops[1] + 104, LEFT : LEFT + PLOT].astype(int)
    up = (bars[..., 0] - bars[..., 2] > 60).any(1)
    down = (bars[..., 2] - bars[..., 0] > 60).any(1)
    assert up[:50].any() and not up[56:].any() and down[56:].any() and not down[:50].any()
    assert up.sum() == pytest.approx(2 * down.sum(), abs=3)  # 1 against -0.5


def test_the_trace_runs_where_its_numbers_are() -> None:
    ramp = torch.linspace(0, 1, 100)[None]
    ink = np.asarray(panel(caption, torch.zeros(100), image=ramp).convert("L"))[142 : 142 + 104, LEFT + 5 : LEFT + PLOT - 5] < 190
    middle = np.array([np.flatnonzero(column).mean() for column in ink.T[50:-50]])
    want = np.linspace(0.93, 0.07, ink.shape[1])[50:-50] * 104
    np.testing.assert_allclose(middle, want, atol=2)


def test_channels_that_carry_most_are_shown_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wave, parts = planted(120, 12)
    parts[2:9] += 0.01
    found = drawn(monkeypatch, caption, parts.sum(0), image=wave, by_channel=parts)
    assert "Input: 8 of 12 channels, with 100 % of all contributions" in found
    assert [one for one in found if one.startswith("channel")] == [f"channel {i}" for i in (*range(2, 9), 11)] * 3
    names = {"channels": [f"V{i}" for i in range(12)]}
    found = drawn(monkeypatch, caption, parts.sum(0), image=wave, by_channel=parts, facts=names, channels=[11, -12])
    assert [one for one in found if one.startswith("V")] == ["V11", "V0"] * 3
    assert "Input: 2 of 12 channels, with 52 % of all contributions" in found  # 9 of 9 + 7 * 1.2
    few = drawn(monkeypatch, caption, parts[:2].sum(0), image=wave[:2], by_channel=parts[:2])
    assert "Input" in few and "Contributions" in few
    with pytest.raises(InputError, match="channels must be whole numbers from 0 to 11"):
        panel(caption, parts.sum(0), image=wave, channels=[12])


def test_axes_and_stored_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    wave, parts = planted(1000)
    assert {"sample", "0", "200", "800"} <= set(drawn(monkeypatch, caption, parts[0], image=wave))
    seconds = drawn(monkeypatch, caption, parts[0], image=wave, spacing=0.002)
    assert {"seconds", "0", "0.5", "1.5"} <= set(seconds) and "sample" not in seconds
    facts = {"window": [-2.0, 2.0], "unit": "mV", "spacing": [0.004]}
    stored = drawn(monkeypatch, caption, parts[0], image=(wave + 1) / 2, facts=facts)
    assert {"2.00 mV", "-2.00 mV", "seconds", "3.5"} <= set(stored)
    long = drawn(monkeypatch, caption, torch.ones(5000), image=torch.rand(1, 5000))
    assert "Contributions: in each column the sum of 5 samples" in long


def test_without_a_map_for_each_channel_all_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    wave, parts = planted(100, 3)
    found = drawn(monkeypatch, caption, parts.sum(0), image=wave)
    assert "Contributions of all channels together" in found and found.count("channel 1") == 2
    with pytest.raises(InputError, match=r"by_channel must be \(3, 100\), one row a channel of the image, got \(2, 100\)"):
        panel(caption, parts.sum(0), image=wave, by_channel=parts[:2])


@pytest.mark.parametrize("wave", [torch.zeros(1, 1), torch.full((2, 7), -3e30), torch.randn(1, 2), torch.eye(3)[:2]])
def test_odd_signals_have_a_panel(wave: torch.Tensor) -> None:
    picture = panel(caption, torch.zeros(wave.shape[1]), image=wave, by_channel=torch.zeros_like(wave))
    assert picture.width == 1424 and np.asarray(picture)[142:246].std() > 0


def test_what_is_said_of_every_panel_is_said_of_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    wave, parts = planted()
    weak = dataclasses.replace(caption, share=0.1, note="window -2 to 2 mV", predictions=(("x" * 90, 0.3),), explained="x" * 90)
    found = drawn(monkeypatch, weak, parts[0], image=wave)
    assert {"window -2 to 2 mV", "Share of samples", "Samples"} <= set(found)
    assert any("no class reaches 50 %" in one for one in found)
    assert any(one.startswith("The samples carry only 10 %") for one in found)
    with pytest.raises(InputError, match="image holds NaN"):
        panel(caption, parts[0], image=wave * float("nan"))


@pytest.mark.parametrize(("last", "most"), [(1, 9), (9.99, 9), (1e-6, 9), (123_456_789, 9), (0.3, 3), (7, 3)])
def test_ticks_are_round_and_few(last: float, most: int) -> None:
    found = ticks(last, most=most)
    values = [value for value, _ in found]
    assert 2 <= len(found) <= most and values[0] == 0 and values[-1] <= last * (1 + 1e-9)
    assert len({word for _, word in found}) == len(found)
    assert all(float(word.replace(",", "")) == pytest.approx(value, abs=1e-12) for value, word in found)
    assert f"{values[1]:e}"[0] in "125"


def test_ticks_of_samples_are_whole() -> None:
    assert ticks(0) == [(0.0, "0")] and [word for _, word in ticks(3, whole=True)] == ["0", "1", "2", "3"]


def test_the_overlay_of_a_signal_is_its_trace_over_its_colours() -> None:
    wave, parts = planted(300, 2)
    colours = heatmap(parts.sum(0), percentile=100)
    laid: np.ndarray[Any, Any] = overlay(wave, colours)
    assert laid.shape == (128, 300, 3)
    ink = (laid < 0.3).all(-1)
    assert ink[:64].any(0).all() and ink[64:].any(0).all()  # a trace for each channel, without gaps
    paper = laid[0, 125]
    assert paper[0] == 1 and paper[1] == paper[2] == pytest.approx(0.4)
    assert (laid[0, 5] == 1).all() and laid[0, 245].tolist() == pytest.approx([0.7, 0.7, 1.0])
    with pytest.raises(InputError, match=r"must be \(64, 300, 3 or 4\)"):
        overlay(wave, colours[:, :5])


def test_a_channel_whose_name_no_font_has_is_called_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    wave, parts = planted(60, 2)
    found = drawn(monkeypatch, caption, parts.sum(0), image=wave, by_channel=parts, facts={"channels": ["\ue000", "V1"]})
    assert found.count("channel 0") == 3 == found.count("V1")


def test_more_channels_than_memory_are_refused() -> None:
    with pytest.raises(InputError, match="ask for fewer channels or a smaller scale"):
        panel(caption, torch.zeros(9), image=torch.rand(2, 9), channels=[0, 1] * 500)
