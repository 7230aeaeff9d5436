"""Pruning a classifier with labelled data: from a folder of pictures to the network that was chosen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos.data import Split
from torchbcos.evaluation.splits import choose_split, open_for, ready_for
from torchbcos.rendering import save_image
from torchbcos.rendering.draw import draw
from torchbcos.rendering.figures import Curve, curves
from torchbcos.search.pruning import STEPS, Pruner
from torchbcos.search.searching import Candidate, Judge, Search, search
from torchbcos.zoo import Classifier, save

__all__ = ["JOURNAL", "Pruned", "prune_classifier"]

JOURNAL = "candidates.jsonl"
_FRONT, _PICTURE, _MODEL = "front.json", "front.png", "model"


@dataclass(frozen=True)
class Pruned:
    """What came of it.

    Attributes:
        classifier: pruned, in eval mode.
        chosen: what was chosen, as it was judged.
        given: the given network, judged alike.
        search: all that was looked at.
        groups, left: what could be cut, with its size; and why the rest could not.
    """

    classifier: Classifier
    chosen: Candidate
    given: Candidate
    search: Search
    groups: dict[str, int]
    left: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "chosen": vars(self.chosen), "given": vars(self.given), "front": [vars(one) for one in self.search.front()],
            "evaluations": len(self.search.candidates), "groups": self.groups, "left": self.left,
            "widths": {name: f"{max(1, round(size * s / STEPS))} of {size}"
                       for (name, size), s in zip(self.groups.items(), self.chosen.steps, strict=True)},
        }  # fmt: skip


def prune_classifier(
    classifier: Classifier,
    data: str | Path,
    out: Path,
    *,
    flops: float = 0.5,
    evaluations: int = 100,
    population: int = 16,
    calibration: int = 256,
    pictures: int = 300,
    grids: int = 60,
    repair: str = "least_squares",
    ranking: str = "magnitude",
    seed: int = 0,
    told: Callable[[Candidate, int], None] | None = None,
) -> Pruned:
    """Look for a smaller network that is as right, and looks at the same things; write it with the search that found it.

    Layers are fitted to some pictures, candidates judged by others, all of the training split: the rest, and the data's own
    validation split, stay untouched for judging what comes out.

    Args:
        classifier: loaded with `deploy=False`.
        data: labelled, as `torchbcos train` takes it.
        out: a folder: `model`, `candidates.jsonl` (a search that was stopped goes on from it), `front.json`, `front.png`.
        flops: the share of the operations that the chosen network may need.
        evaluations, population: of the search.
        calibration, pictures: how many pictures layers are fitted to, and candidates judged by.
        grids: 2 x 2 grids for localisation; 0: two aims only.
        repair, ranking: as in `Pruner`.
        seed: of all that is drawn.
        told: is told each candidate.

    Raises:
        InputError: there are too few pictures, several labels hold at once, or the network cannot be pruned.
        StateError: no candidate is small enough, or the folder holds another search.
    """
    if not 0 < flops < 1:
        raise InputError(f"flops is the share of the operations that may be left, between 0 and 1, not {flops}.")
    labelled = open_for(classifier, data)
    split, _ = choose_split(labelled, "train")
    split = ready_for(classifier, split, labelled.classes)
    if split.targets.dim() != 1:
        raise InputError("Networks for several labels at once cannot be pruned yet: accuracy is what candidates are compared by.")
    drawn = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed)).tolist()
    if len(drawn) < calibration + pictures:
        raise InputError(
            f"{calibration} pictures to fit layers to and {pictures} others to judge by are wanted, and there are {len(drawn)}: "
            "ask for fewer with --calibration and --pictures."
        )
    fitted, judged = drawn[:calibration], drawn[calibration : calibration + pictures]
    pruner = Pruner(classifier.model, _read(classifier, split, fitted), repair=repair, ranking=ranking, seed=seed)
    judge = Judge(_read(classifier, split, judged), split.targets[torch.tensor(judged)], grids=grids, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    found = search(pruner, judge, population=population, evaluations=evaluations, seed=seed, journal=out / JOURNAL, told=told)
    given = next(one for one in found.candidates if set(one.steps) == {STEPS})  # the first generation has it
    chosen = found.best(flops)
    result = Pruned(
        _with(classifier, pruner.build(chosen.steps)), chosen, given, found, {group.name: group.size for group in pruner.groups},
        pruner.left,
    )  # fmt: skip
    save(result.classifier, out / _MODEL)
    (out / _FRONT).write_text(json.dumps(result.to_dict(), indent=1))
    save_image(_picture(result), out / _PICTURE)
    return result


def _read(classifier: Classifier, split: Split, rows: list[int]) -> Tensor:
    """(N, C, *S) encoded, on the CPU."""
    x, _ = classifier.transform.look([split.item(i) for i in rows])
    return x


def _with(classifier: Classifier, network: nn.Module) -> Classifier:
    """A classifier around the pruned network; what was measured of the given one is not its own."""
    card = dataclasses.replace(
        classifier.card, temperature=None, top1=None, top5=None, measured=None, file=None, url=None, sha256=None, digest=None,
        parameters=sum(p.numel() for p in network.parameters()),
    )  # fmt: skip
    return Classifier(network, card)


def _picture(found: Pruned) -> Image.Image:
    """Accuracy and localisation over operations, of the front, of uniform widths and of what was chosen."""
    front = found.search.front()
    uniform = sorted((one for one in found.search.candidates if len(set(one.steps)) == 1), key=lambda one: one.flops)
    lines = [
        Curve("accuracy, front", [one.flops for one in front], [one.accuracy for one in front]),
        Curve("accuracy, uniform", [one.flops for one in uniform], [one.accuracy for one in uniform]),
    ]
    if "localisation" in found.search.aims:
        lines.append(Curve("localisation, front", [one.flops for one in front], [one.localisation or 0.0 for one in front]))
    lines.append(Curve("chosen", [found.chosen.flops], [found.chosen.accuracy]))
    return draw(curves(lines, x_label="share of operations", y_label="before training", y_span=(0.0, 1.0)))
