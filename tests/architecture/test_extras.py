"""Extras hold what is used, and whatever asks for a package names the extra that brings it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
EXTRAS: Mapping[str, Sequence[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# for developers: their tools, what `make bench` and `make parity` compare with, what `make docs` builds the site with
OURS = ("dev", "bench", "parity", "docs")
MODULES = {"pillow-heif": "pillow_heif", "huggingface_hub": "huggingface_hub"}
INDIRECT = {"tensorboard": "torch.utils.tensorboard", "onnx": "torch.onnx", "onnxscript": "torch.onnx"}  # torch imports them


def packages(extra: str) -> list[str]:
    """The names of the packages of an extra."""
    return [re.split(r"[<>=\[;]", item)[0].strip() for item in EXTRAS[extra]]


def asked(source: str) -> Iterator[tuple[str, str]]:
    """The modules that a source asks `require` for, each with the extra it names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require" and node.args:
            extra = next((word.value for word in node.keywords if word.arg == "extra"), None)
            if isinstance(node.args[0], ast.Constant) and isinstance(extra, ast.Constant):
                yield str(node.args[0].value), str(extra.value)


def wrong(source: str) -> list[str]:
    """What a source asks for and the extra that it names does not bring."""
    found = []
    for module, extra in asked(source):
        brought = {MODULES.get(name, name).replace("-", "_") for name in packages(extra)} if extra in EXTRAS else set()
        if module.split(".")[0] not in {*brought, "PIL"}:  # the core has Pillow, if not each of its plugins
            found.append(f"{module} of [{extra}]")
    return found


SOURCES = sorted((ROOT / "src").rglob("*.py"))
ALL = "\n".join(path.read_text() for path in SOURCES)


def test_each_extra_brings_what_is_asked_of_it() -> None:
    assert [fault for path in SOURCES for fault in wrong(path.read_text())] == []


def test_a_wrong_extra_is_noticed() -> None:
    assert wrong("require('nibabel', extra='train', why='x')\nrequire('lightning', extra='train', why='y')") == [
        "nibabel of [train]"
    ]
    assert wrong("require('nibabel', extra='medicine', why='x')") == ["nibabel of [medicine]"]


@pytest.mark.parametrize("extra", sorted(set(EXTRAS) - set(OURS)))
def test_what_an_extra_brings_is_used(extra: str) -> None:
    assert [name for name in packages(extra) if not used(name, ALL)] == []


def used(package: str, sources: str) -> bool:
    """Whether sources import a package, ask for it, or use what imports it."""
    module = re.escape(INDIRECT.get(package, MODULES.get(package, package)).replace("-", "_"))
    return re.search(rf"^\s*(import|from) {module}\b|[\"']{module}\b|\b{module}\.", sources, re.M) is not None


def test_an_unused_package_is_noticed() -> None:
    assert used("timm", "x = require('timm.utils', extra='train')") and used("onnx", "torch.onnx.export(x)")
    assert not used("captum", "# we compare with captum")
