"""Numbers that do not fit the range that was said, whatever holds them: pictures, arrays, signals and scans."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from torchbcos.pictures import Preprocess, read_image, take_note
from torchbcos.pictures import samples as module
from torchbcos.pictures.inputs import read_input
from torchbcos.pictures.samples import heard, range_note

DRAW = np.random.default_rng(0)
BRAIN, CT = (-160.0, 240.0), np.clip(DRAW.normal(-1000, 15, (12, 20, 20)), -1024, None)
CT[3:9, 6:14, 6:14] = DRAW.normal(40, 30, (6, 8, 8))  # an eighth is the head
CT[3:9, 6:14, 6] = DRAW.normal(900, 200, (6, 8))  # and some of it bone


def test_most_of_a_pictures_numbers_lie_outside(tmp_path: Path) -> None:
    Image.fromarray(DRAW.integers(0, 65536, (40, 40)).astype(np.uint16)).save(tmp_path / "a.png")
    note = take_note(read_image(tmp_path / "a.png", value_range=(0, 4095)))
    assert note is not None and "a.png' holds values from" in note
    assert "93 % of them lie outside the range from 0 to 4095: they are cut to its ends. Is that meant?" in note
    assert take_note(read_image(tmp_path / "a.png", value_range=(0, 40000))) is None


SIGNAL = DRAW.integers(700, 4096, (2, 256)).astype(np.uint16)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (SIGNAL * 16, "100 % of them lie outside the range from 0 to 4095"),
        (SIGNAL / 4095 * 6 - 3, "the darkest sixteenth of the range from 0 to 4095"),  # millivolts
        ((SIGNAL // 16).astype(np.uint8), "the darkest sixteenth of the range from 0 to 4095"),
        (SIGNAL.astype(np.int32) - 70_000, "100 % of them lie outside"),
        (SIGNAL * 2.5 + 4000, "100 % of them lie outside"),
        (np.where(DRAW.random((2, 256)) < 0.3, SIGNAL, 30_000), "% of them lie outside"),
        (SIGNAL / 4095, r"If they are scaled already, say value_range=\(0, 1\)"),
        (SIGNAL, None),
        (np.where(DRAW.random((2, 256)) < 0.01, 60_000, SIGNAL), None),  # some sensors fail
    ],
)
@pytest.mark.parametrize("kind", ["array", "tensor", "file"])
def test_signals_on_another_scale(
    values: np.ndarray, said: str | None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_warned", set())
    p = Preprocess(raw_channels=2, axes=1, encoding="none", value_range=(0, 4095))
    np.save(tmp_path / "a.npy", values)
    item = {"array": values, "tensor": torch.from_numpy(values), "file": tmp_path / "a.npy"}[kind]
    if said is None:
        p.read(item)  # warnings are errors here
        return
    with pytest.warns(UserWarning, match=said):
        p.read(item)
    p.read(item)  # once


@pytest.mark.parametrize("limits", [BRAIN, (0, 80), (-1000, 1000), (-1350, 150), (-500, 1500), (300, 1500)])
def test_windows_cut_air_on_purpose(limits: tuple[float, float]) -> None:
    """Of a head, of its slices that hold air alone, and of a thin limb."""
    limb = np.where(DRAW.random(CT.shape) < 0.97, -1000.0, CT)
    for scan in (CT, CT[0], CT[5], limb):
        assert range_note(scan, "It", limits) is None


def test_ranges_that_miss_a_ct() -> None:
    assert "outside the range from 5000 to 6000" in str(range_note(CT, "It", (5000, 6000)))
    assert "outside the range from" in str(range_note(np.where(CT < -500, 0, CT + 1024), "It", BRAIN))  # no intercept, padded


@settings(max_examples=40, deadline=None)
@given(low=st.floats(-800, 1e4), width=st.floats(1, 1e4), seed=st.integers(0, 99))
def test_numbers_that_fill_their_range_are_passed_over(low: float, width: float, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(low, low + width, 500)
    assert range_note(values, "It", (low, low + width)) is None
    assert range_note(values + 20 * width, "It", (low, low + width)) is not None


def test_dark_floats_and_one_number_all_over(tmp_path: Path) -> None:
    p = Preprocess(raw_channels=3, encoding="none")
    for name, values in {
        "dark": DRAW.random((3, 9, 9)) / 100,
        "flat": np.full((3, 9, 9), 0.5),
        "fine": DRAW.random((3, 9, 9)),
    }.items():
        np.save(tmp_path / f"{name}.npy", values)
    with heard() as notes:
        for name in ("dark", "flat", "fine"):
            read_input(tmp_path / f"{name}.npy", "image", p.form)
        p.read(torch.zeros(3, 9, 9))  # of a caller who knows
    assert len(notes) == 2 and "the darkest sixteenth of the range from 0 to 1" in notes[0]
    assert notes[1].endswith("flat.npy' holds one number all over, 0.5.")


def test_another_range_than_the_cards_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_warned", set())
    p = Preprocess(raw_channels=1, axes=1, encoding="none", value_range=(0, 4095))
    x = DRAW.random((1, 100)) * 4095
    with pytest.warns(UserWarning, match=r"was trained with the range from 0 to 4095, and here 0 to 5000 become 0 and 1"):
        p.batch(x, value_range=(0, 5000))
    p.batch(x, value_range=(0, 5000))
    p.batch(x, value_range=(0, 4095))
    p.batch(x / 4095, value_range=(0, 1))  # as another message says
    Preprocess(raw_channels=1, axes=1, encoding="none").batch(x, value_range=(0, 5000))


def test_what_is_heard_is_no_warning() -> None:
    with warnings.catch_warnings(record=True) as raw, heard() as outer:
        with heard() as inner:
            module.warn_once("a")
            module.warn_once("a")
        module.warn_once("b")
    assert (raw, outer, inner) == ([], ["b"], ["a", "a"])


def test_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydicom")
    nib = pytest.importorskip("nibabel")
    from tests.scans import plane, save

    monkeypatch.setattr(module, "_warned", set())
    for i, pixels in enumerate(CT):
        save(
            plane(i, (pixels + 1024).round().astype(np.uint16), RescaleSlope=1, RescaleIntercept=-1024), tmp_path / "ct" / str(i)
        )
    nib.save(nib.Nifti1Image(CT.transpose(2, 1, 0).astype(np.int16), np.eye(4)), tmp_path / "ct.nii")
    p = Preprocess(raw_channels=1, axes=3, encoding="none", value_range=BRAIN)
    wrong = Preprocess(raw_channels=1, axes=3, encoding="none", value_range=(5000, 6000))
    for path in (tmp_path / "ct", tmp_path / "ct.nii"):
        assert "notes" not in p.read(path).facts  # warnings are errors here
        with heard() as notes:
            facts = wrong.read(path).facts
        (note,) = facts["notes"]
        assert note.startswith("It holds values from") and "lie outside the range from 5000 to 6000" in note
        assert len(notes) == 1 and notes[0].endswith(note.removeprefix("It "))
