"""The service: the same answers over HTTP, and what it refuses."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import torchbcos
from torchbcos.service import Limits, app
from torchbcos.service.application import Service
from torchbcos.service.refusals import Refused
from torchbcos.zoo.records import explained, predicted

pytest.importorskip("starlette")
pytest.importorskip("httpx")
testclient = pytest.importorskip("starlette.testclient")

PHOTOS = Path(__file__).parents[3] / "docs" / "photos"
DATA = (PHOTOS / "bus.jpg").read_bytes()
RAW = {"content-type": "image/jpeg"}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with testclient.TestClient(app(["imagenette"], device="cpu", hosts=["testserver"])) as found:
        yield found


@pytest.fixture(scope="module")
def direct() -> torchbcos.Classifier:
    return torchbcos.load("imagenette", device="cpu")


def same(mine: Any, theirs: Any) -> bool:
    """Alike, numbers to six digits; "file" and "picture" are of whoever asks."""
    if isinstance(mine, dict):
        left, right = ({k: v for k, v in one.items() if k not in ("file", "picture", "maps")} for one in (mine, theirs))
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(mine, list):
        return len(mine) == len(theirs) and all(map(same, mine, theirs))
    if isinstance(mine, float):
        return bool(abs(mine - theirs) <= 1e-5)
    return bool(mine == theirs)


def test_predictions_are_those_of_the_library(client: Any, direct: torchbcos.Classifier) -> None:
    answer = client.post("/v1/predict?top_k=3", content=DATA, headers=RAW)
    assert answer.status_code == 200
    (wanted,) = predicted(direct, ["picture"], [PHOTOS / "bus.jpg"], top_k=3)
    assert same(answer.json(), wanted)
    assert not same(answer.json(), {**wanted, "undecided": not wanted["undecided"]})


@pytest.mark.parametrize("query", ["", "?class=church&class=tench&contrast=golf%20ball", "?top_k=3"])
def test_explanations_are_those_of_the_library(client: Any, direct: torchbcos.Classifier, query: str) -> None:
    answer = client.post(f"/v1/explain{query}", files={"picture": ("../../etc/passwd", DATA)})
    assert answer.status_code == 200
    targets = [direct.class_index(name) for name in ("church", "tench")] if "church" in query else None
    contrast = direct.class_index("golf ball") if "contrast" in query else None
    (wanted,) = explained(
        direct, ["picture"], [PHOTOS / "bus.jpg"], targets, top_k=3 if "top_k" in query else 1, contrast=contrast
    )  # fmt: skip
    assert same(answer.json(), wanted)
    assert "passwd" not in answer.text


def test_maps_are_those_of_the_library(client: Any, direct: torchbcos.Classifier) -> None:
    maps = client.post("/v1/explain?maps=true", content=DATA, headers=RAW).json()["explanations"][0]["maps"]
    e = direct.explain(PHOTOS / "bus.jpg")
    found = np.frombuffer(base64.b64decode(maps["contributions"]), "<f4").reshape(maps["height"], maps["width"])
    np.testing.assert_allclose(found, e.contributions[0, 0].numpy(), atol=1e-6)
    for name in ("photo", "rgba", "heatmap"):
        assert Image.open(io.BytesIO(base64.b64decode(maps[name]))).size == (maps["width"], maps["height"])


def test_panel_and_arrays(client: Any, direct: torchbcos.Classifier) -> None:
    panel = client.post("/v1/explain", content=DATA, headers={**RAW, "accept": "image/png"})
    assert panel.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(panel.content)).size == direct.explain(PHOTOS / "bus.jpg").panel().size
    arrays = client.post("/v1/explain", content=DATA, headers={**RAW, "accept": "application/x-npz"})
    with np.load(io.BytesIO(arrays.content), allow_pickle=False) as found:
        total = found["contributions"].sum() + found["constants"].sum() + found["residual"].sum()
        assert abs(total - found["values"].sum()) < 1e-4


def mask_of(rows: slice, size: int = 160) -> bytes:
    mask = np.zeros((size, size), np.uint8)
    mask[rows] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((slice(0, 80),), "grey:remove"),
        ((slice(40, 120),), "blur:keep"),
        ((slice(0, 40), slice(100, 160)), "mean:remove,grey:remove"),
    ],
)
def test_a_changed_picture_is_explained_again(
    client: Any, direct: torchbcos.Classifier, steps: tuple[slice, ...], words: str
) -> None:
    files = {"picture": ("a.jpg", DATA), **{f"mask{i}": ("m.png", mask_of(rows)) for i, rows in enumerate(steps, 1)}}
    answer = client.post(f"/v1/change?class=church&steps={words}", files=files)
    assert answer.status_code == 200
    facts, church = answer.json()["change"], direct.class_index("church")
    pixels = direct.preprocess(PHOTOS / "bus.jpg")[:, :3]
    for word, rows in zip(words.split(","), steps, strict=True):
        way, _, how = word.partition(":")
        before = pixels
        removed = torch.zeros(160, 160, dtype=torch.bool)
        removed[rows] = True
        removed = ~removed if how == "keep" else removed
        pixels = torch.where(removed, torchbcos.functional.replacement(pixels, way), pixels)
    first, second = (torchbcos.explain(direct.model, direct.transform.encode(p, dim=1), church) for p in (before, pixels))
    assert facts["real"] == pytest.approx(float(second.values - first.values), abs=1e-4)
    assert facts["predicted"] == pytest.approx(-float(first.contributions[0, 0][removed].sum()), abs=1e-4)
    held = (first.weights[0, 0] * (second.inputs - first.inputs)[0]).sum()
    assert facts["held"] == pytest.approx(float(held), abs=1e-4)
    assert answer.json()["explanations"][0]["value"] == pytest.approx(float(second.values), abs=1e-4)


def test_other_methods_and_inner_features(client: Any, direct: torchbcos.Classifier) -> None:
    answer = client.post("/v1/compare?method=grad_cam&class=church", content=DATA, headers=RAW).json()
    found = np.frombuffer(base64.b64decode(answer["maps"]["contributions"]), "<f4")
    wanted = direct.attribute(PHOTOS / "bus.jpg", "church", method="grad_cam").maps
    np.testing.assert_allclose(found, wanted.flatten().numpy(), atol=1e-5)
    at = client.get("/v1/models").json()["models"][0]["layers"][3]
    feature = client.post(f"/v1/feature?at={at}&channel=5", content=DATA, headers=RAW).json()["explanations"][0]
    e = torchbcos.explain(direct.model, direct.preprocess(PHOTOS / "bus.jpg"), 5, at=at)
    assert feature["value"] == pytest.approx(float(e.values), rel=1e-4)
    assert feature["complete"] and abs(feature["residual"]) < 1e-3


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("/v1/explain?clas=church", {"content": DATA, "headers": RAW}, 422, "Did you mean 'class'"),
    ("/v1/explain?class=churhc", {"content": DATA, "headers": RAW}, 422, "church"),
    ("/v1/explain?top_k=0", {"content": DATA, "headers": RAW}, 422, "top_k is a number"),
    ("/v1/explain?top_k=1e9", {"content": DATA, "headers": RAW}, 422, "top_k is a number"),
    ("/v1/explain?model=other", {"content": DATA, "headers": RAW}, 422, "imagenette"),
    ("/v1/explain?maps=perhaps", {"content": DATA, "headers": RAW}, 422, "true or false"),
    ("/v1/explain", {"content": DATA, "headers": {**RAW, "accept": "text/html"}}, 406, "image/png"),
    ("/v1/explain", {"content": DATA, "headers": {"content-type": "text/plain"}}, 415, "image/jpeg"),
    ("/v1/explain", {"content": DATA, "headers": {**RAW, "content-encoding": "gzip"}}, 415, "Content-Encoding"),
    ("/v1/explain", {"content": b"", "headers": RAW}, 422, "no picture"),
    ("/v1/explain", {"content": b"<html>", "headers": RAW}, 422, "no picture that can be read"),
    ("/v1/explain", {"content": DATA[:2000], "headers": RAW}, 422, "ends early"),
    ("/v1/explain", {"content": b"--a", "headers": {"content-type": "multipart/form-data; boundary=a"}}, 422, "form"),
    ("/v1/explain", {"files": {"photo": ("a.jpg", DATA)}}, 422, '"picture"'),
    ("/v1/explain", {"content": DATA, "headers": {**RAW, "sec-fetch-site": "cross-site"}}, 403, "other sites"),
    ("/v1/explain", {"content": DATA, "headers": {**RAW, "host": "evil.example"}}, 421, "not called"),
    ("/v1/change?steps=paint:remove", {"files": {"picture": ("a", DATA), "mask1": ("m", DATA)}}, 422, "grey, blur, mean"),
    ("/v1/change?steps=grey:remove", {"content": DATA, "headers": RAW}, 422, "mask1"),
    ("/v1/change?steps=grey:keep", {"files": {"picture": ("a", DATA), "mask1": ("m", mask_of(slice(9), 9))}}, 422, "160 x 160"),
    ("/v1/compare?method=magic", {"content": DATA, "headers": RAW}, 422, "grad_cam"),
    ("/v1/feature?at=nowhere", {"content": DATA, "headers": RAW}, 422, "layer"),
    ("/v1/feature?at=layer1.0.conv1&channel=99999", {"content": DATA, "headers": RAW}, 422, ""),
]  # fmt: skip


@pytest.mark.parametrize(("path", "request_", "status", "words"), REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(
    client: Any, path: str, request_: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post(path, **request_)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"]
    assert "Traceback" not in answer.text
    assert client.post("/v1/predict", content=DATA, headers=RAW).status_code == 200  # and the next one is answered


def test_other_paths_and_methods(client: Any) -> None:
    for method, path, status in (("GET", "/v1/explain", 405), ("POST", "/nothing", 404), ("GET", "/../../etc/passwd", 404)):
        answer = client.request(method, path)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_headers_of_every_answer(client: Any) -> None:
    for path in ("/", "/page.js", "/healthz", "/nothing", "/v1/models"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert "access-control-allow-origin" not in headers


def test_the_page_needs_nothing_from_elsewhere(client: Any) -> None:
    texts = [client.get(path).text for path in ("/", "/page.js", "/page.css")]
    assert sum(map(len, texts)) < 300_000
    assert not [text for text in texts if "http://" in text or "https://" in text or "//cdn" in text]


def test_health_numbers_and_description(client: Any) -> None:
    client.post("/v1/predict", content=DATA, headers=RAW)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json()["ready"] is True
    numbers = client.get("/metrics").text
    assert 'torchbcos_requests_total{path="/v1/predict",status="200"}' in numbers
    client.get("/a-name-of-a-stranger")
    assert "stranger" not in client.get("/metrics").text
    described = client.get("/openapi.json").json()
    assert {"/v1/predict", "/v1/explain", "/v1/change", "/v1/compare", "/v1/feature"} <= set(described["paths"])


def test_names_of_this_machine() -> None:
    with testclient.TestClient(app(["imagenette"], device="cpu", hosts=["localhost", "::1"])) as client:
        for host in ("localhost", "localhost:8080", "LOCALHOST:1", "[::1]:8080", "[::1]"):
            assert client.get("/healthz", headers={"host": host}).status_code == 200
        for host in ("127.0.0.1", "evil.example:8080", "localhost.evil.example", "", "localhost:8080:x"):
            assert client.get("/healthz", headers={"host": host}).status_code == 421


def test_a_token_is_asked_for() -> None:
    with testclient.TestClient(app(["imagenette"], device="cpu", token="a-long-secret")) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "a-long-secret"}):
            answer = client.post("/v1/predict", content=DATA, headers={**RAW, **headers})
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/v1/models").status_code == client.get("/metrics").status_code == 401
        assert client.get("/").status_code == client.get("/healthz").status_code == 200
        good = {"authorization": "Bearer a-long-secret", **RAW}
        assert client.post("/v1/predict", content=DATA, headers=good).status_code == 200


def test_uploads_are_limited_before_they_are_decoded() -> None:
    file = io.BytesIO()
    Image.new("L", (3000, 3000)).save(file, "PNG")
    limits = Limits(bytes=50_000, pixels=1_000_000)
    with testclient.TestClient(app(["imagenette"], device="cpu", limits=limits)) as client:
        bomb = client.post("/v1/predict", content=file.getvalue(), headers=RAW)
        assert bomb.status_code == 422 and "9 megapixels" in bomb.json()["error"]
        assert client.post("/v1/predict", content=bytes(50_001), headers=RAW).status_code == 413
        assert client.post("/v1/predict", content=iter([bytes(40_000)] * 2), headers=RAW).status_code == 413
        assert client.post("/v1/predict", files={"picture": ("a", bytes(50_001))}).status_code == 413


def test_uploads_together_are_limited() -> None:
    service = Service({"ten": "imagenette"}, Limits(bytes=1_000_000, held=1_500_000), None, (), {})

    def upload(**headers: str) -> Any:
        return service._holding(SimpleNamespace(headers={k.replace("_", "-"): v for k, v in headers.items()}))  # type: ignore[arg-type]

    with upload(content_length="400000"), upload():  # the second does not say how long it is: as long as it may be
        for third in (upload(content_length="200000"), upload(content_length="a lie")):
            with pytest.raises(Refused) as refused, third:
                pass
            assert refused.value.status == 429 and refused.value.headers["Retry-After"] == "1"
        with upload(content_length="100000"):
            pass
    assert service.held == 0
    service.close()


def test_requests_that_come_together_are_answered_together_and_alike(direct: torchbcos.Classifier) -> None:
    names = sorted(PHOTOS.iterdir())[:8]
    with testclient.TestClient(app(["imagenette"], device="cpu")) as client:
        found: dict[int, Any] = {}

        def ask(i: int) -> None:
            found[i] = client.post("/v1/explain", content=names[i % 8].read_bytes(), headers=RAW).json()

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = explained(direct, ["picture"] * 8, names)
        assert all(same(found[i], wanted[i % 8]) for i in range(24))
        lines = [line for line in client.get("/metrics").text.splitlines() if "batch_pictures_count" in line]
        assert float(lines[0].split()[-1]) < 24


def test_several_models_and_those_that_cannot_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    sources = ["ten=imagenette", "none=/nowhere/at/all"]
    with testclient.TestClient(app(sources, device="cpu", limits=Limits(models=1))) as client:
        assert client.post("/v1/predict?model=ten", content=DATA, headers=RAW).status_code == 200
        answer = client.post("/v1/predict?model=none", content=DATA, headers=RAW)
        assert answer.status_code == 503 and "cannot be opened" in answer.json()["error"]
        assert "nowhere" not in answer.text and "nowhere" in caplog.text  # where a model lies is not for callers
        assert client.post("/v1/predict?model=ten", content=DATA, headers=RAW).status_code == 200


@given(
    data=st.binary(max_size=400),
    form=st.booleans(),
    path=st.sampled_from(["/v1/predict", "/v1/explain?maps=true", "/v1/change?steps=grey:keep"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_comes_is_answered_by_a_sentence(client: Any, data: bytes, form: bool, path: str) -> None:
    body = b'--a\r\nContent-Disposition: form-data; name="picture"\r\n\r\n' + data + b"\r\n--a--" if form else data
    kind = "multipart/form-data; boundary=a" if form else "image/png"
    answer = client.post(path, content=body, headers={"content-type": kind})
    assert answer.status_code == 422 and answer.json()["error"]


def test_slow_uploads_end() -> None:
    with testclient.TestClient(app(["imagenette"], device="cpu", limits=Limits(upload_seconds=0.2))) as client:

        def drops() -> Iterator[bytes]:
            for _ in range(4):
                time.sleep(0.2)
                yield b"x"

        assert client.post("/v1/predict", content=drops(), headers=RAW).status_code in (408, 422)


def test_a_proof_is_that_of_the_library(client: Any, tmp_path: Path) -> None:
    headers = {**RAW, "accept": "application/x-torchbcos-proof"}
    answer = client.post("/v1/explain?class=church&contrast=tench", content=DATA, headers=headers)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-torchbcos-proof"
    (tmp_path / "a.json").write_bytes(answer.content)
    verdict = torchbcos.verify(tmp_path / "a.json", picture=PHOTOS / "bus.jpg")
    assert verdict.agrees and {one.what for one in verdict.findings} >= {"weights", "file", "input", "logit", "map"}
    assert "church rather than tench" in verdict.claim
