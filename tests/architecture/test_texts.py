"""What no file of ours may say, and what the frame's files must agree on."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import torchbcos

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".md", ".toml", ".cff", ".txt", ".json", ""}
# written in pieces, so that this file does not say what it forbids
UNWANTED = {
    "unfinished": r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b",
    "registry": "|".join(["py" + r"pi\.org", "python" + "hosted", "index" + "-url", "trusted" + "-host"]),
    "home": r"(?<![\w./])/(?:" + "|".join(["ro" + "ot", "ho" + "me", "Us" + "ers", "wo" + "rk", "m" + "nt"]) + r")/\w",
}


def texts() -> Iterator[Path]:
    """Every text file that we wrote."""
    folders = [ROOT / name for name in ("src", "tests", "docs", "recipes", "benchmarks", ".ci")]
    for path in [*(p for p in ROOT.iterdir()), *(p for folder in folders if folder.is_dir() for p in folder.rglob("*"))]:
        if path.is_file() and path.suffix in SUFFIXES and path.name not in {"LICENSE", ".git"}:
            yield path


def unwanted(text: str) -> list[str]:
    """Kinds of things that we do not say."""
    return [kind for kind, pattern in UNWANTED.items() if re.search(pattern, text)]


def test_nothing_unwanted_is_written() -> None:
    found = {str(path.relative_to(ROOT)): unwanted(path.read_text("utf-8")) for path in texts()}
    assert {"Makefile", "pyproject.toml", "README.md", "hubconf.py"} <= set(found)
    assert {name: kinds for name, kinds in found.items() if kinds} == {}


def test_unwanted_words_are_seen() -> None:
    assert unwanted("# TO" + "DO: later") == ["unfinished"]
    assert unwanted("pip install --index" + "-url https://example.com") == ["registry"]
    assert unwanted("see /ho" + "me/ann/photos") == ["home"]
    assert unwanted("https://example.com/home/ann, todo lists, docs/home/x") == []


def test_the_chores_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for chore in ("help", "demo", "test", "check", "parity", "docs"):
        assert re.search(rf"^{chore}:.*## ", makefile, re.M), chore
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "make check" in script and "make test" in script and script.startswith("#!/usr/bin/env bash\n")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_licence_and_notice() -> None:
    assert (ROOT / "LICENSE").read_text("utf-8").split()[:4] == ["Apache", "License", "Version", "2.0,"]
    notice = (ROOT / "NOTICE").read_text("utf-8")
    photos = sorted((ROOT / "docs" / "photos").glob("*.jpg"))
    assert photos and all(photo.name in notice for photo in photos), "each photo that ships needs its source in NOTICE"
    assert "2306.10898" in notice and "2306.10898" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_decisions_are_numbered_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    notes = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert notes and [int(path.name[:3]) for path in notes] == list(range(1, len(notes) + 1))
    index = (folder / "README.md").read_text("utf-8")
    for path in notes:
        assert f"({path.name})" in index, f"docs/decisions/README.md does not list {path.name}"
        assert re.match(rf"# {path.name[:3]} \S", path.read_text("utf-8")), path.name


LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")


def broken_links(page: Path, text: str) -> list[str]:
    """Targets of a page's links that are no file or folder beside it."""
    outside_code = re.sub(r"```.*?```", "", text, flags=re.S)
    return [target for target in LINK.findall(outside_code) if not (page.parent / target).exists()]


def pages() -> list[Path]:
    """Every page that we wrote; the reference is built."""
    found = [*ROOT.glob("*.md"), *(ROOT / "src").rglob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in found if "reference" not in path.parts)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text("utf-8")) == []


def test_a_broken_link_is_seen() -> None:
    page = ROOT / "docs" / "index.md"
    text = "[a](start.md) [b](https://x.y) [c](#below) [d](start.md#x)"
    assert broken_links(page, text) == []
    assert broken_links(page, text + " [e](stop.md) ![f](../start.md#x)") == ["stop.md", "../start.md"]


def unlisted(index: str) -> list[str]:
    """Pages under docs that the index does not link; decisions have an index of their own."""
    folder = ROOT / "docs"
    names = [page.relative_to(folder).as_posix() for page in pages() if page.is_relative_to(folder)]
    return [name for name in names if name != "index.md" and not re.match(r"decisions/\d", name) and f"({name})" not in index]


def test_the_index_links_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert unlisted(index) == []
    assert unlisted(index.replace("(start.md)", "")) == ["start.md"]  # it can fail


HUB = """
import sys, torch
sys.path.insert(0, {repo!r})
import hubconf
names = [n for n in dir(hubconf) if callable(getattr(hubconf, n)) and not n.startswith("_")]  # as torch.hub.list does
assert len(names) == 34 and "resnet50_long" in names and "standard_vitc_b_patch1_14" in names, names
assert "create_model('resnet50'" in hubconf.resnet50.__doc__
model = torch.hub.load({repo!r}, "resnet18", source="local", num_classes=3)
assert model.num_classes == 3
import torchbcos
print(torchbcos.__file__)
"""


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """A copy of the repository as torch.hub unpacks it: nothing installed."""
    ignored = shutil.ignore_patterns("__pycache__", "embedded")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    shutil.copy(ROOT / "hubconf.py", tmp_path)
    return tmp_path


def test_torch_hub_serves_the_official_networks(fetched: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUB.format(repo=str(fetched))], capture_output=True, text=True, check=False, cwd=fetched
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(fetched)


def test_torch_hub_gives_the_network_that_comes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    hubconf = importlib.import_module("hubconf")
    assert callable(hubconf.imagenette)
    network = torch.hub.load(str(ROOT), "imagenette", source="local").eval()
    assert network.class_names[:2] == ("tench", "English springer")
    x = torch.rand(1, 6, 64, 64)
    torch.testing.assert_close(network(x), torchbcos.load("imagenette", device="cpu", deploy=False).model(x))
    thousand = torch.hub.load(str(ROOT), "imagenet", source="local").eval()
    torch.testing.assert_close(thousand(x), torchbcos.load(device="cpu", deploy=False).model(x))
    with pytest.raises(TypeError, match="takes no options"):
        torch.hub.load(str(ROOT), "imagenet", source="local", num_classes=3)
    assert torch.hub.load(str(ROOT), "imagenette", source="local", num_classes=0).num_classes == 0
    assert "with its weights" in hubconf.imagenette.__doc__
