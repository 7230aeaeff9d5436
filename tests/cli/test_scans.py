"""Arrays, signals, volumes and scans on the command line, and what comes from a pipe."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

import torchbcos
from torchbcos._core.errors import InputError
from torchbcos.cli.__main__ import app
from torchbcos.cli.explain import parse_slices
from torchbcos.pictures import Preprocess
from torchbcos.zoo import Card, Classifier

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
RANGE = (0.0, 4095.0)


def example(name: str) -> ModuleType:
    """A module of the examples, which are no package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def classifier(kind: str, value_range: tuple[float, float] | None = None) -> Classifier:
    """A small one of two classes, for signals, grey or RGB pictures, or volumes; never trained."""
    torch.manual_seed(0)
    channels = 3 if kind == "rgb" else 1
    axes = {"signal": 1, "volume": 3}.get(kind, 2)
    if axes == 2:
        network: Any = torchbcos.create_model("cifar10_resnet20", num_classes=2, in_channels=2 * channels)
        torchbcos.recalibrate(network, [torch.rand(8, 2 * channels, 32, 32)])
    else:
        network = getattr(example("mynets"), kind)(2, 2)
        torchbcos.recalibrate(network, [torch.rand(8, 2, *((200,) if axes == 1 else (12, 16, 16)))])
    sizes: dict[str, Any] = {"resize": 32, "crop": 32} if axes == 2 else {}
    preprocess = Preprocess(raw_channels=channels, axes=axes, value_range=value_range, **sizes).to_dict()
    card = Card(name=kind, architecture="cifar10_resnet20", classes=("well", "ill"), num_classes=2,
                in_channels=2 * channels, preprocess=preprocess)  # fmt: skip
    return Classifier(network.eval(), card)


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command with a classifier of a kind, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(model: Classifier, *words: object, piped: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr("torchbcos.zoo.load", lambda *_, **__: model)
        result = CliRunner().invoke(app, [str(w) for w in words], prog_name="torchbcos", input=piped)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def twelve(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)


INPUTS = {"signal": (1, 200), "grey": (40, 48), "rgb": (3, 40, 48), "volume": (12, 16, 16)}


@pytest.mark.parametrize("kind", INPUTS)
def test_arrays_are_explained(kind: str, call: Call) -> None:
    """What the card says of the range is used; `--range` says otherwise; the numbers are those of Python."""
    array = twelve(*INPUTS[kind])
    np.save("a.npy", array)
    model = classifier(kind, RANGE)
    code, out, err = call(model, "explain", "a.npy", "--json", "--arrays", "--top-k", 2)
    assert (code, err) == (0, ""), err
    [record] = json.loads(out)
    expected = model.explain("a.npy", top_k=2)
    for k, e in enumerate(record["explanations"]):
        assert e["value"] == pytest.approx(float(expected.values[0, k]), abs=1e-5) and abs(e["residual"]) < 1e-4
        with Image.open(e["picture"]) as picture:
            assert picture.width > 600 and picture.getextrema() != ((255, 255),) * 3
        with np.load(e["arrays"]) as arrays:
            assert arrays["weights"].shape == (1, 1, *expected.weights.shape[2:])
            np.testing.assert_allclose(arrays["weights"][0, 0], expected.weights[0, k].numpy(), atol=1e-6)
            assert arrays["targets"].tolist() == [[e["index"]]]
    spoken = call(model, "explain", "a.npy", "--arrays", "--top-k", 2)[1]
    assert [f"    the numbers -> {e['arrays']}\n" in spoken for e in record["explanations"]] == [True, True]
    np.save("b.npy", array // 2)
    half = json.loads(call(model, "predict", "b.npy", "--range", "0..2047.5", "--json")[1])[0]
    assert half["predictions"][0]["logit"] == pytest.approx(record["predictions"][0]["logit"], abs=0.02)
    assert half["predictions"][0]["logit"] != pytest.approx(
        json.loads(call(model, "predict", "b.npy", "--json")[1])[0]["predictions"][0]["logit"], abs=0.02
    )
    [again] = json.loads(call(classifier(kind), "predict", "a.npy", "--range", "0..4095", "--json")[1])
    assert again["predictions"] == json.loads(call(model, "predict", "a.npy", "--json")[1])[0]["predictions"]


def test_what_the_reader_of_a_scan_noted_is_said_once(call: Call) -> None:
    nib = pytest.importorskip("nibabel")
    for i in range(3):
        image = nib.Nifti1Image(np.random.default_rng(i).integers(0, 255, (16, 16, 12)).astype(np.uint8), None)
        image.header["qform_code"] = image.header["sform_code"] = 0
        nib.save(image, f"{i}.nii.gz")
    for words in (["predict"], ["explain"], ["predict", "--json"]):
        code, out, err = call(classifier("volume"), *words, ".")
        assert code == 0 and err.count("'0.nii.gz': The file does not say how it is oriented") == 1, err
        assert err.count("oriented") == 1 and err.count("(Said once.)") == 1
    assert all("oriented" in record["scan"]["notes"][0] for record in json.loads(out))


def test_a_16_bit_picture_is_brought_into_its_range_once(call: Call) -> None:
    Image.fromarray(twelve(40, 48)).save("a.png")
    for kind in ("grey", "rgb"):
        model = classifier(kind, RANGE)
        [record] = json.loads(call(model, "predict", "a.png", "--json")[1])
        assert record["predictions"][0]["logit"] == pytest.approx(model.predict("a.png")[0][0].logit, abs=1e-5)
        assert "warning" not in record
        assert json.loads(call(classifier(kind), "predict", "a.png", "--range", "0..4095", "--json")[1])[0] == record


@pytest.mark.parametrize(("kind", "word"), [("signal", "signals of 1 channel"), ("volume", "volumes of 1 channel")])
def test_a_photo_is_refused_by_what_takes_none(kind: str, word: str, call: Call) -> None:
    Image.new("RGB", (20, 20)).save("photo.png")
    np.save("good.npy", np.random.default_rng(0).random(INPUTS[kind], np.float32))
    code, out, err = call(classifier(kind), "explain", "photo.png", "good.npy")
    assert code == 1 and f"1 of 2 {kind}s done." in out and err.count("\n") == 1 and f"takes {word}" in err and "photo.png" in err
    np.save("wrong.npy", np.zeros((5, 5, 5, 5), np.float32))
    assert "wrong.npy" in call(classifier(kind), "predict", "wrong.npy")[2]


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_another_size_than_was_trained_on_is_said(command: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once on the terminal, in every record, and not as a warning of Python's."""
    monkeypatch.setattr("torchbcos.zoo.sizes._said", set())
    known = classifier("signal")
    model = Classifier(known.model, dataclasses.replace(known.card, notes={"example": [1, 200]}))
    for name, length in (("a", 200), ("b", 300), ("c", 100)):
        np.save(f"{name}.npy", np.random.default_rng(0).random((length,), np.float32))
    words = ("a.npy", "b.npy", "c.npy", "--batch-size", 1) if command == "predict" else ("a.npy", "b.npy", "c.npy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out, err = call(model, command, *words, "--json")
    said = "This model was trained on signals of 200 samples; this one has "
    assert code == 0 and err == f"torchbcos: 'b.npy': {said}300. Its answer may mean little. (Said once.)\n", err
    assert [record.get("warning") for record in json.loads(out)] == [
        None,
        *(f"{said}{n}. Its answer may mean little." for n in (300, 100)),
    ]


def test_folders_are_searched_for_what_the_model_takes(call: Call) -> None:
    Path("in", "deep").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save("in/photo.png")
    np.save("in/deep/a.npy", np.random.default_rng(0).random((200,), np.float32))
    [record] = json.loads(call(classifier("signal"), "predict", "in", "--json")[1])
    assert record["file"] == "in/deep/a.npy" and record["error"] is None
    [record] = json.loads(call(classifier("rgb"), "predict", "in", "--json")[1])
    assert record["file"] == "in/photo.png" and record["error"] is None
    Path("none").mkdir()
    code, _, err = call(classifier("volume"), "predict", "none")
    assert code == 2 and "holds no volumes; files ending in .npy" in err


def test_slices_and_axes(call: Call) -> None:
    np.save("v.npy", np.random.default_rng(0).random((12, 16, 20), np.float32))
    model, pictures = classifier("volume"), {}
    for name, words in {"plain": (), "slices": ("--slices", "1,3..5"), "axis": ("--axis", 2, "--slices", "19")}.items():
        code, out, err = call(model, "explain", "v.npy", "--out", name, "--json", *words)
        assert (code, err) == (0, ""), err
        pictures[name] = Path(json.loads(out)[0]["explanations"][0]["picture"]).read_bytes()
    assert len(set(pictures.values())) == 3
    code, out, err = call(model, "explain", "v.npy", "--slices", "12")
    assert code == 1 and "v.npy" in err and "0 to 11" in err
    for words, said in (
        (("--slices", "a"), "--slices are numbers from 0 and spans of them, as in 10,20,30 or 10..15; got 'a'."),
        (("--axis", 3), "Invalid value for '--axis'"),
    ):
        assert call(model, "explain", "v.npy", *words)[0] == 2 and said in call(model, "explain", "v.npy", *words)[2]
    np.save("s.npy", np.random.default_rng(0).random((200,), np.float32))
    code, _, err = call(classifier("signal"), "explain", "s.npy", "--axis", 1, "--slices", "3")
    assert code == 2 and "--axis and --slices are for volumes, and this model takes signals of 1 channel" in err


@given(st.lists(st.integers(0, 10**20) | st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=5))
def test_slices_as_they_are_typed(parts: list[Any]) -> None:
    text = ",".join(f"{part[0]}..{part[1]}" if isinstance(part, tuple) else str(part) for part in parts)
    expected = [n for part in parts for n in (range(part[0], part[1] + 1) if isinstance(part, tuple) else [part])]
    bad = any(isinstance(part, tuple) and part[0] > part[1] for part in parts) or any(n > 10**18 - 1 for n in expected)
    if bad or len(expected) > 64:
        with pytest.raises(InputError, match="--slices"):
            parse_slices(text)
    else:
        assert parse_slices(text) == expected


@pytest.mark.parametrize("suffix", ["png", "pdf", "jpg", "webp"])
def test_formats(suffix: str, call: Call) -> None:
    Image.new("RGB", (20, 20), "red").save("a.png")
    words = ("explain", "a.png", "--format", suffix)
    if suffix == "webp":
        code, _, err = call(classifier("rgb"), *words, "--dpi", 300)
        assert code == 2 and "--dpi is for png, jpg and pdf" in err and not Path("explanations").exists()
    code, out, err = call(classifier("rgb"), *words, *(() if suffix == "webp" else ("--dpi", 300)))
    assert (code, err) == (0, "") and f"a.png.{'well' if 'why well' in out else 'ill'}.{suffix}" in out
    [path] = Path("explanations").iterdir()
    if suffix == "pdf":
        assert path.read_bytes().startswith(b"%PDF-")
    else:
        with Image.open(path) as picture:
            assert picture.info.get("dpi", (300,))[0] == pytest.approx(300, abs=0.1)
    again = call(classifier("rgb"), "explain", "a.png", "--format", suffix, "--skip-existing", "--json")[1]
    assert json.loads(again)[0]["skipped"] == [str(path)]


def test_scans_of_a_hospital(call: Call) -> None:
    pytest.importorskip("pydicom")
    pytest.importorskip("nibabel")
    scans, argv = example("make_scans"), sys.argv
    sys.argv = ["make_scans.py", "scans", "--count", "1"]
    try:
        scans.main()
    finally:
        sys.argv = argv
    volume = classifier("volume")
    code, out, err = call(volume, "explain", "scans/series", "--json", "--slices", "10..13")
    assert (code, err) == (0, ""), err
    records = json.loads(out)
    assert [record["file"] for record in records] == ["scans/series/cube/00", "scans/series/sphere/00"]
    assert all(r["scan"]["format"] == "dicom" and r["scan"]["window"] == [-160.0, 239.0] for r in records)
    assert "scan" not in records[0]["crop"]
    code, out, err = call(volume, "predict", "scans/nifti/cube/00.nii.gz", "--range", "-160..240")
    assert (code, err) == (0, "") and "window -160 to 240" in out
    assert "of which the voxels carry" in call(volume, "explain", "scans/nifti/cube", "--range", "-160..240")[1]
    for kind in ("grey", "rgb"):
        code, out, err = call(classifier(kind), "explain", "scans/slices", "--out", kind)
        assert (code, err) == (0, "") and "2 of 2 pictures done." in out and out.count("window -160 to 239 HU") == 2, err
    [piped] = json.loads(
        call(classifier("grey"), "predict", "-", "--json", piped=Path("scans/slices/cube/00.dcm").read_bytes())[1]
    )
    assert piped["file"] == "stdin" and piped["scan"]["unit"] == "HU"


# -- what comes from a pipe ---------------------------------------------------------------------------------------------


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    np.save(file, array) if kind == "npy" else Image.fromarray(array).save(file, kind)
    return file.getvalue()


def test_a_picture_from_a_pipe(call: Call) -> None:
    data = encoded(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    Path("a.png").write_bytes(data)
    model = classifier("rgb")
    [file] = json.loads(call(model, "predict", "a.png", "--json")[1])
    [piped] = json.loads(call(model, "predict", "-", "--json", piped=data)[1])
    assert piped == file | {"file": "stdin"}
    code, out, err = call(model, "explain", "-", "a.png", "-", piped=data)
    assert (code, err) == (0, "") and "2 of 2 pictures done." in out
    assert sorted(path.name.partition(".")[0] for path in Path("explanations").iterdir()) == ["a", "stdin"]
    Path("stdin.png").write_bytes(data)  # a file of that name beside it
    call(model, "explain", "-", "stdin.png", "--class", "ill", "--out", "both", piped=data)
    assert len(list(Path("both").iterdir())) == 2
    [signal] = json.loads(call(classifier("signal"), "predict", "-", "--json", piped=encoded(np.full(99, 0.5), "npy"))[1])
    assert signal["error"] is None


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "stdin is empty (0 bytes)"), (b"<!DOCTYPE html>404", "stdin is no picture that can be read: it contains HTML"),
     (b"\x89PNG\r\n\x1a\n" + b"x" * 99, "stdin ends early")],
)  # fmt: skip
def test_what_is_no_picture_from_a_pipe(data: bytes, said: str, call: Call) -> None:
    code, out, err = call(classifier("rgb"), "explain", "-", piped=data)
    assert code in (1, 2) and out.count("\n") <= 1 and err.count("\n") == 1 and said in err and not Path("explanations").exists()
    code, out, _ = call(classifier("rgb"), "explain", "-", "--json", piped=data)
    [record] = json.loads(out)
    assert code in (1, 2) and record["file"] == "stdin" and said in record["error"]


def test_a_pipe_is_read_as_far_as_files_are(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchbcos.pictures.read.MAX_BYTES", 1000)
    data = encoded(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    code, _, err = call(classifier("rgb"), "predict", "-", piped=data)
    assert code == 2 and "stdin has more than the 1,000 bytes that are read" in err


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["array", "float", "photo", "text", "cut", "objects", "absent"]), min_size=1, max_size=4),
    piped=st.sampled_from([None, "good", "text"]),
    model=st.sampled_from(["signal", "grey"]),
)
def test_any_mixture_of_inputs(kinds: list[str], piped: str | None, model: str, call: Call, tmp_path: Path) -> None:
    """One record each, one sentence for each that is bad, and an exit code that says whether there is one."""
    good = {"array", "float"} | ({"photo"} if model == "grey" else set())
    shape = INPUTS[model]
    contents = {
        "array": encoded(np.random.default_rng(0).integers(0, 256, shape, np.uint8), "npy"),
        "float": encoded(np.random.default_rng(0).random(shape, np.float32), "npy"),
        "photo": encoded(np.zeros((20, 20, 3), np.uint8)), "text": b"no array", "cut": encoded(twelve(999), "npy")[:300],
        "objects": b"",
    }  # fmt: skip
    contents["objects"] = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (3,), }".ljust(127) + b"\n"
    paths = []
    for i, kind in enumerate(kinds):
        paths.append(tmp_path / f"{i}-{kind}{'.png' if kind == 'photo' else '.npy'}")
        paths[-1].unlink(missing_ok=True)
        if kind != "absent":
            paths[-1].write_bytes(contents[kind])
    data = {"good": contents["float"], "text": b"nothing", None: b""}[piped]
    words = [*paths, *(["-"] if piped else [])]
    code, out, err = call(classifier(model), "predict", *words, "--json", piped=data)
    records = json.loads(out)
    bad = [kind for kind in kinds if kind not in good] + (["text"] if piped == "text" else [])
    assert len(records) == len(words) == len({record["file"] for record in records})
    assert sum(record["error"] is not None for record in records) == len(bad) == len(err.splitlines()), err
    nothing = all(kind == "absent" for kind in kinds) and piped != "good"
    assert code == (2 if nothing else 1 if bad else 0)
    for record in records:
        assert (record["error"] is None) == bool(record["predictions"]), record
