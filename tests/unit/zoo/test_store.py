"""Downloads from a server on this machine: whole, broken, wrong, absent, and by two at once."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import json
import os
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

import torchbcos
from torchbcos.zoo import store, to_official
from torchbcos.zoo.card import Card, official_card
from torchbcos.zoo.store import fetch, read_weights

CONTENT = bytes(range(256)) * 5000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the first `broken` answers stop half-way."""

    broken = 0
    asked = 0

    def do_GET(self) -> None:
        Server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if Server.broken:
            Server.broken -= 1
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            return
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    Server.broken = Server.asked = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/w.pth"
    digest = hashlib.sha256(CONTENT).hexdigest()[:10]
    yield Card(name="w", architecture="resnet18", file="w.pth", url=url, sha256=digest)
    server.shutdown()
    server.server_close()


def files(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "hub" / "checkpoints").iterdir())


def test_downloaded_once_and_kept(card: Card, tmp_path: Path) -> None:
    assert fetch(card, progress=False).read_bytes() == CONTENT
    assert fetch(card, progress=False).read_bytes() == CONTENT
    assert Server.asked == 1 and files(tmp_path) == ["w.pth"]


def test_a_broken_download_starts_again(card: Card, tmp_path: Path) -> None:
    Server.broken = 2
    assert fetch(card, progress=False).read_bytes() == CONTENT
    assert Server.asked == 3 and files(tmp_path) == ["w.pth"]


def test_a_damaged_file_in_the_cache_is_replaced(card: Card, tmp_path: Path) -> None:
    fetch(card, progress=False).write_bytes(b"half")
    assert fetch(card, progress=False).read_bytes() == CONTENT


def test_a_file_is_hashed_once_and_again_when_it_changed(card: Card, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    usual = store.hash_file
    monkeypatch.setattr(store, "hash_file", lambda path: hashed.append(path.name) or usual(path))  # type: ignore[func-returns-value]
    path = fetch(card, progress=False)
    for _ in range(3):
        fetch(card, progress=False)
    assert hashed.count("w.pth") == 1
    time = path.stat().st_mtime_ns
    path.write_bytes(CONTENT[::-1])  # as long as the right one
    os.utime(path, ns=(time + 1, time + 1))
    assert fetch(card, progress=False).read_bytes() == CONTENT
    assert hashed.count("w.pth") == 2 and Server.asked == 2


def test_a_wrong_hash_leaves_nothing(card: Card, tmp_path: Path) -> None:
    with pytest.raises(torchbcos.BcosError, match="does not have the hash 0000000000"):
        fetch(dataclasses.replace(card, sha256="0000000000"), progress=False)
    assert files(tmp_path) == []


def test_two_at_once(card: Card, tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(card, progress=False).read_bytes())) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [CONTENT] * 4 and files(tmp_path) == ["w.pth"]


def test_defect_40_without_a_network_the_error_says_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    card = dataclasses.replace(official_card("resnet18"), url="http://127.0.0.1:9/w.pth")
    with pytest.raises(torchbcos.BcosError, match=r"put it at .*resnet_18-68b4160fff\.pth") as caught:
        fetch(card, progress=False)
    assert "\n" not in str(caught.value)


def test_hub_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = torchbcos.create_model("cifar10_resnet20", num_classes=3).eval(), torch.rand(1, 6, 32, 32)
    torchbcos.save(model, tmp_path / "repository")

    def hf_hub_download(repository: str, name: str) -> str:
        if repository != "org/name":
            raise OSError(f"{repository} not found")
        return str(tmp_path / "repository" / name)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=hf_hub_download))
    assert torch.equal(torchbcos.create_model(weights="hf-hub:org/name").eval()(x), model(x))
    torch.testing.assert_close(torchbcos.load("hf-hub:org/name").model(x), model(x))
    with pytest.raises(torchbcos.BcosError, match="Could not fetch 'org/other'"):
        torchbcos.load("hf-hub:org/other")


def test_without_the_hub_package_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(torchbcos.BcosError, match=r"pip install 'torchbcos\[hub\]'"):
        torchbcos.load("hf-hub:org/name")


def test_damaged_cards(tmp_path: Path) -> None:
    model = torchbcos.create_model("cifar10_resnet20")
    torchbcos.save(model, tmp_path)
    path = tmp_path / "card.json"
    good = json.loads(path.read_text())
    for change, text in (
        ({"schema": 9}, "schema 9"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"architecture": None}, "'architecture' is missing"),
        ({"architecture": "resnet5"}, "no network 'resnet5'"),
        ({"num_classes": 4}, "classes"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(torchbcos.BcosError, match=text):
            torchbcos.load(tmp_path)
    path.write_text("{")
    with pytest.raises(torchbcos.BcosError, match="not valid JSON"):
        torchbcos.load(tmp_path)


def test_official_names_with_a_given_file(tmp_path: Path) -> None:
    """`_long` names share an architecture; a given file loads under the official name."""
    model = torchbcos.create_model("vitc_ti_patch1_14").eval()
    state = to_official(model)
    assert all(key.startswith("0.") for key in state)
    torch.save(state, tmp_path / "v.pth")
    again = torchbcos.create_model("vitc_ti_patch1_14", weights=tmp_path / "v.pth").eval()
    x = torch.rand(1, 6, 64, 64)
    assert torch.equal(again(x), model(x)) and len(again.class_names) == 1000


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
