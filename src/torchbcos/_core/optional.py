"""Optional packages are imported where they are used; if one is absent, the error names the command that installs it.

The package is not on PyPI yet, so the command is one for a clone.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from torchbcos._core.errors import MissingPackageError

__all__ = ["require"]


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import `module` or say how to get it.

    Raises:
        MissingPackageError: `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise MissingPackageError(
            f"{why} needs the package '{package}', which is not installed: in a clone of torchbcos, pip install '.[{extra}]'."
        ) from error
