"""`METHODS`: what there is, and what each method is and needs; `register_method` adds another."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from types import MappingProxyType

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint
from torchbcos.attribution import (
    activation,
    attention,
    deep_lift,
    gradients,
    guided_backprop,
    inherent,
    lrp,
    perturbation,
    surrogate,
)  # fmt: skip
from torchbcos.attribution.base import Explainer
from torchbcos.attribution.record import Method

__all__ = ["METHODS", "method_of", "register_method"]

# in the order in which they are listed
_ALL = (
    *inherent.RECORDS, *gradients.RECORDS, *deep_lift.RECORDS, *guided_backprop.RECORDS, *activation.RECORDS,
    *perturbation.RECORDS, *surrogate.RECORDS, *attention.RECORDS, *lrp.RECORDS,
)  # fmt: skip

_methods: dict[str, Method] = {record.name: record for record in _ALL}
METHODS: Mapping[str, Method] = MappingProxyType(_methods)


def register_method(method: Method) -> None:
    """Add a method of one's own to `METHODS`.

    Args:
        method: its record; `method.build` is a subclass of `torchbcos.attribution.Explainer` with a `name` and a `compute`.

    Raises:
        ArgumentTypeError: it is no record, or builds no method.
        InputError: the name is taken, or is none that `attribute(method=…)` could be given.
    """
    if not isinstance(method, Method):
        raise ArgumentTypeError(f"register_method takes a torchbcos.attribution.Method, not {type(method).__name__}.")
    if not (isinstance(method.build, type) and issubclass(method.build, Explainer)) or inspect.isabstract(method.build):
        raise ArgumentTypeError(
            f"build of a record must be a subclass of torchbcos.attribution.Explainer with its own compute, not {method.build!r}."
        )
    name = getattr(method.build, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise InputError(f"name of a method is made of lower-case letters, digits and _, as grad_cam; this one is {name!r}.")
    if method.name in _methods:
        raise InputError(f"A method is called {method.name!r} already: give yours another name.")
    _methods[method.name] = method


def method_of(method: object) -> Explainer:
    """The method of a name with its usual settings, or the one that is given with its own.

    Raises:
        InputError: there is no method of this name.
        ArgumentTypeError: it is neither.
    """
    if isinstance(method, Explainer):
        return method
    if isinstance(method, type) and issubclass(method, Explainer):
        return method()
    if not isinstance(method, str):
        raise ArgumentTypeError(
            f"method is a name or a method such as IntegratedGradients(steps=50), not {type(method).__name__}."
        )
    name = method.replace("-", "_").lower()
    if name not in _methods:
        raise InputError(f"Unknown method {method!r}.{hint(name, list(_methods))} There are {', '.join(_methods)}.")
    return _methods[name].build()
