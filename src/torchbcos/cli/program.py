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
from typer.core import TyperCommand, TyperGroup

from torchbcos._core.names import nearest
from torchbcos.cli.common import OutputError, flush, print_json, say, voice
from torchbcos.cli.habits import option_here
from torchbcos.cli.stopping import Stopped

__all__ = ["HELP", "INTERRUPTED", "Command", "Group", "Program"]

# What typer raises for a wrong request. Typer brought click along in one release and a copy of it in another; the base
# of the one error that it exports itself is the same in both.
_UsageError: Any = typer.BadParameter.__bases__[0]
INTERRUPTED = 130
HELP = {"help_option_names": ["--help", "-h"]}
# What other programs call it: word -> what to type here.
_OTHER_WORDS = {
    "version": "--version", "list": "models", "ls": "models", "zoo": "models", "classify": "predict", "infer": "predict",
    "inference": "predict", "heatmap": "explain", "saliency": "explain", "attribute": "explain", "visualize": "explain",
    "visualise": "explain", "fit": "train", "finetune": "train", "test": "evaluate", "eval": "evaluate", "proof": "verify",
    "validate": "check", "onnx": "export", "convert": "export", "info": "models", "show": "models", "download": "models",
    "run": "predict", "plot": "explain", "score": "evaluate", "benchmark": "evaluate",
    "temperature": "calibrate", "recalibrate": "calibrate",
}  # fmt: skip
_COMPLETION = {
    "install_completion": "Let the shell complete commands, options and models with the tab key.",
    "show_completion": "Print what --install-completion would write.",
}


class Command(TyperCommand):
    """A command whose help is plain: the usage line without braces, and flags without a type."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, each paragraph of its text in one piece: typer keeps the ends of our lines in all but the first."""
        self.help = "\n\n".join(" ".join(part.split()) for part in (self.help or "").split("\n\n"))
        super().format_help(ctx, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words behind the command's name: "[OPTIONS] PATH..."."""
        return ["[OPTIONS]", *(_usage_of(p) for p in self.get_params(ctx) if p.param_type_name == "argument")]

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, which takes no value."""
        return _as_flag(super().get_help_option(ctx))


class Group(TyperGroup):
    """A group of commands whose help is plain, too."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, which takes no value."""
        return _as_flag(super().get_help_option(ctx))


def _usage_of(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()).removesuffix("...")
    return (name if argument.required else f"[{name}]") + ("..." if argument.nargs != 1 else "")


def _as_flag(option: Any) -> Any:
    if option is not None:
        option.metavar = ""  # typer would write <bool> behind it
    return option


class Program(Group):
    """Commands whose usage errors are one sentence on stderr, with exit code 2."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The options of the program; those that install completion, which typer adds, without a type and in few words."""
        found: list[Any] = super().get_params(ctx)
        for option in found:
            if option.name in _COMPLETION:
                option.metavar, option.help = "", _COMPLETION[option.name]
        return found

    def invoke(self, ctx: Any) -> Any:
        """Run the command; typer would leave without a word where it is interrupted."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            say("torchbcos: interrupted; what was finished is kept.")
            raise typer.Exit(error.code if isinstance(error, Stopped) else INTERRUPTED) from None

    def main(  # type: ignore[override]  # typer's own further arguments pass through `extra`
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command and leave with its exit code; without arguments, show the help.

        With `--json` every exit code but 0 has its answer on stdout, too: {"error": a sentence}, or the records.
        """
        given = _without_help_word(list(sys.argv[1:] if args is None else args))
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
            say("torchbcos: interrupted; what was finished is kept.")
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


def _without_help_word(given: list[str]) -> list[str]:
    """ "help explain" as "explain --help".

    >>> _without_help_word(["help", "explain"]), _without_help_word(["explain", "help"])
    (['explain', '--help'], ['explain', 'help'])
    """
    return [*given[1:], "--help"] if given[:1] == ["help"] else given


def _sentence(error: Any) -> str:
    """A usage error in one sentence, with the nearest names or an example, and where to read on."""
    text = " ".join(str(error.format_message()).split())
    context = error.ctx
    command = context.command_path if context is not None else "torchbcos"
    unknown = re.match(r"No such (option|command):? ['\"]?([^\s'\"]+)", text)
    if unknown and context is not None:
        kind, word = unknown.groups()
        close = _near_options(word, context.command) if kind == "option" else _near_commands(word, context)
        tail = f" Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
        if kind == "option":
            tail = _as_here(word, context.command) or tail
        # not repr: typer has escaped the word already, or `say` will
        return f"There is no {kind} '{word}'.{tail} See '{command} --help'."
    text = text.replace("Value error, ", "").removesuffix(".")
    if text.startswith("Missing ") and context is not None:
        if text == "Missing command":
            text += f" ({', '.join(context.command.commands)})"
        example = (context.command.epilog or "").partition(";")[0].partition(": ")[2]
        text += f"; for example '{example}'" if example else ""
    return f"{text}. See '{command} --help'."


def _as_here(word: str, command: Any) -> str:
    """What an option of other programs is here, behind a space; "" where nobody knows."""
    options = [name for p in command.params for name in p.opts]
    settings: dict[str, str] = {}
    if "--set" in options:
        from torchbcos.training.recipe.habits import ELSEWHERE
        from torchbcos.training.recipe.value import list_settings

        settings = {**{word: f"{said} (--set KEY=VALUE)." for word, said in ELSEWHERE.items()},
                    **{key: f"It is '--set {key}=…' here." for key in list_settings()}}  # fmt: skip
    said = option_here(word, options, settings)
    return f" {said}" if said else ""


def _near_options(word: str, command: Any) -> list[str]:
    """Long options like one that is not there; for a single letter, those of whose words one begins with it."""
    known = [p for p in command.params if not getattr(p, "hidden", False)]
    names = ["--help", *(name for p in known for name in p.opts if name.startswith("--"))]
    bare = word.lstrip("-")
    if len(bare) == 1:
        return [name for name in names if f"-{bare.lower()}" in name][:3]
    return [f"--{name}" for name in nearest(bare, [name[2:] for name in names])]


def _near_commands(word: str, context: Any) -> list[str]:
    """Commands like one that is not there, the one that other programs call so, or what to do with a picture."""
    known = list(context.command.commands)
    other = _OTHER_WORDS.get(word.lower(), "")
    if context.parent is None and (other in known or other.startswith("--")):
        return [other]
    if context.parent is None and (os.path.exists(word) or os.path.splitext(word)[1]):
        return [f"torchbcos explain {word}"]
    return nearest(word, known)


def _output_failed(reason: OSError) -> int:
    """Standard output is full, or its reader has left: say so once, and keep the interpreter from trying again."""
    if reason.errno != errno.EPIPE:
        say(f"torchbcos: could not write to standard output: {reason.strerror}.")
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
