"""Which version of the library this is; pyproject.toml says the same."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
