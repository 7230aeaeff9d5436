"""Saving, loading, and files that are not what they should be."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

import torchbcos
from torchbcos.zoo.official import to_official
from torchbcos.zoo.store import read_weights


def small(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    model = torchbcos.create_model("cifar10_resnet20", **options)  # type: ignore[arg-type]
    torchbcos.recalibrate(model, [torch.rand(8, 6, 32, 32)])
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


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("empty.pth", b"", "is empty"),
        ("page.pth", b"<!DOCTYPE html><html>", "web page"),
        ("noise.pth", b"\x80\x02" + bytes(range(256)), "objects or code|damaged"),
        ("noise.safetensors", b"\xff" * 64, "truncated or damaged"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(torchbcos.BcosError, match=text):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / name)


def test_truncated_pickled_and_foreign_weights(tmp_path: Path) -> None:
    model = small()
    torch.save(to_official(model), tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(torchbcos.BcosError, match="truncated or damaged"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "cut.pth")
    with pytest.raises(torchbcos.BcosError, match="does not belong to this network"):
        torchbcos.create_model("cifar10_resnet32", weights=tmp_path / "w.pth")
    with pytest.raises(torchbcos.BcosError, match="10 classes, the network has 5"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "w.pth", num_classes=5)
    torch.save({"a": Path("x")}, tmp_path / "objects.pth")
    with pytest.raises(torchbcos.BcosError, match="objects or code"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "objects.pth")
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump(print, file)
    with pytest.raises(torchbcos.BcosError):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "evil.pth")
    with pytest.raises(torchbcos.BcosError, match="no weights file"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "absent.pth")


def test_mutated_safetensors_crash_nothing(tmp_path: Path) -> None:
    path, rng = tmp_path / "m.safetensors", np.random.default_rng(0)
    whole = save({"a": torch.rand(3, 4), "b": torch.rand(5)})
    read = refused = 0
    for _ in range(int(os.environ.get("TORCHBCOS_MUTATIONS", "600"))):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        path.write_bytes(data[: int(rng.integers(1, len(data) + 1))] if rng.random() < 0.5 else data)
        try:
            read_weights(path)
            read += 1
        except torchbcos.BcosError as error:
            assert len(str(error)) <= 500
            refused += 1
    assert read and refused


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
    assert not list((tmp_path / "m").iterdir())


def test_the_embedded_classifier() -> None:
    classifier = torchbcos.load()
    assert classifier.class_names[:2] == ("tench", "English springer") and len(classifier.class_names) == 10
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 150, 3), np.uint8))
    [[best, second]] = classifier.predict(photo, top_k=2)
    assert best.logit >= second.logit and 0 <= second.probability <= best.probability <= 1
    e = classifier.explain([photo, photo], ["tench", 3])
    assert e.targets.tolist() == [[0], [3]] and float(e.residual.abs().max()) <= 1e-4
    assert e.class_names == classifier.class_names
    assert len(list(classifier.iter_explain([photo] * 5, batch_size=2))) == 3
    with pytest.raises(torchbcos.BcosError, match="Did you mean 'tench'"):
        classifier.explain(photo, "tensh")
