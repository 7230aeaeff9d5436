"""benchmarks/conversion reads the weights of a stranger safely, and docs say what its JSON files hold."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torchbcos
from torchbcos.functional import add_inverse

torchvision = pytest.importorskip("torchvision")
from benchmarks.conversion import real, squeezenet, untrained  # noqa: E402

ROOT = Path(__file__).parents[1]
PAGE, FOLDER = ROOT / "docs" / "how-to" / "convert.md", ROOT / "benchmarks" / "conversion"
_FIRE = ("squeeze1x1", "expand1x1", "expand3x3")


def tiny() -> dict[str, list[np.ndarray[Any, Any]]]:
    """What the file of the package `ndf` looks like, with layers of four channels and ten classes."""
    draw = np.random.default_rng(0)

    def layer(side: int, inputs: int, outputs: int) -> list[np.ndarray[Any, Any]]:
        weight = draw.normal(0, (side * side * inputs) ** -0.5, (side, side, inputs, outputs))
        return [weight.astype(np.float32), draw.normal(0, 0.1, outputs).astype(np.float32)]

    found = {"conv1": layer(3, 3, 8), "conv10": layer(1, 8, 10)}
    for number in range(2, 10):
        sizes = (layer(1, 8, 4), layer(1, 4, 4), layer(3, 4, 4))
        found |= {f"fire{number}/{part}": one for part, one in zip(_FIRE, sizes, strict=True)}
    return found


def written(path: Path, value: object, protocol: int = 3) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def test_a_tiny_file_opens_and_converts(tmp_path: Path) -> None:
    arrays = tiny()
    model = squeezenet.network(written(tmp_path / "squeezenet_weights.pkl", arrays))
    weight = model.state_dict()["features.3.expand3x3.weight"]
    assert torch.equal(weight, torch.tensor(arrays["fire2/expand3x3"][0]).permute(3, 2, 0, 1))
    first = model.state_dict()["features.0.weight"]  # pictures are RGB, and the file takes BGR
    assert torch.equal(first[:, 0], torch.tensor(arrays["conv1"][0][:, :, 2]).permute(2, 0, 1))
    x = torch.rand(2, 3, 47, 47, generator=torch.Generator().manual_seed(0))
    settings = {"mean": squeezenet.MEAN, "std": squeezenet.STD, "example": x}
    kept, _ = torchbcos.bcosify(model, b=1, biases="keep", **settings)
    normal = (x - torch.tensor(squeezenet.MEAN).view(3, 1, 1)) / torch.tensor(squeezenet.STD).view(3, 1, 1)
    with torch.no_grad():
        before, after = model(normal), kept(add_inverse(x))
    assert before.shape == (2, 10) and float((before - after).abs().max()) <= 1e-5 * float(before.max() - before.min())
    _, report = torchbcos.bcosify(model, b={"expand": 1.5, "*.expand3x3": 1.5}, **settings)
    assert report.constants == {} and report.share == pytest.approx(1, abs=1e-4)


def test_sizes_are_those_of_torchvision() -> None:
    """The layers that a file fills are all that torchvision's SqueezeNet 1.1 has."""
    state = squeezenet.state_of({name: [torch.tensor(one) for one in pair] for name, pair in tiny().items()})
    assert set(state) == set(torchvision.models.squeezenet1_1().state_dict())


class _Calls:
    """A pickle of this calls a function when it is read."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_anything_else_is_refused(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "was-here"
    for name, bad in (
        ("mkdir", _Calls(os.mkdir, str(mark))), ("eval", _Calls(eval, "1 + 1")),
        ("getattr", _Calls(getattr, str, "format")), ("load", _Calls(np.load, "x.npy")),
    ):  # fmt: skip
        path = written(tmp_path / f"{name}.pkl", {**tiny(), "conv1": [bad]}, protocol)
        with pytest.raises(ValueError, match=rf"{name}\.pkl is refused as a pickle of arrays: it asks for \S+\.{name}$"):
            squeezenet.read_arrays(path)
    assert not mark.exists()
    pickle.loads((tmp_path / "mkdir.pkl").read_bytes())  # the plain reader does what it says: the fault is a real one
    assert mark.exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "not a table of arrays"), ({"conv1": 3}, "not a table of arrays"), ({"a": [1.0]}, "not a table of arrays"),
        ({"conv1": [np.array([{}], dtype=object)]}, "not float32 or float64"), ({"a": [np.arange(3)]}, "not float32 or float64"),
    ],
)  # fmt: skip
def test_other_contents_are_refused(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        squeezenet.read_arrays(written(tmp_path / "w.pkl", value))


def test_what_is_cut_or_large_or_short_of_layers_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pkl", tiny())
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"\x80\x03}", whole.replace(b"K\x08\x85", b"K\x09\x85")):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is refused as a pickle of arrays"):
            squeezenet.read_arrays(path)
    with path.open("wb") as file:
        file.truncate(2**25 + 1)
    with pytest.raises(ValueError, match="larger than 32 MiB"):
        squeezenet.read_arrays(path)
    one = np.zeros(2**20, np.float64)
    with pytest.raises(ValueError, match="larger than 32 MiB together"):  # one array, named many times
        squeezenet.read_arrays(written(tmp_path / "many.pkl", {str(n): [one] for n in range(5)}))
    with pytest.raises(ValueError, match="26 layers"):
        squeezenet.state_of({"conv1": [torch.zeros(3, 3, 3, 8), torch.zeros(8)]})


@pytest.mark.parametrize(("name", "table"), [("real.json", real.markdown), ("untrained.json", untrained.markdown)])
def test_tables_are_current(name: str, table: Any) -> None:
    rows = json.loads((FOLDER / name).read_text("utf-8"))
    page = PAGE.read_text("utf-8")
    assert table(rows) in page, f"put the table of {name} into {PAGE.name}: its script prints it with --markdown"
    last = list(rows)[-1]
    changed = {**rows, last: json.loads(json.dumps(rows[last]).replace('"top1":', '"was":', 1))}
    changed[last]["top1"] = {"given": 1.25, "kept": 1.25, "norm": 1.25, "wide": 1.25} if name == "real.json" else 1.25
    assert table(changed) not in page  # the test can fail


def test_rows_keep_what_every_conversion_must() -> None:
    rows = json.loads((FOLDER / "real.json").read_text("utf-8"))
    assert set(rows) == set(real._FILES) and not [fault for row in rows.values() for fault in real.broken(row)]
    one = rows["squeezenet1_1"]
    assert real.broken({**one, "float64": 1e-9, "constants": {**one["constants"], "norm": ["bias"]}}) == [
        "float64 1.0e-09", "constants with norm biases",
    ]  # fmt: skip
