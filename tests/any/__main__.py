"""One line an architecture: exact, or refused with operation and module. `make any`, or:

    python -m tests.any                         # all of them, about ten minutes on one core
    python -m tests.any convnext timm:vit       # those whose name has one of these words
    python -m tests.any --part 2/4 --json two.json
    python -m tests.any --markdown docs/benchmark/any.md
    python -m tests.any --join one.json two.json --markdown docs/benchmark/any.md      # of parts that ran before

The exit code is 1 where something is wrong: a refusal is no fault, a wrong explanation is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import warnings
from pathlib import Path

import torch

from tests.any.examine import Row, row_of
from tests.any.networks import ARCHITECTURES, Entry
from tests.any.table import line, page, summary


def chosen(words: list[str], part: str) -> list[Entry]:
    """The architectures that a command line asks for.

    Raises:
        SystemExit: a word or a part that fits nothing.
    """
    unknown = [word for word in words if not any(word in entry.title for entry in ARCHITECTURES)]
    if unknown:
        raise SystemExit(f"No architecture has {unknown[0]!r} in its name.")
    found = [entry for entry in ARCHITECTURES if not words or any(word in entry.title for word in words)]
    numbers = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", part)
    if numbers is None or int(numbers[1]) > int(numbers[2]):
        raise SystemExit(f"--part says which of how many, such as 2/4, not {part!r}.")
    return found[int(numbers[1]) - 1 :: int(numbers[2])]


def _rows(entries: list[Entry], products: str | None = None) -> list[Row]:
    """Examine and print, one after another; what is not installed is said and left out."""
    rows, missing = [], set()
    for entry in entries:
        if entry.source in missing:
            continue
        try:
            rows.append(row_of(entry, products))
        except ImportError as error:
            missing.add(entry.source)
            print(f"{entry.source} is left out: {error}", flush=True)
            continue
        print(line(rows[-1]), flush=True)
    return rows


def _measured(entries: list[Entry]) -> tuple[list[Row], list[Row]]:
    """All of them, then the refused ones with products in halves."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # else a network that fades out is slow, and nothing else changes
    rows = _rows(entries)
    refused = {row.name for row in rows if row.verdict == "refused"}
    print(summary(rows), flush=True)
    if refused:
        print('\nThe refused ones with products="half":', flush=True)
    return rows, _rows([entry for entry in entries if entry.title in refused], "half")


def _joined(files: list[Path]) -> tuple[list[Row], list[Row]]:
    """The rows of earlier runs, in the order of the list."""
    order = {entry.title: place for place, entry in enumerate(ARCHITECTURES)}
    found = [json.loads(file.read_text("utf-8")) for file in files]
    rows, halves = ([Row(**row) for part in found for row in part[key]] for key in ("rows", "half"))
    newest = [list({row.name: row for row in many}.values()) for many in (rows, halves)]
    joined, again = (sorted(many, key=lambda row: order.get(row.name, len(order))) for many in newest)
    print(summary(joined))
    return joined, again


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="words of names; all without any")
    parser.add_argument("--part", default="1/1", metavar="N/M", help="every M-th architecture, from the N-th on")
    parser.add_argument("--join", type=Path, nargs="+", metavar="FILE", help="numbers of earlier runs, in place of new ones")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page of the documentation")
    args = parser.parse_args()
    rows, halves = _joined(args.join) if args.join else _measured(chosen(args.names, args.part))
    if args.json:
        found = {"rows": [dataclasses.asdict(row) for row in rows], "half": [dataclasses.asdict(row) for row in halves]}
        args.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if args.markdown:
        args.markdown.write_text(page(rows, halves), "utf-8")
    return int(any(row.verdict in ("wrong", "failed") for row in rows + halves))


if __name__ == "__main__":
    sys.exit(main())
