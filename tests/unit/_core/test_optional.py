"""An optional package that is absent, or that cannot be loaded, is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torchbcos._core.errors import MissingPackageError
from torchbcos._core.optional import require


def test_a_package_that_is_absent_is_named_with_its_command() -> None:
    with pytest.raises(MissingPackageError, match=r"^Reading needs the package 'no_such_package', which is not inst.*\[train\]"):
        require("no_such_package.inner", extra="train", why="Reading")


# what a torchvision raises beside another torch; a library of C that is absent; a package that needs one that is absent
BROKEN = [
    ("raise RuntimeError('operator torchvision::nms does not exist')", "operator torchvision::nms does not exist"),
    ("raise OSError('libnope.so.2: cannot open shared object file')", "libnope.so.2"),
    ("import no_such_dependency", "No module named 'no_such_dependency'"),
    ("raise AttributeError('partially initialized module')", "partially initialized module"),
]


@pytest.mark.parametrize(("code", "reason"), BROKEN)
def test_a_package_that_cannot_be_loaded_is_named_with_versions(
    code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingPackageError) as caught:
        require("broken_package", extra="train", why="Training")
    text = str(caught.value)
    assert text.startswith(f"Training needs the package 'broken_package', which is installed and cannot be loaded: {reason}")
    assert f"There are torch {torch.__version__.split('+')[0]}" in text and len(text) <= 500 and "\n" not in text
