"""A classifier as comparisons see it: what its key depends on, weights for infidelity, exported programs, common cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchbcos
from tests.coloured import COLOURS, SIDE, Plain, classifier, folder, plain_classifier
from torchbcos._core.errors import InputError, StateError
from torchbcos.evaluation import compare, measured
from torchbcos.evaluation.measured import Measured, common_geometry, geometry
from torchbcos.evaluation.named import named_methods
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Classifier


def test_a_key_stays_while_a_network_is_used() -> None:
    clf = classifier()
    before = Measured("a", clf).key
    x = torch.rand(1, 6, SIDE, SIDE)
    clf.model(x)
    torchbcos.explain(clf.model, x)
    torchbcos.attribute(clf.model, x, 0, method="grad_cam")
    assert before == Measured("a", clf).key == Measured("b", classifier()).key


def test_sets_in_code_have_one_order_in_every_process() -> None:
    code = compile("x in {'b', 'a', 'c'}", "", "eval")
    (found,) = [one for one in code.co_consts if isinstance(one, frozenset)]
    assert measured._constant(found) == repr(sorted(["'a'", "'b'", "'c'"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.stem.weight.data.mul_(2), lambda net: setattr(net, "scale", 2.0), 
        lambda net: setattr(net, "sizes", [1, 2]),
        lambda net: setattr(net, "table", torch.ones(2)), lambda net: setattr(net, "last", lambda x: x + 1),
        lambda net: net.head.double(), lambda net: setattr(net.stem, "padding_mode", "reflect"),
        lambda net: setattr(net.stem, "stride", (2, 2)), lambda net: net.register_buffer("more", torch.zeros(1)),
    ],
)  # fmt: skip
def test_a_key_changes_with_what_decides(change: object) -> None:
    first, second = plain_classifier(), plain_classifier()
    change(second.model)  # type: ignore[operator]
    assert Measured("a", first).key != Measured("a", second).key


def test_functions_are_told_apart_by_their_code() -> None:
    first, second = plain_classifier(), plain_classifier()
    first.model.last, second.model.last = (lambda x: [k for k in x if k > 1]), (lambda x: [k for k in x if k > 2])  # type: ignore[assignment]
    assert Measured("a", first).key != Measured("a", second).key


@pytest.mark.parametrize("clf", [classifier(), plain_classifier(encoding="normalize", mean=(0.4,) * 3, std=(0.2,) * 3)])
def test_weights_times_input_are_the_values(clf: Classifier) -> None:
    """Where the input is 0, too: there a quotient would say nothing."""
    one, x = Measured("a", clf), torch.rand(2, 3, SIDE, SIDE)
    x[:, :, :3] = 0.0
    inputs, targets = one.inputs(x), torch.tensor([[1], [2]])
    for method in named_methods(["inherent", "ixg", "ixg:scales=frozen"]):
        weights, values = one.weights(method, inputs, targets), one.attribute(method, inputs, targets).values
        assert weights is not None and values is not None
        torch.testing.assert_close(weights * inputs, values[:, 0], rtol=1e-4, atol=1e-5)
        assert bool((weights[:, :, 1] != 0).any()), "weights of black pixels are not 0"
    assert one.weights(named_methods("grad_cam")[0], inputs, targets) is None


def test_which_networks_are_plain() -> None:
    assert not Measured("a", classifier()).plain and Measured("a", plain_classifier()).plain
    assert not Measured("a", torchbcos.load(device="cpu")).plain


def test_what_is_no_classifier_of_pictures() -> None:
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    signals = Classifier(net, class_names=list("abc"), preprocess=Preprocess(raw_channels=2, axes=1, encoding="none"))
    with pytest.raises(InputError, match="for pictures"):
        Measured("a", signals)
    noisy = plain_classifier()
    noisy.model.drop = nn.Dropout(0.5).train()
    with pytest.raises(StateError, match=r"training mode \(drop\)"):
        Measured("a", noisy)


def test_an_exported_program(tmp_path: Path) -> None:
    """Batch norm in a program has the mode of its export, whatever flag its numbers carry."""
    net = nn.Sequential(nn.BatchNorm2d(3), Plain()).eval()
    program = torch.export.export(net, (torch.rand(2, 3, SIDE, SIDE),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "net.pt2")
    data, methods = folder(tmp_path / "data", 1), ["inherent", "saliency", "occlusion:window=4", "random"]
    asked: dict[str, Any] = {"limit": 2, "targets": "predicted"}
    found = compare(
        [("a", str(tmp_path / "net.pt2"))], methods, ["single-deletion", "randomisation"], data, allow_code=True, **asked
    )
    direct = Classifier(net, class_names=tuple(COLOURS), preprocess={"resize": SIDE, "crop": SIDE, "encoding": "none"})
    same = compare([("a", direct)], methods, ["single-deletion"], data, **asked)
    for method in methods:
        torch.testing.assert_close(
            found.values["a", method, "single-deletion"], same.values["a", method, "single-deletion"], rtol=1e-4, atol=1e-5
        )
    assert not any(row["note"] for row in found.rows)
    with pytest.raises(InputError, match="--rescale"):
        compare([str(tmp_path / "net.pt2")], ["saliency"], ["grid-pointing"], data, allow_code=True, targets="predicted")
    with pytest.raises(InputError, match="allow_code"):
        compare([str(tmp_path / "net.pt2")], ["saliency"], ["gini"], data, targets="predicted")


@pytest.mark.parametrize("library", ["timm"])
def test_models_of_a_library(library: str, tmp_path: Path) -> None:
    """`timm:` with weights from a file; its classes are not the data's."""
    timm = pytest.importorskip(library)
    from safetensors.torch import save_file

    net = timm.create_model("resnet10t", num_classes=1000)
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, tmp_path / "w.safetensors")
    clf = torchbcos.load("timm:resnet10t", weights=tmp_path / "w.safetensors", device="cpu")
    data = folder(tmp_path / "data", 1)
    with pytest.raises(InputError, match="knows no class"):
        compare([clf], ["saliency"], ["gini"], data)
    found = compare([clf], ["saliency", "grad_cam"], ["gini"], data, size=32, targets="predicted", limit=2)
    assert [row["n"] for row in found.rows] == [2, 2] and found.facts["models"][0]["plain"]


def test_geometry_is_the_same_part_of_a_picture() -> None:
    small, large = Preprocess(resize=100, crop=80), Preprocess(resize=256, crop=224, encoding="none", raw_channels=1)
    assert geometry(large, None) is large and geometry(Preprocess(), 32).crop == 32
    for order in ([small, large], [large, small]):
        for own in order:
            found = common_geometry(order, None, own)
            assert (found.resize, found.crop) == (100, 80)
            assert (found.encoding, found.raw_channels) == (own.encoding, own.raw_channels)
            assert common_geometry(order, 40, own).resize == 50
    assert common_geometry([Preprocess(), small], None, small).crop == 80, "one that takes any size decides nothing"
