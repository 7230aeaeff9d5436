"""What methods that cover parts of a picture, and a deletion curve, cost against the passes alone and against loops.

    python benchmarks/attribution.py          # the embedded network and a ResNet-18: many minutes, for loops are slow
    python benchmarks/attribution.py --network resnet18 --rounds 3
    python benchmarks/attribution.py --quick  # one round: nothing to conclude from

One thread, works interleaved in turning order; a number is the median of ratios of one round, of the clock and of processor
time. "A/A" is the same call against itself. Prints the rows of docs/benchmark/attribution.md.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
from captum.attr import Occlusion
from torch import Tensor, nn
from torchvision.models import resnet18

import torchbcos
from torchbcos import metrics

BATCH, MASKS, STEPS = 16, 64, 50
TARGETS = list(range(10))
Works = dict[str, Callable[[], object]]
Sample = tuple[float, float]  # seconds of the clock, seconds of processor time


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """Name -> network and one picture. The plain network has drawn weights and the statistics of one batch."""
    torch.manual_seed(0)
    plain = resnet18().train()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        plain(torch.rand(8, 3, 112, 112))
    half = torch.rand(1, 3, 160, 160)
    return {
        "embedded, 160 px": (torchbcos.load().model.eval(), torch.cat([half, 1 - half], 1)),
        "resnet18, 112 px": (plain.eval(), torch.rand(1, 3, 112, 112)),
    }


@torch.no_grad()
def passes(model: nn.Module, x: Tensor, count: int) -> None:
    """`count` forward passes in full batches, and nothing else."""
    full = x.repeat(BATCH, 1, 1, 1)
    for start in range(0, count, BATCH):
        model(full[: min(BATCH, count - start)])


@torch.no_grad()
def rise_loop(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """RISE of one target as plain code has it: draw masks, run them in batches, add them up."""
    size = x.shape[-1]
    cell = -(-size // 8)
    grids = (torch.rand(MASKS, 1, 8, 8) < 0.5).float()
    large = nn.functional.interpolate(grids, size=(9 * cell, 9 * cell), mode="bilinear")
    masks = torch.stack(
        [m[:, i : i + size, j : j + size] for m, (i, j) in zip(large, torch.randint(cell, (MASKS, 2)), strict=True)]
    )
    scores = torch.cat([model(x * part)[:, target] for part in masks.split(BATCH)])
    return (scores.view(-1, 1, 1) * masks[:, 0]).sum(0) / MASKS / 0.5


def captum_loop(model: nn.Module, x: Tensor, window: int, stride: int) -> None:
    """Captum's occlusion, a target at a time."""
    method, channels = Occlusion(model), x.shape[1]
    for target in TARGETS:
        method.attribute(x, (channels, window, window), (channels, stride, stride), 0.5, target, perturbations_per_eval=BATCH)


@torch.no_grad()
def step_by_step(model: nn.Module, x: Tensor, order: Tensor) -> float:
    """A deletion curve, one pass a step, a batch of one."""
    gone, values = x.clone(), [float(model(x)[0, 0])]
    ends = [round(step * order.shape[1] / STEPS) for step in range(STEPS + 1)]
    for start, end in itertools.pairwise(ends):
        gone.flatten(2)[:, :, order[0, start:end]] = 0.5
        values.append(float(model(gone)[0, 0]))
    return float(torch.trapezoid(torch.tensor(values)) / STEPS)


@torch.no_grad()
def by_quantiles(model: nn.Module, x: Tensor, maps: Tensor) -> float:
    """A deletion curve whose steps are quantiles of the map, one pass of the batch a step; trapezoids over fractions."""
    fractions, values = torch.linspace(0, 1, STEPS + 1), []
    for fraction in fractions:
        keep = maps <= torch.quantile(maps.flatten(1), 1 - fraction, dim=1).view(-1, 1, 1)
        values.append(model(torch.where(keep[:, None], x, 0.5)).softmax(1)[:, 0])
    return float(torch.trapezoid(torch.stack(values, 1), fractions, dim=1).mean())


def sample(work: Callable[[], object]) -> Sample:
    """One call."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def interleave(works: Works, rounds: int) -> dict[str, list[Sample]]:
    """Every work in every round; each round begins with another. The passes have been run before."""
    times: dict[str, list[Sample]] = {name: [] for name in works}
    names = list(works)
    for turn in range(rounds):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            times[name].append(sample(works[name]))
    return times


def report(what: str, works: Works, pairs: list[tuple[str, str]], rounds: int) -> None:
    """Print the median of paired ratios for every pair."""
    works["passes"]()
    works["ours"]()
    times = interleave(works, rounds)
    for name, base in pairs:
        both = list(zip(times[name], times[base], strict=True))
        clock, processor = (statistics.median(a[i] / b[i] for a, b in both) for i in (0, 1))
        ends = [statistics.median(t[0] for t in times[key]) for key in (name, base)]
        print(f"| {what} | {name} / {base} | {ends[0]:.2f} s / {ends[1]:.2f} s | {clock:.2f} | {processor:.2f} |", flush=True)


def attributions(name: str, model: nn.Module, x: Tensor, rounds: int) -> None:
    """RISE and occlusion for ten targets."""
    size = x.shape[-1]
    window = round(size / 7)
    stride = window // 2
    windows = (-(-(size - window) // stride) + 1) ** 2
    methods = {"rise": (MASKS, MASKS), "occlusion": (None, windows)}
    for method, (samples, count) in methods.items():

        def ours(targets: list[int], method: str = method, samples: int | None = samples) -> object:
            given = torch.tensor([targets])
            return torchbcos.attribute(model, x, given, method=method, samples=samples, batch_size=BATCH)

        def alone(count: int = count) -> None:
            passes(model, x, 1)
            passes(model, x, count)

        loop = "loop over targets" if method == "rise" else "Captum's loop"
        looped: Works = {
            "loop over targets": lambda: [rise_loop(model, x, target) for target in TARGETS],
            "Captum's loop": lambda: captum_loop(model, x, window, stride),
        }
        works: Works = {
            "ours": lambda run=ours: run(TARGETS), "again": lambda run=ours: run(TARGETS),
            "one target": lambda run=ours: run([0]),
            "passes": alone, loop: looped[loop],
        }  # fmt: skip
        pairs = [(loop, "ours"), ("ours", "passes"), ("ours", "one target"), ("again", "ours")]
        report(f"{method}, {name}", works, pairs, rounds)


def curves(name: str, model: nn.Module, x: Tensor, rounds: int) -> None:
    """A deletion curve of 50 steps."""
    maps = torch.rand(1, *x.shape[2:])
    order = metrics.removal_order(maps)

    def ours() -> object:
        return metrics.removal_curve(
            lambda b: model(b)[:, 0], x, metrics.removal_order(maps), replace=0.5, fractions=STEPS, batch_size=BATCH
        )

    works: Works = {
        "ours": ours, "again": ours, "passes": lambda: passes(model, x, STEPS + 1),
        "one pass a step": lambda: step_by_step(model, x, order), "quantiles": lambda: by_quantiles(model, x, maps),
    }  # fmt: skip
    pairs = [("one pass a step", "ours"), ("quantiles", "ours"), ("ours", "passes"), ("again", "ours")]
    report(f"deletion, {name}", works, pairs, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="more than one wait for each other where others use the machine")
    parser.add_argument("--network", default="", help="only networks with this in their name")
    args = parser.parse_args()
    rounds = 1 if args.quick else args.rounds
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    print("| work | ratio | medians | clock | processor |\n|---|---|---|---|---|")
    for name, (model, x) in networks().items():
        if args.network not in name:
            continue
        curves(name, model, x, rounds)
        attributions(name, model, x, rounds)


if __name__ == "__main__":
    main()
