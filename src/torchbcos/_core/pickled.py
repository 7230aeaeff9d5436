"""What lies in the files of `torch.save`, looked at before anything is allocated, and read without unpickling.

A state dict is pickled as a short program that names tensors: which part of which storage, in which shape. A stranger's program
may as well import modules, name a storage of a terabyte, or a part of one that is not there. So the program is not run. Its
instructions are read one by one (`pickletools.genops`), those that make plain values are followed, and of all functions it may
call only those that say what a tensor is: they become an `Entry`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import torch

from torchbcos._core.errors import shorten
from torchbcos._core.torch_private import SAVED

__all__ = ["Entry", "ForeignObject", "Storage", "follow", "tensors_in"]

_MOST_STEPS = 500_000  # a network of 1,000 tensors takes 30,000


class ForeignObject(Exception):
    """The file names a class or function that makes no tensor; its name is the message."""


@dataclass(frozen=True)
class Storage:
    """A stretch of numbers of one kind, by the name that it has in its file."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class Entry:
    """A tensor of a file, before it is read.

    Attributes:
        kind: "float32", …, as torch calls it; or what else it is: "sparse", "quantised".
        shape: of the tensor; () where `kind` is no dtype.
        storage, offset, strides: where its numbers lie; None where the file has another order.
    """

    kind: str
    shape: tuple[int, ...] = ()
    storage: Storage | None = None
    offset: int = 0
    strides: tuple[int, ...] = ()


class _Name(NamedTuple):
    """A class or function of Python, by name: never looked up."""

    full: str


_Mark = object()
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
    "EMPTY_DICT": dict, "EMPTY_SET": list, "MARK": lambda: _Mark,
}  # fmt: skip
_LITERALS = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_NOTHING = {"PROTO", "FRAME", "STOP"}


def follow(program: bytes | IO[bytes], storages: dict[str, Storage] | None = None) -> Any:
    """The value that a pickle describes: plain values, `Entry` and `Storage`; nothing that it names is imported or called.

    Args:
        program: the pickle; of a file, the place after it is kept.
        storages: takes up every storage that is named, by its key.

    Raises:
        ForeignObject: it holds anything else.
        ValueError, TypeError, LookupError, EOFError: it is damaged.

    >>> import pickle
    >>> follow(pickle.dumps({"a": [1, 2.5, None]}))
    {'a': [1, 2.5, None]}
    """
    machine = _Machine({} if storages is None else storages)
    for steps, (instruction, argument, _) in enumerate(pickletools.genops(program)):
        if steps > _MOST_STEPS:
            raise ValueError("too many instructions")
        machine.step(instruction.name, argument)
    [found] = machine.stack
    return found


class _Machine:
    """The stack and the memory of a pickle's program."""

    def __init__(self, storages: dict[str, Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memory[int(argument)] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memory[len(self.memory)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memory[int(argument)])
        elif name not in _NOTHING:
            self._compose(name, argument)

    def _compose(self, name: str, argument: Any) -> None:
        """Instructions that make one value of several."""
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif name in ("TUPLE", "LIST"):
            self.stack.append((tuple if name == "TUPLE" else list)(self._since_mark()))
        elif name in ("APPEND", "SETITEM"):
            count = 1 if name == "APPEND" else 2
            values, self.stack[-count:] = self.stack[-count:], []
            self._extend(values)
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            self._extend(self._since_mark())
        elif name == "DICT":
            values = self._since_mark()
            self.stack.append({})
            self._extend(values)
        elif name == "BUILD":
            self.stack.pop()  # attributes of the object below it: no state dict needs them
        else:
            self._name_or_call(name, argument)

    def _since_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _Mark:
                values, self.stack[place:] = self.stack[place + 1 :], []
                return values
        raise ValueError("no mark")

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, dict):
            for key, value in zip(values[::2], values[1::2], strict=True):
                target[_key(key)] = value
        else:
            raise TypeError("neither a list nor a table")

    def _name_or_call(self, name: str, argument: Any) -> None:
        """Names of classes and functions, and what they are called with."""
        if name == "GLOBAL":
            self.stack.append(_known(str(argument).replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            module, word = self.stack.pop(-2), self.stack.pop()
            self.stack.append(_known(f"{module}.{word}"))
        elif name == "REDUCE":
            arguments, function = self.stack.pop(), self.stack.pop()
            self.stack.append(_call(function, arguments))
        elif name == "BINPERSID":
            storage = _storage(self.stack.pop())
            self.storages[storage.key] = storage
            self.stack.append(storage)
        else:
            raise ForeignObject(f"an object ({name})")


def _key(value: Any) -> Any:
    """Names and numbers: to look for a deeply nested key in a table can take the interpreter with it."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    raise TypeError("a key that is no name")


# -- the functions that say what a tensor is -----------------------------------------------------------------------------

_KINDS = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
    "QInt8": "quantised", "QUInt8": "quantised", "QInt32": "quantised", "QUInt4x2": "quantised", "QUInt2x4": "quantised",
    "Untyped": "uint8",
}  # fmt: skip
_STORAGES = {
    f"{module}.{name}Storage": kind for name, kind in _KINDS.items() for module in ("torch", "torch.cuda", "torch.storage")
}  # fmt: skip


def _storage(identity: Any) -> Storage:
    word, kind, key, _, count, *_ = identity
    if word != "storage" or not isinstance(kind, _Name) or not isinstance(key, str) or not _whole(count):
        raise ValueError("no storage")
    return Storage(_STORAGES[kind.full], key, count)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Entry:
    """A tensor, if its numbers lie inside its storage."""
    if not isinstance(storage, Storage) or not all(map(_whole, (offset, *shape, *strides))) or len(shape) != len(strides):
        raise ValueError("no tensor")
    count, last = 1, offset
    for side, stride in zip(shape, strides, strict=True):
        count, last = count * side, last + (side - 1) * stride
    if count and last >= storage.count:
        raise ValueError("a tensor beyond its storage")
    if count > storage.count:
        return Entry("expanded from fewer numbers")
    return Entry(storage.kind, tuple(shape), storage, offset, tuple(strides))


def _untyped(storage: Any, offset: Any, shape: Any, strides: Any, gradient: Any, hooks: Any, dtype: Any, *_: Any) -> Entry:
    """A tensor whose storage counts bytes."""
    kind = _DTYPES[dtype.full]
    return _tensor(Storage(str(kind).removeprefix("torch."), storage.key, storage.count // kind.itemsize), offset, shape, strides)


def _parameter(tensor: Entry, *_: Any) -> Entry:
    return tensor


def _typed(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    if kind.full not in _CLASSES:
        raise ForeignObject(kind.full)
    return _call(function, arguments)


def _odd(kind: str) -> Callable[..., Entry]:
    return lambda *_: Entry(kind)


_MADE: dict[str, Callable[..., Any]] = {
    "tensor": _tensor, "tensor in bytes": _untyped, "parameter": _parameter, "tensor with attributes": _typed,
    "a word": lambda word: word,
}  # fmt: skip
_MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda *pairs: {_key(k): v for k, v in (pairs[0] if pairs else ())},
    "torch.Size": tuple,
    "torch.device": lambda *words: ":".join(map(str, words)),
    "builtins.set": lambda *values: list(*values),
    "__builtin__.set": lambda *values: list(*values),
    "_codecs.encode": lambda text, *_: text,
    **{name: _MADE.get(what) or _odd(what) for name, what in SAVED.items()},
}
_DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_TYPES = {*_DTYPES, *_CLASSES} | {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.qscheme)}


def _known(full: str) -> _Name:
    if full in _MAKERS or full in _TYPES or full in _STORAGES:
        return _Name(full)
    raise ForeignObject(shorten(full, 80))


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise ValueError("no call")
    if function.full not in _MAKERS:
        raise ForeignObject(function.full)
    return _MAKERS[function.full](*arguments)


def tensors_in(value: Any) -> Mapping[str, Entry] | None:
    """The tensors of a state dict by name, also where it stands under "state_dict" of a checkpoint; None if it is none.

    >>> tensors_in({"state_dict": {"a": Entry("float32", (2,))}})
    {'a': Entry(kind='float32', shape=(2,), storage=None, offset=0, strides=())}
    """
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict) or not value or not all(isinstance(part, Entry) for part in value.values()):
        return None
    return {str(name): part for name, part in value.items()}
