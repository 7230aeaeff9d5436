"""Workflow files call chores that exist, on the versions that are promised, with actions of a named major version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHORES = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
ACTION = re.compile(r"uses: [\w.-]+/[\w.-]+@(?:v\d+|release/v\d+)\s*$")


def faults(text: str) -> list[str]:
    """What a workflow file may not hold."""
    wrong = [name for name in re.findall(r"\bmake ([a-z-]+)", re.sub(r"(^|\s)#.*", "", text)) if name not in CHORES]
    wrong += [line.strip() for line in text.splitlines() if "uses:" in line and not ACTION.search(line)]
    return wrong if "permissions:" in text else [*wrong, "no permissions"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_calls_what_exists(path: Path) -> None:
    assert faults(path.read_text("utf-8")) == []


def test_a_wrong_workflow_is_seen() -> None:
    assert faults("permissions:\nrun: make nothing") == ["nothing"]
    assert faults("permissions:\n- uses: actions/checkout@main") == ["- uses: actions/checkout@main"]
    assert faults("run: make test") == ["no permissions"]


def test_the_oldest_and_the_newest_are_tested() -> None:
    assert [path.name for path in FILES] == ["docs.yml", "release.yml", "tests.yml"]
    tests, project = FILES[2].read_text("utf-8"), (ROOT / "pyproject.toml").read_text("utf-8")
    python = re.search(r'requires-python = ">=([\d.]+)"', project)
    torch = re.search(r'"torch>=([\d.]+)"', project)
    assert python and torch
    assert f'python: ["{python[1]}"' in tests and f'torch: ["{torch[1]}.0", ""]' in tests
    support = (ROOT / "docs" / "support.md").read_text("utf-8")
    assert f"| Python | {python[1]} or later |" in support and f"| torch | {torch[1]} or later |" in support
