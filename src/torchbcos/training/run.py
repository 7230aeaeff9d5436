"""Train, or go on where an interrupted run stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from torchbcos._core.claim import claimed
from torchbcos._core.errors import InputError, MissingFileError
from torchbcos._core.files import replacing, write_json
from torchbcos.data.labelled import Labelled
from torchbcos.data.loading import loader, seed_generator, seed_of
from torchbcos.data.sources import open_labelled
from torchbcos.data.unlabelled import open_unlabelled
from torchbcos.runs import RunFolder, provenance, write_held_out
from torchbcos.training.beforehand import check_card, check_classes, check_export, check_places, rehearse
from torchbcos.training.begun import (
    Begun,
    check_same_data,
    check_same_division,
    find_begun,
    finished_report,
    keeps_together,
    with_whole_paths,
)
from torchbcos.training.context import Run, Say
from torchbcos.training.distillation import Teacher
from torchbcos.training.exponents import Exponents
from torchbcos.training.finish import card_of, finish
from torchbcos.training.form import Wanted, look_at, wanted_by
from torchbcos.training.interrupts import Interrupted, Interrupts
from torchbcos.training.journal import Journal, Watch
from torchbcos.training.kept import Kept
from torchbcos.training.loop import fit
from torchbcos.training.losses import Objective, terms_of
from torchbcos.training.machine import (
    build_fabric,
    generator_kept,
    half_of,
    launch,
    readable_errors,
    surroundings_kept,
    with_readers,
)
from torchbcos.training.network import build_network, channels_last, check_head
from torchbcos.training.plan import batch_order, epoch_steps, hold_out
from torchbcos.training.progress import Lines, summary
from torchbcos.training.recipe import Recipe, to_toml
from torchbcos.training.state import State
from torchbcos.training.student import Student, student_of

if TYPE_CHECKING:  # Lightning exports no name for what `Fabric.setup_module` returns
    from lightning.fabric.wrappers import _FabricModule

__all__ = ["train"]


def train(
    recipe: Recipe,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    devices: int | str = "auto",
    nodes: int = 1,
    strategy: str = "auto",
    accelerator: str = "auto",
    say: Say = print,
    progress: Watch | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Train a network by a recipe, or go on where an interrupted run stopped.

    `out` holds `recipe.toml` (the resolved recipe with versions: it alone reproduces the run), `history.csv`, TensorBoard
    logs, `checkpoints/`, and at the end `model/`, which `torchbcos.load` opens, and `report.json`.

    Args:
        recipe: see `torchbcos.training.find_recipe` and `Recipe`.
        data: what `torchbcos.data.open_labelled` recognises.
        out: the run's folder; created.
        devices, nodes, strategy, accelerator: as Lightning Fabric takes them.
        say: gets every line that a person should read.
        progress: gets a `Progress` after every step; None: a line a minute goes to `say`, beside one an epoch.
        workers: processes that read examples; None: the recipe's, but where that is the number that the recipe came with, no
            more than there are processors.

    Returns:
        The report: metrics of the selection and the reported split, epochs, seconds, failures.

    Raises:
        MissingFileError, InputError: the data or the recipe cannot be used.
        StateError: the loss is no number; the disk is full; the run was begun with other classes.
        WeightsError: no checkpoint of an interrupted run can be read.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the step was finished and saved first.
    """
    folder, recipe = RunFolder(Path(out)), with_readers(with_whole_paths(recipe), workers)
    check_places(folder)
    begun, report = _look_around(folder, recipe, data)
    if report is not None:
        return _has_ended(folder, report, say)
    student = _student(recipe, data, folder, say) if recipe.aligns else None
    wanted = wanted_by(_as_learned(recipe, student))
    labelled = _opened(data, recipe, wanted, student)
    check_classes(labelled, Path(data))
    check_same_data(folder, begun, labelled)
    with surroundings_kept(), readable_errors():
        fabric = build_fabric(recipe, devices, nodes, strategy, accelerator)
        splits = hold_out(labelled, recipe, together=keeps_together(begun))
        check_same_division(folder, begun, labelled, dict(splits.held_out()))
        seen = look_at(splits.train, recipe, wanted, Path(data))
        steps = epoch_steps(recipe, len(splits.train), fabric.world_size)
        run = Run(recipe, labelled, Path(data), splits, folder, seen, fabric, say, steps, student)
        with _alone(run), Interrupts(run.say) as interrupts:
            begun, report = _look_around(folder, recipe, data)  # again: another process may have trained here meanwhile
            if report is not None:
                return _has_ended(folder, report, run.say)
            check_same_data(folder, begun, labelled)
            check_same_division(folder, begun, labelled, dict(splits.held_out()))
            return _work(run, begun, interrupts, progress or Lines(say))


def _look_around(folder: RunFolder, recipe: Recipe, data: str | os.PathLike[str]) -> tuple[Begun | None, dict[str, Any] | None]:
    """What was begun in a folder, and the report of a run that has nothing left to do.

    Raises:
        InputError, StateError: it was begun with another recipe, or with other data.
    """
    begun = find_begun(folder, recipe)
    report = finished_report(folder, begun, recipe)
    if report is not None:
        with suppress(MissingFileError):  # a finished run needs its data no more; but other data is another run
            student = Student.kept(recipe, folder) if recipe.aligns else None
            check_same_data(folder, begun, _opened(data, recipe, wanted_by(_as_learned(recipe, student)), student))
    return begun, report


def _student(recipe: Recipe, data: str | os.PathLike[str], folder: RunFolder, say: Say) -> Student:
    """What a run aligns: the student of its folder, or its teacher, converted now."""
    return student_of(recipe, open_unlabelled(data, ()), folder, say)


def _as_learned(recipe: Recipe, student: Student | None) -> Recipe:
    """The recipe as the network is built by it: one that aligns begins with its student."""
    return recipe if student is None else recipe.changed(pretrained=str(student.folder))


def _has_ended(folder: RunFolder, report: dict[str, Any], say: Say) -> dict[str, Any]:
    """Say that there is nothing left to do, and return the report of what was done."""
    say(f"{folder.out} is finished ({report['epochs']} epochs): {summary(report)}. The model is in {folder.model}.")
    return report


def _opened(data: str | os.PathLike[str], recipe: Recipe, wanted: Wanted, student: Student | None = None) -> Labelled:
    """The data as a recipe and its network want it."""
    if student is not None:
        return open_unlabelled(data, student.classes)
    return open_labelled(data, uncertain=recipe.uncertain, volumes=wanted.axes == 3)


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """The run's folder is this run's: its first process has the lock, for all of them.

    Raises:
        StateError: another run has it.
    """
    if not run.first:
        yield
        return
    with claimed(run.folder.out, "trains") as sure:
        if not sure:
            run.say(f"The file system of {run.folder.out} has no locks: nothing keeps another training out of this folder.")
        yield


def _work(run: Run, begun: Begun | None, interrupts: Interrupts, progress: Watch | None) -> dict[str, Any]:
    """Prepare, start the processes, train, finish: what is wrong is said before there are several processes."""
    recipe, fabric, out = run.recipe, run.fabric, run.folder.out
    checkpoint, complaints = run.folder.read_checkpoint(Kept.of)
    for line in complaints:
        run.say(f"{line} Going on from the one before.")
    seed_generator(seed_of(recipe.seed, 0))
    learner = _build_learner(run)
    run = replace(run, teacher=learner.teacher, exponents=Exponents.of(learner.network))
    done = Kept.of(checkpoint).done if checkpoint else 0
    if done > run.total:
        said = f"has trained {done} steps, and the recipe now has {run.total}"
        raise InputError(f"{str(out)!r} {said}: choose another --out.")
    check_export(run, checkpoint)
    if recipe.b_epochs * run.per_epoch > run.total:
        raise InputError(f"max_steps={recipe.max_steps} ends the run before B is where it should be (b_epochs).")
    _announce(run, learner, begun, done, resumed=checkpoint is not None)
    examples = run.training_examples() if done < run.total else None
    launch(fabric)
    with generator_kept(fabric.device), Journal(run, done, progress) as journal:
        state = State.fresh(learner.network, recipe, fabric.device)
        if checkpoint:
            state.restore(checkpoint, f"The checkpoint of {str(out)!r}")
        rehearse(run, state)
        if run.student is not None and learner.teacher is not None:
            _compare(run, state.network, learner.teacher)
        if examples is not None:
            order = batch_order(recipe, len(examples), done, fabric.global_rank, fabric.world_size)
            batches = iter(loader(examples, order, recipe.workers, pin=torch.cuda.is_available()))
            objective = fabric.setup_module(learner.objective(run))
            _train_on(run, state, objective, batches, journal, interrupts)
        try:
            return finish(run, state, learner.terms)
        except Interrupted as error:
            raise Interrupted(f"interrupted while judging; the same command finishes {out}.", error.number) from None


def _train_on(
    run: Run, state: State, objective: _FabricModule, batches: Iterator[dict[str, Any]], journal: Journal, interrupts: Interrupts
) -> None:
    """All steps, or as many as signals allow.

    Raises:
        Interrupted: one came, and says where the same command goes on.
    """
    goes_on = f"interrupted; the same command goes on in {run.folder.out} from"
    try:
        interrupts.patient = True
        number = fit(run, state, objective, batches, journal, interrupts)
    except Interrupted as error:
        raise Interrupted(f"{goes_on} its last checkpoint.", error.number) from None
    finally:
        interrupts.patient = False
    if number:
        raise Interrupted(f"{goes_on} step {state.done}.", number)


def _compare(run: Run, network: nn.Module, teacher: Teacher) -> None:
    """Find where the student is compared with its teacher, by one picture."""
    x, _, _ = run.chosen(run.examples(run.splits.train), [0])
    teacher.compare_with(network, x)
    points = teacher.points
    assert points is not None
    run.say(f"Compared with the teacher at {len(points.blocks)} blocks, at the input of {points.classifier!r}, and by logits.")


@dataclass(frozen=True)
class _Learner:
    """What is trained, on the processor.

    Attributes:
        network: with fresh or pretrained weights.
        teacher: that it learns from, if the recipe has one.
        terms: of the weights that it begins with and learns from, for the card.
    """

    network: nn.Module
    teacher: Teacher | None
    terms: str | None

    def objective(self, run: Run) -> Objective:
        """The network with the losses of the recipe."""
        recipe = run.recipe
        partial = bool(run.data.train.targets.isnan().any())
        losses = terms_of(recipe, len(run.data.classes), multi_label=run.data.multi_label, partial=partial)
        half = half_of(recipe.precision, run.device)
        return Objective(self.network, losses, self.teacher, half=half, compiled=recipe.compile)


def _build_learner(run: Run) -> _Learner:
    """The network and the teacher of a run.

    Raises:
        InputError: one of them does not fit the recipe or the data.
    """
    recipe, classes = run.recipe, run.data.classes
    begins = _as_learned(recipe, run.student)
    network, began_with = build_network(
        begins, len(classes), run.prepare.channels, names=classes, sync=run.fabric.world_size > 1, normalize=recipe.normalize
    )
    check_head(network, recipe)
    if run.student is not None:
        network.eval()  # as its teacher runs: no dropout, and norms keep their statistics
    teacher = Teacher(recipe, run.prepare) if recipe.teacher else None
    if teacher is not None:
        teacher.check_classes(classes)
        if run.student is not None:
            run.student.check_teacher(teacher.network)
    known = (("began with weights", began_with), ("learned from a teacher", teacher.terms if teacher is not None else None))
    terms = "; ".join(f"{how} {text}" for how, text in known if text) or None
    return _Learner(channels_last(network, recipe), teacher, terms)


def _announce(run: Run, learner: _Learner, begun: Begun | None, done: int, *, resumed: bool) -> None:
    """Write what the run is made of, and say what begins."""
    recipe, out = run.recipe, run.folder.out
    changes = begun.changes(recipe, done) if begun is not None else ()
    if begun is not None and len(changes) > len(begun.facts.get("changes", ())):
        run.say(f"Settings change {changes[-1]} (recipe.toml keeps note).")
    if run.first:
        _write_beginning(run, learner, changes)
    if resumed:
        epoch = min(done // run.per_epoch + 1, recipe.epochs)
        run.say(f"Going on in {out} from step {done} of {run.total} (epoch {epoch} of {recipe.epochs}).")
        return
    named = recipe.model or recipe.pretrained or (f"{recipe.teacher} converted" if recipe.aligns else "")
    kind = f"{named}{' (plain)' if recipe.ordinary else ''}"
    parameters = sum(p.numel() for p in learner.network.parameters())
    run.say(
        f"{recipe.name}: {kind}, {parameters:,} parameters; {run.seen.describe()}; "
        f"{len(run.data.classes)} classes; {run.splits.describe()}; {recipe.epochs} epochs of {run.per_epoch} steps"
        f"{f', of which {run.total} steps' if recipe.max_steps else ''}."
    )
    if run.data.repeated:
        run.say(f"{run.data.repeated} further names of the same files (links, rows that are there twice) are counted once.")
    for note in (*run.seen.notes, *run.data.notes, *run.splits.notes, *run.data.train.within(run.prepare.value_range).remarks()):
        run.say(note)


def _write_beginning(run: Run, learner: _Learner, changes: Sequence[str]) -> None:
    """The folder with the resolved recipe, what is held out, and the card: checkpoints can be opened from now on."""
    folder, data = run.folder, run.data
    folder.out.mkdir(parents=True, exist_ok=True)
    folder.sweep()
    facts = {
        **provenance(), "data": str(run.source.absolute()), "kind": data.kind, "classes": list(data.classes),
        "pictures": len(data.train), "fingerprint": data.train.fingerprint(),
        **({"copies": "together"} if run.splits.together else {}), **({"changes": list(changes)} if changes else {}),
    }  # fmt: skip
    card = card_of(run, learner.network, learner.terms, {})
    check_card(card)
    write_held_out(folder, data, dict(run.splits.held_out()))
    with replacing(folder.recipe, durable=True) as partial:
        partial.write_text(to_toml(run.recipe, facts), "utf-8")
    write_json(folder.card, card.to_dict())
