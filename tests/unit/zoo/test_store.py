"""Downloads from a server on this machine: whole, broken, wrong, absent, and by two at once."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import itertools
import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

import torchbcos
from torchbcos._core.claim import LOCK, claimed
from torchbcos._core.errors import StateError, WeightsError
from torchbcos.zoo import store, to_official
from torchbcos.zoo.card import Card, official_card
from torchbcos.zoo.store import fetch, open_folder, read_folder, read_weights

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


def test_without_the_hub_package_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(torchbcos.BcosError, match=r"in a clone of torchbcos, pip install '\.\[hub\]'"):
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


# -- model folders ---------------------------------------------------------------------------------------


def numbered(number: int, folder: Path) -> None:
    """A model folder whose weights and classes all say one number; as large as any other of them."""
    network = torchbcos.create_model("cifar10_resnet20", num_classes=2)
    for tensor in network.state_dict().values():
        tensor.fill_(number + 1)
    network.class_names = (f"a{number}", f"b{number}")
    torchbcos.save(network, folder)


def test_a_reader_in_between_never_gets_weights_with_the_classes_of_others(tmp_path: Path) -> None:
    numbered(0, tmp_path)
    stop = threading.Event()

    def write() -> None:
        for number in itertools.count(1):
            if stop.is_set():
                return
            numbered(number % 50, tmp_path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        while len(seen) < 10:
            try:
                state, card = read_folder(tmp_path)
            except WeightsError as error:
                assert "was written again while it was read" in str(error)
                continue
            assert card.class_names()[0] == f"a{int(state['conv1.weight'].max()) - 1}"
            seen.add(card.class_names())
    finally:
        stop.set()
        writer.join()


def test_a_card_of_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PAUSE", 0.001)
    numbered(1, tmp_path / "one")
    numbered(2, tmp_path / "two")
    card = tmp_path / "one" / "card.json"
    own = card.read_text("utf-8")
    card.write_text((tmp_path / "two" / "card.json").read_text("utf-8"), "utf-8")
    with pytest.raises(torchbcos.BcosError, match=r"was written for other weights .*take its field 'digest' out"):
        torchbcos.load(tmp_path / "one")
    card.write_text(own.replace("a1", "an edited name"), "utf-8")  # a card may be edited
    assert torchbcos.load(tmp_path / "one").class_names == ("an edited name", "b1")
    values = json.loads(own)
    del values["digest"]  # as cards were before
    card.write_text(json.dumps(values), "utf-8")
    assert torchbcos.load(tmp_path / "one").class_names == ("a1", "b1")


def test_the_same_model_is_saved_as_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        numbered(3, tmp_path / folder)
    for name in ("card.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_weights_exchanged_while_they_are_read_are_refused(tmp_path: Path) -> None:
    numbered(1, tmp_path)
    file, _ = open_folder(tmp_path)
    numbered(2, tmp_path)
    with pytest.raises(torchbcos.BcosError, match="was written again while it was read"):
        file.read()


def test_a_flipped_bit_of_the_weights_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PAUSE", 0.001)
    numbered(1, tmp_path)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(torchbcos.BcosError, match="or these are damaged"):
        torchbcos.load(tmp_path)


def test_a_card_that_points_elsewhere_is_named(tmp_path: Path) -> None:
    numbered(1, tmp_path)
    (tmp_path / "card.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n")
    with pytest.raises(torchbcos.BcosError, match=r"card\.json' is only a pointer of Git LFS.*git lfs pull"):
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


def test_of_two_who_save_into_one_folder_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the one lay beside the classes of the other, six times of twenty-five."""
    network, folder = torchbcos.create_model("cifar10_resnet20", num_classes=2), tmp_path / "model"
    monkeypatch.setattr(store, "_TURN", 0.05)
    with claimed(folder, "saves a model"):
        with pytest.raises(StateError, match="Another process saves a model here"):
            torchbcos.save(network, folder)
        assert [path.name for path in folder.iterdir()] == [LOCK]
        monkeypatch.setattr(store, "_TURN", 30.0)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(torchbcos.save, network, folder)
            assert not waiting.done()
            folder.joinpath(LOCK).unlink()  # as the holder does at its end
            waiting.result(30)
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors"]


def test_names_that_share_a_prefix(tmp_path: Path) -> None:
    """Checkpoints of a trainer that holds the network in an attribute of its own."""
    network = torchbcos.create_model("cifar10_resnet20", num_classes=3)
    kept = {"state_dict": {f"learner.net.{name}": value for name, value in network.state_dict().items()}, "epoch": 3}
    torch.save(kept, tmp_path / "last.ckpt")
    found = torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "last.ckpt", num_classes=3)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in found.state_dict().items())
    with pytest.raises(WeightsError, match="has 3 classes, the network has 10"):
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "last.ckpt")
    kept["state_dict"]["criterion.weight"] = torch.ones(3)
    torch.save(kept, tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match="does not belong to this network"):  # more than the network's
        torchbcos.create_model("cifar10_resnet20", weights=tmp_path / "last.ckpt", num_classes=3)
