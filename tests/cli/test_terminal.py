"""What stands on a real terminal: paths that can be copied, and what libraries in C say in one sentence."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchbcos.cli.overhearing import overheard

pty = pytest.importorskip("pty")


def on_a_terminal(*words: str, cwd: Path, columns: int) -> tuple[int, str]:
    """Exit code and all that a terminal of that width gets, stdout and stderr alike."""
    import fcntl
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")} | {"TERM": "xterm"}
    command = [sys.executable, "-W", "ignore", "-m", "torchbcos", *words]
    with subprocess.Popen(command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as program:
        os.close(theirs)
        got = b""
        try:
            while part := os.read(ours, 65536):
                got += part
        except OSError:  # Linux says so that the other side is closed
            pass
        os.close(ours)
    return program.returncode, got.decode()


def test_paths_are_not_broken_on_a_narrow_terminal(tmp_path: Path) -> None:
    """A progress bar that takes over stdout breaks lines at the width of the terminal, names in two."""
    name = "a-name-that-is-longer-than-the-terminal-is-wide.png"
    (tmp_path / "in").mkdir()
    for i in range(2):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / "in" / f"{i}-{name}")
    (tmp_path / "in" / f"9-{name}").write_text("no picture")
    code, text = on_a_terminal(
        "explain", "in", "--out", "out", "--batch-size", "1", "--class", "gas pump", cwd=tmp_path, columns=40
    )
    assert code == 1 and "\x1b[" in text, text  # the bar was there
    for i in range(2):
        assert f"-> out/{i}-{name}.gas-pump.png\r\n" in text, text
    assert f"'in/9-{name}' is no picture that can be read: it contains text; supported: JPEG," in text


def test_a_terminal_is_no_pipe(tmp_path: Path) -> None:
    code, text = on_a_terminal("predict", "-", cwd=tmp_path, columns=200)
    assert code == 2 and "torchbcos: '-' reads a picture from a pipe, and here is a terminal: curl ADDRESS" in text


def test_the_decoder_is_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with overheard() as lines:
        os.write(2, b"Fax4Decode: Bad code word.\n\x1b[2Kbar\n\n")
    assert lines == ["Fax4Decode: Bad code word."]
    with contextlib.suppress(ZeroDivisionError), overheard() as lines:
        os.write(2, b"x\n")
        raise ZeroDivisionError
    os.write(2, b"after\n")
    assert lines == ["x"] and capfd.readouterr().err == "after\n"
