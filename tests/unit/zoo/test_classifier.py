"""A classifier reads, encodes and answers batch by batch, each picture once."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import torchbcos
from torchbcos._core.errors import InputError, StateError
from torchbcos.data.labelled import Split
from torchbcos.data.loading import Examples
from torchbcos.pictures import Preprocess, items, modes, read
from torchbcos.zoo import Card, Classifier
from torchbcos.zoo.build import from_card


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{i}.png" for i in range(7)]
    for file in files:
        Image.fromarray(rng.integers(0, 255, (50, 40, 3), np.uint8)).save(file)
    return files


class Alive:
    """How many pictures that `read_image` gave are in memory, at most, whenever a network begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, network: torch.nn.Module) -> None:
        self.pictures: list[weakref.ref[Image.Image]] = []
        self.taken: list[int] = []
        original = items.read_image

        def reading(path: Any, **options: Any) -> Image.Image:
            image = original(path, **options)
            self.pictures.append(weakref.ref(image))
            self.taken.append(self.count())
            return image

        monkeypatch.setattr(items, "read_image", reading)

    def count(self) -> int:
        gc.collect()
        return sum(reference() is not None for reference in self.pictures)


@pytest.mark.parametrize("form", [list, iter], ids=["list", "iterator"])
@pytest.mark.parametrize("method", ["predict", "iter_predict", "explain", "iter_explain"])
def test_many_pictures_in_the_memory_of_a_batch(
    classifier: Classifier, photos: list[Path], monkeypatch: pytest.MonkeyPatch, method: str, form: Any
) -> None:
    alive = Alive(monkeypatch, classifier.model)
    found = list(getattr(classifier, method)(form(photos), batch_size=2))
    assert len(alive.taken) == len(photos) and max(alive.taken) == 1  # the one that is being read
    assert sum(len(e) for e in found) == 7 if method == "iter_explain" else len(found) == 7


def test_the_count_of_living_pictures_can_fail(
    classifier: Classifier, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = Alive(monkeypatch, classifier.model)
    classifier.predict(items.as_images(photos), batch_size=2)
    assert max(alive.taken) == 7


def test_an_iterator_is_read_only_as_far_as_the_answers_are_taken(classifier: Classifier, photos: list[Path]) -> None:
    taken: list[Path] = []

    def stream() -> Iterator[Path]:
        for photo in photos:
            taken.append(photo)
            yield photo

    answers = classifier.iter_predict(stream(), batch_size=2)
    assert taken == []
    first = next(answers)
    assert len(taken) == 2 and [first, *answers] == classifier.predict(photos, batch_size=3)
    targets = [0, 1, 2, 0, 1, 2, 0]
    e = classifier.explain(iter(photos), targets, batch_size=3)
    assert e.targets.flatten().tolist() == targets


def test_messages_count_pictures_from_the_first_of_all(classifier: Classifier, photos: list[Path]) -> None:
    wrong = [*photos[:4], np.zeros((5, 3, 4))]
    for method in (classifier.predict, classifier.explain):
        with pytest.raises(InputError, match=r"images\[4\] has shape \(5, 3, 4\)"):
            method(wrong, batch_size=2)
    with pytest.raises(InputError, match="images is empty"):
        classifier.predict([])
    with pytest.raises(InputError, match="batch_size must be a positive integer, not 0"):
        classifier.predict(photos, batch_size=0)


def test_a_picture_becomes_rgb_once(classifier: Classifier, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for module in (read, modes):
        original = modes.flatten
        monkeypatch.setattr(module, "flatten", lambda *a, f=original: calls.append("flatten") or f(*a))  # type: ignore[func-returns-value]
    classifier.predict(photos)
    assert len(calls) == len(photos)
    pictures = items.as_images(photos)
    calls.clear()
    classifier.explain(pictures)
    assert calls == []


def test_old_cards_of_plain_networks_on_other_than_three_channels_still_load_and_measure() -> None:
    """They said "normalize", which left such arrays as they were."""
    imagenet = {"encoding": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    values = {"name": "old", "architecture": "cifar10_resnet20", "plain": True, "in_channels": 2, "num_classes": 3,
              "preprocess": {"resize": 32, "crop": 32, **imagenet}}  # fmt: skip
    card = Card.from_dict(values)
    classifier = Classifier(from_card(card, {}).eval(), card)
    assert classifier.transform == Preprocess(resize=32, crop=32, encoding="none", raw_channels=2)
    array = torch.rand(2, 32, 32)
    [example] = [Examples(Split(["a"], torch.tensor([0]), lambda i: array, (0,)), classifier.transform)[0]]
    assert torch.equal(example["x"], array) and classifier.model(example["x"][None]).shape == (1, 3)
    colours = Card.from_dict({**values, "in_channels": 3})
    assert colours.preprocess == values["preprocess"]
    assert Card.from_dict(card.to_dict()) == card


@pytest.mark.parametrize("plain", [False, True])
def test_explanations_carry_the_photo_that_the_network_saw_and_its_name(plain: bool, photos: list[Path]) -> None:
    torch.manual_seed(0)
    moments = {"encoding": "normalize", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)} if plain else {}
    preprocess = Preprocess(resize=40, crop=32, **moments)  # type: ignore[arg-type]
    network = torchbcos.create_model("cifar10_resnet20", num_classes=3, plain=plain).eval()
    card = Card(
        name="tiny", architecture="cifar10_resnet20", classes=("a", "b", "c"), num_classes=3, preprocess=preprocess.to_dict()
    )
    e = Classifier(network, card).explain([*photos[:3], Image.open(photos[3])], batch_size=2)
    assert e.titles == ("0.png", "1.png", "2.png", "")
    expected = Preprocess(resize=40, crop=32).batch(photos[:4])[:, :3]
    assert e.photos is not None
    torch.testing.assert_close(e.photos, expected, rtol=0, atol=1e-6)
    panel = np.asarray(e.panel(2))
    assert (panel[70:100, -200:] != 255).any()  # the name, top right
    shown = Image.fromarray(panel).crop((36, 142, 36 + 320, 142 + 320)).resize((32, 32), Image.Resampling.BOX)
    seen = expected[2].permute(1, 2, 0).numpy() * 255
    assert np.abs(np.asarray(shown, dtype=np.float32) - seen).mean() < 2


def test_a_range_of_numbers_reaches_every_answer(classifier: Classifier, tmp_path: Path) -> None:
    eight = np.random.default_rng(3).integers(0, 256, (40, 50), np.uint8)
    twelve = (eight.astype(np.uint32) * 4095 // 255).astype(np.uint16)
    Image.fromarray(eight).save(tmp_path / "eight.png")
    Image.fromarray(twelve).save(tmp_path / "twelve.png")
    wanted = classifier.predict(tmp_path / "eight.png")
    limits = {"value_range": (0, 4095)}
    forms: list[Any] = [
        tmp_path / "twelve.png",
        str(tmp_path / "twelve.png"),
        twelve,
        Image.fromarray(twelve),
        twelve.astype(float),
    ]
    for form in forms:
        assert classifier.predict(form, **limits) == wanted
        assert torch.equal(classifier.preprocess(form, **limits), classifier.preprocess(tmp_path / "eight.png"))
    assert list(classifier.iter_predict(iter(forms), **limits, batch_size=1)) == wanted * len(forms)
    e, other = classifier.explain(forms[:1], **limits), classifier.explain(tmp_path / "eight.png")
    assert torch.equal(e.values, other.values) and torch.equal(e.inputs, other.inputs)
    assert [len(part) for part in classifier.iter_explain(forms, **limits, batch_size=4)] == [4, 1]
    with pytest.raises(InputError, match="value_range must be two finite numbers"):
        classifier.predict(forms[0], value_range=(4095, 0))


def test_a_whole_picture_or_its_centre(classifier: Classifier, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 96, 3), np.uint8))
    cut, whole = classifier.explain(image), classifier.explain(image, fit="letterbox")
    assert cut.seen[0].share == pytest.approx(1 / 3) and whole.seen[0].share == 1
    assert (
        not torch.equal(cut.inputs, whole.inputs) and whole.photos is not None and whole.photos.shape == cut.inputs[:, :3].shape
    )
    [[first]] = classifier.predict(image, top_k=1, fit="letterbox")
    assert first.logit == pytest.approx(float(whole.outputs.max()), abs=1e-4)
    boxed = classifier.fitted("letterbox")
    assert classifier.transform.fit == "crop" and classifier.fitted(None) is classifier and boxed.fitted("letterbox") is boxed
    torchbcos.save(boxed, tmp_path / "model")
    again = torchbcos.load(tmp_path / "model", device="cpu")
    assert (
        again.transform.fit == "letterbox"
        and torchbcos.load(tmp_path / "model", device="cpu", fit="crop").transform.fit == "crop"
    )
    with pytest.raises(InputError, match="fit must be 'crop' or 'letterbox'"):
        classifier.predict(image, fit="box")
    joined = classifier.explain([image, image.resize((32, 32))], batch_size=1)
    assert [one.share for one in joined.seen] == [pytest.approx(1 / 3), 1.0] and joined[1].seen == joined.seen[1:]


def test_classes_that_differ_in_case_alone_are_two(classifier: Classifier) -> None:
    """Handwritten letters: "a" was once explained as "A", the first that looks like it."""
    letters = Classifier(classifier.model, dataclasses.replace(classifier.card, classes=("A", "a", "b")))
    assert [letters.class_index(name) for name in ("A", "a", "B", "2")] == [0, 1, 2, 2]
    assert letters.class_index(["a", "A"]) == [1, 0]


# -- which classes -------------------------------------------------------------------------------------------------


def test_two_names_for_one_picture_are_two_explanations(classifier: Classifier, photos: list[Path]) -> None:
    one = classifier.explain(photos[0], "b")
    for images in (photos[0], str(photos[0]), photos[:1], iter(photos[:1]), Image.open(photos[0])):
        for batch_size in (1, 16):
            e = classifier.explain(images, ["c", "b"], batch_size=batch_size)
            assert e.targets.tolist() == [[2, 1]]
            torch.testing.assert_close(e.weights[:, 1], one.weights[:, 0])
            images = photos[:1] if not isinstance(images, (str, Path, list, Image.Image)) else images  # an iterator is used up
    assert classifier.explain(photos[0], (0, 2, 1)).targets.tolist() == [[0, 2, 1]]
    assert classifier.explain(photos[0], np.array(["a", "c"])).targets.tolist() == [[0, 2]]
    e = classifier.explain(photos[0], ["a", "b"], contrast=["b", "c"])
    assert e.contrast is not None and (e.targets.tolist(), e.contrast.tolist()) == ([[0, 1]], [[1, 2]])


def test_a_list_for_several_pictures_has_one_class_a_picture(classifier: Classifier, photos: list[Path]) -> None:
    e = classifier.explain(photos[:3], ["c", "a", "b"], contrast=[0, 1, 2], batch_size=2)
    assert e.contrast is not None and (e.targets.tolist(), e.contrast.tolist()) == ([[2], [0], [1]], [[0], [1], [2]])
    assert classifier.explain(photos[:2], [["c", "a"], ["b", "a"]]).targets.tolist() == [[2, 0], [1, 0]]
    assert classifier.explain(photos[:3], np.array([2, 0, 1]), batch_size=1).targets.tolist() == [[2], [0], [1]]
    for pictures, names in ((3, ["a", "b"]), (2, ["a", "b", "c"]), (7, [["a"]] * 6), (4, np.array([0, 1]))):
        for batch_size in (1, 2, 16):
            for given in ({"targets": names}, {"contrast": names}):
                with pytest.raises(InputError, match=r"(targets|contrast) of shape .* pictures: give one class for all"):
                    classifier.explain(photos[:pictures], batch_size=batch_size, **given)
    with pytest.raises(InputError, match="must be an int"):
        classifier.explain(photos[:2], [["a"], ["b", "c"]])
    with pytest.raises(InputError, match="must be integers"):
        classifier.explain(photos[0], True)
    with pytest.raises(InputError, match="There is no class '²'"):
        classifier.explain(photos[0], "²")


def test_integers_of_numpy_count_classes_and_pictures(classifier: Classifier, photos: list[Path]) -> None:
    rows = classifier.predict(photos[:3], top_k=np.int64(2), batch_size=np.int32(2))  # type: ignore[arg-type]
    assert [[p.index for p in row] for row in rows] == [[p.index for p in row] for row in classifier.predict(photos[:3], top_k=2)]
    assert {len(row) for row in rows} == {2}
    for wrong in ({"top_k": True}, {"batch_size": True}, {"top_k": 1.0}):
        with pytest.raises(InputError, match="must be a positive integer"):
            classifier.predict(photos[0], **wrong)


# -- numbers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "broken"), [("conv1.weight", "nan"), ("bn1.running_var", "inf"), ("fc.weight", "inf")])
def test_a_network_of_broken_weights_answers_nothing(photos: list[Path], name: str, broken: str) -> None:
    network = torchbcos.create_model("cifar10_resnet20", num_classes=3).eval()
    network.state_dict()[name].fill_(float(broken))
    card = Card(name="tiny", architecture="cifar10_resnet20", classes=("a", "b", "c"), num_classes=3,
                preprocess=Preprocess(resize=32, crop=32).to_dict())  # fmt: skip
    classifier = Classifier(network, card)
    for call in (classifier.predict, classifier.explain):
        with pytest.raises(StateError, match=f"'{name}' holds such numbers itself"):
            call(photos[:2])  # type: ignore[operator]
    with pytest.raises(StateError, match="hold NaN or infinity"):
        classifier.predictions(torch.tensor([[0.0, float(broken), 1.0]]))


def test_what_is_printed_of_a_classifier_and_its_card_is_one_line(classifier: Classifier) -> None:
    """It was a bare address, and the card 11,000 characters."""
    for shown in (repr(classifier), repr(classifier.card)):
        assert len(shown) < 300 and "\n" not in shown and classifier.card.architecture in shown
