"""The end of a run: the weights that are exported, judged once on the reported split, with a card and a report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from torchbcos import zoo
from torchbcos._core.errors import BcosError, InputError
from torchbcos._core.files import write_json
from torchbcos.conversion import conversion_of
from torchbcos.judging import Outputs, calibrate
from torchbcos.models import Network
from torchbcos.training.beforehand import exported
from torchbcos.training.context import Run
from torchbcos.training.judge import judge_outputs, measure_norms, predict_over_all
from torchbcos.training.kept import fill_network
from torchbcos.training.machine import everyones
from torchbcos.training.progress import clock, summary
from torchbcos.training.recipe import to_dict
from torchbcos.training.state import State
from torchbcos.zoo.importing import IMPORT
from torchbcos.zoo.sources import read_source
from torchbcos.zoo.store import CARD, WEIGHTS

__all__ = ["card_of", "finish"]


def finish(run: Run, state: State, terms: str | None) -> dict[str, Any]:
    """Choose the weights, judge them, and write the model and the report.

    Args:
        run, state: all steps are done.
        terms: under which the weights stand, for the card.

    Returns:
        The report.
    """
    recipe = run.recipe
    for one in (state.network, state.average):
        if one is not None and run.exponents is not None:
            run.exponents.give(one, 1.0)
    if run.student is not None:  # whose program is recorded, which takes a minute or two
        run.say("All steps are done: judging what was held out, then writing the model.")
    which, network = _exported(run, state)
    held_out = {name: split for name, split in run.splits.held_out() if split is not None}
    said = {name: predict_over_all(run, state, network, split) for name, split in held_out.items()}
    calibration = _calibration(run, said)
    temperature = calibration["temperature"]
    scores = {name: judge_outputs(run, outputs, temperature) for name, outputs in said.items()}
    failures = sorted(set(everyones(state.failures)))
    report: dict[str, Any] = {
        "recipe": recipe.name, "epochs": recipe.epochs, "max_steps": recipe.max_steps, "steps": state.done, "export": which,
        "best_epoch": state.best.get("epoch"), "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": round(state.elapsed(), 1), "unreadable": failures,
    }  # fmt: skip
    report |= {name: {key: round(value, 4) for key, value in found.items()} for name, found in scores.items()}
    report["calibration"] = calibration
    if run.first:
        _write_model(run, network, card_of(run, state.network, terms, report))
        write_json(run.folder.report, report)
    if said and recipe.calibrate:
        run.say(_in_words(calibration))
    run.say(f"Done in {clock(report['seconds'])}: {summary(report)}. The model is in {run.folder.model}.")
    if failures:
        run.say(f"{len(failures)} files could not be read and were skipped; report.json names them.")
    return report


def _calibration(run: Run, said: Mapping[str, Outputs]) -> dict[str, Any]:
    """The temperature of the exported weights, fitted on the split that chose, and what it changes on every held-out split."""
    if not run.recipe.calibrate:
        return {"temperature": None, "note": "The recipe has calibrate = false."}
    if "selection" not in said:
        return {"temperature": None, "note": "Nothing was held out to choose by: no temperature was fitted."}
    judge_outputs(run, said["selection"])  # refuses a split of which nothing could be read
    found = calibrate(said["selection"], run.probability)
    facts: dict[str, Any] = {"temperature": found.temperature, "fitted_on": "selection", "pictures": found.examples}
    if found.note:
        facts["note"] = found.note
    if found.temperature is None:
        return facts
    return {**facts, **{name: found.compared(outputs, run.probability) for name, outputs in said.items()}}


def _in_words(calibration: Mapping[str, Any]) -> str:
    """What became of the temperature, in a line."""
    if calibration["temperature"] is None:
        return f"No temperature is kept. {calibration['note']}"
    split = "report" if "report" in calibration else "selection"
    before, after = (calibration[split][when]["ece"] for when in ("before", "after"))
    numbers = "" if None in (before, after) else f"; calibration error {before:.2f} % before, {after:.2f} % with it"
    where = f" ({'reported split' if split == 'report' else 'the same pictures'})" if numbers else ""
    fitted = f"fitted on the {calibration['pictures']:,} pictures that chose"
    rough = " Few pictures: a rough value." if "note" in calibration else ""
    return f"Temperature {calibration['temperature']:g}, {fitted}{numbers}{where}.{rough}"


def _exported(run: Run, state: State) -> tuple[str, nn.Module]:
    """Which weights a run exports ("ema", "best" or "last"), and the network with them."""
    which = exported(run.recipe, run.splits)
    if which == "ema" and state.average is not None:
        measure_norms(run, state, state.average)
        return which, state.average
    if which == "best":
        fill_network(state.network, run.folder.read_best(), f"The checkpoint {str(run.folder.best)!r}")
    return which, state.network


def _write_model(run: Run, network: nn.Module, card: zoo.Card) -> None:
    """The model folder; of a network that could not be built again, the weights alone, so that no training is lost."""
    network = network.cpu().eval()
    try:
        zoo.write_model(network, card, run.folder.model, example=_example(run) if zoo.is_own(card) else None)
    except InputError as error:
        if not zoo.is_own(card):
            raise
        for name in (CARD, WEIGHTS):  # of an earlier end of this run: they are other weights than these
            (run.folder.model / name).unlink(missing_ok=True)
        run.folder.write_own_weights(network.state_dict())
        run.say(f"{error} The weights alone are in {run.folder.own_weights}.")


def _example(run: Run) -> Tensor | None:
    """One encoded example, on the processor; None where none can be read."""
    split = next((split for _, split in run.splits.held_out() if split), run.splits.train)
    try:
        return run.chosen(run.examples(split), [0])[0].cpu()
    except BcosError:
        return None


def card_of(run: Run, network: nn.Module, terms: str | None, report: Mapping[str, Any]) -> zoo.Card:
    """What a network of this run is: of a function of somebody's own, the name of that function and its arguments."""
    recipe = run.recipe
    if ":" in recipe.model:
        card = zoo.Card(
            name=recipe.name, architecture=IMPORT + recipe.model, options=recipe.options, in_channels=run.prepare.channels,
            num_classes=len(run.data.classes), parameters=sum(p.numel() for p in network.parameters()),
        )  # fmt: skip
    elif conversion_of(network) is None and isinstance(network, Network):
        card = zoo.card_of(network)
    else:  # one that was converted: the card that it came with says how it is built
        _, card = read_source(str(run.student.folder) if run.student is not None else recipe.pretrained)
        card = dataclasses.replace(card, file=None, url=None, sha256=None, digest=None, program=None, top5=None)
    found = report.get("report") or report.get("selection") or {}
    return dataclasses.replace(
        card, name=recipe.name, classes=tuple(run.data.classes), preprocess=run.prepare.to_dict(),
        probability=run.probability, temperature=report.get("calibration", {}).get("temperature"),  # never that of other weights
        top1=round(found["top1"], 3) if math.isfinite(found.get("top1", math.nan)) else None, recipe=to_dict(recipe), terms=terms,
        measured=_measured(run, report) if found else None,
        notes={"made by": "torchbcos train", "epochs": recipe.epochs, "seconds": report.get("seconds"), **_size_of_examples(run)},
    )  # fmt: skip


def _measured(run: Run, report: Mapping[str, Any]) -> str:
    """What the accuracy of the card is of."""
    split = f"{'reported' if 'report' in report else 'selection'} split of {run.source.name}"
    return split if run.student is None else f"agreement with its teacher {run.recipe.teacher}, {split}"


def _size_of_examples(run: Run) -> dict[str, list[int]]:
    """Of signals and volumes, which have one size: raw channels and sides, for whoever exports the model."""
    example = _example(run) if run.prepare.axes != 2 else None
    return {} if example is None else {"example": [run.prepare.raw_channels, *example.shape[2:]]}
