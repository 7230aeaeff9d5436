"""The models of a service: opened when they are first asked for, and put away when others need their room."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.names import hint, quote
from torchbcos.service.refusals import Refused
from torchbcos.zoo import Classifier, load

__all__ = ["Shelf", "named_sources"]

_log = logging.getLogger(__name__)


def named_sources(sources: Sequence[str]) -> dict[str, str]:
    """Names of models and where they come from: of "NAME=SOURCE" the name, else the last part of the source.

    Raises:
        InputError: there is none, or two have one name.

    >>> named_sources(["default", "mine=runs/a/model", "timm:resnet18"])
    {'imagenet': 'default', 'mine': 'runs/a/model', 'resnet18': 'timm:resnet18'}
    """
    found: dict[str, str] = {}
    for given in sources:
        name, equals, source = given.partition("=")
        if not equals or not name:
            source = given
            name = (
                "imagenet" if given == "default" else given.rstrip("/").replace("\\", "/").rpartition("/")[2].rpartition(":")[2]
            )
        if not name or not source:
            raise InputError(f"A model is a source, or NAME=SOURCE, not {quote(given)}.")
        if name in found:
            raise InputError(f"Two models are called {quote(name)}: give them names, as in first={found[name]} second={source}.")
        found[name] = source
    if not found:
        raise InputError("A service needs a model at least.")
    return found


@dataclass
class _Place:
    """Where one model stands.

    Attributes:
        source: of it.
        classifier: while it is in memory.
        opening: only one thread opens it.
    """

    source: str
    classifier: Classifier | None = None
    opening: threading.Lock = field(default_factory=threading.Lock)


class Shelf:
    """Classifiers by their names, some of them in memory.

    Args:
        sources: names, and what `torchbcos.load` takes.
        most: how many are in memory at a time; those that still answer a request count as well.
        options: of `torchbcos.load`.
    """

    def __init__(self, sources: Mapping[str, str], most: int, options: Mapping[str, Any]) -> None:
        self.places = {name: _Place(source) for name, source in sources.items()}
        self.most, self.options = most, dict(options)
        self.used: OrderedDict[str, None] = OrderedDict()  # in memory, the one that was used last at the end
        self.lock = threading.Lock()

    @property
    def first(self) -> str:
        """The model of a request that names none."""
        return next(iter(self.places))

    def loaded(self) -> list[str]:
        """Names of those in memory."""
        with self.lock:
            return list(self.used)

    def check(self, name: str | None) -> str:
        """The name of a model.

        Raises:
            Refused: 422, there is none of that name.
        """
        if name is None:
            return self.first
        if name not in self.places:
            known = ", ".join(list(self.places)[:20])
            raise Refused(422, f"There is no model {quote(name[:80])} here, but {known}.{hint(name[:80], self.places)}")
        return name

    def ready(self, name: str) -> Classifier | None:
        """The classifier of that name, if it is in memory."""
        return self.places[name].classifier

    def open(self, name: str) -> Classifier:
        """The classifier of that name, which must be known; it may take seconds.

        Raises:
            Refused: 503, it cannot be opened.
        """
        place = self.places[name]
        with place.opening:
            if place.classifier is None:
                self._make_room()
                try:
                    place.classifier = load(place.source, **self.options)
                except (BcosError, OSError, MemoryError) as error:
                    _log.error("The model %s cannot be opened: %s", quote(name), error)  # it names a path: not for callers
                    raise Refused(503, f"The model {quote(name)} cannot be opened: the log of the service says why.") from error
            found = place.classifier
        with self.lock:
            self.used[name] = None
            self.used.move_to_end(name)
        return found

    def _make_room(self) -> None:
        """Put away what was not used for longest, until one more fits; its memory goes back to the machine."""
        with self.lock:
            away = list(self.used)[: max(0, len(self.used) + 1 - self.most)]
            for name in away:
                self.used.pop(name)
                self.places[name].classifier = None
        if away:
            _give_back()


def _give_back() -> None:
    """Collect what nobody refers to, and let the C library return free pages, which it would keep for later."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)
