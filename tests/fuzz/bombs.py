"""Small pickles whose value, written out, copied or compared, would fill the memory or take for ever."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["BOMBS", "bombs"]


def _text(word: bytes) -> bytes:
    return b"X" + len(word).to_bytes(4, "little") + word


def _whole(value: int) -> bytes:
    """A whole number, of any length."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + len(raw).to_bytes(4, "little") + raw


def _laughs(levels: int, end: bytes, start: bytes = b"]") -> bytes:
    """Lists (end "l") or tuples ("t"), each of which names the one below ten times; places 0 to `levels` of the memory."""
    made = start + b"q\x00"
    for level in range(levels):
        made += b"(" + (b"h" + bytes([level])) * 10 + end + b"q" + bytes([level + 1])
    return made


def _deep(levels: int) -> bytes:
    return b")" + b"\x85" * levels


def _within(program: bytes) -> bytes:
    return b"\x80\x04(" + program + b"l."


def _copies(function: bytes, item: bytes, count: int, length: int) -> bytes:
    """A function called again and again with one long tuple."""
    return _within(function + b"q\x00(" + item * length + b"tq\x01" + b"h\x00h\x01\x85R" * count)


def _keys(count: int, key: Callable[[int], bytes]) -> bytes:
    return _within(b"}(" + b"".join(key(i) + b"N" for i in range(count)) + b"u")


def _storage(key: bytes) -> bytes:
    return b"(" + _text(b"storage") + b"ctorch\nFloatStorage\n" + key + _text(b"cpu") + b"K\x04tQ"


_FAR = (1 << 61) - 1  # all multiples have one hash
_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
_TYPED = b"ctorch._tensor\n_rebuild_from_type_v2\n"
_SPARSE = b"ctorch._utils\n_rebuild_sparse_tensor\n)R"
_MEGABYTE = _text(b"a" * (1 << 20))


def bombs(size: int) -> dict[str, bytes]:
    """Programs by name; `size` says how large those are that grow with the square of their length."""
    return {
        "a module that is a nest of lists": _within(_laughs(30, b"l") + _text(b"x") + b"\x93"),
        "a word that is a nest of tuples": _within(_laughs(30, b"t") + _text(b"x") + b"h\x1e\x93"),
        "a device of nested lists": _within(_laughs(30, b"l") + b"ctorch\ndevice\nh\x1e\x85R"),
        "a device that is a megabyte": _within(_MEGABYTE + b"q\x00ctorch\ndevice\nq\x01" + b"h\x01h\x00K\x01\x86R" * size),
        "a device of a number of a million digits": _within(
            b"ctorch\ndevice\n" + _text(b"cuda") + _whole(1 << 4_000_000) + b"\x86R"
        ),
        "a module of a megabyte": _within(_MEGABYTE + b"q\x00" + b"h\x00h\x00\x93" * size),
        "sets of one tuple": _copies(b"cbuiltins\nset\n", b"N", size, size),
        "sizes of one tuple": _copies(b"ctorch\nSize\n", b"K\x01", size, size),
        "tables of one tuple": _copies(b"ccollections\nOrderedDict\n", b"K\x01K\x01\x86", size, size),
        "many arguments": _within(
            b"ctorch._utils\n_rebuild_sparse_tensor\nq\x00(" + b"N" * size + b"tq\x01" + b"h\x00h\x01R" * size
        ),
        "shapes of many sides": _within(
            _storage(_text(b"0")) + b"q\x00(" + b"K\x01" * size + b"tq\x01" + _TENSOR + b"q\x02"
            + b"h\x02(h\x00K\x00h\x01h\x01\x89NtR" * size
        ),
        "storages of long tuples": _within(b"(" + b"N" * size + b"tq\x00" + b"h\x00Q" * size),
        "a storage whose name is a nest": _within(_laughs(30, b"t") + _storage(b"h\x1e")),
        "keys of one hash": _keys(size, lambda i: _whole(i * _FAR)),
        "places of one hash": _within(b"N" + b"".join(b"p%d\n" % (i * _FAR) for i in range(size))),
        "a key of a megabyte, compared": _within(
            _MEGABYTE + b"q\x00" + _MEGABYTE + b"q\x01}(" + b"h\x00Nh\x01N" * size + b"u"
        ),
        "a key of a million digits": _within(_whole(1 << 4_000_000) + b"q\x00}(" + b"h\x00N" * size + b"u"),
        "a key that is a nest": _within(_laughs(30, b"t", b")") + b"}h\x1eNs"),
        "a deep key": _within(b"}" + _deep(size) + b"Ns"),
        "a deep module": _within(_deep(size) + _text(b"x") + b"\x93"),
        "a deep value": b"\x80\x04" + _deep(size) + b".",
        "a call inside a call": _within(
            _TYPED + b"q\x00ctorch\nTensor\nq\x01)q\x02" + b"(h\x00h\x01" * size + b"h\x02" + b"t" * size + b"R"
        ),
        "a number in ten million letters": _within(b"I" + b"1" * 10_000_000 + b"\n"),
        "a long number in ten million letters": _within(b"L" + b"1" * 10_000_000 + b"L\n"),
        "a float in ten million letters": _within(b"F" + b"1" * 10_000_000 + b"\n" + b"\x94}" + b"s" * 2),
        "one table under many names": (
            b"\x80\x04}(" + _text(b"entry") + _SPARSE + b"q\x01" + _text(b"model") + b"}"
            + _text(b"0") + b"}q\x00(" + b"".join(_whole(i) + b"h\x01" for i in range(size)) + _text(b"x") + b"Nu"
            + b"".join(_text(b"%d" % i) + b"h\x00" for i in range(1, size)) + b"u."
        ),
    }  # fmt: skip


BOMBS = bombs(10_000)
