"""Networks of one's own: saved with names and preprocessing, loaded to the same numbers; code only where one says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel

import torchbcos
from tests.unit.zoo import own_nets
from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, WeightsError
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Classifier

HERE = "tests.unit.zoo.own_nets"
NAMES = ("cat", "dog")
X = torch.rand(2, 6, 16, 16, generator=torch.Generator().manual_seed(0))


def calibrated(network: nn.Module, channels: int = 6) -> Any:
    torchbcos.recalibrate(network, [torch.rand(4, channels, 12, 12)])
    return network.eval()


@pytest.fixture
def net() -> own_nets.Net:
    torch.manual_seed(0)
    found: own_nets.Net = calibrated(own_nets.Net(width=4))
    return found


@settings(max_examples=8, deadline=None)
@given(classes=st.integers(1, 4), raw=st.integers(1, 3), width=st.integers(2, 5), crop=st.sampled_from([None, 8]))
def test_a_builders_network_comes_back_to_the_bit(
    classes: int, raw: int, width: int, crop: int | None, tmp_path_factory: Any
) -> None:
    """Logits and W; the card says what the network is; the generator is left alone."""
    folder = tmp_path_factory.mktemp("m")
    net = calibrated(own_nets.small(classes, 2 * raw, width), 2 * raw)
    names = [f"c{i}" for i in range(classes)]
    clf = Classifier(net, class_names=names, preprocess={"crop": crop, "raw_channels": raw}, builder=f"{HERE}:small",
                     options={"width": width}, probability="softmax")  # fmt: skip
    state = torch.get_rng_state()
    torchbcos.save(clf, folder)
    assert torch.equal(torch.get_rng_state(), state)
    found = torchbcos.load(folder, device="cpu", deploy=False, allow_code=True)
    card = found.card
    assert (card.in_channels, card.num_classes, card.parameters) == (2 * raw, classes, sum(p.numel() for p in net.parameters()))
    assert found.class_names == tuple(names) and found.transform == clf.transform and card.probability == "softmax"
    x = torch.rand(2, 2 * raw, 9, 9)
    mine, theirs = torchbcos.explain(net, x), torchbcos.explain(found.model, x)
    assert torch.equal(mine.outputs, theirs.outputs) and torch.equal(mine.weights, theirs.weights)


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda m: m, "training": lambda m: m.train(), "compiled": torch.compile, "DataParallel": nn.DataParallel,
    "average": AveragedModel, "half": lambda m: m.half(), "double": lambda m: m.double(), "deployed": torchbcos.deploy,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", WRAPPED)
def test_own_networks_in_their_wrappers(how: str, net: own_nets.Net, tmp_path: Path) -> None:
    wrapped = WRAPPED[how](net)
    torchbcos.save(Classifier(wrapped, class_names=NAMES, builder=own_nets.Net, options={"width": 4}), tmp_path / "m")
    found = torchbcos.load(tmp_path / "m", device="cpu", allow_code=True)
    assert found.class_names == NAMES and found.card.deployed == (how == "deployed")
    torch.testing.assert_close(found.model(X), net.float().eval()(X), rtol=1e-4, atol=1e-3 if how == "half" else 1e-5)


@pytest.mark.filterwarnings("ignore:This network predicts")  # and cannot be explained
@pytest.mark.parametrize("make", [own_nets.Net, own_nets.Fixed])
def test_a_class_that_needs_no_arguments_needs_no_builder(make: type[nn.Module], tmp_path: Path) -> None:
    net = calibrated(make())
    torchbcos.save(net, tmp_path / "m")
    found = torchbcos.load(tmp_path / "m", device="cpu", allow_code=True, deploy=False)
    assert torch.equal(found.model(X), net(X)) and found.class_names == tuple(f"class {i}" for i in range(net(X).shape[1]))
    assert found.predict(torch.rand(3, 9, 9))[0][0].label.startswith("class ")


def test_a_builder_may_be_named_when_one_saves(net: own_nets.Net, tmp_path: Path) -> None:
    clf = Classifier(net, class_names=NAMES)
    with pytest.raises(InputError, match=r"has out_channels=4, where its builder sets 8\. Give the options"):
        torchbcos.save(clf, tmp_path / "m")  # the class alone builds a wider one
    assert not (tmp_path / "m").exists()
    torchbcos.save(clf, tmp_path / "m", options={"width": 4})
    torchbcos.save(clf, tmp_path / "n", builder=f"{HERE}:small", options={"width": 4})
    for name in ("m", "n"):
        found = torchbcos.load(tmp_path / name, device="cpu", allow_code=True, deploy=False)
        assert found.class_names == NAMES and torch.equal(found.model(X), net(X))


@pytest.mark.parametrize("kind", [own_nets.Tricky, own_nets.Stubborn])
def test_without_a_sound_twin_the_network_itself_is_loaded(kind: type[own_nets.Net], tmp_path: Path) -> None:
    """`deploy=True` must neither fail nor change numbers."""
    net = calibrated(kind())
    nn.init.uniform_(net.stem[1].weight, 0.5, 2)
    torchbcos.save(net, tmp_path / "m")
    found = torchbcos.load(tmp_path / "m", device="cpu", allow_code=True)
    torch.testing.assert_close(found.model(X), net(X), rtol=1e-5, atol=1e-5)
    assert not found.model.training and not any(p.requires_grad for p in found.model.parameters())


def test_the_twin_of_an_own_network_is_used_where_it_is_sound(net: own_nets.Net, tmp_path: Path) -> None:
    torchbcos.save(net, tmp_path / "m", builder=own_nets.Net, options={"width": 4})
    found: Any = torchbcos.load(tmp_path / "m", device="cpu", allow_code=True)
    assert isinstance(found.model.stem[1], bnn.Folded)
    torch.testing.assert_close(found.model(X), net(X), rtol=1e-4, atol=1e-5)
    torchbcos.save(found, tmp_path / "twin")
    again = torchbcos.load(tmp_path / "twin", device="cpu", allow_code=True)
    assert again.card.deployed and torch.equal(again.model(X), found.model(X))


# -- what cannot be loaded is not written ------------------------------------------------------------------------------------


def inside() -> nn.Module:
    class Hidden(own_nets.Net): ...

    return Hidden()


def hooked() -> nn.Module:
    net = own_nets.Net()
    net.block.conv.register_forward_hook(lambda module, args, output: 2 * output)
    return net


def patched() -> nn.Module:
    net: Any = own_nets.Net()
    net.block.forward = lambda x: x
    return net


def set_since() -> nn.Module:
    net: Any = own_nets.Net()
    net.block.conv.b = 1.5
    return net


@pytest.mark.parametrize(
    ("make", "given", "text"),
    [
        (inside, {}, "its class stands in a script, a notebook or a function.*builder='mynets:build'"),
        (lambda: own_nets.Sized(4), {}, "its class needs arguments that no module remembers.*own_nets:Sized"),
        (own_nets.Net, {"builder": "__main__:Net"}, "put it into a file, mynets.py say"),
        (own_nets.Net, {"builder": f"{HERE}:no_such"}, "load could not build it: .* has no 'no_such'"),
        (own_nets.Net, {"builder": f"{HERE}:Net", "options": {"wdith": 4}}, "takes no option 'wdith'"),
        (own_nets.Net, {"builder": f"{HERE}:Net", "options": {"width": 4}}, "has out_channels=8, where its builder sets 4"),
        (own_nets.Net, {"builder": f"{HERE}:signal"}, "it lacks the layer '0'"),
        (own_nets.Net, {"options": {"width": object()}}, "JSON cannot hold"),
        (own_nets.Net, {"builder": f"{HERE}:other"}, "'head.2' has bias=-1.0, where its builder sets 0"),
        (lambda: own_nets.other(2), {"builder": f"{HERE}:other"}, "'head.2' has bias="),
        (hooked, {}, "a forward hook stands on its layer 'block.conv'"),
        (patched, {}, "its layer 'block' has a forward of its own"),
        (set_since, {}, r"'block.conv' has b=1\.5, where its builder sets 2\.0"),
    ],
)  # fmt: skip
def test_what_load_could_not_build_is_not_written(make: Any, given: dict[str, Any], text: str, tmp_path: Path) -> None:
    clf = Classifier(make(), class_names=NAMES) if make is not inside else make()
    with pytest.raises(BcosError, match=text) as caught:
        torchbcos.save(clf, tmp_path / "m", **given)
    assert not (tmp_path / "m").exists() and "\n" not in str(caught.value) and len(str(caught.value)) <= 500


def test_outputs_are_compared_too(net: own_nets.Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that computes otherwise by the time it is built again: names and shapes would let it pass."""
    forward = own_nets.Residual.forward
    torchbcos.save(net, tmp_path / "m", builder=own_nets.Net, options={"width": 4})
    given: Any = type("Residual", (own_nets.Residual,), {"forward": forward, "__module__": HERE})
    net.block.__class__ = given
    monkeypatch.setattr(own_nets.Residual, "forward", lambda self, x: x)
    with pytest.raises(InputError, match=r"builds a network whose outputs are others.*Give the options"):
        torchbcos.save(net, tmp_path / "n", builder=own_nets.Net, options={"width": 4})
    assert not (tmp_path / "n").exists()


@pytest.mark.filterwarnings("ignore:This network predicts")  # and cannot be explained
def test_lazy_layers_have_sizes_after_one_run(tmp_path: Path) -> None:
    net = own_nets.lazy(2)
    net(torch.rand(1, 6, 8, 8))
    with pytest.raises(InputError, match=r"sizes are unknown until they run .* Run the network once inside its builder"):
        torchbcos.save(Classifier(net, class_names=NAMES, preprocess=Preprocess(crop=8), builder=own_nets.lazy), tmp_path / "m")


# -- code runs only where one says so ----------------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which one works, with a network of one's own in a file, and a model of it."""
    text = "from pathlib import Path\nfrom tests.unit.zoo.own_nets import Net\nPath(__file__).with_suffix('.ran').touch()\n"
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "my_planted_net.py").write_text(text)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    torchbcos.save(calibrated(own_nets.Net()), "model", builder="my_planted_net:Net")
    del sys.modules["my_planted_net"]
    Path("my_planted_net.ran").unlink()
    yield tmp_path / "here"
    sys.modules.pop("my_planted_net", None)


def test_nothing_is_imported_without_the_word(planted: Path) -> None:
    with pytest.raises(InputError) as caught:
        torchbcos.load("model")
    for word in (
        "'my_planted_net'",
        "'Net'",
        "would be imported",
        "files do not run code by themselves",
        "allow_code=True",
        "--allow-code",
    ):
        assert word in str(caught.value)
    with pytest.raises(WeightsError, match=r"torchbcos\.load\(…, allow_code=True, deploy=False\)\.model is it"):
        torchbcos.create_model(weights="model")
    assert not Path("my_planted_net.ran").exists() and "my_planted_net" not in sys.modules
    assert torchbcos.load("model", allow_code=True).class_names == ("class 0", "class 1")
    assert Path("my_planted_net.ran").exists() and str(planted) not in sys.path  # the checks above can fail


def test_models_of_the_hub_need_the_same_word(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And bring no code along either."""
    monkeypatch.setattr("torchbcos.zoo.sources.fetch_folder", lambda source, files: planted / "model")
    with pytest.raises(InputError, match=r"'hf-hub:org/net' is a network of somebody's own.*'my_planted_net' would be imported"):
        torchbcos.load("hf-hub:org/net")
    assert "my_planted_net" not in sys.modules
    Path("my_planted_net.py").rename("model/my_planted_net.py")
    sys.path.insert(0, str(planted / "model"))
    with pytest.raises(InputError, match="would be imported from the model's own folder"):
        torchbcos.load("hf-hub:org/net", allow_code=True)
    assert "my_planted_net" not in sys.modules


@pytest.mark.parametrize("inside_it", [True, False])
def test_a_models_folder_brings_no_code(inside_it: bool, planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the module's name lies beside the weights, first on the path or in the folder where one stands."""
    Path("my_planted_net.py").rename("model/my_planted_net.py")
    if inside_it:
        monkeypatch.chdir("model")
    else:
        sys.path.insert(0, str(planted / "model"))
    with pytest.raises(InputError, match="would be imported from the model's own folder"):
        torchbcos.load(planted / "model", allow_code=True)
    assert not Path(planted / "model" / "my_planted_net.ran").exists() and "my_planted_net" not in sys.modules


def test_a_strangers_card_names_what_it_would_run_in_print(planted: Path) -> None:
    card = json.loads(Path("model/card.json").read_text())
    del card["probe"]  # which only such cards have
    for path, options, text in (
        ("import:os:system", {"command": "touch marker\x1b"}, "contains the character U\\+001B"),
        ("import:os:system", {"command": "touch marker"}, "'os' would be imported and its 'system' called, with .*touch marker"),
        ("import:os.system", {}, "architecture' must be 'import:package.module:function'"),
        ("import:a b:c", {}, "architecture' must be"), ("import:../x:y", {}, "architecture' must be"),
        ("own:Net", {}, "there is no network as its card says"),
    ):  # fmt: skip
        Path("model/card.json").write_text(json.dumps({**card, "architecture": path, "options": options}))
        with pytest.raises(BcosError, match=text):
            torchbcos.load("model")
    assert not Path("marker").exists()


def test_a_changed_builder_is_named_as_the_reason(planted: Path) -> None:
    text = Path("my_planted_net.py").read_text().replace("import Net", "import signal as Net")
    Path("my_planted_net.py").write_text(text)
    with pytest.raises(WeightsError, match=r"does not belong to this network .*Check what builds it: it may have changed since"):
        torchbcos.load("model", allow_code=True)
    Path("my_planted_net.py").unlink()
    sys.modules.pop("my_planted_net")
    with pytest.raises(InputError, match=r"The builder 'my_planted_net:Net' of 'model' names no function .* there is no module"):
        torchbcos.load("model", allow_code=True)


# -- classifiers around networks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"class_names": ("a", "b", "c")}, InputError, "gives 2 logits an input, and here are 3 class names"),
        ({"class_names": ("a", "a")}, InputError, "has the class 'a' twice"),
        ({"class_names": "ab"}, ArgumentTypeError, "class_names is a list of texts"),
        ({"preprocess": Preprocess(raw_channels=1)}, InputError, "takes 6 channels and 2 axes of space, .* gives 2 and 2"),
        ({"preprocess": Preprocess(encoding="none")}, InputError, "takes 6 channels .* gives 3"),
        ({"preprocess": Preprocess(axes=1)}, InputError, "takes 6 channels and 2 axes of space, .* gives 6 and 1"),
        ({"preprocess": 224}, ArgumentTypeError, "preprocess is a torchbcos.pictures.Preprocess"),
        ({"probability": "logit"}, InputError, "probability"),
        ({"options": {"width": 4}}, InputError, "options are the arguments of a builder"),
        ({"builder": "mynets.py"}, InputError, "must be 'package.module:function'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_network_is_said(given: dict[str, Any], error: type[Exception], text: str, net: own_nets.Net) -> None:
    with pytest.raises(error, match=text):
        Classifier(net, **given)


def test_a_card_says_everything_by_itself(net: own_nets.Net) -> None:
    card = Classifier(net).card
    with pytest.raises(InputError, match="A card says what class_names is"):
        Classifier(net, card, class_names=NAMES)
    with pytest.raises(ArgumentTypeError, match="card is a Card, not tuple: class names are class_names="):
        Classifier(net, NAMES)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"needs a torch\.nn\.Module, not str"):
        Classifier("resnet18")  # type: ignore[arg-type]


def test_a_network_of_the_library_keeps_what_it_knows(tmp_path: Path) -> None:
    net = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    net.reset_classifier(2, class_names=["cat", "dog"])
    clf = Classifier(net)
    assert clf.class_names == NAMES and clf.card.architecture == "cifar10_resnet20"
    assert Classifier(net, class_names=("a", "b"), preprocess={"crop": 24}).card.preprocess["crop"] == 24  # type: ignore[index]
    torchbcos.save(net, tmp_path / "m")
    assert torchbcos.load(tmp_path / "m").class_names == NAMES
    for names, text in (
        (["a"], "has 1 names, and there are 2"),
        (["a", "a"], "a name twice"),
        (["a", ""], "is empty"),
        ("ab", "a list"),
    ):
        with pytest.raises(InputError, match=text):
            net.reset_classifier(2, class_names=names)
    assert net.class_names == NAMES and net.num_classes == 2  # refused before anything changed
    with pytest.raises(InputError, match="gives 2 logits an input, and here are 1"):
        Classifier(net, class_names=("a",))
    with pytest.raises(InputError, match="takes 6 channels, and this preprocessing gives 2"):
        Classifier(net, preprocess=Preprocess(raw_channels=1))


def test_class_names_of_any_list(net: own_nets.Net) -> None:
    for names in (list(NAMES), np.array(NAMES), (name for name in NAMES)):
        assert Classifier(net, class_names=names).class_names == NAMES
    for wrong in ({0: "cat", 1: "dog"}, {"cat", "dog"}, 2, [1, 2], []):
        with pytest.raises(ArgumentTypeError, match="class_names is a list of texts"):
            Classifier(net, class_names=wrong)  # type: ignore[arg-type]


def test_modes_and_statistics_are_not_disturbed_by_the_first_look() -> None:
    net: Any = own_nets.Net().train()
    net.block.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with pytest.raises(InputError):
        Classifier(net, class_names=("a",))
    assert [m.training for m in net.modules()] == modes and torch.equal(torch.get_rng_state(), state)
    clf = Classifier(net, class_names=NAMES)
    assert not net.training  # predictions are those of eval mode
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert clf.predict(torch.rand(3, 8, 8))[0][0].label in NAMES


@pytest.mark.filterwarnings("ignore:This network predicts")  # and cannot be explained
@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ([bnn.BcosConv1d(4, 2, 3)], ("add_inverse", 2, 1)), ([bnn.BcosConv3d(2, 2, 3)], ("add_inverse", 1, 3)),
        ([bnn.Conv2d(3, 2, 3)], ("none", 3, 2)), ([bnn.AddInverse(), bnn.BcosConv2d(2, 2, 3)], ("none", 1, 2)),
    ],
)  # fmt: skip
def test_what_a_network_takes_is_read_from_its_first_convolution(layers: list[nn.Module], found: tuple[Any, ...]) -> None:
    clf = Classifier(nn.Sequential(*layers, bnn.GlobalAveragePool()), class_names=NAMES)
    assert (clf.transform.encoding, clf.transform.raw_channels, clf.transform.axes) == found


@pytest.mark.filterwarnings("ignore:This network predicts")  # and cannot be explained
def test_inputs_that_a_network_does_not_take_are_one_sentence(tmp_path: Path) -> None:
    """Its size is known to nobody but the network: names must be given, and a wrong picture is no traceback."""
    net = nn.Sequential(bnn.BcosConv2d(6, 2, 3), nn.Flatten(), nn.Linear(2 * 9 * 9, 2))
    with pytest.raises(InputError, match=r"could not be found out.*give class_names=…, or preprocess=Preprocess\(crop="):
        Classifier(net)
    clf = Classifier(net, class_names=NAMES)
    assert Classifier(net, preprocess=Preprocess(crop=11)).class_names == ("class 0", "class 1")
    assert clf.predict(torch.rand(3, 11, 11))
    for call in (clf.predict, clf.explain):
        with pytest.raises(InputError, match=r"does not take an input of shape \(1, 6, 12, 12\)"):
            call(torch.rand(3, 12, 12))
    wrong = Classifier(net, class_names=("a", "b", "c"))  # nobody could look
    for call in (wrong.predict, wrong.explain):
        with pytest.raises(InputError, match="gives 2 logits an input, and here are 3 class names"):
            call(torch.rand(3, 11, 11))
    with pytest.raises(InputError, match=r"gives \(1, 2, 30, 30\) .* and a classifier needs \(1, classes\)"):
        Classifier(nn.Sequential(bnn.BcosConv2d(6, 2, 3)))


def test_a_bare_network_of_timm_is_said_by_its_name(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet18", num_classes=3).eval()
    given: dict[str, Any] = {
        "class_names": ("a", "b", "c"),
        "preprocess": {"resize": 32, "crop": 32, "encoding": "normalize", "mean": (0.5,) * 3, "std": (0.25,) * 3},
    }
    with pytest.raises(InputError, match=r"torchbcos\.load\('timm:resnet18', weights='weights\.pth'"):
        torchbcos.save(torchbcos.Classifier(network, **given), tmp_path / "model")
    torch.save(network.state_dict(), tmp_path / "weights.pth")  # what it says works
    torchbcos.save(torchbcos.load("timm:resnet18", weights=tmp_path / "weights.pth", deploy=False, **given), tmp_path / "model")
    again = torchbcos.load(tmp_path / "model", deploy=False)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again.model(x), network(x))
    assert again.class_names == ("a", "b", "c")
