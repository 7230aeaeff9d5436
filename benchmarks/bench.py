"""Speed and memory against the official package, the plain network, and post-hoc explanations, in one run.

    python benchmarks/bench.py                                  # everything, an hour on two cores
    python benchmarks/bench.py --networks resnet50 --rounds 7 --no-compile
    python benchmarks/bench.py --device cuda

Works are interleaved; a number is the median of paired ratios; samples that other processes disturbed are discarded
and counted. Writes docs/benchmark/{results.json, results.md, ratios.png}. A network that was measured before is kept
in results.json unless it is named again, so a long run may be cut into parts.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contestants as c
import torch
from measure import Times, interleave
from torch import nn

import torchbcos

OUT = Path(__file__).parents[1] / "docs" / "benchmark"
LAYER = {
    "resnet18": "layer4", "resnet50": "layer4", "densenet121": "features.norm5", "convnext_tiny": "features.7",
}  # fmt: skip


def saved_mebibytes(model: nn.Module, x: torch.Tensor) -> float:
    """What a training step keeps for its backward pass, parameters excluded, each storage once.

    Read off the graph: hooks on saved tensors would make our norms keep what they need not.
    """
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    out = model.train()(x)
    nodes, met, seen = [out.grad_fn], set(), {}
    while nodes:
        node = nodes.pop()
        if node is None or node in met:
            continue
        met.add(node)
        names = ["saved_tensors"] if hasattr(node, "saved_tensors") else [n for n in dir(node) if n.startswith("_saved_")]
        for value in (getattr(node, name) for name in names):
            for t in value if isinstance(value, tuple) else (value,):
                if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() not in own:
                    seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        nodes += [parent for parent, _ in node.next_functions]
    return sum(seen.values()) / 2**20


def peak_mebibytes(code: str) -> float:
    """Largest resident memory of a fresh process that runs `code` (VmHWM: ru_maxrss would count its parent's)."""
    tail = "\nprint([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    out = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return int(out.stdout.split()[-1]) / 1024


def try_work(works: dict[str, c.Work], name: str, make: Callable[[], c.Work], skipped: dict[str, str]) -> None:
    """Add a contestant that may fail (compilers, foreign packages), or say why it is missing."""
    try:
        work = make()
        work()
    except Exception as error:  # whatever a compiler or a package does not like
        skipped[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        return
    works[name] = work


def measure_network(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All works of one network."""
    device, skipped = torch.device(args.device), {}
    ours, plain = c.ours(name).to(device), c.plain(name).to(device)
    twin, usual = torchbcos.deploy(ours), c.folded(plain)
    theirs = c.official(name).to(device) if args.official else None
    images = c.last(torch.rand(8, 6, 224, 224, device=device))
    rgb = images[:, :3].contiguous()
    result: dict[str, Any] = {"saved MiB": {}, "works": {}}
    for label, model, x in (("plain", plain, rgb), ("ours", ours, images), ("official", theirs, images)):
        if model is not None:
            result["saved MiB"][label] = saved_mebibytes(copy.deepcopy(model), x)
    for n in (1, 8):
        six, three = images[:n], rgb[:n]
        works = {"plain": c.inference(plain, three.contiguous()), "plain folded": c.inference(usual, c.last(three)),
                 "ours": c.inference(ours, six), "ours deployed": c.inference(twin, six)}  # fmt: skip
        if theirs is not None:
            works["official"] = c.inference(theirs, six.contiguous())
        if args.compile:
            torch.compiler.reset()
            for label, model, x in (("ours deployed, compiled", twin, six), ("plain folded, compiled", usual, c.last(three)),
                                    ("official, compiled", theirs, six.contiguous())):  # fmt: skip
                if model is not None:
                    try_work(works, label, lambda m=model, x=x: c.inference(torch.compile(m), x), skipped)
        record(result, f"inference ×{n}", interleave(works, args.rounds), works)
    explain(name, args, result, theirs, twin, plain, images, skipped)
    works = {"plain": c.training(copy.deepcopy(plain), rgb), "ours": c.training(channels_last(ours), images)}
    works["plain channels_last"] = c.training(channels_last(plain), c.last(rgb))
    if theirs is not None:
        works["official"] = c.training(copy.deepcopy(theirs), images.contiguous())
    if args.compile and name in args.compile_training:
        torch.compiler.reset()
        for label, model in (("ours, compiled", channels_last(ours)), ("official, compiled", theirs)):
            if model is not None:
                try_work(works, label, lambda m=model: c.training(torch.compile(copy.deepcopy(m)), images), skipped)
    record(result, "training step ×8", interleave(works, args.rounds), works)
    result["skipped"] = skipped
    return result


def channels_last(model: nn.Module) -> nn.Module:
    """A copy in channels_last."""
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def explain(
    name: str, args: argparse.Namespace, result: dict[str, Any], theirs: nn.Module | None, twin: nn.Module, plain: nn.Module,
    images: torch.Tensor, skipped: dict[str, str],
) -> None:  # fmt: skip
    """One image, eight images, ten classes of one image; and what a plain network's users run."""
    one, ten = images[:1], list(range(10))
    for label, x, targets in (("explain 1", one, [0]), ("explain 8", images, [0]), ("explain 10 classes", one, ten)):
        asked = torch.tensor([targets] * len(x), device=x.device)
        works: dict[str, c.Work] = {
            "plain forward": c.inference(plain, x[:, :3].contiguous()),
            "ours deployed": lambda x=x, asked=asked: torchbcos.explain(twin, x, asked),
        }
        if theirs is not None:
            works["official"] = c.without_pictures(theirs, x.contiguous(), targets)
        if args.compile and label != "explain 10 classes":
            torch.compiler.reset()
            try_work(works, "ours compiled", lambda x=x: compiled_explanation(twin, x), skipped)
        if label == "explain 1" and args.post_hoc and name in LAYER:
            for method, work in c.post_hoc(plain, x[:, :3].contiguous(), LAYER[name]).items():
                try_work(works, method, lambda work=work: work, skipped)
        record(result, label, interleave(works, args.rounds), works)


def compiled_explanation(twin: nn.Module, x: torch.Tensor) -> c.Work:
    """Prediction and explanation as one compiled graph."""
    return c.inference(torch.compile(torchbcos.explanation_graph(twin, x)), x)


def record(result: dict[str, Any], label: str, times: Times, works: dict[str, c.Work]) -> None:
    """Medians and paired ratios of one work; printed as they come."""
    base = "plain" if "plain" in works else "plain forward"
    row: dict[str, Any] = {"discarded": times.discarded, "ms": {}, "to plain": {}, "to official": {}, "pairs": {}}
    for name in works:
        row["ms"][name] = round(times.median(name) * 1e3, 1)
        row["to plain"][name], row["pairs"][name] = times.ratio(name, base)
        if "official" in works:
            row["to official"][name] = times.ratio(name, "official")[0]
        if name.startswith("ours") and name.endswith("compiled") and "plain folded, compiled" in works:
            row["ours compiled to plain folded, compiled"] = round(times.ratio(name, "plain folded, compiled")[0], 3)
        if name == "ours, compiled" and "official, compiled" in works:
            row["ours compiled to official compiled"] = round(times.ratio(name, "official, compiled")[0], 3)
        print(f"  {label:20} {name:36} {row['ms'][name]:9.1f} ms   {row['to plain'][name]:5.2f} × plain", flush=True)
    result["works"][label] = row


PEAK = (
    "import torch, torchbcos\nm = torchbcos.deploy(torchbcos.create_model({name!r}))\n"
    "torchbcos.explain(m, torch.rand({n}, 6, {side}, {side}), torch.arange({k}).expand({n}, {k}))"
)


def growth(args: argparse.Namespace, name: str, sides: tuple[int, ...]) -> dict[str, Any]:
    """An explanation (deployed) and a plain forward pass against images, side and targets: milliseconds; peak MiB."""
    twin, plain = torchbcos.deploy(c.ours(name)).to(args.device), c.plain(name).to(args.device)
    found: dict[str, Any] = {}

    def pair(what: str, key: int, x: torch.Tensor) -> None:
        works = {"explain": lambda: torchbcos.explain(twin, x, 0), "plain forward": c.inference(plain, x[:, :3].contiguous())}
        times = interleave(works, 3)
        for work in works:
            found.setdefault(f"{work}, by {what}, ms", {})[key] = round(times.median(work) * 1e3, 1)
        print(f"  {name} {what} {key}", {work: round(times.median(work) * 1e3) for work in works}, flush=True)

    for n in (1, 2, 4, 8, 16, 32):
        pair("images", n, c.last(torch.rand(n, 6, 224, 224, device=args.device)))
    for side in sides:
        pair("side", side, c.last(torch.rand(1, 6, side, side, device=args.device)))
    x = c.last(torch.rand(1, 6, 224, 224, device=args.device))
    found["explain, by targets, ms"] = {}
    for k in (1, 10, 100, 1000):
        asked = torch.arange(k, device=args.device)[None]
        seconds = interleave({"e": lambda t=asked: torchbcos.explain(twin, x, t)}, 3 if k <= 10 else 1).median("e")
        found["explain, by targets, ms"][k] = round(seconds * 1e3, 1)
    peaks = {k: PEAK.format(name=name, n=1, side=224, k=k) for k in (1, 100, 1000)}
    found["peak of the process, by targets, MiB"] = {k: round(peak_mebibytes(code)) for k, code in peaks.items()}
    peaks = {n: PEAK.format(name=name, n=n, side=224, k=1) for n in (1, 4, 8, 16, 64)}
    found["peak of the process, by images, MiB"] = {n: round(peak_mebibytes(code)) for n, code in peaks.items()}
    peaks = {side: PEAK.format(name=name, n=1, side=side, k=1) for side in sides}
    found["peak of the process, by side, MiB"] = {side: round(peak_mebibytes(code)) for side, code in peaks.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(c.OFFICIAL))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument(
        "--compile-training",
        nargs="*",
        default=["resnet18", "resnet50"],
        help="networks whose training is measured compiled too (a DenseNet takes ten minutes to compile)",
    )
    parser.add_argument("--no-official", dest="official", action="store_false")
    parser.add_argument("--no-post-hoc", dest="post_hoc", action="store_false")
    parser.add_argument("--growth", action="store_true", help="measure growth with images, side and targets too")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"networks": {}}
    results["machine"] = {
        "processor": processor(), "threads": args.threads, "device": args.device, "torch": torch.__version__,
        "python": platform.python_version(), "rounds": args.rounds,
    }  # fmt: skip
    for name in args.networks:
        print(name, flush=True)
        results["networks"][name] = measure_network(name, args)
        file.write_text(json.dumps(results, indent=1) + "\n")
    if args.growth:
        sides = {"resnet50": (112, 224, 448, 672), "simple_vit_s_patch16_224": (112, 224, 448, 672)}
        results["growth"] = {name: growth(args, name, found) for name, found in sides.items()}
    file.write_text(json.dumps(results, indent=1) + "\n")
    from report import write_report

    write_report(results, args.out)


def processor() -> str:
    """What the system calls its processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


if __name__ == "__main__":
    main()
