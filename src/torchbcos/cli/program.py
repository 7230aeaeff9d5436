"""The program around the commands: one sentence for every wrong request, and output that cannot break."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from torchbcos._core.names import nearest
from torchbcos.cli.common import say

__all__ = ["INTERRUPTED", "Program"]

# What typer raises for a wrong request. Typer brought click along in one release and a copy of it in another; the base
# of the one error that it exports itself is the same in both.
_UsageError: Any = typer.BadParameter.__bases__[0]
INTERRUPTED = 130


class Program(TyperGroup):
    """Commands whose usage errors are one sentence on stderr, with exit code 2."""

    def main(  # type: ignore[override]  # typer's own further arguments pass through `extra`
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command and leave with its exit code; without arguments, show the help."""
        given = list(sys.argv[1:] if args is None else args)
        for stream in (sys.stdout, sys.stderr):  # names that the terminal's encoding lacks are escaped
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        extra["standalone_mode"] = False
        try:
            code = super().main(given or ["--help"], prog_name or "torchbcos", **extra) or (0 if given else 2)
            sys.stdout.flush()
        except _UsageError as error:
            say(f"torchbcos: {_sentence(error)}")
            code = 2
        except typer.Abort:
            say("torchbcos: interrupted; pictures that were finished are kept.")
            code = INTERRUPTED
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EPIPE):
                raise
            code = _output_failed(error)
        sys.exit(code)


def _sentence(error: Any) -> str:
    """A usage error in one sentence, with the nearest names and where to read on."""
    text = " ".join(str(error.format_message()).split())
    context = error.ctx
    command = context.command_path if context is not None else "torchbcos"
    unknown = re.match(r"No such (option|command):? ['\"]?([^\s'\"]+)", text)
    if unknown and context is not None:
        kind, word = unknown.groups()
        dashes = "--" if kind == "option" else ""
        close = nearest(word.lstrip("-"), [name.lstrip("-") for name in _names(kind, context.command)])
        tail = f" Did you mean {' or '.join(repr(dashes + name) for name in close)}?" if close else ""
        return f"There is no {kind} {word!r}.{tail} See '{command} --help'."
    text = text.replace("Value error, ", "").removesuffix(".")
    return f"{text}. See '{command} --help'."


def _names(kind: str, command: Any) -> list[str]:
    """The sub-commands, or the long options, of a command."""
    if kind == "command":
        return list(command.commands)
    return ["--help", *(name for p in command.params for name in p.opts if name.startswith("--"))]


def _output_failed(error: OSError) -> int:
    """Standard output is full, or its reader has left: say so once, and keep the interpreter from trying again."""
    if error.errno != errno.EPIPE:
        say(f"torchbcos: could not write to standard output: {error.strerror}.")
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
