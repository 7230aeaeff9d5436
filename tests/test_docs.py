"""Every Python block of README and docs runs, in an empty folder with the photos beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.birds import Birds

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(match.group(1), id=f"{page.relative_to(ROOT)}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    if "reference" not in page.parts
    for match in re.finditer(r"```python\n(.*?)```", page.read_text(), re.S)
]


@pytest.mark.parametrize("code", BLOCKS)
def test_block_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "import timm" in code:  # of an extra
        pytest.importorskip("timm")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    if '"FunnyBirds"' in code:  # data that a reader has: here a made-up folder
        Birds().write(tmp_path / "FunnyBirds")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "block", "exec", dont_inherit=True), {"__name__": "block"})  # not this file's __future__


def test_pictures_of_the_readme_exist() -> None:
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGES[0].read_text())
    assert links and all((ROOT / path).is_file() for path in links)
