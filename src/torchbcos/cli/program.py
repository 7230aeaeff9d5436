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
from torchbcos.cli.common import OutputError, flush, print_json, say, voice

__all__ = ["INTERRUPTED", "Program"]

# What typer raises for a wrong request. Typer brought click along in one release and a copy of it in another; the base
# of the one error that it exports itself is the same in both.
_UsageError: Any = typer.BadParameter.__bases__[0]
INTERRUPTED = 130


class Program(TyperGroup):
    """Commands whose usage errors are one sentence on stderr, with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; typer would leave without a word where it is interrupted."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Abort from None

    def main(  # type: ignore[override]  # typer's own further arguments pass through `extra`
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command and leave with its exit code; without arguments, show the help.

        With `--json` every exit code but 0 has its answer on stdout, too: {"error": a sentence}, or the records.
        """
        given = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
        voice.said, voice.answered = "", False
        closed = _mend_streams()
        extra["standalone_mode"] = False
        try:
            code = self._code_of(given, prog_name, extra)
            if code and as_json and not voice.answered and _speaks():
                print_json({"error": voice.said.removeprefix("torchbcos: ") or f"The command ended with code {code}."})
            flush()
        except OutputError as error:
            code = _output_failed(error.reason)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE):  # of a help text, which rich prints
                code = _output_failed(error)
            else:  # a fault of ours: its traceback follows
                if as_json and not voice.answered:
                    print_json({"error": f"Internal error, {type(error).__name__}: {error}"})
                raise
        if closed and not code:
            say("torchbcos: could not write to standard output: it is closed.")
            code = 1
        sys.exit(code)

    def _code_of(self, given: list[str], prog_name: str | None, extra: dict[str, Any]) -> int:
        """Run a command: its exit code, what went wrong being said."""
        try:
            return super().main(given or ["--help"], prog_name or "torchbcos", **extra) or (0 if given else 2)
        except _UsageError as error:
            say(f"torchbcos: {_sentence(error)}")
            return 2
        except typer.Abort:
            say("torchbcos: interrupted; pictures that were finished are kept.")
            return INTERRUPTED


def _mend_streams() -> bool:
    """Streams that take any text, and something in the place of those that are closed; whether stdout was.

    Left closed, the next file that is opened would get the number of stdout, and messages for stderr would go to stdout.
    """
    closed = sys.stdout is None
    for name in ("stdin", "stdout", "stderr"):  # in this order they get back their own numbers
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115  # as long as the program
    for stream in (sys.stdout, sys.stderr):  # names that the terminal's encoding lacks are escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return closed


def _speaks() -> bool:
    """Whether this process answers: of a training on several devices, the first."""
    training = sys.modules.get("torchbcos.training")
    return training is None or bool(training.is_first_process())


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
        # not repr: typer has escaped the word already, or `say` will
        return f"There is no {kind} '{word}'.{tail} See '{command} --help'."
    text = text.replace("Value error, ", "").removesuffix(".")
    return f"{text}. See '{command} --help'."


def _names(kind: str, command: Any) -> list[str]:
    """The sub-commands, or the long options, of a command."""
    if kind == "command":
        return list(command.commands)
    return ["--help", *(name for p in command.params for name in p.opts if name.startswith("--"))]


def _output_failed(reason: OSError) -> int:
    """Standard output is full, or its reader has left: say so once, and keep the interpreter from trying again."""
    if reason.errno != errno.EPIPE:
        say(f"torchbcos: could not write to standard output: {reason.strerror}.")
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
