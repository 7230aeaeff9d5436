"""Splits, and reading single examples."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.data.make import classes_in
from tests.unit.pictures.test_npy import WRONG
from torchbcos._core.errors import InputError
from torchbcos.data.labelled import Split, file_split, split_rows
from torchbcos.data.loading import Examples, Order, loader
from torchbcos.data.sources import open_labelled
from torchbcos.judging import predict_split
from torchbcos.pictures import Preprocess, read_image, samples


@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=5), share=st.floats(0.01, 0.5), seed=st.integers(0, 9))
def test_splits_are_disjoint_complete_and_stratified(counts: list[int], share: float, seed: int) -> None:
    targets = torch.tensor([c for c, n in enumerate(counts) for _ in range(n)])
    rest, held = split_rows(targets, share, seed)
    assert sorted(rest + held) == list(range(len(targets)))
    assert split_rows(targets, share, seed) == (rest, held)
    for c, n in enumerate(counts):
        found = sum(int(targets[i]) == c for i in held)
        assert found == (0 if n == 1 else min(max(1, round(share * n)), n - 1))


@given(
    sets=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=12),
    share=st.floats(0.01, 0.6), seed=st.integers(0, 9), wide=st.booleans(),
)  # fmt: skip
def test_copies_stay_on_one_side(sets: list[tuple[int, int]], share: float, seed: int, wide: bool) -> None:
    classes = [c for c, n in sets for _ in range(n)]
    twins = [k for k, (_, n) in enumerate(sets) for _ in range(n)]
    targets = torch.nn.functional.one_hot(torch.tensor(classes)).float() if wide else torch.tensor(classes)
    rest, held = split_rows(targets, share, seed, twins)
    assert sorted(rest + held) == list(range(len(classes)))
    for group in {0} if wide else set(classes):
        mine = {twins[i] for i in range(len(twins)) if wide or classes[i] == group}
        if len(mine) > 1:  # a class of copies alone is divided: there would be nothing to hold out
            assert not mine & {twins[i] for i in rest} & {twins[i] for i in held}
            assert mine & {twins[i] for i in rest} and mine & {twins[i] for i in held}
    alone = list(range(len(classes)))
    assert split_rows(targets, share, seed, alone) == split_rows(targets, share, seed)


def test_fingerprints_notice_files_and_targets(tmp_path: Path) -> None:
    split = open_labelled(classes_in(tmp_path)).train
    assert split.fingerprint() == open_labelled(tmp_path).train.fingerprint()
    other = Split(split.names, split.targets.flip(0), split.reader, split.rows)
    assert len({split.fingerprint(), other.fingerprint(), split.take([0, 1, 2, 3, 4]).fingerprint()}) == 3


def test_arrays(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "volume.npy", np.full((2, 3, 4, 5), 255, np.uint8))
    found = open_labelled(tmp_path)
    tensor = found.train.read(0)
    assert tensor.shape == (2, 3, 4, 5)
    assert float(tensor.max()) == 1
    np.save(tmp_path / "a" / "volume.npy", np.array([1.0, np.nan]))
    with pytest.raises(InputError, match="NaN or infinity"):
        found.train.read(0)
    np.save(tmp_path / "a" / "volume.npy", np.array(["x"]))
    with pytest.raises(InputError, match="numbers of shape"):
        found.train.read(0)
    np.save(tmp_path / "a" / "volume.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"no .npy file that can be read: it holds Python objects"):
        found.train.read(0)


def test_every_kind_of_broken_array_is_skipped_where_that_is_asked_for(tmp_path: Path) -> None:
    """A header of terabytes raised MemoryError, an archive under the wrong name AttributeError: both ended a run that skips."""
    files: list[str] = []
    for i, (data, _) in enumerate([*WRONG.values(), (b"", ""), (b"", "")]):
        files.append(str(tmp_path / f"{i}.npy"))
        Path(files[-1]).write_bytes(data)
    for file in files[-2:]:
        np.save(file, np.ones((3, 4, 4), np.uint8))
    split = file_split(files, torch.zeros(len(files), dtype=torch.long), tmp_path)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    outputs = predict_split(network, Examples(split, Preprocess(crop=4)), workers=0, on_error="skip")
    assert [split.names[i] for i in outputs.rows] == [Path(file).name for file in files[-2:]]
    assert len(outputs.failures) == len(WRONG)


def test_examples_within_a_range(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / name / "0.png")
        np.save(tmp_path / name / "1.npy", np.array([[0, 2000, 4095]], np.uint16))
    split = open_labelled(tmp_path).train
    (note,) = split.remarks()
    assert "0.png' holds values from 0 to 4095, the darkest sixteenth" in note and split.within(None) is split
    known = split.within((0, 4095))
    assert known.read(0).getpixel((1, 0)) == (255, 255, 255) and known.remarks() == ()  # type: ignore[union-attr]
    assert known.read(1).tolist() == [[0, pytest.approx(2000 / 4095), 1]]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="bring them to"):
        split.read(1)
    other = Split(split.names, split.targets, lambda i: Image.new("RGB", (2, 2)), split.rows)
    with pytest.raises(InputError, match="A range of numbers can be set for files and shards, and this data is neither"):
        other.within((0, 1))


def test_a_word_on_numbers_is_said_once_and_as_it_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers warned of the pictures of the data, in a raw line each; training was told of an option that it lacks."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(np.array([[0, 4095 - i], [5, 9]], np.uint16)).save(tmp_path / name / f"{i}.png")
    split = open_labelled(tmp_path).train
    (note,), (said,) = split.remarks(), split.remarks(ranged=False)
    assert note.endswith("say the range: value_range=(0, 4095), on the command line --range 0..4095.") and "--range" not in said
    call = said.partition("each so: torchbcos.pictures.")[2]
    assert call == "read_image(file, value_range=(0, 4095)).save(copy)."
    eval(call.rstrip("."), {"read_image": read_image, "file": tmp_path / "a" / "0.png", "copy": tmp_path / "a" / "0.png"})
    assert open_labelled(tmp_path).train.remarks(count=1, ranged=False) == ()
    monkeypatch.setattr(samples, "_warned", set())
    with warnings.catch_warnings(record=True) as raw:
        warnings.simplefilter("always")
        assert sum(len(batch["x"]) for batch in loader(Examples(split, Preprocess(crop=2)), Order(4, 2), workers=0)) == 4
    assert raw == []


def test_what_the_reader_of_scans_noted_is_said(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.scans import dicom, save

    pixels = np.random.default_rng(0).integers(0, 300, (4, 6, 6)).astype(np.int16)
    for i in range(4):
        save(dicom(pixels[i], PatientID=f"P{i}", SeriesInstanceUID=f"1.{i}"), tmp_path / "ab"[i % 2] / f"{i}.dcm")
    split = open_labelled(tmp_path).train
    (note,) = split.remarks()
    assert note.startswith("'a/0.dcm': The file states no window, and 99 % of its values lie between") and "--range" in note
    assert split.within((0, 100)).remarks() == ()


def test_what_is_printed_of_data_is_one_line(tmp_path: Path) -> None:
    """All names and targets were."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(40):
            Image.new("RGB", (2, 2), (i, i, len(name))).save(tmp_path / name / f"{i}.png")
    data = open_labelled(tmp_path)
    assert repr(data) == "Labelled folder: 2 classes, 80 examples to train on" and repr(data.train) == "Split of 80 examples"
