"""Classifiers that are none of this library's: of timm, torchvision, somebody's code and programs, with a file of weights."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import torchbcos
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, MissingFileError, MissingPackageError, WeightsError
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Classifier, from_timm, from_torchvision, store
from torchbcos.zoo.card import imagenet_classes

timm = pytest.importorskip("timm")
vision = pytest.importorskip("torchvision")

SQUEEZE = "torchvision:squeezenet1_1"


def picture(width: int = 190, height: int = 133) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of small networks."""
    found = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name in ("test_resnet", "test_vit"):
        save_file(timm.create_model(name).state_dict(), found / f"{name}.safetensors")
    torch.save(vision.models.squeezenet1_1(num_classes=7).state_dict(), found / "squeeze.pth")
    return found


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Classifier:
    return torchbcos.load("timm:test_resnet", weights=folder / "test_resnet.safetensors", device="cpu")


# -- numbers, preprocessing, classes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_numbers_of_timm(folder: Path, name: str) -> None:
    file = folder / f"{name}.safetensors"
    found = torchbcos.load(f"timm:{name}", weights=file, device="cpu")
    theirs = timm.create_model(name, checkpoint_path=str(file)).eval()
    x = timm.data.create_transform(**timm.data.resolve_data_config(model=theirs), is_training=False)(picture())[None]
    assert torch.equal(found.preprocess(picture()), x)
    with torch.no_grad():
        assert torch.equal(found.model(x), theirs(x))
    assert found.class_names == imagenet_classes() and found.card.probability == "softmax" and not found.model.training
    info = timm.data.ImageNetInfo()
    assert [info.index_to_description(i).split(",")[0] for i in (0, 207, 999)] == ["tench", "golden retriever", "toilet tissue"]
    assert [found.class_names[i].split(",")[0] for i in (0, 207, 999)] == ["tench", "golden retriever", "toilet tissue"]


def test_numbers_of_torchvision(folder: Path) -> None:
    found = torchbcos.load(SQUEEZE, weights=folder / "squeeze.pth", device="cpu")
    theirs = vision.models.squeezenet1_1(num_classes=7).eval()
    theirs.load_state_dict(torch.load(folder / "squeeze.pth", weights_only=True))
    x = vision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()(picture())[None]
    assert torch.equal(found.preprocess(picture()), x) and torch.equal(found.model(x), theirs(x))
    assert found.class_names == tuple(f"class {i}" for i in range(7)) and found.card.top1 is None


@pytest.mark.parametrize(
    ("source", "theirs"),
    [
        ("vit_base_patch16_clip_384", "squash"),  # not of one size before the crop in timm 1.0: both sides
        ("resnet50.a1_in1k", "center"),
        ("tf_efficientnet_lite0", "center"),
        ("convnext_tiny.fb_in22k_ft_in1k_384", "squash"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [(500, 333), (80, 91)])
def test_pictures_as_timm_takes_them(source: str, theirs: str, size: tuple[int, int]) -> None:
    config = timm.get_pretrained_cfg(source).to_dict()
    data = timm.data.resolve_data_config(pretrained_cfg=config)
    assert data["crop_mode"] == theirs
    prepare = from_timm.Timm().facts(source).preprocess
    assert torch.equal(prepare(picture(*size)), timm.data.create_transform(**data, is_training=False)(picture(*size)))
    assert Preprocess.from_dict(json.loads(json.dumps(prepare.to_dict()))) == prepare


def test_each_of_torchvisions_weights_has_its_own_pictures() -> None:
    library, photo = from_torchvision.Torchvision(), picture(400, 300)
    for name in ("resnet50.IMAGENET1K_V1", "resnet50", "efficientnet_b0", "swin_v2_t", "vit_h_14.IMAGENET1K_SWAG_E2E_V1"):
        network, _, tag = name.partition(".")
        weights = vision.models.get_model_weights(network)[tag or "DEFAULT"]
        facts = library.facts(name)
        assert torch.equal(facts.preprocess(photo), weights.transforms()(photo))
        assert facts.names == "imagenet" and facts.card["top1"] == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    first = library.facts("resnet50", Path("resnet50-0676ba61.pth"))  # the file of the older weights says so by its name
    assert first.preprocess.resize == 256 and library.facts("resnet50", Path("mine.pth")).preprocess.resize == 232
    assert first.card["top1"] == 76.13 and not library.facts("resnet50", Path("mine.pth")).card


def test_names_of_larger_sets_are_told_apart() -> None:
    facts = from_timm.Timm().facts("convnext_tiny.fb_in22k")
    assert isinstance(facts.names, tuple) and facts.classes == len(facts.names) == len(set(facts.names)) == 21841
    assert from_timm.Timm().facts("vit_small_patch14_dinov2").classes == 0


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3},
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    ],
)
def test_files_of_training_programs(folder: Path, tmp_path: Path, wrap: Any) -> None:
    state = torch.load(folder / "squeeze.pth", weights_only=True)
    torch.save(wrap(state), tmp_path / "w.pth")
    found = torchbcos.load(SQUEEZE, weights=tmp_path / "w.pth", device="cpu").model.state_dict()
    assert found.keys() == state.keys() and all(torch.equal(found[name], value) for name, value in state.items())


def test_class_names_and_preprocessing_of_the_callers(folder: Path) -> None:
    names, prepare = [f"letter {c}" for c in "abcdefg"], Preprocess(crop=64, encoding="none")
    found = torchbcos.load(SQUEEZE, weights=folder / "squeeze.pth", class_names=names, preprocess=prepare, device="cpu")
    assert found.class_names == tuple(names) and found.transform == prepare
    with pytest.raises(InputError, match="has 2 names, but num_classes is 7"):
        torchbcos.load(SQUEEZE, weights=folder / "squeeze.pth", class_names=["a", "b"])


def test_own_networks_take_a_file_too(tmp_path: Path) -> None:
    network = torchbcos.create_model("cifar10_resnet20", num_classes=4)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    found = torchbcos.load("cifar10_resnet20", weights=tmp_path / "w.pth", device="cpu", deploy=False)
    assert len(found.class_names) == 4 and torch.equal(
        found.model.state_dict()["conv1.weight"], network.state_dict()["conv1.weight"]
    )


# -- saved and loaded --------------------------------------------------------------------------------------------------------


def test_there_and_back(loaded: Classifier, tmp_path: Path) -> None:
    torchbcos.save(loaded, tmp_path / "m")
    again = torchbcos.load(tmp_path / "m", device="cpu")
    x = again.preprocess(picture())
    assert torch.equal(again.model(x), loaded.model(x)) and again.transform == loaded.transform
    card = json.loads((tmp_path / "m" / "card.json").read_text())
    assert card["architecture"] == "timm:test_resnet" and card["notes"]["timm"] == timm.__version__ and card["probe"]
    torchbcos.save(again, tmp_path / "n")
    assert torchbcos.load(tmp_path / "n").class_names == loaded.class_names


def test_a_network_that_reads_older_files_in_another_way(tmp_path: Path) -> None:
    """MNASNet asks a state dict for its version, which no file of tensors holds."""
    torch.manual_seed(0)
    save_file(vision.models.mnasnet0_5(num_classes=2).state_dict(), tmp_path / "w.safetensors")
    found = torchbcos.load("torchvision:mnasnet0_5", weights=tmp_path / "w.safetensors", device="cpu")
    torchbcos.save(found, tmp_path / "m")
    again = torchbcos.load(tmp_path / "m", device="cpu").model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in found.model.state_dict().items())


def test_another_release_that_computes_otherwise(loaded: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchbcos.save(loaded, tmp_path / "m")
    card = tmp_path / "m" / "card.json"
    card.write_text(card.read_text().replace(f'"timm": "{timm.__version__}"', '"timm": "0.1"'))
    build = from_timm.Timm.build

    def other(self: Any, network: str, classes: int, options: Any) -> nn.Module:
        made = build(self, network, classes, options)
        return made.apply(lambda m: setattr(m, "eps", 0.1) if isinstance(m, nn.BatchNorm2d) else None)

    monkeypatch.setattr(from_timm.Timm, "build", other)
    with pytest.raises(WeightsError, match=rf"saved with timm 0.1, here is {timm.__version__}"):
        torchbcos.load(tmp_path / "m")


def test_a_folder_without_its_library(loaded: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchbcos.save(loaded, tmp_path / "m")
    monkeypatch.setitem(sys.modules, "timm", None)
    for source in (tmp_path / "m", "timm:test_resnet"):
        with pytest.raises(MissingPackageError, match=r"needs the package 'timm', which is not installed.*\[networks\]"):
            torchbcos.load(source)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "timm:hf-hub:evil/net"}, "must be the name of a library and of a network in it"),
        ({"architecture": "timm:../net"}, "must be the name of a library and of a network in it"),
        ({"architecture": "timm:nosuch"}, "has no classifier 'nosuch'"),
        ({"options": {"checkpoint_path": "evil.pth"}}, "an option 'checkpoint_path', which it does not take"),
        ({"options": {"pretrained_cfg": {"file": "evil.pth"}}}, "an option 'pretrained_cfg', which it does not take"),
        ({"num_classes": 900_000, "classes": None}, "has .*classifier|has .*fc.*shape|does not belong"),
        ({"architecture": "timm:vit_giant_patch14_clip_224"}, "does not belong to this network"),
    ],
)
def test_cards_of_strangers(loaded: Classifier, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    torchbcos.save(loaded, tmp_path / "m")
    card = tmp_path / "m" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))
    began = time.perf_counter()
    with pytest.raises(BcosError, match=message):
        torchbcos.load(tmp_path / "m")
    assert time.perf_counter() - began < 5  # nothing of such a size was built


# -- weights that are not there, or of another network -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "file", "message"),
    [
        ("timm:test_resnt", "test_resnet.safetensors", "has no classifier 'test_resnt'. Did you mean 'test_resnet'"),
        ("torchvision:squeezenet", "squeeze.pth", "Did you mean 'squeezenet1_1'"),
        ("timm:", "squeeze.pth", "has no classifier ''"),
        ("timm:resnet18.nosuch", "squeeze.pth", "has no classifier 'resnet18.nosuch'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "squeeze.pth", "has no classifier"),
        ("timm:test_vit", "test_resnet.safetensors", "does not belong to this network.*Check that it is timm's test_vit"),
        (SQUEEZE, "test_vit.safetensors", "does not belong to this network.*torchvision's squeezenet1_1"),
        (SQUEEZE, "nosuch.pth", "There is no weights file"),
        ("imagenette", "squeeze.pth", "goes with the name of a network"),
        ("timm:vit_base_patch16_sapiens2", "squeeze.pth", "takes 3 x 1024 x 768 numbers"),
        ("timm:deepseek_vit_412m", "squeeze.pth", "crop_mode='border'"),
    ],
)
def test_refused_in_a_sentence(folder: Path, source: str, file: str, message: str) -> None:
    with pytest.raises((InputError, WeightsError, MissingFileError), match=message) as caught:
        torchbcos.load(source, weights=folder / file)
    assert len(str(caught.value)) <= 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": ""}, InputError, "'' names no weights"),
        ({"weights": "hf-hub:org/name"}, InputError, "is a folder, and a file of weights is needed"),
        ({"weights": "DEFAULT"}, ArgumentTypeError, "leave it out for those that belong to the source"),
        ({"weights": 3}, ArgumentTypeError, "weights is a file or a folder, not '3'"),
        ({"class_names": "abc"}, ArgumentTypeError, "class_names is a list of texts"),
        ({"preprocess": {"nosuch": 1}}, InputError, "Preprocessing has no setting 'nosuch'"),
        ({"device": "nosuch"}, InputError, "Unknown device"),
    ],
)
def test_arguments_that_are_none(folder: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        torchbcos.load("timm:test_resnet", **{"weights": folder / "test_resnet.safetensors", **options})


def test_a_damaged_number(folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / "squeeze.pth", weights_only=True)
    state["classifier.1.bias"][3] = torch.nan
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="holds NaN"):
        torchbcos.load(SQUEEZE, weights=tmp_path / "w.pth")


def test_weights_that_are_a_pickle_run_nothing(tmp_path: Path) -> None:
    torch.save(vision.models.squeezenet1_1(num_classes=2), tmp_path / "w.pth")  # the module itself
    with pytest.raises(WeightsError):
        torchbcos.load(SQUEEZE, weights=tmp_path / "w.pth")


@pytest.mark.parametrize("source", [SQUEEZE, "timm:test_vit", "timm:resnet50_mlp"])
def test_no_network(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(store, "_download", unreachable)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    began = time.perf_counter()
    with pytest.raises(
        WeightsError, match=r"has no weights here: .*--weights FILE; without, its answers would be random"
    ) as caught:
        torchbcos.load(source)
    assert time.perf_counter() - began < 5 and len(str(caught.value)) <= 500


def test_weights_from_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(1)
    torch.save(vision.models.squeezenet1_1().state_dict(), tmp_path / "w.pth")
    asked: list[Any] = []
    monkeypatch.setattr(from_torchvision, "fetch", lambda card: asked.append(card) or tmp_path / "w.pth")
    found = torchbcos.load(SQUEEZE, device="cpu")
    assert asked[0].file == "squeezenet1_1-b8a52dc0.pth" and asked[0].sha256 == "b8a52dc0" and found.card.top1 == 58.178
    assert found.class_names == imagenet_classes()
    monkeypatch.setattr(from_timm, "fetch_folder", lambda source, files: asked.append((source, files)) or tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "test_vit.safetensors").read_bytes())
    assert torchbcos.load("timm:test_vit", device="cpu").card.licence == "apache-2.0"
    assert asked[1] == ("hf-hub:timm/test_vit.r160_in1k", ("model.safetensors",))


# -- formats that the libraries know -----------------------------------------------------------------------------------------


def theirs_of_efficientnet_pytorch() -> Iterator[tuple[str, str]]:
    """Names of EfficientNet-B0 in that package, in their order, and of what in a block they are."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    yield from ((f"{layer}.{leaf}", "") for layer, leaves in (("_conv_stem", ("weight",)), ("_bn0", norm)) for leaf in leaves)
    squeeze = [("_se_reduce", ("weight", "bias")), ("_se_expand", ("weight", "bias"))]
    for block in range(16):
        first = [("_expand_conv", ("weight",)), ("_bn0", norm)] if block else []
        layers = [
            *first,
            ("_depthwise_conv", ("weight",)),
            ("_bn1", norm),
            *squeeze,
            ("_project_conv", ("weight",)),
            ("_bn2", norm),
        ]
        yield from ((f"_blocks.{block}.{layer}.{leaf}", layer) for layer, leaves in layers for leaf in leaves)
    last = (("_conv_head", ("weight",)), ("_bn1", norm), ("_fc", ("weight", "bias")))
    yield from ((f"{layer}.{leaf}", "") for layer, leaves in last for leaf in leaves)


def test_names_of_efficientnet_pytorch() -> None:
    with torch.device("meta"):
        fresh = timm.create_model("tf_efficientnet_b0")
    own = fresh.state_dict()
    state = dict(zip([name for name, _ in theirs_of_efficientnet_pytorch()], own.values(), strict=True))
    found = from_timm.Timm().converted("tf_efficientnet_b0", fresh, state)
    assert found is not None and list(found) == list(own) and all(found[name] is state_ for name, state_ in own.items())
    with pytest.raises(InputError, match="is one of timm:tf_efficientnet_…, not timm:efficientnet_b0"):
        from_timm.Timm().converted("efficientnet_b0", fresh, state)


def test_names_that_timm_converts(folder: Path, tmp_path: Path) -> None:
    """Checkpoints of the reference ViT have a "cls_token" and a "pos_embed" under other names in some releases."""
    state = timm.create_model("test_vit").state_dict()
    torch.save({f"visual.trunk.{name}": value for name, value in state.items()}, tmp_path / "w.pth")  # of open_clip
    found = torchbcos.load("timm:test_vit", weights=tmp_path / "w.pth", device="cpu").model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_first_densenets() -> None:
    old = {"features.denseblock1.denselayer2.norm.1.weight": torch.ones(1), "classifier.bias": torch.ones(1)}
    found = from_torchvision.Torchvision().converted("densenet121", nn.Identity(), old)
    assert found is not None and list(found) == ["features.denseblock1.denselayer2.norm1.weight", "classifier.bias"]


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_two_networks_that_change_their_input(name: str, auxiliary: bool) -> None:
    library = from_torchvision.Torchvision()
    with torch.device("meta"):
        builder = vision.models.get_model_builder(name)
        tensors = builder(init_weights=False, aux_logits=auxiliary).state_dict()
        made = library.build(name, 1000, library.options_for(name, tensors))
    assert made.transform_input is True and made.state_dict().keys() == tensors.keys()


# -- somebody's code ---------------------------------------------------------------------------------------------------------

NETS = """
import torch
from torch import nn
from torchbcos import Classifier
from torchbcos.pictures import Preprocess

def small(num_classes=3):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

def whole():
    prepare = Preprocess(crop=16, encoding="none")
    return Classifier(small(), class_names=["a", "b", "c"], preprocess=prepare, probability="softmax")

def known():
    torch.manual_seed(3)
    return small()

def of_timm():
    import timm
    return timm.create_model("test_resnet")

def counted(num_classes):
    return small(num_classes)

def number():
    return 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "foreign_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("foreign_nets", None)


@pytest.mark.filterwarnings("ignore:This network predicts")
def test_a_builder_of_somebodys(nets: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"the module 'foreign_nets' would be imported and its 'small' called.*--allow-code"):
        torchbcos.load("import:foreign_nets:small")
    assert "foreign_nets" not in sys.modules
    with pytest.raises(WeightsError, match=r"weights are others at each call: its answers would be random.*--weights FILE"):
        torchbcos.load("import:foreign_nets:small", allow_code=True)
    before = torch.get_rng_state()
    first = torchbcos.load("import:foreign_nets:known", allow_code=True, device="cpu")  # it sets its weights itself
    assert torch.equal(torch.get_rng_state(), before)
    torch.save(first.model.state_dict(), nets / "w.pth")
    found = torchbcos.load("import:foreign_nets:small", weights=nets / "w.pth", allow_code=True, device="cpu")
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(found.model(x), first.model(x)) and found.card.probability == "softmax" and len(found.class_names) == 3
    torchbcos.save(found, nets / "m")
    with pytest.raises(InputError, match="allow_code=True"):
        torchbcos.load(nets / "m")
    torch.testing.assert_close(torchbcos.load(nets / "m", allow_code=True, device="cpu").model(x), first.model(x))
    of_timm = torchbcos.load(
        "import:foreign_nets:of_timm", weights=folder / "test_resnet.safetensors", allow_code=True, device="cpu"
    )
    assert of_timm.transform == from_timm.Timm().facts("test_resnet").preprocess
    for source, message in (
        ("import:foreign_nets", "must be 'import:package.module:function'"),
        ("import:foreign_nets:number", "must return a torch.nn.Module or a torchbcos.Classifier, and returned int"),
        ("import:foreign_nets:nosuch", "has no 'nosuch'"),
        ("import:os:system", "which builds no network"),
        ("import:foreign_nets:counted", r"needs 'num_classes': say them, load\(…, class_names=\["),
    ):
        with pytest.raises(InputError, match=message):
            torchbcos.load(source, allow_code=True)


@pytest.mark.filterwarnings("ignore:This network predicts")
def test_a_builder_of_a_classifier(nets: Path) -> None:
    torchbcos.load("import:foreign_nets:known", allow_code=True)
    torch.save(sys.modules["foreign_nets"].small().state_dict(), nets / "w.pth")
    found = torchbcos.load("import:foreign_nets:whole", weights=nets / "w.pth", allow_code=True, device="cpu")
    assert found.class_names == ("a", "b", "c") and found.transform.crop == 16
    torchbcos.save(found, nets / "m")
    again = torchbcos.load(nets / "m", allow_code=True, device="cpu")
    assert again.class_names == ("a", "b", "c") and again.card.name == "whole"
    torch.testing.assert_close(again.model(torch.ones(1, 3, 16, 16)), found.model(torch.ones(1, 3, 16, 16)))


# -- programs ----------------------------------------------------------------------------------------------------------------


def test_programs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    x = torch.rand(5, 3, 24, 24)
    for name, example, dynamic in (
        ("any", x[:2], {0: torch.export.Dim("N")}), ("one", x[:1], None), ("two", x[:2], None),
    ):  # fmt: skip
        file = tmp_path / f"{name}.pt2"
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=(dynamic,) if dynamic else None), file)
        with pytest.raises(InputError, match=r"is a program: .*--allow-code"):
            torchbcos.load(file)
        with pytest.raises(InputError, match="holds its weights: leave out the file"):
            torchbcos.load(str(file), weights=tmp_path / "one.pt2", allow_code=True)
        found = torchbcos.load(str(file), allow_code=True, device="cpu")
        assert found.transform == Preprocess(resize=24, crop=24, encoding="none") and found.card.name == name
        assert len(found.predict([picture(), picture(30, 40), picture()])) == 3 and found.card.probability == "softmax"
        assert torch.allclose(found.model(x), network(x), atol=1e-6)
        with pytest.raises(InputError, match="its file is the model"):
            torchbcos.save(found, tmp_path / "m")


def test_files_that_are_no_such_programs(tmp_path: Path) -> None:
    (tmp_path / "broken.pt2").write_bytes(b"PK\3\4 no archive")
    with pytest.raises(InputError, match=r"is no program of torch\.export\.save"):
        torchbcos.load(tmp_path / "broken.pt2", allow_code=True)
    with pytest.raises(MissingFileError, match="There is no program"):
        torchbcos.load("nosuch.pt2", allow_code=True)
    network = nn.Bilinear(2, 2, 2)
    torch.export.save(torch.export.export(network, (torch.rand(1, 2), torch.rand(1, 2))), tmp_path / "two.pt2")
    with pytest.raises(InputError, match="does not take images alone"):
        torchbcos.load(tmp_path / "two.pt2", allow_code=True)
