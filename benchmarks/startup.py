"""What it costs to begin: imports, help, and the first explanation, as medians of fresh processes run in turn.

    python benchmarks/startup.py --runs 7 --threads 1

Prints Markdown tables. Nothing is cached by us. The first round is not counted; after it the files are in the operating
system's cache, as in anybody's second call.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "docs" / "photos" / "dalmatian.jpg"

PROCESSES = {
    "`python -c pass`": ["-c", "pass"],
    "`import torch`": ["-c", "import torch"],
    "`import torchbcos`": ["-c", "import torchbcos"],
    "`import torch, torchbcos`": ["-c", "import torch, torchbcos"],
    "`import torchbcos`, every name used": ["-c", "import torchbcos\nfor name in torchbcos.__all__: getattr(torchbcos, name)"],
    "`torchbcos --help`": ["-m", "torchbcos.cli", "--help"],
    "`torchbcos models`": ["-m", "torchbcos.cli", "models"],
    "`torchbcos predict photo.jpg`": ["-m", "torchbcos.cli", "predict", str(PHOTO)],
    "`torchbcos explain photo.jpg`": ["-m", "torchbcos.cli", "explain", str(PHOTO)],
}
TORCH, EXPLAIN = "`import torch`", "`torchbcos explain photo.jpg`"

# The steps of `explain`, in one process; each line of output is a name and the seconds since the line before.
STEPS = f"""
import os, time
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the program does
last = time.perf_counter()
def step(name):
    global last
    now = time.perf_counter()
    print(name, now - last, sep="\\t")
    last = time.perf_counter()
import torch; step("import torch")
import torchbcos.zoo, torchbcos.cli.explain; step("import the rest of torchbcos, Pillow, rich")
classifier = torchbcos.load(deploy=False); step("build the network and fill in its weights")
from torchbcos.deployment import make_twin_
classifier.model = make_twin_(classifier.model, check=False); step("make the deployed twin")
from torchbcos.pictures import read_image
picture = read_image({str(PHOTO)!r}); x = classifier.preprocess(picture); step("read and encode the photo")
e = classifier.explain(picture); step("explain it (one pass forward, one back)")
panel = e.panel(); step("draw the panel")
panel.save("panel.png"); step("write it as PNG")
"""


def seconds(arguments: list[str], folder: str, environment: dict[str, str]) -> tuple[float, str]:
    """Wall time of a fresh interpreter, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def table(title: str, rows: dict[str, list[float]], beyond: float | None = None) -> None:
    """Medians, with the fastest and the slowest run."""
    extra = "" if beyond is None else " beyond `import torch` |"
    print(f"| {title} | median, s | fastest to slowest |{extra}")
    print("|---|---:|---:|" + ("" if beyond is None else "---:|"))
    for name, times in rows.items():
        median = statistics.median(times)
        more = "" if beyond is None else f" {median - beyond:+.2f} |"
        print(f"| {name} | {median:.2f} | {min(times):.2f} to {max(times):.2f} |{more}")
    print()


def main() -> None:
    """Run every row once a round, so that whatever else the machine does falls on all alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="counted rounds (default: 7)")
    parser.add_argument("--threads", type=int, default=None, help="OMP_NUM_THREADS of the processes (default: torch's choice)")
    options = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    if options.threads:
        environment["OMP_NUM_THREADS"] = str(options.threads)
    processes: dict[str, list[float]] = {name: [] for name in PROCESSES}
    steps: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(options.runs + 1):
            for name, arguments in PROCESSES.items():
                taken, _ = seconds(arguments, folder, environment)
                if run:  # the first round warms the disk cache
                    processes[name].append(taken)
            for line in seconds(["-c", STEPS], folder, environment)[1].splitlines():
                name, _, taken_text = line.partition("\t")
                if run:
                    steps.setdefault(name, []).append(float(taken_text))
    threads = options.threads or "torch's choice of"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {threads} threads, {options.runs} runs, load {load}.\n")
    torch = statistics.median(processes[TORCH])
    table("process", processes, torch)
    table("step of `explain`", steps)
    print(f"`explain` takes {statistics.median(processes[EXPLAIN]) - torch:.2f} s beyond `import torch`.")


if __name__ == "__main__":
    main()
