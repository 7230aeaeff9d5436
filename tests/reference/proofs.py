"""A proof read as docs/how-to/proofs.md describes it, with numpy and nothing of ours."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import Any

import numpy as np


def read(data: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """What a proof says, and its map in float64; ValueError where its bytes are not those that were written."""
    record = json.loads(data)
    said = record.pop("sha256")
    body = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    if hashlib.sha256(body).hexdigest() != said:
        raise ValueError("checksum")
    if json.dumps({**record, "sha256": said}, sort_keys=True, separators=(",", ":")).encode() + b"\n" != data:
        raise ValueError("spelling")
    packed = record["map"]
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), "<f2")
    return record, packed["scale"] * numbers.astype(np.float64).reshape(packed["shape"])


def sealed(record: dict[str, Any]) -> bytes:
    """A forger's file: whatever the record says, with a checksum that fits."""
    body = json.dumps({k: v for k, v in record.items() if k != "sha256"}, sort_keys=True, separators=(",", ":"))
    record = {**json.loads(body), "sha256": hashlib.sha256(body.encode()).hexdigest()}
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"
