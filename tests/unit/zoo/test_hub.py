"""Models of the hub: two files of one revision, a short patience, one sentence."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch

import torchbcos
from torchbcos._core.errors import InputError, WeightsError
from torchbcos.zoo.hub import fetch_folder

FILES = ("card.json", "model.safetensors")


class Answered(Exception):
    """What huggingface_hub raises for an answer that is no file."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} Client Error\n\nmore lines")
        self.response = types.SimpleNamespace(status_code=status)


class Hub:
    """A hub with one repository, whose branches are folders beside each other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reachable, self.asked = folder, True, list[str]()
        self.branches = {None: "a1", "main": "a1", "v2": "b2"}

    def hf_hub_url(self, repository: str, name: str, *, revision: str | None) -> str:
        return f"{repository} {name} {revision}"

    def get_hf_file_metadata(self, url: str, *, timeout: float) -> Any:
        repository, _, revision = url.split()
        assert timeout <= 10
        if not self.reachable:
            raise ConnectionError("no route\nto the host")
        if repository != "org/name" or (None if revision == "None" else revision) not in self.branches:
            raise Answered(404)
        if repository == "org/broken":
            raise Answered(503)
        return types.SimpleNamespace(commit_hash=self.branches[None if revision == "None" else revision])

    def hf_hub_download(self, repository: str, name: str, *, revision: str | None, local_files_only: bool) -> str:
        assert local_files_only is not self.reachable
        self.asked.append(name)
        path = self.folder / (self.branches[revision] if local_files_only else str(revision)) / name
        if not path.is_file():
            raise FileNotFoundError("no such file in the cache\nat all")
        return str(path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", found)  # type: ignore[arg-type]
    for name, classes in (("a1", 3), ("b2", 4)):
        torchbcos.save(torchbcos.create_model("cifar10_resnet20", num_classes=classes), tmp_path / name)
    return found


def test_a_model_of_a_revision(hub: Hub) -> None:
    x = torch.rand(1, 6, 32, 32)
    for source, classes in (("hf-hub:org/name", 3), ("hf-hub:org/name@main", 3), ("hf-hub:org/name@v2", 4)):
        assert torchbcos.create_model(weights=source).eval()(x).shape == (1, classes)
        assert len(torchbcos.load(source, device="cpu").class_names) == classes
    assert set(hub.asked) == set(FILES)  # and nothing else of the repository
    hub.reachable = False
    assert torchbcos.create_model(weights="hf-hub:org/name").num_classes == 3  # from the cache


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("hf-hub:org/other", r"'org/other' from the hub: there is no such repository, revision or file"),
        ("hf-hub:org/name@v3", r"'org/name@v3' from the hub: there is no such repository"),
    ],
)
def test_what_the_hub_has_not(hub: Hub, source: str, text: str) -> None:
    with pytest.raises(WeightsError, match=text) as caught:
        torchbcos.load(source)
    assert "\n" not in str(caught.value)
    hub.reachable = False
    (hub.folder / "a1" / "card.json").unlink()
    with pytest.raises(WeightsError, match="it is out of reach, and the local cache has no such model"):
        torchbcos.load("hf-hub:org/name")


@pytest.mark.parametrize(
    "source",
    [
        "hf-hub:", "hf-hub:name", "hf-hub:../../etc", "hf-hub:a/b/c", "hf-hub:a/b@../x", "hf-hub:a/b@", "hf-hub:a/b\x1b",
        "hf-hub:a/" + "b" * 5000,
    ],
)  # fmt: skip
def test_sources_are_written_like_this(hub: Hub, source: str) -> None:
    with pytest.raises(InputError, match="A source on the hub is 'hf-hub:org/name' or 'hf-hub:org/name@revision', not") as caught:
        torchbcos.load(source)
    assert "\x1b" not in str(caught.value) and hub.asked == []


def test_a_hub_out_of_reach_is_one_sentence_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """The real package; left to itself it asks six times, for 23 seconds, and prints twelve lines."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    begun = time.perf_counter()
    with pytest.raises(WeightsError, match="'org/name' from the hub: it is out of reach, and the local cache has no such model"):
        fetch_folder("hf-hub:org/name", FILES)
    assert time.perf_counter() - begun < 6
    assert capfd.readouterr() == ("", "")
