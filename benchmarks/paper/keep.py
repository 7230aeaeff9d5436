"""Keep what small runs that have ended are worth beside the scripts, so that another machine can go on.

    python benchmarks/paper/keep.py --runs DIR --data DIR
    python benchmarks/paper/keep.py --model runs/nette-plain/model       # the ordinary twin of the embedded network

Of each run, which pictures of the reported split it gets right (answers.json); of the smallest, the weights in half precision,
too. `claims.py` takes them where a run is not in its own DIR. They are no part of the package.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path

import torch
from measure import ANSWERS, Bench, packed
from safetensors.torch import load_file, save_file
from table import RUNS, model_of

WEIGHTS = Path(__file__).with_name("weights")
TWIN = "imagenette-plain"
LARGEST = 700_000  # bytes of one file, in half precision: the CIFAR-10 networks


def keep(name: str, place: Path, largest: int) -> int:
    """Bytes that were written of a model's folder; 0 where it is too large."""
    weights = load_file(place / "model.safetensors")
    # filters have unit norm and are the bulk; statistics of norms are few, and may be small
    half = {key: value.half() if value.is_floating_point() and value.dim() > 1 else value for key, value in weights.items()}
    size = sum(value.numel() * value.element_size() for value in half.values())
    if size > largest:
        return 0
    (WEIGHTS / name).mkdir(parents=True, exist_ok=True)
    save_file(half, WEIGHTS / name / "model.safetensors")
    card = json.loads((place / "card.json").read_text("utf-8"))
    card |= {"digest": None, "sha256": None}  # those of the weights in full precision
    (WEIGHTS / name / "card.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--data", type=Path, default=os.environ.get("TORCHBCOS_DATA", "."), help="default: $TORCHBCOS_DATA")
    parser.add_argument("--model", type=Path, help="the folder of one model, whatever its size, instead of those of the runs")
    parser.add_argument("--name", default=TWIN, help=f"what its copy is called (default: {TWIN})")
    args = parser.parse_args()
    with torch.no_grad():
        if args.model is not None:
            kept = {args.name: keep(args.name, args.model, 2**30)}
        else:  # a run that has no report has no model yet
            ended = [run.name for run in RUNS if (args.runs / run.name / "report.json").is_file()]
            bench = Bench(args.data, partial(model_of, args.runs), args.runs / "answers")
            answers = json.loads(ANSWERS.read_text("utf-8")) if ANSWERS.is_file() else {}
            answers |= {name: packed(bench.networks([name])[0][name].correct) for name in ended}
            ANSWERS.write_text(json.dumps(dict(sorted(answers.items())), indent=1) + "\n", "utf-8")
            kept = {name: size for name in ended if (size := keep(name, args.runs / name / "model", LARGEST))}
    print(f"{len(kept)} kept, {sum(kept.values()) / 1e6:.1f} MB: {', '.join(kept)}")


if __name__ == "__main__":
    main()
