"""What lies in the files of `torch.save`, looked at before anything is allocated, and read without unpickling.

A state dict is pickled as a short program that names tensors: which part of which storage, in which shape. A stranger's program
may as well import modules, name a storage of a terabyte, or a part of one that is not there. So the program is not run. Its
instructions are read one by one (`pickletools.genops`), those that make plain values are followed, and of all functions it may
call only those that say what a tensor is: they become an `Entry`.

A program of 400 bytes can name one list ten times in the next, and so on: written out, that value is larger than any memory. So
nothing that a program made is formatted, hashed, compared or copied before it is known to be a short name, a number, or a list
whose values the program pays for, each as one step.
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

_MOST_STEPS = 500_000  # instructions, and values that are copied; a network of 1,000 tensors takes 30,000
_LONGEST_KEY, _LONGEST_WORD = 4096, 256  # characters
_MOST_ARGUMENTS, _MOST_SIDES = 16, 64
_MOST_PLACES, _LARGEST_KEY = 1 << 32, 1 << 63  # whole numbers beyond this can be chosen so that all have one hash


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
    for instruction, argument, _ in pickletools.genops(program):
        machine.pay(1)
        machine.step(instruction.name, argument)
    [found] = machine.stack
    return found


class _Machine:
    """The stack and the memory of a pickle's program."""

    def __init__(self, storages: dict[str, Storage]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.steps = 0

    def pay(self, steps: int) -> None:
        """Count steps, before they are done.

        Raises:
            ValueError: there are too many.
        """
        self.steps += steps
        if self.steps > _MOST_STEPS:
            raise ValueError("too many instructions")

    def step(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memory[_place(argument)] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memory[len(self.memory)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memory[_place(argument)])
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
            if not (_is_word(module) and _is_word(word)):
                raise ValueError("a name that is no word")
            self.stack.append(_known(f"{module}.{word}"))
        elif name == "REDUCE":
            arguments, function = self.stack.pop(), self.stack.pop()
            self.stack.append(self._call(function, arguments))
        elif name == "BINPERSID":
            storage = _storage(self.stack.pop())
            self.storages[storage.key] = storage
            self.stack.append(storage)
        else:
            raise ForeignObject(f"an object ({name})")

    def _call(self, function: Any, arguments: Any) -> Any:
        """What a function of `_MAKERS` makes; it pays for the values of every list that is handed over."""
        if not isinstance(function, _Name) or not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
            raise ValueError("no call")
        if function.full not in _MAKERS:
            raise ForeignObject(function.full)
        self.pay(sum(len(value) for value in arguments if isinstance(value, list | tuple)))
        if function.full in _TYPED:
            function, arguments = _untyped_call(*arguments)
            return self._call(function, arguments)
        return _MAKERS[function.full](*arguments)


def _place(argument: Any) -> int:
    place = int(argument)
    if not 0 <= place < _MOST_PLACES:
        raise ValueError("no place in the memory")
    return place


def _is_word(value: Any, longest: int = _LONGEST_WORD) -> bool:
    return isinstance(value, str) and len(value) <= longest


def _key(value: Any) -> Any:
    """Names and numbers, if they are short: to look for another key in a table can take for ever."""
    if isinstance(value, str | bytes):
        good = len(value) <= _LONGEST_KEY
    else:
        good = value is None or isinstance(value, float) or (isinstance(value, int) and -_LARGEST_KEY <= value < _LARGEST_KEY)
    if good:
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
    if not isinstance(identity, tuple) or not 5 <= len(identity) <= _MOST_ARGUMENTS:
        raise ValueError("no storage")
    word, kind, key, _, count, *_ = identity
    if word != "storage" or not isinstance(kind, _Name) or not _is_word(key) or not _whole(count):
        raise ValueError("no storage")
    return Storage(_STORAGES[kind.full], key, count)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Entry:
    """A tensor, if its numbers lie inside its storage."""
    if not all(isinstance(sides, tuple | list) and len(sides) <= _MOST_SIDES for sides in (shape, strides)):
        raise ValueError("no tensor of up to 64 sides")
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
    if not isinstance(storage, Storage) or not isinstance(dtype, _Name):
        raise ValueError("no tensor")
    kind = _DTYPES[dtype.full]
    return _tensor(Storage(str(kind).removeprefix("torch."), storage.key, storage.count // kind.itemsize), offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Entry:
    if not isinstance(tensor, Entry):
        raise ValueError("no tensor")
    return tensor


def _untyped_call(function: Any, kind: Any, arguments: Any, *_: Any) -> tuple[Any, Any]:
    """The call that makes a tensor of a class of its own; not again of such a one: that could go on without an end."""
    if not isinstance(function, _Name) or not isinstance(kind, _Name) or function.full in _TYPED:
        raise ValueError("no call")
    if kind.full not in _CLASSES:
        raise ForeignObject(kind.full)
    return function, arguments


def _odd(kind: str) -> Callable[..., Entry]:
    return lambda *_: Entry(kind)


def _pairs(pairs: Any = ()) -> dict[Any, Any]:
    """A table of the pairs in a list."""
    return {_key(key): value for key, value in _list(pairs)}


def _list(values: Any = ()) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise TypeError("no list")
    return list(values)


def _counts(table: Any = None) -> dict[Any, Any]:
    """A table of counts: the very one that is handed over, which nobody else holds in what Python writes."""
    return table if isinstance(table, dict) else {}


def _path(*parts: Any) -> str:
    """A path that stands beside the weights, where trainers note their folders: text."""
    if not all(map(_is_word, parts)):
        raise ValueError("no path")
    return "/".join(parts)


def _device(word: Any, index: Any = None) -> str:
    if not _is_word(word) or not (index is None or _whole(index)):
        raise ValueError("no device")
    return str(word) if index is None else f"{word}:{index}"


_MADE: dict[str, Callable[..., Any]] = {
    "tensor": _tensor, "tensor in bytes": _untyped, "parameter": _parameter, "a word": lambda word: word,
}  # fmt: skip
_PATHS = ("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
_MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _pairs,
    "collections.Counter": _counts,
    "torch.Size": lambda sides=(): tuple(_list(sides)),
    "torch.device": _device,
    "builtins.set": _list,
    "__builtin__.set": _list,
    "_codecs.encode": lambda text, *_: text,
    **{f"pathlib.{name}": _path for name in _PATHS},
    **{f"pathlib._local.{name}": _path for name in _PATHS},  # Python 3.13
    **{name: _MADE.get(what) or _odd(what) for name, what in SAVED.items()},
}
_TYPED = {name for name, what in SAVED.items() if what == "tensor with attributes"}
_DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_TYPES = {*_DTYPES, *_CLASSES} | {f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.qscheme)}


def _known(full: str) -> _Name:
    if full in _MAKERS or full in _TYPES or full in _STORAGES:
        return _Name(full)
    raise ForeignObject(shorten(full, 80))


def tensors_in(value: Any) -> Mapping[str, Entry] | None:
    """The tensors of a state dict by name, also where it stands in a checkpoint; None if it is none.

    A checkpoint has it under "state_dict"; or under "model_state_dict" or "model", if no other table of tensors stands beside it.

    >>> tensors_in({"state_dict": {"a": Entry("float32", (2,))}})
    {'a': Entry(kind='float32', shape=(2,), storage=None, offset=0, strides=())}
    >>> tensors_in({"model": {"a": Entry("float32")}, "average": {"a": Entry("float32")}}) is None
    True
    """
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    elif isinstance(named := value.get("model_state_dict", value.get("model")), dict):
        tables = {id(part): part for part in value.values() if isinstance(part, dict)}  # each once: it may stand there often
        states = [part for part in tables.values() if _is_state(part)]
        value = named if len(states) == 1 and states[0] is named else {}
    return {str(name): part for name, part in value.items()} if _is_state(value) else None


def _is_state(value: dict[Any, Any]) -> bool:
    return bool(value) and all(isinstance(part, Entry) for part in value.values())
