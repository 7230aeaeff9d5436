"""Optional packages are imported where they are used; if one is absent, the error names the command that installs it.

The package is not on PyPI yet, so the command is one for a clone.
"""

from __future__ import annotations

import contextlib
import importlib
from importlib import metadata
from types import ModuleType

from torchbcos._core.errors import MissingPackageError, shorten

__all__ = ["require"]


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Import `module` or say how to get it.

    Raises:
        MissingPackageError: `module` is not installed, or what is installed cannot be loaded: another package beside it has a
            version that it was not made for, say.
    """
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except Exception as error:  # compiled packages raise RuntimeError, OSError and others where their neighbours do not fit
        if isinstance(error, ImportError) and (error.name or package).split(".")[0] == package:
            raise MissingPackageError(
                f"{why} needs the package '{package}', which is not installed: in a clone of torchbcos, pip install '.[{extra}]'."
            ) from error
        reason = shorten(" ".join(str(error).split()) or type(error).__name__, 150).rstrip(".")
        raise MissingPackageError(
            f"{why} needs the package '{package}', which is installed and cannot be loaded: {reason}. There are "
            f"{_versions(package)}: install those that belong together, in a clone of torchbcos pip install '.[{extra}]'."
        ) from error


def _versions(package: str) -> str:
    """The installed versions of a package and of torch, which most of them are compiled for."""
    found = []
    for name in dict.fromkeys((package, "torch")):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return " and ".join(found)
