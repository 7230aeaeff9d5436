"""What the tab key offers beside commands, options and files: the names of models. It must be quick, so nothing is loaded."""

from __future__ import annotations

from importlib import resources

__all__ = ["model_names"]


def model_names(incomplete: str) -> list[str]:
    """The models with weights whose names begin so: those that come along, and the official ones. For all others: files.

    >>> model_names("imagenett")
    ['imagenette']
    """
    zoo = resources.files("torchbcos") / "zoo"
    embedded = [entry.name for entry in (zoo / "embedded").iterdir() if entry.is_dir() and not entry.name.startswith(("_", "."))]
    official = [entry.name.removesuffix(".toml") for entry in (zoo / "cards").iterdir() if entry.name.endswith(".toml")]
    return sorted(name for name in [*embedded, *official] if name.startswith(incomplete))
