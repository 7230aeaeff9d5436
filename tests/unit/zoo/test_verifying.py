"""Proofs: what holds is said to hold, and what was changed, forged or belongs elsewhere is named."""

from __future__ import annotations

import copy
import gc
import json
import pickle
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import torchbcos
from tests.reference import proofs as slow
from torchbcos._core.errors import ArgumentTypeError, InputError, MissingFileError, StateError
from torchbcos.explanation.proving import read_proof
from torchbcos.zoo.verifying import Verdict, verify

PHOTOS = Path(__file__).parents[3] / "docs" / "photos"
BUS = PHOTOS / "bus.jpg"
SCHEMA = PHOTOS.parent / "how-to" / "proof.schema.json"


@pytest.fixture(scope="module")
def classifier() -> torchbcos.Classifier:
    return torchbcos.load("imagenette", device="cpu")


@pytest.fixture(scope="module")
def proof(classifier: torchbcos.Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("proofs") / "bus.proof.json"
    return classifier.explain(BUS, ["church", "tench"], contrast="golf ball").prove(path, 0, 1, picture=BUS)


def found(verdict: Verdict) -> dict[str, bool | None]:
    return {one.what: one.agrees for one in verdict.findings}


def forged(proof: Path, path: Path, change: Any) -> Path:
    """The proof with a change, and a checksum that fits."""
    record = json.loads(proof.read_text())
    change(record)
    path.write_bytes(slow.sealed(record))
    return path


def test_a_proof_holds(proof: Path) -> None:
    verdict = verify(proof, picture=BUS, double=True)
    assert verdict.agrees and verdict.recomputed and "tench rather than golf ball in bus.jpg" in verdict.claim
    assert found(verdict) == dict.fromkeys(
        ["sum", "weights", "card", "file", "input", "logit", "constants", "map", "logit in float64", "constants in float64",
         "map in float64"], True,
    )  # fmt: skip
    assert "it holds" in str(verdict) and verdict.to_dict()["agrees"] is True
    assert proof.stat().st_size < 250_000


def test_the_slow_reader_sees_the_same(proof: Path, classifier: torchbcos.Classifier) -> None:
    record, map_ = slow.read(proof.read_bytes())
    e = classifier.explain(BUS, ["tench"], contrast="golf ball")
    exact = e.contributions[0, 0].double().numpy()
    assert np.abs(map_ - exact).max() <= 2.0**-11 * np.abs(exact).max()
    stated = read_proof(proof)
    assert np.array_equal(stated.map, map_)
    assert abs(map_.sum() - record["contribution"]) <= stated.slack + 1e-5
    assert abs(record["value"] - record["contribution"] - sum(record["constants"].values()) - record["residual"]) < 1e-5
    assert record["target"] == {"index": classifier.class_index("tench"), "label": "tench"}


def test_the_schema_says_what_is_written_and_what_is_read(proof: Path, tmp_path: Path) -> None:
    check = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    net, x = plain()
    alone = torchbcos.explain(net, x, 1, contrast=2).prove(tmp_path / "a.json")
    for path in (proof, alone):
        record = json.loads(path.read_text())
        assert list(check.iter_errors(record)) == []
        for name in record:
            assert list(check.iter_errors({key: value for key, value in record.items() if key != name}))


def test_without_a_picture_only_the_file_is_looked_at(proof: Path, classifier: torchbcos.Classifier) -> None:
    verdict = verify(proof)
    assert (
        verdict.agrees
        and not verdict.recomputed
        and found(verdict) == {"sum": True}
        and "could have written others" in str(verdict)
    )
    assert found(verify(proof, classifier)) == {"sum": True, "weights": True, "card": True}


def test_another_network_picture_or_class_is_named(proof: Path, classifier: torchbcos.Classifier, tmp_path: Path) -> None:
    other = verify(proof, "imagenet", BUS)
    assert not other.agrees and found(other)["weights"] is False and found(other)["class"] is False
    trained = copy.deepcopy(classifier)
    with torch.no_grad():
        next(trained.model.parameters()).mul_(1.01)
    verdict = verify(proof, trained, BUS)
    assert found(verdict)["weights"] is False or found(verdict)["logit"] is False
    picture = verify(proof, picture=PHOTOS / "llama.jpg")
    assert found(picture)["input"] is False and found(picture)["map"] is False and found(picture)["weights"] is True
    plain = classifier.explain(BUS, ["church"]).prove(tmp_path / "plain.json")
    chainsaw = classifier.class_index("chain saw")
    wrong = forged(plain, tmp_path / "wrong.json", lambda r: r.update(target={"index": chainsaw, "label": "chain saw"}))
    verdict = verify(wrong, picture=BUS)
    (logit,) = (one for one in verdict.findings if one.what == "logit")
    assert logit.agrees is False and "which is the logit of another class: church" in logit.said
    renamed = forged(plain, tmp_path / "renamed.json", lambda r: r["target"].update(label="tench"))
    assert found(verify(renamed, picture=BUS))["class"] is False
    beyond = forged(plain, tmp_path / "beyond.json", lambda r: r["target"].update(index=10))
    assert found(verify(beyond, picture=BUS))["class"] is False


FORGERIES: dict[str, tuple[Any, str]] = {
    "a logit": (lambda r: r.update(value=r["value"] + 1), "sum"),
    "a logit and its sum": (lambda r: r.update(value=r["value"] + 1, contribution=r["contribution"] + 1), "sum"),
    "a residual": (lambda r: r.update(residual=0.5), "sum"),
    "a hidden constant": (lambda r: r["constants"].update(mine=1.0), "sum"),
    "a share": (lambda r: r.update(share=0.5), "sum"),
    "a residual that is large": (lambda r: r.update(value=r["value"] + 1, residual=r["residual"] + 1), "sum"),
    "weights": (lambda r: r["model"].update(weights="0" * 64, file=None), "weights"),
    "a constant's name": (lambda r: r.update(constants={"b": sum(r["constants"].values())}, fixed=["b"]), "constants"),
    "pixels": (lambda r: r.update(input={**r["input"], "sha256": "0" * 64}, picture=None), "input"),
    "preprocessing": (lambda r: r["preprocess"].update(resize=200), "preprocessing"),
    "a value and a constant": (
        lambda r: r.update(value=r["value"] + 1, constants={k: v + 1 for k, v in r["constants"].items()}, share=None), "logit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries(name: str, proof: Path, tmp_path: Path) -> None:
    """A checksum that fits makes nothing true: sums are found at once, everything else by computing anew."""
    change, where = FORGERIES[name]
    path = forged(proof, tmp_path / "forged.json", change)
    verdict = verify(path, picture=BUS)
    assert found(verdict)[where] is False and not verdict.agrees and "does not hold" in str(verdict)
    assert verify(path).agrees is (where != "sum")


def test_a_map_that_is_moved_is_found_by_computing_anew(classifier: torchbcos.Classifier, proof: Path, tmp_path: Path) -> None:
    stated = read_proof(proof)

    def moved(record: dict[str, Any]) -> None:
        from torchbcos.explanation.proving import _packed

        record["map"] = _packed(np.roll(stated.map, 40, axis=0))

    path = forged(proof, tmp_path / "moved.json", moved)
    assert verify(path).agrees and found(verify(path, picture=BUS))["map"] is False


def test_whoever_forges_does_not_choose_how_far_is_near(proof: Path, tmp_path: Path) -> None:
    def moved(record: dict[str, Any]) -> None:
        more = 0.06 * max(1.0, abs(record["value"]))
        record.update(value=record["value"] + more, residual=record["residual"] + more, tolerance=0.1)

    path = forged(proof, tmp_path / "far.json", moved)
    assert found(verify(path))["sum"] is False
    assert found(verify(path, picture=BUS))["logit"] is False


def claims(proof: Path, folder: Path, change: Any, **given: Any) -> dict[str, bool | None]:
    return found(verify(forged(proof, folder / "claims.json", change), **given))


def test_what_a_forger_says_beside_the_numbers_is_compared_too(proof: Path, tmp_path: Path) -> None:
    """Precision, the share of the pixels, which constants are fixed, names: with a checksum that fits."""

    def mirrored(record: dict[str, Any]) -> None:
        from torchbcos.explanation.proving import _packed

        record["map"] = _packed(0.5 * stated.map + 0.5 * stated.map[::-1, ::-1])
        record["input"]["dtype"], record["tolerance"] = "bfloat16", 0.05

    stated = read_proof(proof)
    assert claims(proof, tmp_path, mirrored, picture=BUS)["precision"] is False
    assert claims(proof, tmp_path, mirrored, picture=BUS)["map"] is False
    renamed = claims(proof, tmp_path, lambda r: r["model"].update(name="an approved network"), model="imagenette", picture=BUS)
    assert renamed["name"] is None
    assert claims(proof, tmp_path, lambda r: r["model"].update(parameters=5), picture=BUS)["weights"] is not True


def test_the_share_and_the_fixed_constants_are_the_networks(tmp_path: Path) -> None:
    net, x = plain()
    path = torchbcos.explain(net, x[:1], 1).prove(tmp_path / "a.json")

    def all_fixed(record: dict[str, Any]) -> None:
        record.update(fixed=list(record["constants"]), share=1.0)

    assert claims(path, tmp_path, lambda r: None, model=net, input=x[:1]) == dict.fromkeys(
        ["sum", "weights", "input", "logit", "constants", "map"], True
    )
    assert claims(path, tmp_path, all_fixed, model=net, input=x[:1])["share"] is False
    assert claims(path, tmp_path, lambda r: r.update(share=None), model=net, input=x[:1])["share"] is False
    assert claims(path, tmp_path, lambda r: r["target"].update(label="cancer"), model=net, input=x[:1])["class"] is None
    with pytest.raises(ArgumentTypeError, match="input is a tensor"):
        verify(path, net, input=x[:1].numpy())  # type: ignore[arg-type]


def test_changed_weights_are_not_called_the_same(proof: Path) -> None:
    clf = torchbcos.load("imagenette", device="cpu")
    with torch.no_grad():
        next(clf.model.parameters()).mul_(1.3)
    verdict = verify(proof, clf, BUS)
    assert found(verdict)["weights"] is not True and not verdict.agrees


def test_a_network_that_is_silent_has_no_digits(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.Flatten(), nn.Linear(72, 2, bias=False))
    path = torchbcos.explain(net, torch.rand(1, 3, 8, 8), 1).prove(tmp_path / "a.json")
    verdict = verify(path, net, input=torch.zeros(1, 3, 8, 8))
    assert not verdict.agrees and found(verdict)["map"] is False


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_byte_can_be_changed(proof: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = proof.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["other", "gone", "twice", "cut"]))
    other = data.draw(st.integers(1, 255))
    spoiled = {
        "other": whole[:at] + bytes([whole[at] ^ other]) + whole[at + 1 :], "gone": whole[:at] + whole[at + 1 :],
        "twice": whole[: at + 1] + whole[at:], "cut": whole[:at],
    }[kind]  # fmt: skip
    path = tmp_path / "spoiled.json"
    path.write_bytes(spoiled)
    with pytest.raises(InputError, match=r"is no proof|was changed"):
        verify(path)


HOSTILE: dict[str, bytes] = {
    "nothing": b"", "text": b"hello", "no object": b"[1]\n", "deep": b"[" * 100_000, "a picture": BUS.read_bytes(),
    "a long number": b'{"sha256":' + b"9" * 10_000 + b"}", "NaN": b'{"a":NaN,"sha256":"x"}\n', "not ASCII": "{é}".encode(),
    "another format": slow.sealed({"format": "torchbcos proof 2"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_strangers_files_are_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "stranger.json"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(InputError):
        verify(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("map"), lambda r: r.update(more=1), lambda r: r.update(value="1"), lambda r: r.update(value=True),
        lambda r: r["map"].update(shape=[1 << 20, 1 << 20]), lambda r: r["map"].update(shape=[-1]),
        lambda r: r["map"].update(data="@@"), lambda r: r["map"].update(data=r["map"]["data"][:40]),
        lambda r: r["map"].update(scale=0), lambda r: r["map"].update(shape=[223, 224]), lambda r: r.update(target=[1]),
        lambda r: r["target"].update(index=-1), lambda r: r.update(tolerance=5), lambda r: r.update(constants={"a": None}),
        lambda r: r["input"].update(shape="big"), lambda r: r["model"].update(weights="../../etc/passwd"),
        lambda r: r.update(fixed=["x"] * 9), lambda r: r.update(fixed=["x"]), lambda r: r.update(contrast=dict(r["target"])),
        lambda r: r.update(constants={"a": 1.7e308, "b": 1.7e308}), lambda r: r["map"].update(shape=[r["map"]["shape"][0] * 224]),
        lambda r: r.update(options={"products": "all", "output": None}),
    ],
)  # fmt: skip
def test_fields_of_the_wrong_kind(change: Any, proof: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no proof"):
        verify(forged(proof, tmp_path / "odd.json", change))


def test_a_bomb_stays_packed(proof: Path, tmp_path: Path) -> None:
    import base64
    import tracemalloc
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(200_000_000), 9)).decode()
    path = forged(proof, tmp_path / "bomb.json", lambda r: r["map"].update(data=bomb))
    tracemalloc.start()
    with pytest.raises(InputError, match="does not hold"):
        verify(path)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


# -- networks without a card -------------------------------------------------------------------------------------------------


def plain() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.GELU(), nn.Flatten(), nn.Linear(5 * 36, 4)), torch.rand(2, 3, 8, 8)


def test_a_network_alone_is_verified_with_its_input(tmp_path: Path) -> None:
    net, x = plain()
    path = torchbcos.explain(net, x, [[1], [2]], contrast=3).prove(tmp_path / "a.json", 1)
    record, _ = slow.read(path.read_bytes())
    assert record["model"]["name"] is record["model"]["card"] is record["picture"] is record["preprocess"] is None
    assert verify(path, net, input=x[1], double=True).agrees and verify(path, net, input=x[1:]).agrees
    assert found(verify(path, net, input=x[0]))["input"] is False
    with pytest.raises(InputError, match=r"\(1, 3, 8, 8\)"):
        verify(path, net, input=x)
    with pytest.raises(InputError, match="Which network"):
        verify(path, input=x[1])
    with pytest.raises(InputError, match="takes no picture"):
        verify(path, net, BUS)
    with pytest.raises(InputError, match="one of them"):
        verify(path, net, BUS, input=x[1])
    with pytest.raises(ArgumentTypeError):
        verify(path, 3, input=x[1])
    net[0].weight.data.mul_(2)
    assert found(verify(path, net, input=x[1]))["weights"] is False


def test_what_cannot_be_proved(tmp_path: Path) -> None:
    net, x = plain()
    e = torchbcos.explain(net, x, 1)
    assert pickle.loads(pickle.dumps(e)).origin is None
    with pytest.raises(StateError, match="no network is known"):
        pickle.loads(pickle.dumps(e)).prove(tmp_path / "a.json")
    with pytest.raises(InputError, match="inner feature"):
        torchbcos.explain(net, x, 1, at="0").prove(tmp_path / "a.json")
    with pytest.raises(InputError, match="no \\(0, 1\\)"):
        e.prove(tmp_path / "a.json", 0, 1)
    with pytest.raises(MissingFileError):
        e.prove(tmp_path / "none" / "a.json")
    with pytest.raises(MissingFileError):
        e.prove(tmp_path / "a.json", picture=tmp_path / "none.jpg")
    with torch.no_grad():
        net[0].weight.add_(1)
    with pytest.raises(StateError, match="were changed since"):
        e.prove(tmp_path / "a.json")
    e = torchbcos.explain(net, x, 1)
    del net
    gc.collect()
    with pytest.raises(StateError, match="is gone"):
        e.prove(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MissingFileError):
        verify(tmp_path / "none.json")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6), bias=st.booleans(), b=st.sampled_from([1, 1.5, 2]), side=st.integers(5, 12),
    size=st.sampled_from([1e-6, 1.0, 1e6]), double=st.booleans(),
)  # fmt: skip
def test_every_explanation_can_be_proved(
    tmp_path: Path, seed: int, bias: bool, b: float, side: int, size: float, double: bool
) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(
        torchbcos.nn.BcosConv2d(3, 4, 3, b=b), nn.ReLU(), nn.Conv2d(4, 3, 3, bias=bias), torchbcos.nn.GlobalAveragePool()
    )  # fmt: skip
    x = size * torch.rand(1, 3, side, side)
    net, x = (net.double(), x.double()) if double else (net, x)
    path = torchbcos.explain(net, x, seed % 3).prove(tmp_path / "a.json")
    verdict = verify(path, net, input=x, double=True)
    assert verdict.agrees, str(verdict)


def test_a_scan_that_was_read_within_a_range_is_verified_within_it(classifier: torchbcos.Classifier, tmp_path: Path) -> None:
    scan = tmp_path / "scan.npy"
    np.save(scan, np.random.default_rng(0).integers(23, 4092, (200, 200, 3), dtype=np.uint16))
    path = classifier.explain([scan], ["tench"], value_range=(0, 4095)).prove(tmp_path / "a.json", picture=scan)
    assert verify(path, "imagenette", scan, value_range=(0, 4095)).agrees
    assert not verify(path, "imagenette", scan, value_range=(0, 6000)).agrees
