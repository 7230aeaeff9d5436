"""Spoiled uploads and malformed requests against a running service: no crash, no 5xx but 503, no traceback, nothing reflected.

python -m tests.fuzz.service --uploads 10000 --requests 2000
"""

from __future__ import annotations

import argparse
import http.client
import io
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.fuzz.mutate import spoil_bytes

PHOTOS = sorted((Path(__file__).parents[2] / "docs" / "photos").glob("*.jpg"))
WORD = "<img src=x onerror=alert(1)>\x1b[31m"
JPEG, FORM = {"Content_Type": "image/jpeg"}, {"Content_Type": "multipart/form-data; boundary=b"}
PATHS = ("etc/passwd", "page/page.html", "..%2f..%2fetc/passwd")
NUMBERS = ("-1", "1e99", "9" * 400, "NaN", "%00", "1&top_k=2")
METHODS = ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD")
KINDS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "ICO")


class Service:
    """A service in a process of its own, and what is wrong with its answers."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "torchbcos.cli", "serve", "--port", "0", "--device", "cpu", "--model", "imagenette"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = re.search(r":(\d+)/", self.process.stdout.readline())
        assert found is not None
        self.port, self.statuses, self.faults = int(found[1]), Counter[str](), list[str]()
        while self.ask("GET", "/readyz")[0] != 200:
            time.sleep(0.1)
        self.statuses.clear()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            status, text = 0, repr(error).encode()
        finally:
            connection.close()
        self.judge(f"{method} {path[:60]}", status, text)
        return status, text

    def raw(self, data: bytes, *, end: bool = True, wait: float = 5) -> bytes:
        """Send bytes as they are, and read what comes."""
        found = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            try:
                connection.sendall(data)
                if end:
                    connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(65536):
                    found += part
            except OSError:
                pass
        said = re.match(rb"HTTP/1.1 (\d+)", found)
        self.judge(f"raw {data[:40]!r}", int(said[1]) if said else 0, found)
        return found

    def judge(self, what: str, status: int, text: bytes) -> None:
        self.statuses[str(status)] += 1
        if status >= 500 and status != 503:
            self.faults.append(f"{what}: {status}")
        if b"Traceback" in text or b'File "' in text:
            self.faults.append(f"{what}: a traceback")
        if (b"onerror" in text and b'"error"' not in text) or b"\x1b" in text:
            self.faults.append(f"{what}: reflected {text[:80]!r}")

    def __str__(self) -> str:
        return f"{dict(self.statuses)}, memory {self.memory()}, {len(self.faults)} faults"

    def memory(self) -> tuple[int, int]:
        """Resident memory now and at most, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, most = (re.search(rf"{name}:\s+(\d+)", status) for name in ("VmRSS", "VmHWM"))
        assert now is not None and most is not None
        return int(now[1]) // 1024, int(most[1]) // 1024

    def end(self) -> None:
        if self.process.poll() is not None:
            self.faults.append(f"the service ended with {self.process.returncode}")
        self.process.terminate()
        _, said = self.process.communicate(timeout=60)
        if "Traceback" in said:
            self.faults.append(f"a traceback in the log: {said[-600:]}")


def uploads(service: Service, count: int, rng: random.Random) -> None:
    """Photos with spoiled bytes, in every format, raw and in forms."""
    seeds = []
    for kind in KINDS:
        file = io.BytesIO()
        Image.open(rng.choice(PHOTOS)).resize((64, 48)).save(file, kind)
        seeds.append(file.getvalue())
    for i in range(count):
        data = rng.choice(seeds)
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            data = spoil_bytes(rng, data)
        path = rng.choice(("/v1/predict", "/v1/explain", "/v1/explain?maps=true", "/v1/change?steps=grey:remove"))
        if rng.random() < 0.5:
            service.ask("POST", path, data, Content_Type=rng.choice(("image/jpeg", "image/png", "application/octet-stream")))
        else:
            body = form({"picture": data, "mask1": rng.choice(seeds)})
            body = spoil_bytes(rng, body) if rng.random() < 0.3 else body
            service.ask("POST", path, body, **FORM)
        if i % 500 == 499:
            print(
                f"{i + 1} uploads: {dict(service.statuses)}, memory {service.memory()}, {len(service.faults)} faults", flush=True
            )


def form(fields: dict[str, bytes], name: str = "../../../etc/passwd") -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{key}"; filename="{name}"\r\n\r\n'.encode() + data + b"\r\n"
        for key, data in fields.items()
    ]
    return b"".join(parts) + b"--b--\r\n"


def bomb(width: int, height: int) -> bytes:
    """A small PNG file of many pixels."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG", optimize=True)
    return file.getvalue()


def requests(service: Service, count: int, rng: random.Random) -> None:
    """Requests that no client of good will sends."""
    photo, large = PHOTOS[0].read_bytes(), bomb(20_000, 20_000)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
    ways: list[Callable[[], object]] = [
        lambda: service.ask("POST", f"/v1/explain?class={http_word(WORD)}", photo, **JPEG),
        lambda: service.ask("POST", f"/v1/explain?{http_word(WORD)}=1", photo, **JPEG),
        lambda: service.ask("POST", f"/v1/{http_word(WORD)}", photo),
        lambda: service.ask("GET", "/" + "../" * rng.randrange(9) + rng.choice(PATHS)),
        lambda: service.ask(
            "POST",
            "/v1/explain?top_k=" + rng.choice(NUMBERS),
            photo,
            **JPEG,
        ),
        lambda: service.ask("POST", "/v1/predict", form({"picture": photo}, WORD), **FORM),
        lambda: service.ask("POST", "/v1/predict", form({str(i): b"x" for i in range(200)}), **FORM),
        lambda: service.ask(
            "POST", "/v1/predict", photo, Content_Type="multipart/form-data; boundary=" + "x" * rng.randrange(300)
        ),
        lambda: service.ask("POST", "/v1/predict", large, Content_Type="image/png"),
        lambda: service.ask("POST", "/v1/predict", b'{"url": "http://127.0.0.1:1/"}', Content_Type="application/json"),
        lambda: service.ask(rng.choice(METHODS), "/v1/explain", photo),
        lambda: service.ask("POST", "/v1/predict", photo, **JPEG, Host="evil.example"),
        lambda: service.ask("POST", "/v1/predict", photo, **JPEG, Accept=WORD[:20], Transfer_Encoding="identity"),
        lambda: service.raw(head + b"Content-Length: 99999999999999999999\r\nContent-Type: image/jpeg\r\n\r\nx"),
        lambda: service.raw(head + b"Content-Length: -5\r\nContent-Type: image/jpeg\r\n\r\nx"),
        lambda: service.raw(head + b"Content-Length: 50000\r\nContent-Type: image/jpeg\r\n\r\n" + photo[:2000]),
        lambda: service.raw(head + b"Transfer-Encoding: chunked\r\nContent-Type: image/jpeg\r\n\r\nZZZ\r\n" + photo[:50]),
        lambda: service.raw(head + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"),
        lambda: service.raw(b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * rng.randrange(100_000) + b"\r\n\r\n"),
        lambda: service.raw(rng.randbytes(rng.randrange(3000))),
        lambda: service.raw(b"GET /" + rng.randbytes(60).replace(b"\n", b"") + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        lambda: service.raw(head + b"Content-Type: image/jpeg\r\nContent-Length: 100\r\n\r\n", end=False, wait=0.2),
    ]
    for i in range(count):
        rng.choice(ways)()
        if i % 500 == 499:
            print(
                f"{i + 1} requests: {dict(service.statuses)}, memory {service.memory()}, {len(service.faults)} faults", flush=True
            )


def http_word(word: str) -> str:
    return "".join(f"%{byte:02x}" for byte in word.encode())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.service", description=__doc__)
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    service, rng = Service(), random.Random(args.seed)
    try:
        before = service.memory()
        uploads(service, args.uploads, rng)
        requests(service, args.requests, rng)
        status, _ = service.ask("POST", "/v1/predict", PHOTOS[0].read_bytes(), **JPEG)
        if status != 200:
            service.faults.append(f"a good request is answered {status} afterwards")
        print(f"memory, now and at most, MiB: {before} before, {service.memory()} after")
    finally:
        service.end()
    for fault in service.faults[:30]:
        print(fault)
    print(f"{sum(service.statuses.values())} answers {dict(service.statuses)}, {len(service.faults)} faults")
    return 1 if service.faults else 0


if __name__ == "__main__":
    sys.exit(main())
