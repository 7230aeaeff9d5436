"""Compute the numbers of docs/explanation/claims.md from the trainings of train.py, one claim at a time.

    python benchmarks/paper/claims.py --data DIR --runs DIR --claim cdfg          # all that is there, into claims.json
    python benchmarks/paper/claims.py --comparison docs/benchmark/embedded.json --claim ab

A claim whose runs are not all there gives the rows that it can, names the others, and says "not shown yet" where they decide.
Afterwards: python benchmarks/paper/figures.py, python benchmarks/paper/page.py.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from maps import deletion, neuron_picture, neurons
from measure import Bench
from methods import against_others, against_twin
from networks import antialiased, norms, sharpness
from table import model_of
from twins import families, transformers

JSON = Path(__file__).with_name("claims.json")
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
TITLES = {
    "a": "On one B-cos network, the inherent explanation beats every post-hoc method",
    "b": "It beats post-hoc methods on the ordinary twin, too",
    "c": "Localisation rises with B, at nearly constant accuracy",
    "d": "Norms without centring and bias keep the whole logit in the explanation, and cost no accuracy",
    "e": "Deleting the least important pixels first keeps the confidence longest",
    "f": "Neurons in the middle of a network are explained, too",
    "g": "Anti-aliasing takes the checkerboard out of the explanations",
    "h": "Transformers as well: a B-cos ViT-C and its ordinary twin",
    "i": "All this at similar accuracy",
}
COMMAND = "python benchmarks/paper/claims.py --data DIR --runs DIR --claim "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TORCHBCOS_DATA"), help="default: $TORCHBCOS_DATA")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument(
        "--comparison", type=Path, help="JSON of `torchbcos compare` on the embedded network and its twin: (a), (b)"
    )
    parser.add_argument("--claim", default="".join(TITLES), help="letters; default: all")
    parser.add_argument("--pictures", action="store_true", help="draw the pictures of (f) again")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    bench = Bench(Path(args.data or "."), partial(model_of, args.runs), args.runs / "answers")
    comparison = json.loads(args.comparison.read_text("utf-8")) if args.comparison else None
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "a": lambda: against_others(comparison), "b": lambda: against_twin(comparison), "c": lambda: sharpness(bench),
        "d": lambda: norms(bench), "e": lambda: deletion(bench), "f": lambda: neurons(bench), "g": lambda: antialiased(bench),
        "h": lambda: transformers(bench), "i": lambda: families(bench),
    }  # fmt: skip
    for letter in args.claim:
        if letter in "ab" and comparison is None and letter in _kept():
            continue  # nothing new of what stands there
        began = time.monotonic()
        result = {"title": TITLES[letter], "command": _command(letter, args.comparison), **makers[letter]()}
        _keep(letter, result)
        print(f"({letter}) {result['verdict']}: {result['why']} ({time.monotonic() - began:.0f} s)", flush=True)
    if args.pictures:
        neuron_picture(bench, PICTURES / "claims-neurons.png")


def _command(letter: str, comparison: Path | None) -> str:
    return (
        f"python benchmarks/paper/claims.py --comparison {comparison or 'FILE'} --claim {letter}"
        if letter in "ab"
        else COMMAND + letter
    )


def _kept() -> dict[str, Any]:
    return json.loads(JSON.read_text("utf-8"))["claims"] if JSON.is_file() else {}


def _keep(letter: str, result: dict[str, Any]) -> None:
    """Put one claim into the file beside the others."""
    claims = {**_kept(), letter: result}
    whole = {"schema": 1, "claims": {key: claims[key] for key in sorted(claims)}}
    JSON.write_text(json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
