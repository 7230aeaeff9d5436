"""What examples are is known before anything is trained, and they reach the network exactly as the classifier reads them."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from tests.unit.training.data import tiny
from torchbcos._core.errors import InputError
from torchbcos.data import open_labelled
from torchbcos.data.loading import Examples
from torchbcos.evaluation import open_model
from torchbcos.pictures import Preprocess
from torchbcos.pictures.samples import heard
from torchbcos.training import Recipe, read_recipe, train
from torchbcos.training.form import Seen, Wanted, look_at, wanted_by
from torchbcos.zoo import Card, Classifier

HERE = "tests.unit.training.data"


OWN = {1: "signal", 2: "flat", 3: "volume"}


def classifier_of(prepare: Preprocess) -> Classifier:
    card = Card(name="x", architecture="resnet18", in_channels=prepare.channels, num_classes=2, preprocess=prepare.to_dict())
    return Classifier(nn.Linear(1, 1), card)


def write(folder: Path, arrays: list[np.ndarray], suffix: str = ".npy") -> Path:
    """Two classes, the arrays in turn."""
    for i, array in enumerate(arrays):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        if suffix == ".npy":
            np.save(place / f"{i:02}.npy", array)
        else:
            Image.fromarray(array).save(place / f"{i:02}{suffix}")
    return folder


def seen(folder: Path, recipe: Recipe) -> tuple[Seen, Examples]:
    split = open_labelled(folder).train
    found = look_at(split, recipe, wanted_by(recipe), folder)
    return found, Examples(split, found.prepare)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_examples_reach_the_network_as_the_classifier_reads_their_files(data: st.DataObject) -> None:
    """To the bit, for drawn forms, types, ranges and channels."""
    axes = data.draw(st.integers(1, 3))
    sides = tuple(data.draw(st.integers(17, 30)) for _ in range(axes))
    stored = data.draw(st.sampled_from([None, 1, 2, 3]))
    dtype, limits = data.draw(
        st.sampled_from(
            [("float32", None), ("uint8", None), ("float64", None), ("int16", (-160.0, 240.0)), ("uint16", (0.0, 4095.0))]
        )
    )
    shape = sides if stored is None else (stored, *sides)
    rng = np.random.default_rng(0)
    arrays = [(rng.random(shape) * (200 if limits or dtype == "uint8" else 1)).astype(dtype) for _ in range(4)]
    recipe = tiny(model=f"{HERE}:{OWN[axes]}", axes=data.draw(st.sampled_from([0, axes])), value_range=limits or (0, 0))
    with tempfile.TemporaryDirectory() as name:
        found, examples = seen(write(Path(name), arrays), recipe)
        assert (found.prepare.raw_channels, found.prepare.axes) == (stored or 1, axes)
        files = sorted(str(p) for p in Path(name).rglob("*.npy"))
        with heard():  # drawn numbers may fill little of a range
            assert torch.equal(torch.stack([examples[i]["x"] for i in range(4)]), classifier_of(found.prepare).preprocess(files))


@settings(deadline=None, max_examples=25)
@given(
    suffix=st.sampled_from([".png", ".jpg"]), channels=st.sampled_from([0, 1, 3]), grey=st.booleans(), wide=st.booleans(),
    limits=st.sampled_from([(0, 0), (10, 200)]),
)  # fmt: skip
def test_pictures_reach_the_network_as_the_classifier_reads_them(
    suffix: str, channels: int, grey: bool, wide: bool, limits: tuple[float, float]
) -> None:
    wide = wide and grey and suffix == ".png"
    rng = np.random.default_rng(0)
    top, kind, shape = (65535, np.uint16, (20, 25)) if wide else (255, np.uint8, (20, 25) if grey else (20, 25, 3))
    arrays = [rng.integers(0, top, shape).astype(kind) for _ in range(4)]
    with tempfile.TemporaryDirectory() as name:
        found, examples = seen(write(Path(name), arrays, suffix), tiny(channels=channels, value_range=limits))
        assert found.prepare.raw_channels == (channels or 3)
        files = sorted(str(p) for p in Path(name).rglob("*.*"))
        encoded = torch.stack([examples[i]["x"] for i in range(4)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numbers that fill little of their range
            wanted = classifier_of(found.prepare).preprocess(files)
        assert torch.equal(encoded, wanted) and len(encoded[0]) == found.prepare.channels


@pytest.mark.parametrize(
    ("shape", "values", "words"),
    [
        ((20, 24), {}, "grey pictures 1 x 16 x 16, encoded as 2 channels"),
        ((3, 20, 24), {}, "colour pictures 3 x 16 x 16, encoded as 6 channels"),
        ((5, 20, 24), {}, "pictures 5 x 16 x 16, encoded as 10 channels"),
        ((20, 24), {"channels": 3}, "colour pictures 3 x 16 x 16, encoded as 6 channels"),
        ((20, 24), {"plain": True}, "grey pictures 1 x 16 x 16"),
        ((3, 400), {"model": f"{HERE}:signal"}, "signals of 3 channels, 400 long, encoded as 6 channels"),
        ((400,), {"model": f"{HERE}:blind"}, "signals of 1 channel, 400 long, encoded as 2 channels"),
        ((3, 400), {"model": f"{HERE}:blind"}, "signals of 3 channels, 400 long, encoded as 6 channels"),
        ((20, 40), {"model": f"{HERE}:signal"}, "signals of 20 channels, 40 long, encoded as 40 channels"),
        ((20, 40), {"model": f"{HERE}:flat"}, "grey pictures 1 x 16 x 16, encoded as 2 channels"),
        ((20, 40), {"model": f"{HERE}:blind", "axes": 2}, "grey pictures 1 x 16 x 16, encoded as 2 channels"),
        ((12, 20, 24), {"model": f"{HERE}:volume"}, "volumes 1 x 12 x 20 x 24, encoded as 2 channels"),
        ((2, 12, 20, 24), {"model": f"{HERE}:blind"}, "volumes 2 x 12 x 20 x 24, encoded as 4 channels"),
        ((30, 40, 3), {}, "colour pictures 3 x 16 x 16, encoded as 6 channels"),
    ],
)
def test_what_examples_are_is_said(shape: tuple[int, ...], values: dict[str, Any], words: str, tmp_path: Path) -> None:
    found, _ = seen(write(tmp_path, [np.zeros(shape, np.uint8)] * 4), tiny(**values))
    assert found.describe() == words


@pytest.mark.parametrize(
    ("shape", "values", "message"),
    [
        ((20, 40), {"model": f"{HERE}:blind"}, r"a grey picture \(axes=2\) or a signal of as many channels.*--set axes="),
        ((20, 40, 50), {"model": f"{HERE}:blind"}, r"a volume \(axes=3\) or a picture \(axes=2\)\? Say it"),
        ((20, 40), {"axes": 1}, "'cifar10_resnet20' takes pictures, and axes=1 asks for signals"),
        ((400, 2), {"model": f"{HERE}:signal"}, r"channels come first, as in \(2, 400\)"),
        ((40, 50, 1), {}, r"channels come first, as in \(1, 40, 50\).*set channels=40"),
        ((20,), {}, "pictures have 2 axes of space"),
    ],
)
def test_what_nobody_can_know_names_the_setting(
    shape: tuple[int, ...], values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        seen(write(tmp_path, [np.zeros(shape, np.uint8)] * 4), tiny(**values))
    assert (len(str(caught.value)) <= 500 and "00.npy" in str(caught.value)) or "axes=1" in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "model"),
    [
        ([(3, 40), (2, 40)], "signal"), ([(3, 40), (3, 41)], "signal"), ([(20, 20), (2, 20, 20)], "flat"),
        ([(5, 6, 7), (5, 6, 8)], "volume"), ([(40,), (3, 40)], "signal"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [1, 7, 29])
def test_examples_of_another_form_are_named_beside_the_first(
    shapes: list[tuple[int, ...]], model: str, place: int, tmp_path: Path
) -> None:
    arrays = [np.zeros(shapes[i == place], np.uint8) for i in range(30)]
    with pytest.raises(InputError, match=r"All examples of a run have one form: 'a/00\.npy' is one of ") as caught:
        seen(write(tmp_path, arrays), tiny(model=f"{HERE}:{model}"))
    assert f"{place:02}.npy" in str(caught.value) and str(shapes[1]) in str(caught.value)


def test_pictures_among_signals_are_named(tmp_path: Path) -> None:
    write(tmp_path, [np.zeros((3, 40), np.uint8)] * 4)
    write(tmp_path, [np.zeros((8, 8), np.uint8)] * 4, ".png")
    with pytest.raises(InputError, match=r"'[ab]/0\d\.png' is a picture"):
        seen(tmp_path, tiny(model=f"{HERE}:signal"))


def test_a_batch_of_two_sizes_names_two_files(tmp_path: Path) -> None:
    """Those that are not looked at before are found when they are read."""
    from torchbcos.data.loading import check_batch, collate

    _, examples = seen(write(tmp_path, [np.zeros((3, 40), np.uint8)] * 4), tiny(model=f"{HERE}:signal"))
    np.save(tmp_path / "b" / "03.npy", np.zeros((3, 50), np.uint8))
    with pytest.raises(InputError, match=r"\(6, 40\) and \(6, 50\) \('a/00\.npy' and 'b/03\.npy'\)"):
        check_batch(collate([examples[i] for i in range(4)]), "stop")


def test_what_of_a_recipe_does_nothing_is_said(tmp_path: Path) -> None:
    found, _ = seen(write(tmp_path / "s", [np.zeros((3, 40), np.uint8)] * 4), tiny(model=f"{HERE}:signal", brightness=0.2))
    assert found.notes == (
        "Signals are trained on whole and as they are: image_size, crop, flip, brightness of the recipe change nothing.",
    )
    small, _ = seen(write(tmp_path / "g", [np.zeros((20, 24), np.uint8)] * 4), tiny(image_size=64, channels=3))
    assert "read in colour" in small.notes[0] and "enlarged: --set image_size=24" in small.notes[1]
    deep, _ = seen(write(tmp_path / "v", [np.zeros((20, 24, 24), np.uint8)] * 4), tiny())
    assert "taken for 20 channels. If it is the depth of a volume" in deep.notes[0]
    long, _ = seen(write(tmp_path / "l", [np.zeros((3, 400), np.uint8)] * 4), tiny())
    assert "If they are signals of 3 channels" in long.notes[0]


RUNS = {"signal": (2, 30), "volume": (5, 6, 7), "flat": (12, 14)}
ONE: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "say": lambda _: None}


@pytest.mark.parametrize("model", RUNS)
def test_an_interrupted_run_on_arrays_reaches_the_same_weights(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchbcos.training import loop

    rng = np.random.default_rng(0)
    data = write(tmp_path / "data", [rng.integers(0, 2000, RUNS[model]).astype(np.int16) for _ in range(16)])
    recipe = tiny(model=f"{HERE}:{model}", epochs=2, batch_size=4, value_range=(-100, 2100), checkpoint_steps=1)
    train(recipe, data, tmp_path / "whole", **ONE)
    noted = json.loads((tmp_path / "whole" / "model" / "card.json").read_text("utf-8"))["notes"].get("example")
    assert noted == {"signal": [2, 30], "volume": [1, 5, 6, 7], "flat": None}[model]  # pictures have a crop
    after = loop.after_step

    class Killed(BaseException):
        """Stands for the end of the process."""

    def killed(run: Any, state: Any, journal: Any, *, stopping: bool) -> None:
        after(run, state, journal, stopping=stopping)
        if state.done == 4:
            raise Killed

    monkeypatch.setattr(loop, "after_step", killed)
    with pytest.raises(Killed):
        train(recipe, data, tmp_path / "parts", **ONE)
    monkeypatch.undo()
    train(recipe, data, tmp_path / "parts", **ONE)
    states = [
        torch.load(tmp_path / out / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for out in ("whole", "parts")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    with pytest.raises(InputError, match=r"value_range was \[-100\.0, 2100\.0\], now \[0\.0, 2100\.0\]"):
        train(recipe.changed(value_range=(0, 2100)), data, tmp_path / "parts", **ONE)


def test_a_grey_run_is_measured_as_it_was_trained_without_being_told_again(tmp_path: Path) -> None:
    """Channels and range are in the card: the same numbers from the run's report and from the measurement."""
    from torchbcos.evaluation import measure_accuracy

    rng = np.random.default_rng(0)
    arrays = [(rng.random((20, 24)) * 1000 + 3000 * (i % 2)).astype(np.uint16) for i in range(24)]
    data = write(tmp_path / "data", arrays, ".png")
    recipe = tiny(channels=1, value_range=(0, 4095), report_share=0.5)
    report = train(recipe, data, tmp_path / "run", **ONE)
    classifier = open_model(tmp_path / "run")
    assert classifier.transform.value_range == (0, 4095) and classifier.transform.raw_channels == 1
    found = measure_accuracy(classifier, data, run=tmp_path / "run", workers=0)
    assert {key: found[key] for key in ("top1", "ece", "loss")} == pytest.approx(
        {key: report["report"][key] for key in ("top1", "ece", "loss")}, abs=1e-3
    )
    again = train(
        recipe.changed(model="", pretrained=str(tmp_path / "run" / "model"), value_range=(0, 0)), data, tmp_path / "on", **ONE
    )
    tuned = open_model(tmp_path / "on").transform
    assert again["steps"] > 0 and (tuned.raw_channels, tuned.value_range) == (1, (0, 4095))


def test_recipes_of_before_know_nothing_of_this_and_stay_as_they_were(tmp_path: Path) -> None:
    for file in sorted((Path(__file__).parents[2] / "fixtures" / "recipes-0.1").glob("*.toml")):
        recipe, _ = read_recipe(file, allow_code=True)
        assert (recipe.channels, recipe.axes, recipe.value_range, recipe.uncertain) == (0, 0, (0.0, 0.0), "error")
    rng = np.random.default_rng(0)
    data = write(tmp_path, [rng.integers(0, 255, (20, 25, 3)).astype(np.uint8) for _ in range(4)], ".png")
    found, examples = seen(data, tiny())
    assert found.prepare == Preprocess(resize=16, crop=16) and "value_range" not in found.prepare.to_dict()
    old: Tensor = Preprocess(resize=16, crop=16)(Image.open(sorted(data.rglob("*.png"))[0]))
    assert torch.equal(examples[0]["x"], old)


def test_guidance_needs_pictures(tmp_path: Path) -> None:
    """On signals it went away without a word."""
    data = write(tmp_path, [np.zeros((3, 40), np.uint8)] * 4)
    with pytest.raises(InputError, match="guide change pictures, and the data are arrays"):
        seen(data, tiny(model=f"{HERE}:signal", guide="energy", guide_weight=0.5))


def test_a_network_that_shows_no_axes_leaves_them_to_the_data() -> None:
    assert wanted_by(tiny(model=f"{HERE}:blind")) == Wanted(0)
    assert wanted_by(tiny(model="nowhere:nothing")) == Wanted(0)  # whoever builds it says what is wrong
    assert [wanted_by(tiny(model=f"{HERE}:{name}")).axes for name in OWN.values()] == [1, 2, 3]
