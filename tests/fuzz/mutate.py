"""Ways to spoil a file: bytes, text, JSON, TOML, tar, `.npy` headers and `.pth` archives. The same seed gives the same file."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import re
import string
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from tests.fuzz.bombs import BOMBS
from tests.fuzz.scans import spoil_dicom, spoil_nifti
from tests.reference.proofs import sealed

__all__ = ["MUTATORS"]

NUMBERS = (
    "0", "-1", "1", "2", "7", "255", "256", "65536", "2147483647", "2147483648", "-2147483649", "4294967296",
    "1000000000", "9223372036854775807", "18446744073709551616", "1e308", "1e999", "-1e999", "1e-320", "NaN", "Infinity",
    "nan", "inf", "0.1", "-0.0", "0x7fffffff", "1_000", "²", "1" + "0" * 400,
)  # fmt: skip
TEXTS = (
    "", " ", "\t", "x", "cat", "cat ", "\u00a0cat", "\x1b]0;title\x07", "\x1b[2J", "a\rb", "a\nb", "a\x00b", "\u202eevil",
    "\ufeff",    "é", "e\u0301", "猫", "🙂", "../../etc/passwd", "/etc/passwd", "evil:net", "os:system",
    "builtins:exec", "torch.hub:load", "antigravity:x", "evil.pt2", "hf-hub:a/b", "'", '"', "\\", "{",
    "[", "[" * 3000, "{" * 3000, "a" * 300, "a" * 100_000, "=",
    "true", "null", "cifar10_resnet20", "resnet50", "sigmoid", "softmax", "con", "-", "--help", "$(touch evil)", "%s%n", "\ud7ff",
)  # fmt: skip
TREES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 10**9, 10**30, 0.5, 1e308, float("nan"), float("inf"), "", "x", [], {}, [[]], [None],
    [1, 2, 3], ["a"], {"a": 1}, [{}], ["a", "a"], [["a"], ["b"]], list(range(1000)),
)  # fmt: skip
EDGES = (
    b"\x00" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
    b"\x00" * 8,
    b"\xff" * 7 + b"\x7f",
)


def spoil_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to eight spoiled places."""
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        data = rng.choice(_BYTES)(rng, data)
    return data


def _place(rng: random.Random, data: bytes) -> int:
    """A place; half of the time near one of the ends, where headers are."""
    far = rng.random() < 0.5
    return (
        rng.randrange(len(data) + 1) if far or len(data) < 64 else rng.choice((rng.randrange(64), len(data) - rng.randrange(64)))
    )


def _flip(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    at = min(_place(rng, data), len(data) - 1)
    return data[:at] + bytes((data[at] ^ (1 << rng.randrange(8)),)) + data[at + 1 :]


def _overwrite(rng: random.Random, data: bytes) -> bytes:
    at, edge = _place(rng, data), rng.choice(EDGES)
    return data[:at] + edge + data[at + len(edge) :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 16, 600))) + data[at:]


def _cut(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 16, 512)) :]


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    at, length = _place(rng, data), rng.choice((1, 8, 512, 4096))
    return data[:at] + data[at : at + length] * rng.choice((2, 3, 9)) + data[at + length :]


_BYTES: Sequence[Callable[[random.Random, bytes], bytes]] = (_flip, _overwrite, _insert, _cut, _truncate, _repeat)


def _text(rng: random.Random, data: bytes) -> bytes:
    """Spoil what a person would write: numbers, words, lines."""
    text = data.decode("utf-8", "replace")
    for _ in range(rng.choice((1, 1, 2, 4))):
        text = rng.choice((_number, _word, _lines, _letter))(rng, text)
    return text.encode(rng.choice(("utf-8",) * 8 + ("utf-16", "utf-8-sig")), "surrogatepass")


def _one_match(rng: random.Random, pattern: str, text: str, new: str) -> str:
    found = list(re.finditer(pattern, text))
    if not found:
        return text + new
    one = rng.choice(found)
    return text[: one.start()] + new + text[one.end() :]


def _number(rng: random.Random, text: str) -> str:
    return _one_match(rng, r"-?\d+(\.\d+)?", text, rng.choice(NUMBERS))


def _word(rng: random.Random, text: str) -> str:
    return _one_match(rng, r"[A-Za-z_][\w.]*", text, rng.choice(TEXTS))


def _lines(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True) or [""]
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        del lines[i]
    elif how == 1:
        lines.insert(j, lines[i])
    elif how == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif how == 3:
        lines.insert(i, rng.choice(TEXTS) + "\n")
    else:
        lines[i] *= rng.choice((2, 1000))
    return "".join(lines)


def _letter(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice((*string.punctuation, *"\x00\x1b\r\n\t ,;\"'")) + text[at + rng.randrange(2) :]


def _json(rng: random.Random, data: bytes) -> bytes:
    """Exchange nodes of the tree, add keys, write keys twice."""
    tree = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        node, key = rng.choice(list(_nodes(tree)))
        how = rng.randrange(4)
        if how == 0 and isinstance(node, dict):
            del node[key]
        elif how == 1 and isinstance(node, dict):
            node[rng.choice(TEXTS)] = copy.deepcopy(rng.choice(TREES))
        elif how == 2:
            node[key] = rng.choice(TEXTS)
        else:
            node[key] = copy.deepcopy(rng.choice(TREES))  # else a branch grows into itself
        if not isinstance(tree, dict | list) or not list(_nodes(tree)):
            break
    text = json.dumps(tree)
    if rng.random() < 0.1:
        text = text.replace("{", '{"classes": ["x"], ', 1)
    return text.encode("utf-8", "surrogatepass")


def _forged(rng: random.Random, data: bytes) -> bytes:
    """A proof whose tree was spoiled, with a checksum that fits again, where JSON can hold it."""
    spoiled = _json(rng, data)
    try:
        return sealed(json.loads(spoiled))
    except (ValueError, RecursionError, AttributeError):
        return spoiled


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [both for key, value in pairs for both in [(tree, key), *_nodes(value)]]


def _tar(rng: random.Random, data: bytes) -> bytes:
    """A tar written again with other members: names, types, links, sizes that lie."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = [(one, tar.extractfile(one).read()) for one in tar if one.isfile()]  # type: ignore[union-attr]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as tar:
        for one, content in members:
            if rng.random() < 0.2:
                one, content = _member(rng, one, content)
            one.size = len(content)
            try:
                tar.addfile(one, io.BytesIO(content))
            except (ValueError, UnicodeError):
                continue
    spoiled = bytearray(out.getvalue())
    if rng.random() < 0.4 and len(spoiled) >= 512:  # a size that lies, with a checksum that fits
        at = 512 * rng.randrange(len(spoiled) // 512)
        spoiled[at + 124 : at + 136] = rng.choice(
            (b"77777777777\x00", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"-0000000001\x00", b"zzzzzzzzzzz\x00")
        )
        total = sum(spoiled[at : at + 148]) + 8 * 32 + sum(spoiled[at + 156 : at + 512])
        spoiled[at + 148 : at + 156] = b"%06o\x00 " % total
    return bytes(spoiled)


def _member(rng: random.Random, one: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    how = rng.randrange(7)
    if how == 0:
        one.name = rng.choice(TEXTS).replace("\x00", "")[:5000] + rng.choice(("", ".jpg", ".cls", ".png", ".a.b.png"))
    elif how == 1:
        one.type = rng.choice(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE, b"Z")
        )
        one.linkname = rng.choice(("/etc/passwd", "../x", one.name))
        content = b""
    elif how == 2:
        content = rng.choice(
            (b"", rng.choice(NUMBERS).encode(), rng.choice(TEXTS).encode("utf-8", "surrogatepass"), rng.randbytes(100))
        )
    elif how == 3:
        content = spoil_bytes(rng, content)
    elif how == 4:
        one.pax_headers = {
            rng.choice(("path", "size", "GNU.sparse.size", "mtime", "comment")): rng.choice(NUMBERS + TEXTS).replace("\x00", "")
        }
    elif how == 5:
        one.name = one.name.replace(".", rng.choice(("", "..", ".x.", "/")), 1)
    else:
        one.mtime = rng.choice((0, -1, 2**33))
    return one, content


def _npy(rng: random.Random, data: bytes) -> bytes:
    """Another header before the same numbers."""
    length = int.from_bytes(data[8:10], "little")
    body = data[10 + length :]
    dtype = rng.choice(
        ("|u1", "<f4", ">f8", "<c8", "|O", "|V8", "<U9999999", "|S1", "<M8[s]", "<i8", "|b1", "<f2", "", "evil", "[('a','<f4')]")
    )
    dims = [rng.choice(("1", "2", "3", "8", "224", "-1", "0", *NUMBERS[:17])) for _ in range(rng.randrange(6))]
    shape = "(" + "".join(d + "," for d in dims) + ")"
    quoted = dtype if dtype.startswith("[") else repr(dtype)
    header = f"{{'descr': {quoted}, 'fortran_order': {rng.choice(('True', 'False', '3'))}, 'shape': {shape}, }}"
    if rng.random() < 0.2:
        header = _text(rng, header.encode()).decode("latin-1")
    raw = header.encode("latin-1", "replace") + b"\n"
    if rng.random() < 0.3 or len(raw) > 65_535:
        return data[:6] + b"\x02\x00" + len(raw).to_bytes(4, "little") + raw + body
    return data[:6] + rng.choice((b"\x01\x00",) * 6 + (b"\x03\x00", b"\x09\x09")) + len(raw).to_bytes(2, "little") + raw + body


class _Payload:
    """What a pickle that attacks holds: it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("open('executed', 'w').close()",))


def _bomb(rng: random.Random, data: bytes) -> bytes:
    """A program that would grow beyond any memory, alone or spoiled, in a sound archive."""
    program = rng.choice(list(BOMBS.values()))
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            pickled = name.endswith("data.pkl")
            new.writestr(name, (spoil_bytes(rng, program) if rng.random() < 0.5 else program) if pickled else old.read(name))
    return out.getvalue()


def _pth(rng: random.Random, data: bytes) -> bytes:
    """The archive written again: another pickle, storages left out, cut, deflated, or a name that climbs."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl") and rng.random() < 0.6:
                content = _pickle(rng, content)
            elif rng.random() < 0.1:
                content = rng.choice((b"", content[: len(content) // 2], content * 2, spoil_bytes(rng, content)))
            elif rng.random() < 0.05:
                continue
            if rng.random() < 0.05:
                name = rng.choice(("../" + name, "/" + name, name + "x", name.upper()))
            pressed = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
            new.writestr(zipfile.ZipInfo(name), content, compress_type=pressed)
    return out.getvalue()


def _pickle(rng: random.Random, content: bytes) -> bytes:
    how = rng.randrange(4)
    if how == 0:
        return pickle.dumps(rng.choice((_Payload(), {"a": _Payload()}, [1], 7, {"a": "b"}, {1: 2}, None)), protocol=2)
    if how == 1:
        names = rng.choice(
            (b"torch FloatStorage", b"torch LongStorage", b"torch ComplexFloatStorage", b"torch BoolStorage", b"builtins exec")
        )
        return content.replace(b"torch\nFloatStorage", names.replace(b" ", b"\n"))
    if how == 2:  # a length or a stride that lies
        places = [m.start() for m in re.finditer(rb"K.", content, re.DOTALL)]
        at = rng.choice(places) if places else 0
        return (
            content[:at]
            + rng.choice((b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"K\x00", b"\x8a\x09" + b"\xff" * 8 + b"\x00"))
            + content[at + 2 :]
        )
    return spoil_bytes(rng, content)


# kind -> how its files are spoiled
MUTATORS: dict[str, Sequence[Callable[[random.Random, bytes], bytes]]] = {
    "card": (_json, _json, _text, spoil_bytes),
    "recipe": (_text, _text, spoil_bytes),
    "shard": (_tar, _tar, spoil_bytes),
    "table": (_text, _text, spoil_bytes),
    "npy": (_npy, _npy, spoil_bytes),
    "pth": (_pth, _pth, spoil_bytes, _bomb),
    "dicom": (spoil_dicom, spoil_dicom, spoil_bytes),
    "nifti": (spoil_nifti, spoil_nifti, spoil_bytes),
    "proof": (_json, _forged, _text, spoil_bytes),
}
