"""`torchbcos export`: one file that predicts and explains without this library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchbcos._core.errors import InputError
from torchbcos._core.names import brief
from torchbcos.cli.common import AllowCode, Model, Weights, given_path, print_json, tell, usage_errors

__all__ = ["export"]


def export(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", parser=given_path, help="FILE.onnx, or FILE.pt2 for torch.export.load."),
    ],
    model: Model = "default",
    weights: Weights = None,
    top_k: Annotated[
        int, typer.Option("--top-k", metavar="K", min=1, help="Explain the K highest classes; with --any-class, any K.")
    ] = 1,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME|INDEX", help="Explain this class in every picture; may be repeated."),
    ] = None,
    any_class: Annotated[
        bool, typer.Option("--any-class", metavar="", help="Let whoever runs the file say which classes: an input 'targets'.")
    ] = False,
    no_preprocessing: Annotated[
        bool, typer.Option("--no-preprocessing", metavar="", help="Take encoded input 'x', not pictures of the network's size.")
    ] = False,
    floats: Annotated[
        bool, typer.Option("--floats", metavar="", help="Take float pictures (N, channels, H, W) in [0, 1], not bytes.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="SIDES",
            show_default="the model's crop, or as in its run",
            help="Sides of what it takes: 1000, 64x64, …",
        ),
    ] = None,
    allow_code: AllowCode = False,
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print what stands in the file as one JSON object.")] = False,
) -> None:
    """Write a model with its explanations into one file, for any number of pictures.

    An .onnx file runs in onnxruntime, without torch and without this library. Before it is put into place its numbers are
    compared with those of 'torchbcos explain'.
    """
    from torchbcos.zoo import load
    from torchbcos.zoo.export import check_target
    from torchbcos.zoo.export import export as write

    with usage_errors():
        if classes and any_class:
            raise InputError("--class and --any-class exclude each other: classes are fixed, or an input.")
        if floats and no_preprocessing:
            raise InputError("--floats and --no-preprocessing exclude each other: the file takes pictures, or encoded input.")
        check_target(out)
        made = write(
            load(model, weights=weights, device="cpu", allow_code=allow_code), out, top_k=top_k,
            targets=classes or any_class, size=_sides(size), preprocessing="pixels" if floats else not no_preprocessing,
        )  # fmt: skip
    if json:
        print_json(made.to_dict())
        return
    tell(f"{made.path}: {made.size / 1e6:.1f} MB, compared with 'torchbcos explain' in {' and in '.join(made.runtimes)}")
    for what, ports in (("in", made.inputs), ("out", made.outputs)):
        tell(f"  {what}: {', '.join(map(str, ports))}")
    tell(f"  constants: {', '.join(map(brief, made.constants)) or 'none'}")


def _sides(text: str | None) -> list[int] | None:
    """The numbers of `--size`.

    >>> _sides("64x48"), _sides(None)
    ([64, 48], None)
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise InputError(f"--size is a number a side, as in 64x48; got {text!r:.80}.")
    return [int(part[:9]) for part in parts]
