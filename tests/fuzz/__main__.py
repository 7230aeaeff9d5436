"""Ten thousand spoiled files of each kind: none may end in a traceback, hang, fill the memory, run code or write elsewhere.

    python -m tests.fuzz                              all kinds, 10,000 files each
    python -m tests.fuzz card pth --count 100         some kinds
    python -m tests.fuzz pth --only 4711 --keep DIR   one file again, kept in DIR

A process reads the files one after the other; where one hangs or dies, the next process goes on after it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.mutate import MUTATORS
from tests.fuzz.seeds import spoiled


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(MUTATORS)} (all)")
    parser.add_argument("--count", type=int, default=10_000, help="files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this file alone")
    parser.add_argument("--keep", type=Path, help="folder for files that show a fault")
    given = parser.parse_args()
    if unknown := set(given.kinds) - set(MUTATORS):
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}")
    faults = sum(_run(kind, given) for kind in given.kinds or MUTATORS)
    return 1 if faults else 0


def _run(kind: str, given: argparse.Namespace) -> int:
    """Read all files of a kind; a line a fault, and one line about all."""
    first, last = (given.only, given.only + 1) if given.only is not None else (0, given.count)
    begun, faults, taken, refused, most, slowest = time.monotonic(), 0, 0, 0, 0, 0.0
    seen: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        while first < last:
            print(f"{kind} from {first}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "tests.fuzz.reader", kind, folder, str(given.seed), str(first), str(last)]
            with open(Path(folder) / "stderr", "w+", errors="replace") as said:  # a pipe would fill up and hold the reader
                with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as reader:
                    assert reader.stdout is not None
                    for line in reader.stdout:
                        one = json.loads(line)
                        first = one["number"] + 1
                        taken, refused = taken + (one["outcome"] == "taken"), refused + (one["outcome"] == "refused")
                        most, slowest = max(most, one["memory"]), max(slowest, one["seconds"])
                        for fault in one["faults"]:
                            faults += 1
                            _report(kind, one["number"], fault, seen, given)
                said.seek(0)
                died = said.read()
            if reader.returncode:
                faults += 1
                what = "hangs" if "Timeout" in died else f"process ended with {reader.returncode}: {died[-300:]}"
                _report(kind, first, what, seen, given)
                first += 1
    said = f"{taken} taken, {refused} refused, {faults} faults, slowest {slowest:.1f} s, most memory {most} MiB"
    print(f"{kind}: {said}, {time.monotonic() - begun:.0f} s", flush=True)
    return faults


def _report(kind: str, number: int, fault: str, seen: dict[str, int], given: argparse.Namespace) -> None:
    """Print a fault, at most three times each sort, and keep its file."""
    sort = fault[:60]
    seen[sort] = seen.get(sort, 0) + 1
    if seen[sort] <= 3:
        print(f"  {kind} {number}: {fault}", flush=True)
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{kind}-{number}").write_bytes(spoiled(kind, number, given.seed))


if __name__ == "__main__":
    sys.exit(main())
