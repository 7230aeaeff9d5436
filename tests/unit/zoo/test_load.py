"""Saving, loading, and files that are not what they should be."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import torchbcos
from torchbcos.models import Network, registry
from torchbcos.pictures import Preprocess
from torchbcos.zoo import to_official
from torchbcos.zoo.card import official_card, read_official_cards

loading = importlib.import_module("torchbcos.zoo.load")  # the room's name for it is the function


def small(**options: Any) -> Network:
    torch.manual_seed(0)
    model = torchbcos.create_model("cifar10_resnet20", **options)
    torchbcos.recalibrate(model, [torch.rand(8, model.in_channels, 32, 32)])
    return model.eval()


def test_save_and_load_change_nothing(tmp_path: Path) -> None:
    model, x = small(antialias=True, num_classes=7), torch.rand(2, 6, 32, 32)
    torchbcos.save(model, tmp_path / "m")
    again = torchbcos.create_model(weights=tmp_path / "m").eval()
    assert torch.equal(again(x), model(x))
    classifier = torchbcos.load(tmp_path / "m")
    torch.testing.assert_close(classifier.model(x), model(x))
    torchbcos.save(classifier, tmp_path / "n")
    torch.testing.assert_close(torchbcos.load(tmp_path / "n").model(x), model(x))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["card.json", "model.safetensors"]


def test_official_files_load_both_ways(tmp_path: Path) -> None:
    model, x = small(), torch.rand(2, 6, 32, 32)
    state = to_official(model)
    assert "layer1.0.conv1.linear.weight" in state
    torch.save(state, tmp_path / "official.pth")
    again = torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "official.pth").eval()
    assert torch.equal(again(x), model(x))


def test_truncated_pickled_and_foreign_weights(tmp_path: Path) -> None:
    model = small()
    torch.save(to_official(model), tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(torchbcos.BcosError, match="truncated or damaged"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "cut.pth")
    with pytest.raises(torchbcos.BcosError, match="does not belong to this network"):
        torchbcos.create_model("cifar10_resnet32", weights=tmp_path / "w.pth")
    torch.save(to_official(small(num_classes=4)), tmp_path / "four.pth")
    with pytest.raises(torchbcos.BcosError, match="4 classes, the network has 10: create it with num_classes=4"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "four.pth")
    with pytest.raises(torchbcos.BcosError, match="does not belong to this network"):
        torchbcos.create_model("cifar10_densenet52", weights=tmp_path / "w.pth", num_classes=5)
    torch.save({"a": slice(1)}, tmp_path / "objects.pth")
    with pytest.raises(torchbcos.BcosError, match="objects or code"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "objects.pth")
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump(print, file)
    with pytest.raises(torchbcos.BcosError):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "evil.pth")
    with pytest.raises(torchbcos.BcosError, match="no weights file"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "absent.pth")


def test_unknown_names() -> None:
    with pytest.raises(torchbcos.BcosError, match=r"no network 'resnet5'\. Did you mean 'resnet50'"):
        torchbcos.create_model("resnet5")
    with pytest.raises(torchbcos.BcosError, match=r"no option 'maxout'\. Did you mean 'max_out'"):
        torchbcos.create_model("resnet18", maxout=2)
    with pytest.raises(torchbcos.BcosError, match=r"no model 'imagenete'.*'imagenette'"):
        torchbcos.load("imagenete")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torchbcos.zoo.store.save_file", full)
    with pytest.raises(torchbcos.BcosError, match="No space left on device"):
        torchbcos.save(small(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []  # the folder neither


@pytest.mark.parametrize(
    ("name", "second", "count"),
    [("imagenette", "English springer", 10), ("imagenet", "goldfish", 1000), ("default", "goldfish", 1000)],
)
def test_the_embedded_classifiers(name: str, second: str, count: int) -> None:
    classifier = torchbcos.load(name)
    assert classifier.class_names[:2] == ("tench", second) and len(classifier.class_names) == count
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 150, 3), np.uint8))
    [[best, other]] = classifier.predict(photo, top_k=2)
    assert best.logit >= other.logit and 0 <= other.probability <= best.probability <= 1
    e = classifier.explain([photo, photo], ["tench", 3])
    assert e.targets.tolist() == [[0], [3]] and float(e.residual.abs().max()) <= 1e-4
    assert e.class_names == classifier.class_names
    assert len(list(classifier.iter_explain([photo] * 5, batch_size=2))) == 3
    with pytest.raises(torchbcos.BcosError, match="Did you mean 'tench'"):
        classifier.explain(photo, "tensh")


# -- what a network says of itself is what comes back ------------------------------------------------

# the first network of every family, and those for small pictures
PICTURES = [family for family in registry.FAMILIES if len(family.network.axes) == 2]
NAMES = [name for family in PICTURES for name in [next(iter(family.sizes)), *list(family.classes)[:1]]]


def tiny(name: str, **options: Any) -> Network:
    """A network by name, narrow where its family can be."""
    width = {"width_factor": 0.125} if "width_factor" in registry.find_family(name)[0].options() else {}
    return torchbcos.create_model(name, num_classes=3, **width, **options).eval()


def preprocess_in(folder: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads((folder / "card.json").read_text("utf-8")).get("preprocess")
    return found


def test_surfaces_come_back_as_what_they_are(tmp_path: Path) -> None:
    for plain, encoding in ((False, "add_inverse"), (True, "none")):
        model = tiny("surface_vit_nano", plain=plain, depth=1, level=3)
        torchbcos.save(model, tmp_path / encoding)
        prepare = torchbcos.load(tmp_path / encoding, deploy=False).transform
        assert (prepare.axes, prepare.encoding, prepare.raw_channels) == (1, encoding, 3)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_preprocessing_comes_back(name: str, plain: bool, tmp_path: Path) -> None:
    model = tiny(name, plain=plain)
    side, resize = (32, 32) if name.startswith("cifar10_") else (224, 256)
    assert model.picture == (resize, side)
    torchbcos.save(model, tmp_path / "a")
    classifier = torchbcos.load(tmp_path / "a", deploy=False)
    right = {"resize": resize, "crop": side, "encoding": "normalize" if plain else "add_inverse"}
    assert right.items() <= classifier.transform.to_dict().items() and (classifier.transform.mean is not None) == plain
    assert classifier.preprocess(Image.new("RGB", (40, 50))).shape == (1, model.in_channels, side, side)
    # and again, however it is loaded and saved
    torchbcos.save(classifier, tmp_path / "b")
    torchbcos.save(classifier.model, tmp_path / "c")
    torchbcos.save(torchbcos.create_model(weights=tmp_path / "a"), tmp_path / "d")
    torchbcos.save(torchbcos.deploy(classifier.model), tmp_path / "e")
    assert [preprocess_in(tmp_path / folder) for folder in "bcde"] == [preprocess_in(tmp_path / "a")] * 4


def test_what_a_card_says_stays_with_its_network(tmp_path: Path) -> None:
    model = small(num_classes=3)
    card = dataclasses.replace(
        torchbcos.zoo.card_of(model), preprocess=Preprocess(resize=40, crop=36, interpolation="bicubic").to_dict(),
        probability="softmax", terms="for tests", classes=("a", "b", "c"),
    )  # fmt: skip
    torchbcos.zoo.write_model(model, card, tmp_path / "m")
    for again in (torchbcos.create_model(weights=tmp_path / "m"), torchbcos.load(tmp_path / "m").model):
        found = torchbcos.zoo.card_of(again)
        assert (found.preprocess, found.probability, found.terms) == (card.preprocess, "softmax", "for tests")
        assert found.classes == ("a", "b", "c")
    fresh = torchbcos.create_model(weights=tmp_path / "m", num_classes=2)
    assert (fresh.num_classes, fresh.class_names) == (2, None)


@pytest.mark.parametrize(
    ("channels", "plain", "encoding", "raw"),
    [
        (2, False, "add_inverse", 1), (4, False, "add_inverse", 2), (8, False, "add_inverse", 4), (6, True, "add_inverse", 3),
        (1, False, "none", 1), (3, False, "none", 3), (5, False, "none", 5), (1, True, "none", 1), (2, True, "none", 2),
        (3, True, "normalize", 3),
    ],
)  # fmt: skip
def test_networks_of_any_channels_are_saved_with_what_they_read(
    tmp_path: Path, channels: int, plain: bool, encoding: str, raw: int
) -> None:
    network = tiny("cifar10_resnet20", in_channels=channels, plain=plain)
    torchbcos.save(network.eval(), tmp_path / "m")
    classifier = torchbcos.load(tmp_path / "m", device="cpu")
    assert (classifier.transform.encoding, classifier.transform.raw_channels) == (encoding, raw)
    assert (classifier.card.preprocess or {}).get("raw_channels", 3) == raw  # named, not guessed
    x = torch.rand(raw, 32, 32)
    encoded = classifier.preprocess(x)
    assert encoded.shape == (1, channels, 32, 32)
    logits = sorted((p.index, p.logit) for p in classifier.predict(x.numpy(), top_k=99)[0])
    assert torch.allclose(torch.tensor([logit for _, logit in logits]), network(encoded)[0], atol=1e-5)


def test_a_network_of_other_makers_has_no_card(tmp_path: Path) -> None:
    model = small()
    model.architecture = None
    for other in (model, torch.nn.Linear(2, 2), torch.fx.symbolic_trace(small())):
        with pytest.raises(torchbcos.BcosError, match=r"cannot tell how this .* is built"):
            torchbcos.save(other, tmp_path / "m")


# -- classes of weights and classes that were asked for ----------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_out": 2}, {"plain": True}], ids=str)
@pytest.mark.parametrize("kind", ["file", "official file", "folder"])
def test_other_classes_get_a_fresh_classifier(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = small(num_classes=7, **options) if not options.get("plain") else tiny_plain(7)
    if kind == "folder":
        torchbcos.save(model, source := tmp_path / "m")
        again = torchbcos.create_model(weights=source, num_classes=5)
    else:
        torch.save(to_official(model) if kind == "official file" else model.state_dict(), source := tmp_path / "w.pth")
        again = torchbcos.create_model("cifar10_resnet20", weights=source, num_classes=5, **options)
    x = torch.rand(2, model.in_channels, 32, 32)
    assert again.num_classes == 5 and again.eval()(x).shape == (2, 5)
    assert torch.equal(again.forward_features(x), model.forward_features(x))
    same = torchbcos.create_model("cifar10_resnet20", weights=source, num_classes=7, **({} if kind == "folder" else options))
    assert torch.equal(same.eval()(x), model(x))


def tiny_plain(classes: int) -> Network:
    return torchbcos.create_model("cifar10_resnet20", num_classes=classes, plain=True).eval()


def test_class_names_are_those_of_the_weights(tmp_path: Path) -> None:
    model = tiny("resnet18")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    again = torchbcos.create_model("resnet18", weights=tmp_path / "w.pth", num_classes=3, width_factor=0.125)
    assert again.class_names is None  # three classes are not ImageNet's thousand
    model.reset_classifier(1000)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    again = torchbcos.create_model("resnet18", weights=tmp_path / "w.pth", width_factor=0.125)
    assert again.class_names is not None
    assert again.class_names[0] == "tench"


def test_a_folder_that_holds_another_network(tmp_path: Path) -> None:
    torchbcos.save(small(), tmp_path / "m")
    for asked, text in (
        ({"name": "resnet18"}, "holds cifar10_resnet20, not resnet18"),
        ({"in_channels": 3}, "has 6 input channels, not 3"),
        ({"plain": True}, "holds a B-cos network, not its plain twin"),
    ):
        with pytest.raises(torchbcos.BcosError, match=text):
            torchbcos.create_model(weights=tmp_path / "m", **asked)  # type: ignore[arg-type]


# -- names and folders ---------------------------------------------------------------------------------


def test_a_name_is_a_name_wherever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that are called as networks are: names win, paths are folders."""
    monkeypatch.chdir(tmp_path)
    for folder in ("imagenette", "default", "resnet18", "mine"):
        torchbcos.save(small(num_classes=3), folder)

    def classes(source: str | Path) -> int:
        return len(torchbcos.load(source).class_names)

    fetched: list[str] = []

    def fetch(card: Any) -> Path:
        fetched.append(card.name)
        raise torchbcos.BcosError("no network here")

    monkeypatch.setattr("torchbcos.zoo.sources.fetch", fetch)
    assert (classes("imagenette"), classes("default")) == (10, 1000)
    with pytest.raises(torchbcos.BcosError, match="no network here"):
        torchbcos.load("resnet18")
    assert fetched == ["resnet18"]
    assert classes("mine") == 3
    for folder in ("imagenette", "default", "resnet18", "mine"):
        assert classes(Path(folder)) == classes(f"./{folder}") == classes(f"{folder}/") == classes(tmp_path / folder) == 3
    with pytest.raises(torchbcos.BcosError, match=r"There is no model 'imagenete/'"):
        torchbcos.load("imagenete/")
    with pytest.raises(
        torchbcos.BcosError, match=r"'runs/mine': there is no such folder\. .*There is no folder 'runs' either\.$"
    ):
        torchbcos.load("runs/mine")
    with pytest.raises(torchbcos.BcosError, match=r"there is no such folder\. Expected a run's folder.* Did you mean 'mine'\?$"):
        torchbcos.load(tmp_path / "min")
    (tmp_path / "weights.pt").write_bytes(b"")
    for source in ("weights.pt", "./weights.pt", tmp_path / "weights.pt"):
        with pytest.raises(
            torchbcos.BcosError, match=r"it is a file of weights alone.*create_model\(NAME, weights='.*weights\.pt'\)"
        ):
            torchbcos.load(source)
    (tmp_path / "mine").mkdir(exist_ok=True)
    (tmp_path / "mine" / "card.json").write_text("{}")
    with pytest.raises(torchbcos.BcosError, match=r"it is a file: name the folder that holds it, 'mine'\.$"):
        torchbcos.load("mine/card.json")
    (tmp_path / "why.onnx").write_bytes(b"")
    with pytest.raises(torchbcos.BcosError, match=r"it is an exported file"):
        torchbcos.load("why.onnx")
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(torchbcos.BcosError, match=r"it is a file; a model is a name, or a folder"):
        torchbcos.load("photo.jpg")


# -- official cards and keys ---------------------------------------------------------------------------


def test_cards_that_are_handed_out_are_copies() -> None:
    cards = torchbcos.zoo.official_cards()
    cards.pop("resnet18")
    cards["resnet50"].options["logit_bias"] = 0.0  # type: ignore[index]
    official_card("resnet34").preprocess["resize"] = 1  # type: ignore[index]
    assert "resnet18" in torchbcos.list_models(pretrained=True)
    assert official_card("resnet50").options["logit_bias"] < -6
    assert torchbcos.zoo.official_cards()["resnet34"].preprocess["resize"] == 256  # type: ignore[index]


def test_official_weights_keep_what_their_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`resnet50_long` is another preprocessing of a resnet50; a saved network still says so."""
    card = dataclasses.replace(read_official_cards()["resnet50_long"], options={"width_factor": 0.125})
    monkeypatch.setitem(read_official_cards(), card.name, card)
    model = torchbcos.create_model("resnet50", width_factor=0.125)
    torch.save(to_official(model), tmp_path / "w.pth")
    monkeypatch.setattr(loading, "fetch", lambda card: tmp_path / "w.pth")
    again = torchbcos.create_model("resnet50_long", pretrained=True)
    assert again.class_names is not None
    torchbcos.save(again, tmp_path / "m")
    assert (found := preprocess_in(tmp_path / "m")) is not None
    assert found["resize"] == 232
    assert torchbcos.create_model("resnet50_long", pretrained=True, num_classes=4).num_classes == 4
    with pytest.raises(torchbcos.BcosError, match="has 6 input channels, not 3"):
        torchbcos.create_model("resnet50_long", pretrained=True, in_channels=3)


# -- files of strangers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["", "  ", "x" * 5000, "a\0b", "./" + "y" * 5000, "hf-hub:"])
def test_what_can_be_no_source_is_one_sentence(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torchbcos.save(small(num_classes=3), ".")  # '' is not this folder
    for attempt in (torchbcos.load, lambda name: torchbcos.create_model("cifar10_resnet20", weights=name)):
        with pytest.raises(torchbcos.BcosError) as caught:
            attempt(source)
        assert len(str(caught.value)) <= 500 and not {"\0", "\n"} & set(str(caught.value))
    with pytest.raises(torchbcos.BcosError, match="save needs a folder"):
        torchbcos.save(small(), "")


BILLIONS: list[tuple[dict[str, Any], str]] = [
    ({"num_classes": 10**6}, r"has 3 classes, the network has 1000000"),
    ({"num_classes": 10**9}, r"'num_classes' must be a whole number from 0 to 1000000"),
    ({"in_channels": 65_536}, r"conv1.weight of shape \(16, 6, 3, 3\), the network expects \(16, 65536, 3, 3\)"),
    ({"in_channels": 10**9}, r"'in_channels' must be a whole number"),
    ({"options": {"max_out": 10**8}}, r"the network expects \(1600000000, 6, 3, 3\)"),
    ({"options": {"width_factor": 10**5}}, r"the network expects \(1600000,"),
    ({"options": {"width_factor": 1e9}}, r"cannot be built with .*width_factor=1000000000\.0"),
    ({"options": {"width_factor": "1"}}, r"width_factor must be a finite number, not '1'"),
    ({"options": {"width_factor": 1e999}}, r"has Infinity, which is no number of JSON"),
    ({"options": {"antialias": "no"}}, r"there is no network as its card says: antialias must be True or False, not 'no'"),
    ({"options": {"num_classes": 5}}, r"'options' holds 'num_classes', which is no option"),
    ({"options": {"plain": True}}, r"'options' holds 'plain', which is no option"),
    ({"options": {"b": [2]}}, r"b must be a real number of at least 1, not \[2\]"),
    ({"options": {"norm": 5}}, r"norm must be a word, not 5"),
    ({"options": {"self": 1}}, r"has no option 'self'"),
    ({"architecture": "resnet152"}, r"does not belong to this network \(ResNet\)"),
    ({"deployed": True}, r"does not belong to this network"),
]


@pytest.mark.parametrize(("change", "text"), BILLIONS, ids=[str(change) for change, _ in BILLIONS])
def test_a_card_is_compared_with_its_weights_before_anything_is_allocated(
    change: dict[str, Any], text: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    build = loading.models.build

    def watched(*arguments: Any, **options: Any) -> Network:
        made.append(torch.empty(0).device.type)  # get_default_device of torch 2.6 does not see the context
        return build(*arguments, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(loading.models, "build", watched)
    card = json.loads((saved / "card.json").read_text("utf-8"))
    (tmp_path / "card.json").write_text(json.dumps({**card, **change}), "utf-8")
    (tmp_path / "model.safetensors").symlink_to(saved / "model.safetensors")
    for attempt in (torchbcos.load, lambda folder: torchbcos.create_model(weights=folder)):
        with pytest.raises(torchbcos.BcosError, match=text) as caught:
            attempt(tmp_path)
        assert len(str(caught.value)) <= 500
    assert set(made) <= {"meta"}
    if change == BILLIONS[0][0]:  # once is enough: the watch sees what is allocated
        torchbcos.load(saved, device="cpu")
        assert made[-2:] == ["meta", "cpu"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, which nobody changes."""
    torchbcos.save(small(num_classes=3), folder := tmp_path_factory.mktemp("saved"))
    return folder


def cast(dtype: torch.dtype) -> Any:
    return lambda tensor: torch.ones_like(tensor).to(dtype)


def with_value(value: float, place: int = 0) -> Any:
    def changed(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.double()
        tensor.view(-1)[place] = value
        return tensor

    return changed


WRONG_TENSORS: list[tuple[str, Any, str]] = [
    ("conv1.weight", cast(torch.bool), "'conv1.weight' is bool, the network needs floating-point numbers"),
    ("conv1.weight", cast(torch.uint8), "'conv1.weight' is uint8, the network needs floating-point numbers"),
    ("fc.weight", cast(torch.int64), "'fc.weight' is int64"),
    ("bn1.running_var", cast(torch.int32), "'bn1.running_var' is int32"),
    ("bn1.weight", cast(torch.float8_e4m3fn), "'bn1.weight' is (float8_e4m3fn|f8_e4m3)"),
    ("fc.weight", cast(torch.complex64), "'fc.weight' is complex64"),
    ("bn1.num_batches_tracked", lambda _: torch.tensor(0.5), "'bn1.num_batches_tracked' counts, and holds a number that is not"),
    ("bn1.num_batches_tracked", cast(torch.bool), "'bn1.num_batches_tracked' is bool"),
    ("conv1.weight", with_value(torch.nan, 7), "the tensor 'conv1.weight' holds NaN"),
    ("fc.weight", with_value(torch.inf), "the tensor 'fc.weight' holds infinite numbers"),
    ("fc.weight", with_value(-1e300), "the tensor 'fc.weight' holds infinite numbers"),  # finite, until it is cast to float32
    ("bn1.running_mean", with_value(-torch.inf), "the tensor 'bn1.running_mean' holds infinite numbers"),
    ("bn1.running_var", with_value(torch.nan), "the tensor 'bn1.running_var' holds NaN"),
    ("bn1.running_var", with_value(-1e-3), r"the variance 'bn1.running_var' is negative \(-0\.001\)"),
]


@pytest.mark.parametrize(
    ("name", "change", "text"), WRONG_TENSORS, ids=[f"{name} {text[-12:]}" for name, _, text in WRONG_TENSORS]
)
def test_weights_that_are_none_are_refused_by_name(name: str, change: Any, text: str, saved: Path, tmp_path: Path) -> None:
    state = load_file(saved / "model.safetensors")
    state[name] = change(state[name])
    card = {k: v for k, v in json.loads((saved / "card.json").read_text("utf-8")).items() if k != "digest"}
    (tmp_path / "card.json").write_text(json.dumps(card), "utf-8")
    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "w.pth")
    for attempt in (
        lambda: torchbcos.load(tmp_path, device="cpu"),
        lambda: torchbcos.create_model(weights=tmp_path),
        lambda: torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "model.safetensors", num_classes=3),
        lambda: torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "w.pth", num_classes=3),
    ):
        with pytest.raises(torchbcos.BcosError, match=text) as caught:
            attempt()
        assert len(str(caught.value)) <= 500


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_weights_of_other_floats_are_weights(dtype: torch.dtype, saved: Path, tmp_path: Path) -> None:
    state = load_file(saved / "model.safetensors")
    save_file({k: v.to(dtype) if v.is_floating_point() else v.int() for k, v in state.items()}, tmp_path / "w.safetensors")
    again = torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "w.safetensors", num_classes=3)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, state[name].to(dtype).to(tensor.dtype))


def test_a_classifier_of_a_billion_expanded_classes_is_not_built(tmp_path: Path) -> None:
    """A tensor that says it has 10**9 rows, all in the same place: 40 bytes of a file."""
    state = small(num_classes=3).state_dict()
    for weight in (torch.ones(1).expand(10**9, 64, 1, 1), torch.empty(10**9, 0, 1, 1), torch.ones(3), torch.tensor(1.0)):
        torch.save({**state, "fc.weight": weight}, tmp_path / "w.pth")
        with pytest.raises(torchbcos.BcosError, match=r"fc\.weight"):
            torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "w.pth", num_classes=5)


@pytest.mark.parametrize("options", [{"max_out": 2}, {"max_out": 2, "b": 1.5}])
def test_a_card_that_calls_any_weights_a_twins_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    """A twin divides by no norm of a filter: with MaxOut, where norms may stay, only the filters can tell."""
    network = small(num_classes=3, **options).eval()
    torchbcos.save(network, tmp_path)
    card = json.loads((tmp_path / "card.json").read_text("utf-8"))
    (tmp_path / "card.json").write_text(json.dumps({**card, "deployed": True}), "utf-8")
    with pytest.raises(torchbcos.BcosError, match="have no unit norm"):
        torchbcos.load(tmp_path, device="cpu")
    torchbcos.save(torchbcos.deploy(network).half(), tmp_path)  # a twin in half precision is one
    x = torch.rand(2, 6, 32, 32)
    assert torch.allclose(torchbcos.load(tmp_path, device="cpu").model(x), network(x), atol=0.02)
