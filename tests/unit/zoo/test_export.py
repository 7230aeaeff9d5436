"""An exported file predicts and explains as the library does, for any number of images, and its picture needs no torch."""

from __future__ import annotations

import dataclasses
import importlib
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, MissingPackageError, StateError
from torchbcos.models import build
from torchbcos.zoo import export as exporting
from torchbcos.zoo import served_files
from torchbcos.zoo.served import Served

pytestmark = pytest.mark.newest

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "without_torch.py"
RGB = {"resize": 14, "crop": 12, "encoding": "add_inverse"}


def classifier(axes: int = 2, channels: int = 3, **preprocess: Any) -> torchbcos.Classifier:
    torch.manual_seed(0)
    layer = (bnn.BcosConv1d, bnn.BcosConv2d, bnn.BcosConv3d)[axes - 1]
    model = nn.Sequential(
        layer(2 * channels, 6, 3, padding=1), bnn.BatchNorm(6, bias=False), layer(6, 3, 3), bnn.GlobalAveragePool(),
        bnn.Logits(-1.0),
    )  # fmt: skip
    card = torchbcos.Card(
        name="mine", architecture="sequential", classes=("a", "b", "ü"), num_classes=3, in_channels=2 * channels,
        preprocess={"raw_channels": channels, "axes": axes, **preprocess}, terms="for nobody", temperature=2.5,
    )  # fmt: skip
    return torchbcos.Classifier(torchbcos.deploy(model), card)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[torchbcos.Classifier, Path]:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install onnx onnxscript onnxruntime")
    clf, path = classifier(**RGB), tmp_path_factory.mktemp("onnx") / "why.onnx"
    made = torchbcos.export(clf, path, top_k=2)
    assert made.runtimes == ("torch", "onnxruntime") and made.size == path.stat().st_size
    assert [str(port) for port in made.inputs] == ["pictures uint8 (N, 12, 12, 3)"]
    return clf, path


def loaded(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A .pt2 file as torch runs it, and its facts."""
    extra = {"torchbcos.json": ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), json.loads(extra["torchbcos.json"])


def check(found: dict[str, Tensor], e: torchbcos.Explanation) -> None:
    assert torch.equal(found["targets"], e.targets)
    for name, expected in (("logits", e.outputs), ("weights", e.weights), ("contributions", e.contributions)):
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    total = found["contributions"].flatten(2).sum(2) + found["constants"].sum(2)
    torch.testing.assert_close(total, e.values, rtol=1e-4, atol=1e-4)


def test_onnxruntime_explains_any_number_of_pictures(onnx_file: tuple[torchbcos.Classifier, Path]) -> None:
    clf, path = onnx_file
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    assert [(port.name, port.shape) for port in session.get_inputs()] == [("pictures", ["N", 12, 12, 3])]
    names = [port.name for port in session.get_outputs()]
    assert names == ["logits", "targets", "weights", "contributions", "constants"]
    assert all(port.shape[0] == "N" for port in session.get_outputs())
    for n in (1, 3, 7):
        pictures = torch.randint(0, 256, (n, 12, 12, 3), dtype=torch.uint8)
        found = dict(zip(names, map(torch.from_numpy, session.run(None, {"pictures": pictures.numpy()})), strict=True))
        x = clf.transform.encode(pictures.permute(0, 3, 1, 2).float() / 255, 1)
        check(found, torchbcos.explain(clf.model, x, top_k=2))
    facts = json.loads(session.get_modelmeta().custom_metadata_map["torchbcos"])
    e = torchbcos.explain(clf.model, x)
    assert facts["constants"] == list(e.constants) and facts["fixed"] == list(e.fixed)
    assert facts["classes"] == ["a", "b", "ü"] and facts["card"]["terms"] == "for nobody" and facts["input"] == "pictures"
    assert facts["temperature"] == 2.5 and facts["probability"] == clf.card.probability


BLOCKED = """
import sys
sys.modules["torch"] = None  # any import of it fails
sys.path.insert(0, {folder!r})
import json, numpy as np, onnxruntime, without_torch as drawing
session = onnxruntime.InferenceSession({model!r})
facts = json.loads(session.get_modelmeta().custom_metadata_map["torchbcos"])
pictures = drawing.read({photo!r}, facts)
logits, _, weights, contributions, _ = session.run(None, {{"pictures": pictures}})
rgba, heat = drawing.rgba(weights[0, 1], contributions[0, 1]), drawing.heatmap(contributions[0, 1])
shares = drawing.probabilities(logits, facts)
soft = drawing.probabilities(logits, {{**facts, "probability": "softmax"}})
np.savez({out!r}, pictures=pictures, rgba=rgba, map=heat, shares=shares, soft=soft)
"""


@pytest.mark.parametrize("size", [(31, 20), (14, 40)])
def test_the_picture_is_drawn_without_torch(
    onnx_file: tuple[torchbcos.Classifier, Path], tmp_path: Path, size: tuple[int, int]
) -> None:
    clf, path = onnx_file
    photo, out = tmp_path / "photo.png", tmp_path / "drawn.npz"
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    program = BLOCKED.format(folder=str(EXAMPLE.parent), model=str(path), photo=str(photo), out=str(out))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    drawn, e = np.load(out), clf.explain(photo, top_k=2)
    assert np.array_equal(np.float32(drawn["pictures"][0].transpose(2, 0, 1)) / 255, e.inputs[0, :3].numpy())  # to the bit
    assert np.abs(drawn["rgba"] - e.rgba(0, 1)).max() <= 1 / 255
    assert np.abs(drawn["map"] - e.heatmap(0, 1)).max() <= 1 / 255
    logits = e.outputs / 2.5  # the temperature of the card
    assert np.allclose(drawn["shares"], logits.sigmoid(), atol=1e-5) and np.allclose(drawn["soft"], logits.softmax(1), atol=1e-5)


@pytest.mark.parametrize("words", [[], ["why.onnx", "photo.jpg"], ["a", "b", "c", "d"]])
def test_the_example_says_how_it_is_called(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["without_torch.py", *words])
    with pytest.raises(SystemExit, match=r"usage: python without_torch\.py MODEL\.onnx PHOTO OUT\.png"):
        runpy.run_path(str(EXAMPLE), run_name="__main__")


def test_the_picture_of_a_grey_network_is_drawn_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    drawing, clf = importlib.import_module("without_torch"), classifier(channels=1, crop=12)
    e = clf.explain(np.random.default_rng(0).random((12, 12), dtype=np.float32))
    drawn = drawing.rgba(e.weights[0, 0].numpy(), e.contributions[0, 0].numpy())
    assert np.abs(drawn - e.rgba()).max() <= 1 / 255


def exported(
    clf: torchbcos.Classifier, path: Path, patch: pytest.MonkeyPatch | None, **options: Any
) -> tuple[torchbcos.Exported, Any]:
    """What was exported, and what runs it: the file, or with a patch, in a tenth of the time, what would be written."""
    if patch is None:
        made = torchbcos.export(clf, path, **options)
        module, facts = loaded(made.path)
        assert facts["input"] == made.inputs[0].name
        return made, module
    kept: list[Served] = []

    def write(served: Served, *rest: object) -> tuple[int, tuple[str, ...]]:
        kept.append(served)
        return 0, ()

    patch.setattr(exporting, "write", write)
    return torchbcos.export(clf, path, **options), kept[0]


FORMS: tuple[tuple[dict[str, Any], Any, str], ...] = (
    ({"axes": 1, "channels": 2, "value_range": [-2.0, 3.0]}, True, "pixels"),
    ({"channels": 1, "crop": 12}, True, "pictures"),
    ({**RGB}, "pixels", "pixels"),
    ({**RGB}, False, "x"),
    ({"axes": 3, "channels": 1}, True, "pixels"),
)


@pytest.mark.parametrize("written", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "preprocessing", "form"), FORMS)
def test_inputs_come_as_the_classifier_takes_them(
    kind: dict[str, Any], preprocessing: Any, form: str, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clf = classifier(**kind)
    axes, channels = clf.transform.axes, clf.transform.raw_channels
    size = None if clf.transform.crop else (9,) * axes
    made, run = exported(
        clf, tmp_path / "why.pt2", None if written else monkeypatch, preprocessing=preprocessing, size=size
    )  # fmt: skip
    assert made.inputs[0].name == form
    side = clf.transform.crop or 9
    raw = torch.randint(0, 256, (5, channels, *(side,) * axes), dtype=torch.uint8)
    low, high = clf.transform.value_range or (0.0, 1.0)
    stored = low + raw.float() / 255 * (high - low)
    x = clf.transform.encode(((stored - low) / (high - low)), 1)
    given = {"pictures": raw[:, 0], "pixels": stored, "x": x}[form]
    check(run(given), torchbcos.explain(clf.model, x))
    if clf.transform.value_range:  # what lies outside is cut, as `clf.preprocess` cuts it
        beyond = (stored * 3)[:1]
        check(run(beyond), clf.explain(beyond[0].numpy()))


def test_targets_are_an_input_or_fixed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, x = classifier(**RGB), torch.rand(4, 6, 12, 12)
    made, run = exported(clf, tmp_path / "any.pt2", None, targets=True, top_k=2, preprocessing=False)
    assert [str(port) for port in made.inputs] == ["x float32 (N, 6, 12, 12)", "targets int64 (N, 2)"]
    asked = torch.tensor([[0, 1], [2, 0], [1, 2], [2, 2]])
    check(run(x, asked), torchbcos.explain(clf.model, x, asked))
    made, run = exported(clf, tmp_path / "two.pt2", monkeypatch, targets=["ü", "a"], preprocessing=False)
    assert [port.name for port in made.inputs] == ["x"]
    check(run(x), torchbcos.explain(clf.model, x, torch.tensor([[2, 0]]).expand(4, -1)))


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("cifar10_resnet20", {}), "densenet": ("cifar10_densenet52", {}), "convnext": ("convnext_atto", {}),
    "vit": ("simple_vit_ti_patch16_224", {}), "bvt": ("bvt_tiny_patch16", {"depth": 2}),
    "bwin": ("bwin_tiny", {"width_factor": 0.125, "window": 3}), "plain": ("cifar10_resnet20", {"plain": True, "in_channels": 6}),
    "embedded": ("", {}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_onnxruntime_explains_every_family(family: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxscript onnxruntime")
    pytest.importorskip("onnxscript")
    name, options = FAMILIES[family]
    model: Any = torchbcos.load(device="cpu") if not name else build(name, num_classes=4, **options)
    network = model.model if not name else model
    space = (160, 160) if not name else (32, 32)
    if name:
        torchbcos.recalibrate(network, [torch.rand(4, 6, *space) for _ in range(2)])
        network = torchbcos.deploy(network)
    made = torchbcos.export(network, tmp_path / "why.onnx", targets=True, top_k=2, example=torch.rand(1, 6, *space))
    session = runtime.InferenceSession(str(made.path))
    names = [port.name for port in session.get_outputs()]
    for n in (1, 3, 7):
        x, targets = torch.rand(n, 6, *space), torch.randint(0, 4, (n, 2))
        found = session.run(None, {"x": x.numpy(), "targets": targets.numpy()})
        check(dict(zip(names, map(torch.from_numpy, found), strict=True)), torchbcos.explain(network, x, targets))


def test_a_file_with_other_numbers_is_never_put_into_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, path = classifier(**RGB), tmp_path / "why.pt2"
    path.write_bytes(b"before")
    right = Served.answer

    def wrong(self: Served, given: Tensor, targets: Tensor | None) -> dict[str, Tensor]:
        found = right(self, given, targets)
        return {**found, "contributions": found["contributions"] * 1.001}

    monkeypatch.setattr(Served, "answer", wrong)
    with pytest.raises(StateError, match=r"does not compute what it should, for 1 images: .* gives other contributions"):
        torchbcos.export(clf, path)
    assert path.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == ["why.pt2"]


def test_numbers_that_onnxruntime_gives_otherwise_are_never_put_into_place(
    onnx_file: tuple[torchbcos.Classifier, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right program, and a file beside it in which the weights of one layer are others."""
    onnx = pytest.importorskip("onnx")
    clf, right = onnx_file
    path = tmp_path / "why.onnx"

    def write(served: Served, arguments: object, partial: Path, facts: str) -> Any:
        model = onnx.load(right)
        filters = next(t for t in model.graph.initializer if t.dims[1:] == [6, 3, 3])
        filters.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(filters) * np.float32(1.001), filters.name))
        onnx.save(model, partial)
        return lambda given: tuple(served(**given).values())

    monkeypatch.setattr(served_files, "_write_onnx", write)
    with pytest.raises(StateError, match=r"In onnxruntime the file does not compute what it should, for 1 images: .* other "):
        torchbcos.export(clf, path, top_k=2)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_onnxruntime_cannot_read_is_refused(
    onnx_file: tuple[torchbcos.Classifier, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(served: Served, arguments: object, partial: Path, facts: str) -> Any:
        partial.write_bytes(onnx_file[1].read_bytes()[:-100])
        return lambda given: tuple(served(**given).values())

    monkeypatch.setattr(served_files, "_write_onnx", write)
    with pytest.raises(StateError, match=r"^onnxruntime cannot run the file that .* A \.pt2 file takes layers"):
        torchbcos.export(onnx_file[0], tmp_path / "why.onnx", top_k=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("noted", "size"),
    [
        ([2, 9], 9),
        ((2, 9), 9),
        ([3, 9], None),
        ([2, 9, 9], None),
        ([2, 0], None),
        ([2, 10**9], None),
        ([2, True], None),
        ("29", None),
    ],
)
def test_a_card_may_know_the_size_of_its_examples(noted: Any, size: int | None, tmp_path: Path) -> None:
    clf = classifier(1, 2)
    noting = torchbcos.Classifier(clf.model, dataclasses.replace(clf.card, notes={"example": noted}))
    if size is None:
        with pytest.raises(InputError, match="a file takes one"):
            torchbcos.export(noting, tmp_path / "why.pt2")
    else:
        assert exporting._sides(noting, None, None) == (size,)
        assert exporting._sides(noting, 12, None) == (12,)


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(bnn.BcosConv2d(6, 3, 3), bnn.GlobalAveragePool())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out * 2 if len(x) == 3 else out


def test_what_cannot_be_exported_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clf, signals, volumes = classifier(**RGB), classifier(1, 2), classifier(3, 1)
    x = torch.rand(1, 6, 12, 12)
    (tmp_path / "folder.pt2").mkdir()
    cases: list[tuple[type[BcosError], str, Any, Any, dict[str, Any]]] = [
        (InputError, r"ends in '.onnx' .* or '.pt2'.* Did you mean '.onnx'", clf, "why.onx", {}),
        (InputError, "is a folder", clf, "folder.pt2", {}),
        (InputError, "does not exist: make it first", clf, "no/why.pt2", {}),
        (
            InputError,
            r"takes signals of 2 channels, \(2, L\), of any size.* --size 1000 \(in Python size=\(1000,\)\)",
            signals,
            "a.pt2",
            {},
        ),
        (InputError, r"of any size.* --size 16x32x32 \(in Python size=\(16, 32, 32\)\)", volumes, "a.pt2", {}),
        (
            InputError,
            r"3 of them, the sides of a volume, --size 16x32x32 .*; got \(64, 64\)",
            volumes,
            "a.pt2",
            {"size": (64, 64)},
        ),
        (InputError, "the sides of a signal, --size 1000 .*; got \\(3, 4\\)", signals, "a.pt2", {"size": (3, 4)}),
        (InputError, "cuts pictures to 12 x 12 pixels; size is 20", clf, "a.pt2", {"size": 20}),
        (InputError, "give one of them", clf, "a.pt2", {"size": 12, "example": x}),
        (InputError, "give example", clf.model, "a.pt2", {}),
        (InputError, "no class 'z'", clf, "a.pt2", {"targets": ["z"]}),
        (InputError, "top_k must be an integer from 1 to 3", clf, "a.pt2", {"top_k": 4}),
        (InputError, "True, False or 'pixels'", clf, "a.pt2", {"preprocessing": "bytes"}),
        (StateError, "eval mode", _Counting(), "a.pt2", {"example": x}),
        (StateError, "in another way for another number of images", _Counting().eval(), "a.pt2", {"example": x}),
        (ArgumentTypeError, "Classifier or a torch.nn.Module, not str", "resnet50", "a.pt2", {}),
    ]
    for kind, words, model, name, options in cases:
        with pytest.raises(kind, match=words):
            torchbcos.export(model, tmp_path / name, **options)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingPackageError, match=r"Writing ONNX needs the package 'onnxscript'"):
        torchbcos.export(clf, tmp_path / "why.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.pt2"]
