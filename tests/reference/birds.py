"""FunnyBirds, written a second time from the paper (arXiv 2308.06248) and the format of its folder: float64, plain loops.

`measure` goes through a folder one picture at a time, with its own reader of files, sets of names of parts, and no tensor.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {
    (255, 255, 253): "eye", (255, 255, 254): "eye", (255, 255, 0): "beak", (255, 0, 1): "foot", (255, 0, 2): "foot",
    (0, 255, 1): "wing", (0, 255, 2): "wing", (0, 0, 255): "tail",
}  # fmt: skip
Row = Sequence[float]
Classes = Sequence[Mapping[str, int]]


def importance(rows: Sequence[Row], masks: Sequence[Sequence[Sequence[bool]]], dilation: int = 5) -> float:
    """The sum of a map near each region of a part; a pixel near two regions counts twice."""
    height, width, reach = len(rows), len(rows[0]), dilation // 2
    total = 0.0
    for mask in masks:
        inside = [place for place in itertools.product(range(height), range(width)) if mask[place[0]][place[1]]]
        steps = list(itertools.product(range(-reach, reach + 1), repeat=2))
        near = {(y + dy, x + dx) for y, x in inside for dy, dx in steps}
        total += sum(float(rows[y][x]) for y, x in sorted(near) if 0 <= y < height and 0 <= x < width)
    return total


def important(found: Mapping[str, float], total: float, share: float) -> set[str]:
    return {part for part, value in found.items() if value > share * total}


def shared(a: Mapping[str, int], b: Mapping[str, int]) -> set[str]:
    return {part for part in a if a[part] == b[part]}


def minimal_sets(classes: Classes, label: int) -> list[set[str]]:
    """Sets of parts that no other class has all of, and whose every smaller set some other class has."""
    others = [shared(classes[label], other) for i, other in enumerate(classes) if i != label]
    parts = list(classes[label])
    enough = [
        set(s) for n in range(1, len(parts) + 1) for s in itertools.combinations(parts, n) if not any(set(s) <= o for o in others)
    ]
    return [s for s in enough if not any(other < s for other in enough)]


def csdc(said: set[str], sets: Sequence[set[str]]) -> float:
    return max((len(said & s) / len(s) for s in sets), default=math.nan)


def irrelevant(logit: float, without: Mapping[str, float], share: float = 0.05) -> set[str]:
    """Parts without which the logit rises, stays, or falls by less than a share of it."""
    return {part for part, value in without.items() if logit <= value or abs(logit - value) < share * abs(logit)}


def distraction(said: set[str], idle: set[str]) -> float:
    return 1 - len(said & idle) / len(idle) if idle else math.nan


def ranks(values: Row) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    order = sorted(values)
    return [sum(i + 1 for i, v in enumerate(order) if v == value) / order.count(value) for value in values]


def spearman(a: Row, b: Row) -> float:
    """(ρ + 1) / 2, or NaN."""
    x, y = ranks(a), ranks(b)
    mean = (len(x) + 1) / 2
    top = sum((i - mean) * (j - mean) for i, j in zip(x, y, strict=True))
    below = sum((i - mean) ** 2 for i in x) * sum((j - mean) ** 2 for j in y)
    return (top / math.sqrt(below) + 1) / 2 if below else math.nan


def rivals(classes: Classes, label: int) -> tuple[int, int] | None:
    """The first two classes that share two parts each with this one, and none of them both."""
    near = [i for i, other in enumerate(classes) if i != label and len(shared(classes[label], other)) == 2]
    for a, b in itertools.combinations(near, 2):
        if not shared(classes[label], classes[a]) & shared(classes[label], classes[b]):
            return a, b
    return None


def best(rows: Sequence[Mapping[str, Row]]) -> int:
    """The least threshold with the greatest sum of means."""
    worth = []
    for t in range(len(rows[0]["d"])):
        total = 0.0
        for name, weight in (("csdc", 1 / 3), ("pc", 1 / 3), ("dc", 1 / 3), ("d", 1.0)):
            known = [row[name][t] for row in rows if not math.isnan(row[name][t])]
            total += weight * sum(known) / len(known) if known else 0.0
        worth.append(total)
    return next(t for t, value in enumerate(worth) if value >= max(worth) - 1e-12)


def mean(values: Row) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def pixels(file: Path) -> np.ndarray:
    return np.array(Image.open(file).convert("RGB"))


class Folder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts = list(json.loads((folder / "parts.json").read_text()))
        self.classes = [row["parts"] for row in json.loads((folder / "classes.json").read_text())]
        self.birds = json.loads((folder / "dataset_test.json").read_text())

    def file(self, kind: str, i: int, name: str = "") -> Path:
        place = self.folder / kind / str(self.birds[i]["class_idx"])
        return place / f"{i:06}" / name if name else place / f"{i:06}.png"

    def without(self, i: int, removed: set[str]) -> np.ndarray:
        names = "_".join(sorted(set(self.parts) - removed))
        return pixels(self.file("test_interventions", i, f"body_{names}.png"))

    def objects(self, i: int) -> int:
        return self.birds[i]["bg_objects"].count(",")


def measure(
    folder: Path,
    logits: Callable[[np.ndarray], Row],
    draw: Callable[[np.ndarray, int], Sequence[Row]],
    thresholds: Row,
    held_out: bool,
) -> dict[str, Any]:
    """Results of every picture and their means: `logits` of (H, W, 3) bytes, `draw` the map of a picture and a class."""
    birds = Folder(folder)
    rows = [picture(birds, i, logits, draw, thresholds) for i in range(len(birds.birds))]
    for i, row in enumerate(rows):
        place = best([other for j, other in enumerate(rows) if not held_out or j % 2 != i % 2])
        row["threshold"] = thresholds[place]
        row["chosen"] = {name: row[name][place] for name in ("csdc", "pc", "dc", "d")} | {n: row[n] for n in ("bi", "sd", "ts")}
    return {"each": rows, "means": {name: mean([row["chosen"][name] for row in rows]) for name in rows[0]["chosen"]}}


def picture(
    birds: Folder,
    i: int,
    logits: Callable[[np.ndarray], Row],
    draw: Callable[[np.ndarray, int], Sequence[Row]],
    thresholds: Row,
) -> dict[str, Any]:
    image, label = pixels(birds.file("test", i)), birds.birds[i]["class_idx"]
    scores = list(logits(image))
    predicted = scores.index(max(scores))
    colours = pixels(birds.file("test_part_map", i)).astype(int)

    def said(of: int, objects: bool = False) -> tuple[dict[str, float], float]:
        rows = draw(image, of)
        areas = {p: [(colours == c).all(2).tolist() for c, name in COLOURS.items() if name == p] for p in birds.parts}
        if objects:
            areas |= {str(k): [(colours == (204, 204, 204 + k)).all(2).tolist()] for k in range(birds.objects(i))}
        return {p: importance(rows, masks) for p, masks in areas.items()}, sum(float(v) for row in rows for v in row)

    def answer(removed: set[str]) -> int:
        found = list(logits(birds.without(i, removed)))
        return found.index(max(found))

    without = {p: logits(birds.without(i, {p}))[label] for p in birds.parts}
    behind = {
        str(k): logits(pixels(birds.file("test_interventions", i, f"background_interventions/{k}.png")))[label]
        for k in range(birds.objects(i))
    }
    own, own_total = said(label, objects=True)
    guess, guess_total = said(predicted)
    idle = irrelevant(scores[label], without | behind)
    result: dict[str, Any] = {"predicted": predicted, "csdc": [], "pc": [], "dc": [], "d": []}
    sets = minimal_sets(birds.classes, label)
    for t in thresholds:
        chosen, chosen_guess = important(own, own_total, t), important(guess, guess_total, t)
        result["csdc"].append(csdc(chosen, sets) if predicted == label else math.nan)
        result["pc"].append(float(answer(set(birds.parts) - chosen_guess) == predicted))
        result["dc"].append(float(answer(chosen_guess) != predicted))
        result["d"].append(distraction(chosen, idle))
    quiet = len(irrelevant(scores[label], behind))
    result["bi"] = quiet / len(behind) if behind else math.nan
    result["sd"] = spearman([own[p] for p in birds.parts], [scores[label] - without[p] for p in birds.parts])
    result["ts"] = sensitivity(birds, i, logits, said)
    return result


def sensitivity(
    birds: Folder, i: int, logits: Callable[[np.ndarray], Row], said: Callable[[int], tuple[dict[str, float], float]]
) -> float:
    label = birds.birds[i]["class_idx"]
    pair = rivals(birds.classes, label)
    if pair is None:
        return math.nan
    own = [shared(birds.classes[label], birds.classes[c]) for c in pair]
    lost = [logits(birds.without(i, removed)) for removed in own]
    if not (lost[0][pair[0]] < lost[1][pair[0]] and lost[1][pair[1]] < lost[0][pair[1]]):
        return math.nan
    maps = [said(c)[0] for c in pair]
    sums = [[sum(m[p] for p in parts) for m in maps] for parts in own]
    return (float(sums[0][0] > sums[0][1]) + float(sums[1][1] > sums[1][0])) / 2
