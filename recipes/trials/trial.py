"""What trials share that write a small data set of Imagenette and measure models on it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[3] / "shared" / "data" / "imagenette"
Work = Callable[[Any], None]


def command_line(about: str | None, write_data: Work, measure: Work, *, train: int, val: int) -> tuple[Any, Any, Any]:
    """The parser, its commands `data` and `measure`, and the first of them, which may get more options."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("data")
    make.add_argument("--data", type=Path, default=SOURCE)
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--train", type=int, default=train)
    make.add_argument("--val", type=int, default=val)
    make.set_defaults(run=write_data)
    ask = commands.add_parser("measure")
    ask.add_argument("--model", required=True)
    ask.add_argument("--data", type=Path, required=True)
    ask.set_defaults(run=measure)
    return parser, commands, make
