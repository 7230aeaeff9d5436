"""`torchbcos serve` as a person starts and ends it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

PHOTO = Path(__file__).parents[2] / "docs" / "photos" / "bus.jpg"


@contextmanager
def served(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running service, and the address that it prints."""
    command = [sys.executable, "-m", "torchbcos.cli", "serve", "--port", "0", "--model", "imagenette", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, process.stderr.read() if process.stderr else ""
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def asked(address: str, path: str, token: str = "") -> bytes:
    headers = {"Content-Type": "image/jpeg", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(address + path, PHOTO.read_bytes() if path.startswith("v1/") else None, headers)
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                raise
            time.sleep(0.1)
    raise AssertionError("the service does not come")


def test_page_and_answers_until_it_is_interrupted() -> None:
    with served() as (process, address):
        assert b"See why" in asked(address, "")
        assert b'"predictions"' in asked(address, "v1/predict")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130, -signal.SIGINT)
        assert process.stderr is not None and "Traceback" not in process.stderr.read()


def test_beyond_this_machine_there_is_a_token() -> None:
    with served("--host", "0.0.0.0") as (_, address):
        page, _, token = address.partition("#token=")
        assert len(token) >= 24
        local = re.sub(r"//[^:/]+", "//127.0.0.1", page)
        assert b"See why" in asked(local, "")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            asked(local, "v1/predict")
        assert b'"predictions"' in asked(local, "v1/predict", token)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--host", "nowhere.invalid"], "no address of this machine"), (["--token", "short"], "--token has eight")],
)
def test_what_does_not_do(words: list[str], said: str) -> None:
    command = [sys.executable, "-m", "torchbcos.cli", "serve", "--port", "0", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "torchbcos.cli", "serve", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f"Port {port} is taken" in done.stderr
