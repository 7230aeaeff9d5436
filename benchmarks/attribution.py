"""What methods and curves that mask a picture cost, against the passes alone and against loops of others.

    python benchmarks/attribution.py            # about half an hour
    python benchmarks/attribution.py --quick    # two minutes: few masks and rounds

Processor time of one thread, interleaved; a number is the median of paired ratios, and "A/A" is the same passes against
themselves. Writes its rows into the table of docs/benchmark/attribution.md; the words around it are for people to write.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from any_network import PHOTO, interleave, ratio
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor, nn

import torchbcos
from torchbcos import metrics
from torchbcos.attribution import Occlusion, Rise

PAGE = Path(__file__).parents[1] / "docs" / "benchmark" / "attribution.md"
BATCH = 16  # pictures of one pass, for everybody who can
TARGETS = list(range(10))
Works = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    masks: int
    windows: int  # of this part of the side, beside each other
    steps: int
    rounds: int


FULL, QUICK = Size(masks=128, windows=7, steps=50, rounds=5), Size(masks=32, windows=4, steps=50, rounds=3)


@dataclass(frozen=True)
class Case:
    """A network, one picture for it, and what removed pixels become."""

    name: str
    model: nn.Module
    x: Tensor
    base: Tensor

    def passes(self, count: int) -> Callable[[], None]:
        """So many forward passes in batches, and nothing else."""
        points = self.x.repeat(BATCH, 1, 1, 1)

        def run() -> None:
            with torch.no_grad():
                for start in range(0, count, BATCH):
                    self.model(points[: min(BATCH, count - start)])

        return run


def embedded() -> Case:
    """The network that ships, and a photo."""
    classifier = torchbcos.load()
    x = classifier.preprocess(PHOTO)
    return Case(f"embedded, {side(x)}", classifier.model, x, torch.full_like(x, 0.5))


def plain() -> Case:
    """An ordinary ResNet-18 of ten classes, whose norms have the statistics of one batch."""
    torch.manual_seed(0)
    model = torchbcos.create_model("resnet18", plain=True, num_classes=10)
    torchbcos.recalibrate(model, [torch.rand(8, 3, 224, 224)])
    x = torch.rand(1, 3, 224, 224)
    return Case(f"ResNet-18, {side(x)}", model.eval(), x, torch.full_like(x, 0.5))


def side(x: Tensor) -> str:
    return " × ".join(map(str, x.shape[2:]))


# -- what others do ----------------------------------------------------------------------------------------------------


def official_masks(count: int, x: Tensor) -> Tensor:
    """(count, 1, H, W): all masks at full size, as the official code keeps them. Made once, not measured."""
    draws = torch.Generator().manual_seed(0)
    cell = -(-x.shape[-1] // 8)
    large = F.interpolate((torch.rand(count, 1, 8, 8, generator=draws) < 0.5).float(), size=(9 * cell, 9 * cell), mode="bilinear")
    shifts = torch.randint(cell, (count, 2), generator=draws).tolist()
    return torch.stack([m[:, i : i + x.shape[-2], j : j + x.shape[-1]] for m, (i, j) in zip(large, shifts, strict=True)])


def rise_of_one(case: Case, masks: Tensor, target: int) -> Tensor:
    """One target by the official loop: masks times picture, batches, a product."""
    with torch.no_grad():
        stack = masks * case.x
        scores = torch.cat([case.model(part) for part in stack.split(BATCH)])
        return (scores.T @ masks.flatten(1)).reshape(-1, *case.x.shape[2:])[target] / len(masks) / 0.5


def captum_occlusion(case: Case, windows: int) -> list[Tensor]:
    """A call a target: Captum takes one target a picture."""
    channels, size = case.x.shape[1], case.x.shape[-1] // windows
    window = (channels, size, size)
    return [
        CaptumOcclusion(case.model).attribute(case.x, window, window, case.base, t, perturbations_per_eval=BATCH)
        for t in TARGETS
    ]  # fmt: skip


def one_by_one(case: Case, order: Tensor, steps: int) -> list[float]:
    """A deletion curve with one mask a step and one picture a pass, on the same steps."""
    pixels = order.shape[1]
    values = []
    with torch.no_grad():
        for step in range(steps + 1):
            mask = torch.ones(1, 1, pixels)
            mask[..., order[0, : round(step / steps * pixels)]] = 0
            mask = mask.view(1, 1, *case.x.shape[2:])
            values.append(float(case.model(case.x * mask + case.base * (1 - mask))[0, 0]))
    return values


# -- what is measured --------------------------------------------------------------------------------------------------


def rise(case: Case, size: Size) -> tuple[Works, int]:
    masks = official_masks(size.masks, case.x)

    def ours(targets: list[int]) -> Callable[[], object]:
        settings = Rise(masks=size.masks)
        return lambda: torchbcos.attribute(case.model, case.x, [targets], method=settings, baseline=case.base, batch_size=BATCH)

    return {
        "ten": ours(TARGETS), "one": ours(TARGETS[:1]),
        "others": lambda: [rise_of_one(case, masks, target) for target in TARGETS],
    }, size.masks + 1  # fmt: skip


def occlusion(case: Case, size: Size) -> tuple[Works, int]:
    window = case.x.shape[-1] // size.windows
    count = len(range(0, case.x.shape[-1] - window, window)) + 1

    def ours(targets: list[int]) -> Callable[[], object]:
        settings = Occlusion(window=window, stride=window)
        return lambda: torchbcos.attribute(case.model, case.x, [targets], method=settings, baseline=case.base, batch_size=BATCH)

    return {
        "ten": ours(TARGETS), "one": ours(TARGETS[:1]), "others": lambda: captum_occlusion(case, size.windows),
    }, count**2 + 1  # fmt: skip


def deletion(case: Case, size: Size) -> tuple[Works, int]:
    """One curve; `one` is the same with `predict` asked for one picture a pass."""
    maps = torch.rand(1, *case.x.shape[2:], generator=torch.Generator().manual_seed(0))
    order = metrics.removal_order(maps)

    def ours(batch: int) -> metrics.Curve:
        with torch.no_grad():
            return metrics.removal_curve(
                lambda b: case.model(b)[:, 0], case.x, order, replace=case.base, fractions=size.steps, batch_size=batch
            )

    torch.testing.assert_close(ours(BATCH).values[0], torch.tensor(one_by_one(case, order, size.steps)), rtol=1e-3, atol=1e-3)
    return {
        "ten": lambda: ours(BATCH), "one": lambda: ours(1), "others": lambda: one_by_one(case, order, size.steps),
    }, size.steps + 1  # fmt: skip


PARTS = {"RISE, ten targets": rise, "occlusion, ten targets": occlusion, "deletion curve": deletion}


def measured(case: Case, name: str, size: Size) -> str:
    """One row."""
    works, count = PARTS[name](case, size)
    passes = case.passes(count)
    times = interleave({**works, "passes": passes, "again": passes}, size.rounds)
    seconds = sorted(times["ten"])[len(times["ten"]) // 2]
    numbers = [ratio(times, "ten", "passes"), ratio(times, "ten", "one"), ratio(times, "others", "ten")]
    cells = [f"{number:.2f}" for number in numbers]
    return f"| {case.name} | {name} | {count} | {seconds:.2f} s | {' | '.join(cells)} | {ratio(times, 'again', 'passes'):.2f} |"


def with_rows(page: str, rows: list[str]) -> str:
    """The page with its rows of these networks and works replaced."""
    new = {tuple(row.split("|")[1:3]): row for row in rows}
    return "\n".join(new.get(tuple(line.split("|")[1:3]), line) for line in page.split("\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few masks and rounds")
    parser.add_argument("--networks", nargs="*", choices=("embedded", "plain"), default=("embedded", "plain"))
    parser.add_argument("--out", type=Path, default=PAGE, help="the page whose rows are replaced")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    size, rows = (QUICK if args.quick else FULL), []
    for make in (embedded, plain):
        if make.__name__ in args.networks:
            case = make()
            for name in PARTS:
                rows.append(measured(case, name, size))
                print(rows[-1], flush=True)
    args.out.write_text(with_rows(args.out.read_text("utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main()
