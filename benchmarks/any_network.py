"""What an explanation of an ordinary network costs, and what watching costs our own networks.

    python benchmarks/any_network.py                         # timm networks against plain forward passes; memory
    python benchmarks/any_network.py --before ../before/src  # and our networks against another tree's src

Processor time of one thread, interleaved; a number is the median of paired ratios, and "A/A" is the same work against itself.
Prints the rows of docs/benchmark/any-network.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import torchbcos

ORDINARY = ("resnet50", "vit_small_patch16_224", "convnext_tiny", "efficientnet_b0", "swin_tiny_patch4_window7_224")
OWN = (
    "resnet50", "resnet50 deployed", "simple_vit_ti_patch16_224 deployed", "simple_vit_s_patch16_224", "densenet121",
    "densenet121 deployed", "convnext_tiny", "convnext_tiny deployed", "embedded",
)  # fmt: skip
SHORT = 0.15  # seconds: a sample repeats its work until it has lasted as long
PHOTO = Path(__file__).parents[1] / "docs" / "photos" / "bus.jpg"


def ordinary(name: str) -> nn.Module:
    """A network of timm with drawn weights and the statistics of one batch: without them random networks measure denormals."""
    import timm

    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name).train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
        elif isinstance(module, nn.Dropout) or type(module).__name__ == "DropPath":
            module.eval()
    with torch.no_grad():
        model(torch.rand(8, 3, 224, 224))
    return model.eval()


def gradient(model: nn.Module, x: torch.Tensor) -> None:
    """An ordinary forward and backward pass: the gradient of one logit with respect to the input."""
    leaf = x.detach().requires_grad_()
    torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)


def sample(work: Callable[[], object]) -> float:
    """Seconds of processor time of one call."""
    began, calls = time.process_time(), 0
    while calls == 0 or time.process_time() - began < SHORT:
        work()
        calls += 1
    return (time.process_time() - began) / calls


def interleave(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every work in every round, after one round that does not count."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(sample(work))
    return times


def ratio(times: dict[str, list[float]], name: str, base: str) -> float:
    """Median of paired ratios."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def against_forward(name: str, images: int, rounds: int) -> str:
    """One explanation in plain forward passes, and in ordinary forward and backward passes with parameters frozen."""
    model = ordinary(name)
    frozen = ordinary(name).requires_grad_(False)
    x = torch.rand(images, 3, 224, 224)

    def forward() -> object:
        with torch.no_grad():
            return model(x)

    works: dict[str, Callable[[], object]] = {
        "forward": forward, "explain": lambda: torchbcos.explain(model, x, 0), "gradient": lambda: gradient(frozen, x),
        "again": forward,
    }  # fmt: skip
    times = interleave(works, rounds)
    numbers = [ratio(times, "explain", "forward"), ratio(times, "gradient", "forward"), ratio(times, "explain", "gradient")]
    cells = [f"{number:.2f}" for number in numbers]
    seconds = statistics.median(times["forward"]) * 1e3
    return f"| {name} | {images} | {seconds:.0f} ms | {' | '.join(cells)} | {ratio(times, 'again', 'forward'):.2f} |"


_MEMORY = """
import sys, timm, torch, torchbcos
sys.path.insert(0, {here!r})
from any_network import gradient
torch.set_num_threads(1)
def resident(what):
    return int([line.split()[1] for line in open("/proc/self/status") if line.startswith(what)][0])
model = timm.create_model({name!r}).eval()
{setting}
x = torch.rand(1, 3, 224, 224)
{work}  # once for what libraries keep
x = torch.rand({images}, 3, 224, 224)
before = resident("VmRSS")
{work}
print((resident("VmHWM") - before) / 1024)
"""


def peak_of(name: str, images: int, work: str, setting: str = "") -> float:
    """MiB by which the resident memory of a fresh process grows while it does this. What is freed goes back at once."""
    code = _MEMORY.format(here=str(Path(__file__).parent), name=name, images=images, work=work, setting=setting)
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return float(out.stdout.split()[-1])


def memory(name: str, images: int) -> str:
    """Peak memory of an explanation and of ordinary forward and backward passes."""
    explained = peak_of(name, images, "torchbcos.explain(model, x, 0)")
    frozen = peak_of(name, images, "gradient(model, x)", "model.requires_grad_(False)")
    free = peak_of(name, images, "model(x.detach().requires_grad_())[:, 0].sum().backward(); model.zero_grad()")
    cells = f"{explained:.0f} MiB | {frozen:.0f} MiB | {free:.0f} MiB | {explained / frozen:.2f} | {explained / free:.2f}"
    return f"| {name} | {images} | {cells} |"


def own_work(name: str) -> Callable[[], Any]:
    """One explanation of a network of ours."""
    torch.manual_seed(0)
    if name == "embedded":
        classifier = torchbcos.load()
        return lambda: classifier.explain(PHOTO)
    model = torchbcos.create_model(name.split()[0])
    for key, parameter in model.named_parameters():
        if key.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.1, 1.0)
    torchbcos.recalibrate(model, [torch.rand(4, 6, 224, 224)])
    model = torchbcos.deploy(model.eval()) if name.endswith("deployed") else model.eval()
    x = torch.rand(1, 6, 224, 224).contiguous(memory_format=torch.channels_last)
    return lambda: torchbcos.explain(model, x, 0)


def serve() -> None:
    """Answer one line with the time of one explanation: a name makes another network, and answers with what it gave."""
    import hashlib

    work: Callable[[], Any] = lambda: None
    for line in sys.stdin:
        name = line.strip()
        if not name:
            print(sample(work), flush=True)
            continue
        work = own_work(name)
        e = work()
        digest = hashlib.sha256(repr(list(e.constants)).encode())
        for found in (e.values, e.weights, e.outputs, *e.constants.values()):
            digest.update(found.contiguous().numpy().tobytes())
        print(digest.hexdigest(), flush=True)


def against_before(before: str, names: tuple[str, ...], rounds: int) -> None:
    """Our networks in this tree (B) and in another (A, twice): times, and whether every bit of the result is the same."""
    here = str(Path(torchbcos.__file__).parents[1])
    places = {"A": before, "again": before, "B": here}
    sides = {
        side: subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": place},
        )
        for side, place in places.items()
    }  # fmt: skip

    def ask(side: str, line: str) -> str:
        talking = sides[side]
        assert talking.stdin is not None and talking.stdout is not None
        talking.stdin.write(line + "\n")
        talking.stdin.flush()
        return talking.stdout.readline().strip()

    print("| network | before | now / before | A/A | same bits |\n|---|---|---|---|---|")
    for name in names:
        digests = {side: ask(side, name) for side in sides}
        times: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(rounds + 1):
            order = list(sides)[turn % 3 :] + list(sides)[: turn % 3]
            for side in order:
                seconds = float(ask(side, ""))
                if turn:
                    times[side].append(seconds)
        same = "yes" if digests["A"] == digests["B"] else "no"
        seconds = statistics.median(times["A"]) * 1e3
        print(
            f"| {name} | {seconds:.0f} ms | {ratio(times, 'B', 'A'):.3f} | {ratio(times, 'again', 'A'):.3f} | {same} |",
            flush=True,
        )
    for talking in sides.values():
        talking.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=ORDINARY)
    parser.add_argument("--own", nargs="*", default=OWN)
    parser.add_argument("--before", help="the src folder of another tree, for our own networks")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if args.serve:
        return serve()
    if args.networks:
        print(
            "| network | images | forward | explain / forward | gradient / forward | explain / gradient | A/A |\n"
            + "|---" * 7
            + "|"
        )
    for name in args.networks:
        for images in (1, 4):
            print(against_forward(name, images, args.rounds), flush=True)
    if args.memory:
        head = "| network | images | explain | gradient, frozen | backward, all | explain / frozen | explain / all |"
        print(f"{head}\n{'|---' * 7}|")
        for name in args.networks:
            print(memory(name, 4), flush=True)
    if args.before:
        against_before(args.before, tuple(args.own), args.rounds)
    return None


if __name__ == "__main__":
    main()
