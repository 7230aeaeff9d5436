"""What stands in ```console blocks of the pages below is what a user gets: every command of a page runs, in one empty folder.

`…` stands for any text, alone on a line for any lines. Numbers differ from machine to machine: any number stands for any other.
Commands of `torchbcos` run in this process, which has loaded torch already; all others in a shell.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
PAGES = ("signals", "volumes", "scans", "own-model", "grey-scans", "any-network")
_NEEDS = {"any-network": "timm"}
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")


class Step(NamedTuple):
    """A command of a transcript, and what it says."""

    command: str
    expected: str
    line: int


def steps(page: str) -> Iterator[Step]:
    """The commands in the console blocks of a page, in order; a command that ends in a backslash goes on in the next line."""
    for block in re.finditer(r"```console\n(.*?)```", page, re.S):
        first = page[: block.start(1)].count("\n") + 1
        command, expected, line = "", list[str](), first
        for i, text in enumerate(block[1].splitlines()):
            if command.endswith("\\"):
                command = command[:-1] + text.strip()
            elif text.startswith("$ "):
                if command:
                    yield Step(command, "\n".join(expected), line)
                command, expected, line = text[2:], [], first + i
            else:
                expected.append(text)
        if command:
            yield Step(command, "\n".join(expected), line)


def matches(said: str, expected: str) -> bool:
    """Whether an output is what a transcript shows."""
    lines = [_NUMBER.sub("#", text).rstrip() for text in expected.strip().splitlines()]
    lines = ["…" if text.strip() == "…" else text for text in lines]
    pattern = "\n".join(".*" if text == "…" else re.escape(text).replace("…", "[^\n]*") for text in lines)
    # lines that stand for any number of lines stand for none, too
    pattern = pattern.replace("\n.*\n", "(?:\n.*)?\n").removesuffix("\n.*") + (".*" if lines[-1:] == ["…"] else "")
    found = "\n".join(text.rstrip() for text in _NUMBER.sub("#", said).strip().splitlines())
    return re.fullmatch(pattern, found, re.S) is not None


def run(command: str, folder: Path) -> str:
    """What a command says on both streams."""
    words = shlex.split(command)
    if words[0] == "torchbcos" and not set(words) & {"|", ">", "&&", "<"}:
        from torchbcos.cli.__main__ import app

        return CliRunner().invoke(app, words[1:], prog_name="torchbcos").output
    done = subprocess.run(
        command.replace("python ", f"{shlex.quote(sys.executable)} ", 1) if words[0] == "python" else command,
        shell=True, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_transcript(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page in _NEEDS:
        pytest.importorskip(_NEEDS[page])
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    before = set(sys.modules)
    found = list(steps((ROOT / "docs" / "how-to" / f"{page}.md").read_text("utf-8")))
    assert found, "no console block"
    try:
        for step in found:
            said = run(step.command, tmp_path)
            assert matches(said, step.expected), f"line {step.line}: $ {step.command}\n{said}\n--- expected:\n{step.expected}"
    finally:
        for name in set(sys.modules) - before:  # modules of the user's folder
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]


def test_a_transcript_can_be_wrong() -> None:
    said = "finetune knows 2 classes: a, b\nscan.npy: a 97%\n  why a\nDone in 40 s."
    assert matches(said, "finetune knows 3 classes: a, b\n…\nDone in 1,234 s.")
    assert matches(said, "finetune knows 2 classes: …\nscan.npy: a 98%\n  why a\nDone in 1 s.") and matches("", "")
    assert not matches(said, "finetune knows 2 classes: a, b") and not matches(said, "…\nDone in 40 h.")
    assert not matches(said, "finetune knows 2 classes: b, a\n…")
    assert [step.command for step in steps("```console\n$ a \\\n  b\nx\n$ c\n```\n")] == ["a b", "c"]
