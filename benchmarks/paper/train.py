"""Train what the claims need and is missing, one run after the other, in the order of table.py.

    python benchmarks/paper/train.py --data DIR --runs DIR               # everything
    python benchmarks/paper/train.py --data DIR --runs DIR --claim c     # what claim (c) needs
    python benchmarks/paper/train.py --data DIR --runs DIR --list        # what is there, what remains, how long it takes

DIR of the data holds `cifar10` and `imagenette`. A run that has ended is left alone, one that was interrupted goes on: the
same command again. Set OMP_NUM_THREADS=1 and begin it twice to use two cores: a run that another process trains is passed over.
Logs go to RUNS/log.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from table import MACHINE, RUNS, Run

ROOT = Path(__file__).parents[2]


def command(run: Run, data: Path, runs: Path) -> list[str]:
    """What trains it, word by word."""
    recipe = str(ROOT / run.recipe) if run.recipe.endswith(".toml") else run.recipe
    words = [f"{key}={value}" for key, value in {**MACHINE, **run.settings}.items()]
    place = ["--data", str(data / run.data), "--out", str(runs / run.name)]
    return [sys.executable, "-m", "torchbcos.cli", "train", recipe, *place, "--set", *words]


def ended(run: Run, runs: Path) -> bool:
    return (runs / run.name / "report.json").is_file()


def train(run: Run, data: Path, runs: Path) -> bool:
    """Whether it ended well; a run that another process trains, or that fails, is left for the next time."""
    (runs / "log").mkdir(parents=True, exist_ok=True)
    print(time.strftime("%H:%M:%S"), run.name, flush=True)
    with (runs / "log" / f"{run.name}.log").open("a") as log:
        code = subprocess.run(command(run, data, runs), stdout=log, stderr=log, check=False).returncode
    if code:
        print(f"{run.name} did not end (exit code {code}): see {runs / 'log' / run.name}.log", flush=True)
    return not code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TORCHBCOS_DATA"), help="default: $TORCHBCOS_DATA")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--claim", default="", help="letters: only runs that one of these claims needs")
    parser.add_argument("--run", nargs="+", default=[], help="only these runs, by name")
    parser.add_argument("--list", action="store_true", help="say what is there and what remains")
    parser.add_argument("--command", action="store_true", help="print the commands and run nothing")
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data: where cifar10 and imagenette lie")
    chosen = [r for r in RUNS if (not args.claim or set(args.claim) & set(r.claims)) and (not args.run or r.name in args.run)]
    missing = [r for r in chosen if not ended(r, args.runs)]
    if args.list:
        for run in chosen:
            state = f"about {run.minutes} minutes" if run in missing else "done"
            print(f"{run.name:26} claims {','.join(run.claims):10} {state}")
        print(f"{len(missing)} of {len(chosen)} remain: about {sum(r.minutes for r in missing) / 60:.1f} hours of one core.")
        return 0
    if args.command:
        print("\n".join(" ".join(command(run, args.data, args.runs)[1:]) for run in missing))
        return 0
    failed = [run for run in missing if not train(run, args.data, args.runs)]
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
