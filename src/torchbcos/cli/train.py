"""`torchbcos train`: a network from a recipe and a folder of pictures."""

from __future__ import annotations

import enum
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from torchbcos._core.errors import BcosError, InputError, shorten
from torchbcos._core.letters import printable
from torchbcos._core.names import quote, whole_number
from torchbcos.cli.common import Device, DeviceOption, given_path, parse_range, print_json, say, tell, usage_errors
from torchbcos.cli.completing import model_names
from torchbcos.cli.places import write_page
from torchbcos.cli.program import INTERRUPTED
from torchbcos.cli.settings import print_settings

if TYPE_CHECKING:
    from torchbcos.training import Progress, Recipe

__all__ = ["EVERY", "OnError", "flushing_denormals", "run", "train"]

EVERY = 60  # seconds between lines where there is no terminal


class OnError(str, enum.Enum):
    """What to do with files that cannot be read."""

    stop = "stop"
    skip = "skip"


def train(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE|FILE KEY=VALUE",
            help="A recipe ('torchbcos train --list' names all) or a recipe file (.toml), and settings as with --set.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", parser=given_path,
            help="A folder of pictures for every class (or train/ and val/ of those), tar shards, labels.csv, or CIFAR-10.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="RUN", parser=given_path, show_default="runs/RECIPE",
            help="Where the run goes; an interrupted one goes on.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: --set epochs=20 --set options.antialias=true."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher", metavar="SOURCE", autocompletion=model_names,
            help="The network to learn from; with the recipe 'align' the one that is converted: a model folder, timm:NAME, …",
        ),
    ] = None,
    number_range: Annotated[
        str | None,
        typer.Option(
            "--range", metavar="LOW..HIGH", show_default="what the files say or their types hold",
            help="The stored numbers that become 0 and 1, for training and for the model: 0..4095, or -160..240 of a CT.",
        ),
    ] = None,
    on_error: Annotated[
        OnError | None, typer.Option("--on-error", help="Stop at files that cannot be read, or skip and count them.")
    ] = None,
    devices: Annotated[
        str, typer.Option("--devices", metavar="N", help="How many devices of this machine (processes, on a CPU).")
    ] = "auto",
    nodes: Annotated[int, typer.Option("--nodes", metavar="N", min=1, help="How many machines.")] = 1,
    strategy: Annotated[
        str, typer.Option("--strategy", metavar="NAME", help="auto, ddp, … as Lightning names them.")
    ] = "auto",
    device: DeviceOption = Device.auto,
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", metavar="NAME", hidden=True, help="Instead of --device, as Lightning names it.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", metavar="", help="Name all recipes and leave.")] = False,
    show: Annotated[
        bool, typer.Option("--show", metavar="", help="Print the resolved recipe, with what each setting does, and leave.")
    ] = False,
    about_settings: Annotated[
        bool, typer.Option("--settings", metavar="", help="Explain all settings, or those that contain a WORD, and leave.")
    ] = False,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code", metavar="",
            help="Let a recipe file (or a run's folder) run code: a module:function as model, a .pt2 program as teacher.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print the report as JSON; the rest goes to stderr.")] = False,
) -> None:  # fmt: skip
    """Train a network on your pictures; RUN/model is what 'torchbcos explain --model' opens.

    RUN holds the resolved recipe, history, TensorBoard logs and checkpoints. The same command goes on where a run stopped.
    """
    with usage_errors():
        from torchbcos import training
        from torchbcos._core.optional import require
        from torchbcos.training.recipe import refuse_code, to_dict

        if about_settings:
            print_settings(words or [], json=json)
            return
        recipe, own = _split_words(words or [])
        if list_all:
            _list_recipes(recipe, json=json)
            return
        if recipe is None:
            say("torchbcos: which recipe? 'torchbcos train folder --data DIR' trains on your own pictures; --list names all.")
            raise typer.Exit(2)
        found, facts, file = _resolve(recipe)
        limits = parse_range(number_range)
        typed = [*own, *(settings or []), *([f"on_error={on_error.value}"] if on_error else [])]
        typed += [f"value_range={list(limits)}"] if limits else []
        typed += [f"teacher={teacher}"] if teacher else []
        chosen = training.with_settings(found, typed)
        if show:
            if json:
                print_json(to_dict(chosen))
            for line in [] if json else training.to_toml(chosen, comments=True).splitlines():
                tell(line)
            return
        if file is not None and not allow_code:
            refuse_code(chosen, file, typed={setting.partition("=")[0].strip() for setting in typed})
        source = data or (Path(facts["data"]) if "data" in facts else None)
        if source is None:
            say(f"torchbcos: what data? 'torchbcos train {recipe} --data DIR', a folder with a folder of pictures a class.")
            raise typer.Exit(2)
        if file is None and not any(setting.partition("=")[0].strip() == "workers" for setting in typed):
            chosen = chosen.changed(workers=min(chosen.workers, _processors()))
        require("lightning", extra="train", why="torchbcos train")
        count = whole_number(devices)
        machine = _Machine(devices if count is None else count, nodes, strategy, accelerator or device.value)
        folder = out or _own_folder(chosen)
        report = run(chosen, source, folder, machine, tell=say if json else _speak)
        if training.is_first_process():
            _write_report(folder, report)
            if json:
                print_json(report)


def _write_report(folder: Path, report: dict[str, Any]) -> None:
    """RUN/report.html, what the run says of itself as a page; a run is not lost for want of it."""
    from torchbcos.runs import RunFolder
    from torchbcos.viewer import training_page

    try:
        write_page(folder / "report.html", training_page(RunFolder(folder), report))
    except (BcosError, OSError, ValueError) as error:
        say(f"torchbcos: no page of this run: {shorten(str(error), 200)}")


def _processors() -> int:
    """How many processors this process may use."""
    from torchbcos.training.machine import processors

    return processors()


class _Machine(NamedTuple):
    """On what a run trains, as Lightning Fabric names it."""

    devices: int | str
    nodes: int
    strategy: str
    accelerator: str


def run(recipe: Recipe, data: Path, out: Path, machine: _Machine, tell: Callable[[str], None]) -> dict[str, Any]:
    """Train, show how far it is, and leave with the code of the signal that ended it."""
    from torchbcos import training

    try:
        with flushing_denormals(), _shown_progress(tell) as progress:
            words = {**machine._asdict(), "workers": recipe.workers}
            return training.train(recipe, data, out, **words, say=tell, progress=progress)
    except KeyboardInterrupt as error:
        if not training.is_first_process():  # a run has one voice and one exit code: those of its first process
            raise typer.Exit(0) from None
        say(f"torchbcos: {error}" if str(error) else "torchbcos: interrupted; the same command begins again.")
        raise typer.Exit(error.code if isinstance(error, training.Interrupted) else INTERRUPTED) from None


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Young B-cos networks die away into denormals, which a CPU computes slowly: zeros meanwhile, as before afterwards."""
    import torch

    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _own_folder(recipe: Recipe) -> Path:
    """The folder of a run that was given none: called as the recipe, in the folder `runs`.

    Raises:
        InputError: its name, which a file may have given, leads elsewhere.
    """
    name = recipe.name
    if not name.isprintable() or name != os.path.basename(name) or name in ("", os.curdir, os.pardir):
        raise InputError(f"The recipe is called {shorten(ascii(name), 200)}, which cannot be the name of a folder: set --out.")
    return Path("runs") / name


_SETTING = re.compile(r"(options\.)?[A-Za-z_]\w*=")


def _split_words(words: list[str]) -> tuple[str | None, list[str]]:
    """The recipe, and settings that stand behind it or behind a `--set`."""
    settings = [word for word in words if _SETTING.match(word)]
    recipes = [word for word in words if word not in settings]
    if len(recipes) > 1:
        raise InputError(f"One recipe at a time, not {' and '.join(repr(word) for word in recipes)}; a setting is KEY=VALUE.")
    return (recipes[0] if recipes else None), settings


def _speak(line: str) -> None:
    """A line on stdout, at once."""
    tell(line, at_once=True)


@contextmanager
def _shown_progress(tell: Callable[[str], None]) -> Iterator[Callable[[Progress], None]]:
    """Show every step as a bar on a terminal; elsewhere say a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from torchbcos.training.progress import Lines

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(tell, EVERY)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda now: bar.update(task, total=now.total, completed=now.done, description=now.describe())


def _resolve(recipe: str) -> tuple[Recipe, dict[str, Any], Path | None]:
    """A recipe by name; or from a file (or a run's folder), with the facts of the run that wrote it, and that file."""
    from torchbcos import training
    from torchbcos.runs import RunFolder

    kept = RunFolder(Path(recipe)).recipe
    if not os.path.isfile(kept):  # of os.path: it has an answer for names that no file can have
        named = not (recipe.endswith(".toml") or os.sep in recipe)
        if os.path.isdir(recipe) and not (named and recipe in training.list_recipes()):
            raise InputError(
                f"{quote(recipe)} is a folder, and neither a recipe nor a run: 'torchbcos train folder --data "
                f"{printable(shlex.quote(shorten(recipe, 150)))}' trains on the pictures in it."
            )
        if named:
            return training.find_recipe(recipe), {}, None
        kept = Path(recipe)
    # whether it may run code is asked when all settings are known; to show them runs none
    return *training.read_recipe(kept, allow_code=True), kept


_FIRST = ("folder", "finetune", "align", "imagenette", "surface", "two-stage")


def _list_recipes(word: str | None, *, json: bool) -> None:
    """A line a recipe; the many of CIFAR-10 in one, unless a word asks for them. Those that a beginner needs come first."""
    from torchbcos import training
    from torchbcos._core.names import hint

    pattern = "*" if word is None else word if set(word) & set("*?[") else f"*{word}*"
    names = training.list_recipes(pattern)
    if not names:
        say(f"torchbcos: no recipe matches {word!r}.{hint(word or '', training.list_recipes())}")
        raise typer.Exit(2)
    names = [*(name for name in _FIRST if name in names), *(name for name in names if name not in _FIRST)]
    if json:
        print_json([{"name": name, "about": training.find_recipe(name).about, "first": name in _FIRST} for name in names])
        return
    many = [name for name in names if name.startswith("cifar10_")]
    aligned = [name for name in names if name.startswith("aligned-")]
    folded = word is None or word == "*"
    if folded:
        tell("To begin with (*), each on its own or changed with --set KEY=VALUE:")
    for name in names:
        if not (folded and name in (*many, *aligned)):
            tell(f"{'* ' if name in _FIRST else '  '}{name:44} {training.find_recipe(name).about}")
        if folded and name == _FIRST[-1]:
            tell("As in the papers:")
    if folded:
        tell(f"  {'aligned-{bvt,vit}_{tiny,small}_patch{8,16}':44} B-cos aligned transformers and their plain twins: 10 epochs")
        tell(f"  {'aligned-{bwin,swin}_tiny':44} the same with windows: 6 epochs")
        tell(f"  {'cifar10_resnet{20,32,44,56}[-NORM[-nobias|-unaffine]][-nomaxout]':44}")
        tell(f"  {'':44} CIFAR-10, norm ablation: {len(many)} recipes, which 'torchbcos train --list cifar10' names.")
        tell(f"  {'':44} NORM: bnu anu lnu inu pnu gnu (uncentred), bn an ln in pn gn; or -plain, the ordinary twin.")
