"""Networks that somebody's own code builds: "package.module:function", imported and called where a person says so, never else.

A name is all that a card or a recipe holds of such code. Where it is looked for: among what Python can import, and in the folder
in which one works; never in a model's own folder, so that a folder from somewhere else cannot bring the code that its card names.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.machinery
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError, shorten
from torchbcos._core.names import hint, quote

__all__ = ["IMPORT", "builder_fault", "builder_path", "call_builder", "can_build", "class_path", "run_builder"]

IMPORT = "import:"  # what the architecture of a network of one's own begins with; the builder follows

_BUILDER = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_LONGEST = 200
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_SCRIPT = "__main__"
_NO_BUILDERS = {*sys.stdlib_module_names, "", "torch", "numpy", "PIL", "joblib", "cloudpickle", "dill", "pandas"} - {_SCRIPT}


def builder_fault(path: str) -> str | None:
    """What is wrong with the name of a builder, as the rest of a sentence; None where nothing is.

    >>> builder_fault("mynets:signal"), builder_fault("mynets.py")
    (None, "must be 'package.module:function', not 'mynets.py'")
    """
    if len(path) > _LONGEST or _BUILDER.fullmatch(path) is None:
        return f"must be 'package.module:function', not {shorten(repr(path), 80)}"
    return None


def builder_path(builder: str | Callable[..., nn.Module]) -> str:
    """The name of a builder, which may be given as the function or class itself.

    Raises:
        InputError: it has no such name, or one that only this process knows: of a notebook, a script, or inside a function.
        ArgumentTypeError: it is neither.

    >>> builder_path(nn.Identity)
    'torch.nn.modules.linear:Identity'
    """
    if isinstance(builder, str):
        path = builder.removeprefix(IMPORT)
        if (fault := builder_fault(path)) is not None:
            raise InputError(f"builder {fault}.")
    elif inspect.isroutine(builder) or isinstance(builder, type):
        path = f"{builder.__module__}:{builder.__qualname__}"
    else:
        raise ArgumentTypeError(f"builder is 'package.module:function', or that function, not {type(builder).__name__}.")
    module, _, name = path.partition(":")
    if module == _SCRIPT or builder_fault(path) is not None:
        place = "a script or notebook (__main__)" if module == _SCRIPT else "another function"
        raise InputError(
            f"The builder {shorten(name, 100)} stands in {place}, which no other process can import: put it into a file, "
            f"mynets.py say, import it from there, and name it: builder='mynets:{shorten(name.rpartition('.')[2], 60)}'."
        )
    return path


def class_path(module: nn.Module) -> str:
    """The name by which the class of a network can be imported.

    Raises:
        InputError: there is none: the class stands in a notebook, in a script or inside a function.
    """
    return builder_path(type(module))


def can_build(builder: Callable[..., Any]) -> bool:
    """Whether a builder needs no arguments but those that every builder may take.

    >>> can_build(lambda num_classes, width=8: None), can_build(lambda width: None)
    (True, False)
    """
    try:
        needed = _needed(_signature(builder))
    except (TypeError, ValueError):
        return False
    return set(needed) <= {"num_classes", "in_channels"}


def run_builder(
    path: str, *, num_classes: int | None, in_channels: int | None, options: Mapping[str, Any], named: str = "",
    avoid: Iterable[Path] = (),
) -> nn.Module:  # fmt: skip
    """Import a function, or a class, and call it: this runs code.

    It gets of `num_classes`, `in_channels` and `options` what its signature takes.

    Args:
        path: "package.module:function".
        num_classes, in_channels: of the network; channels as it sees them, encoded. None: nobody knows, and it is not told.
        options: what else it is to be called with; all of them are taken, or it is an error.
        named: what messages call the builder.
        avoid: folders from which nothing is imported meanwhile.

    Returns:
        The network, also where it builds a classifier around it.

    Raises:
        InputError: there is no such function, it needs other arguments or takes too few, it fails, or it gives no network.

    >>> run_builder("torch.nn:Identity", num_classes=2, in_channels=6, options={})
    Identity()
    """
    named = named or f"builder={shorten(repr(path), 120)}"
    sizes = {name: size for name, size in (("num_classes", num_classes), ("in_channels", in_channels)) if size is not None}
    made = call_builder(path, sizes, options, named, avoid)
    network = made if isinstance(made, nn.Module) else getattr(made, "model", None)
    if not isinstance(network, nn.Module):
        raise InputError(f"{named} must return a torch.nn.Module, and returned {type(made).__name__}.")
    return network


def call_builder(
    path: str, sizes: Mapping[str, int], options: Mapping[str, Any], named: str, avoid: Iterable[Path] = ()
) -> Any:  # fmt: skip
    """`run_builder` with whatever the builder returns; it gets those of `sizes` that it takes."""
    if (fault := builder_fault(path)) is not None:
        raise InputError(f"A builder {fault}.")
    with _importable([form(folder) for folder in avoid for form in (os.path.abspath, os.path.realpath)]):
        make = _imported(path, named)
        arguments = _arguments(make, sizes, options, named)
        try:
            return make(**arguments)
        except (BcosError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise InputError(f"{named}, called with {shorten(given, 100) or 'nothing'}, failed: {_reason(error)}.") from error


def _imported(path: str, named: str) -> Callable[..., Any]:
    """The function of that name.

    Raises:
        InputError: there is none.
    """
    module, _, name = path.partition(":")
    importlib.invalidate_caches()  # of a file that was written a moment ago
    try:
        found: Any = importlib.import_module(module)
    except BcosError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise InputError(f"{named} names no function that can be imported: {_reason(error)}.") from error
        raise InputError(
            f"{named} names no function that can be imported: there is no module {shorten(repr(error.name), 80)} in the folder "
            "where you work, nor among what is installed. Run this where its file lies, or set PYTHONPATH."
        ) from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{named} names no function that can be imported: {_reason(error)}.") from error
    for part in name.split("."):
        known = [key for key, value in vars(found).items() if callable(value)] if isinstance(found, type(os) | type) else []
        found = getattr(found, part, None)
        if found is None:
            tail = hint(part, known)
            raise InputError(f"{named} names no function that can be imported: {module} has no {shorten(part, 60)!r}.{tail}")
    if not callable(found):
        raise InputError(f"{named} names no function that can be imported: it is a {type(found).__name__}.")
    if not _may_build(found):
        raise InputError(
            f"{named} names {shorten(quote(str(getattr(found, '__qualname__', name))), 60)} of "
            f"{shorten(quote(str(getattr(found, '__module__', module))), 60)}, which builds no network: a builder is a function "
            "of yours, or a class that is a torch.nn.Module."
        )
    make: Callable[..., Any] = found
    return make


def _may_build(found: Any) -> bool:
    """Whether something may be a builder: no function of Python's library or of torch builds a network.

    A card names what is called and with what; of a person who allows code of somebody's network nobody should get
    `os.system`, or `torch.load` of a pickle that lies beside the card.

    >>> _may_build(os.system), _may_build(nn.Linear), _may_build(nn.Module.apply)
    (False, True, False)
    """
    if isinstance(found, functools.partial):
        return _may_build(found.func)
    if isinstance(found, type):
        return issubclass(found, nn.Module)
    home = str(getattr(found, "__module__", None) or "").partition(".")[0]
    return home not in _NO_BUILDERS


def _arguments(
    make: Callable[..., Any], sizes: Mapping[str, int], options: Mapping[str, Any], named: str
) -> dict[str, Any]:  # fmt: skip
    """What a builder is called with: all options, and those of the sizes that it takes.

    Raises:
        InputError: it takes an option not, or needs something else.
    """
    try:
        signature = _signature(make)
    except (TypeError, ValueError):  # of C code: nobody says what it takes
        return {**sizes, **options}
    parameters = signature.parameters.values()
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    names = [p.name for p in parameters if p.kind in _BY_NAME]
    given = {**{name: size for name, size in sizes.items() if takes_all or name in names}, **options}
    rule = "a builder must take num_classes, in_channels and its options by these names, or those of them that it needs"
    for name in options:
        if not takes_all and name not in names:
            raise InputError(f"{named} takes no option {shorten(repr(name), 80)}.{hint(name, names)} ({rule.capitalize()}.)")
    for name in _needed(signature):
        if name not in given:
            raise InputError(
                f"{named} needs {shorten(repr(name), 80)}, which it is not given: {rule}. Rename it, give it a default, or set "
                f"it as an option (options={{{name!r}: …}}; in a recipe: options.{name}=…)."
            )
    return given


def _signature(make: Callable[..., Any]) -> inspect.Signature:
    """What a builder takes; a class that has torch's own constructor takes nothing, though that one says otherwise."""
    bare = isinstance(make, type) and issubclass(make, nn.Module) and make.__init__ is nn.Module.__init__
    return inspect.Signature() if bare else inspect.signature(make)


def _needed(signature: inspect.Signature) -> list[str]:
    """The names of arguments that must be given."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in signature.parameters.values() if p.default is inspect.Parameter.empty and p.kind not in several]


def _reason(error: BaseException) -> str:
    """What went wrong in somebody's code, and where, on one line."""
    said = shorten(" ".join(str(error).split()).rstrip("."), 140)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {said}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{f': {said}' if said else ''}{shorten(place, 80)}"


# -- where modules are looked for ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _importable(avoid: list[str]) -> Iterator[None]:
    """Modules of the working folder can be imported, as with `python -m`, those of some folders cannot; then all is as before."""
    with contextlib.ExitStack() as stack:
        if avoid:
            guard: Any = _Guard(avoid)
            sys.meta_path.insert(0, guard)
            stack.callback(sys.meta_path.remove, guard)
        with contextlib.suppress(OSError):  # the folder is gone
            here = os.getcwd()
            if here not in sys.path:
                sys.path.insert(0, here)
                stack.callback(sys.path.remove, here)
        yield


class _Guard:
    """Finds no module; refuses those that Python would find in some folders.

    Args:
        avoid: these folders, from the root on.
    """

    def __init__(self, avoid: list[str]) -> None:
        self.avoid = avoid

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Look where Python's own finder would find a module.

        Raises:
            InputError: in one of the folders.
        """
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None:
            return
        for place in (spec.origin, *(spec.submodule_search_locations or ())):
            if place is not None and any(_inside(place, folder) for folder in self.avoid):
                raise InputError(
                    f"The module {shorten(repr(name), 80)} would be imported from the model's own folder "
                    f"({quote(place)}), which must not bring code along: run this in another folder, and if you trust that "
                    "file, put a copy of it there."
                )


def _inside(place: str, folder: str) -> bool:
    """Whether a file lies in a folder, by its name or by where its name leads."""
    return any(Path(name).is_relative_to(folder) for name in (os.path.abspath(place), os.path.realpath(place)))
