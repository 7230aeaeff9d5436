"""Files that predict and explain where this library is not: ONNX, and torch.export's own.

Shapes: N images, C channels, *S space, K targets.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchbcos._core.errors import ArgumentTypeError, InputError, StateError, shorten
from torchbcos._core.files import finite_or_null
from torchbcos._core.names import hint, quote
from torchbcos._core.numbers import positive_integer
from torchbcos._core.optional import require
from torchbcos.explanation.graph import NAMES, ExplanationGraph, explanation_graph
from torchbcos.pictures import Preprocess
from torchbcos.runs.provenance import version_of
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.pixels import FromPixels, normaliser
from torchbcos.zoo.saveable import unwrapped
from torchbcos.zoo.served import KINDS, form_of
from torchbcos.zoo.served_files import ONNX, SUFFIXES, write
from torchbcos.zoo.sizes import trained_sides

__all__ = ["Exported", "Port", "check_target", "export"]

_LEFT_OUT = ("classes", "recipe", "notes")  # of the card: the classes stand beside it, the history is long


@dataclass(frozen=True)
class Port:
    """An input or output of a file: its name, type and shape; "N" is any number of images."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))}{',' if len(self.shape) == 1 else ''})"


@dataclass(frozen=True)
class Exported:
    """What stands in an exported file.

    Attributes:
        path: the file.
        size: of it, in bytes.
        inputs, outputs: in their order.
        constants: names of the constants, in the order of that output's columns.
        runtimes: in which its numbers were compared with those of `explain`: "torch", "onnxruntime".
    """

    path: Path
    size: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: tuple[str, ...]
    runtimes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        ports = {
            key: {port.name: {"dtype": port.dtype, "shape": list(port.shape)} for port in value}
            for key, value in (("inputs", self.inputs), ("outputs", self.outputs))
        }
        return {"file": str(self.path), "bytes": self.size, **ports, "constants": list(self.constants),
                "checked": list(self.runtimes)}  # fmt: skip


def export(
    model: Classifier | nn.Module,
    path: str | Path,
    *,
    top_k: int = 1,
    targets: Any = False,
    preprocessing: bool | str = True,
    size: int | Sequence[int] | None = None,
    example: Any = None,
) -> Exported:
    """Write a network with its explanation into one file that runs without this library, for any number of images.

    The file gives logits (N, classes), targets (N, K), weights W (N, K, C, *S) of the encoded input, contributions
    (N, K, *S) and constants (N, K, names), by name; `Σ contributions + Σ constants` is the logit of the target. Where it
    normalises pixels itself, W belongs to pixels in [0, 1], as in the classifier's own explanations; its "explained" says which.
    It holds the names of classes and constants and the card, too, and is compared with `explain` before it takes the place of
    `path`.

    Args:
        model: a classifier, or a network in eval mode on encoded input.
        path: what to write: `.onnx` for onnxruntime and the like (needs the packages onnx and onnxscript), `.pt2` for
            `torch.export.load`.
        top_k: K, the number of targets an image: its highest classes.
        targets: True: the K targets of each image are an input, "targets" (N, K) int64. Or classes, by name or index, that
            are explained in every image. False: the highest.
        preprocessing: True: the file takes what a classifier takes once it is resized and cropped, and encodes it:
            "pictures" (N, H, W, 3) uint8, (N, H, W) where pictures are grey, and "pixels" (N, channels, *S) float32 of signals,
            volumes and arrays: in [0, 1], or as they are stored where the classifier has a range. "pixels": floats of pictures,
            too. False: "x" (N, C, *S) float32, encoded.
        size: sides of the images, (H, W) say; one number for all sides. None: the classifier's crop, or
            the size of the signals or volumes it was trained with, where its card notes it (`notes["example"]`).
        example: an encoded batch (N, C, *S), or for a classifier whatever `explain` takes; instead of `size`.

    Returns:
        What stands in the file.

    Raises:
        InputError, ArgumentTypeError: an argument is wrong, or the size of images is not known.
        MissingPackageError: a package for ONNX is not installed.
        StateError: the network cannot be exported, the file gives other numbers than `explain`, or cannot be written.

    >>> import tempfile, torchbcos
    >>> model = torchbcos.nn.BcosConv2d(6, 3, 3)
    >>> model = torchbcos.deploy(torch.nn.Sequential(model, torchbcos.nn.GlobalAveragePool()))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = export(model, folder + "/why.pt2", example=torch.rand(1, 6, 8, 8))
    >>> print(made.inputs[0], made.outputs[2], sep="; ")
    x float32 (N, 6, 8, 8); weights float32 (N, 1, 6, 8, 8)
    """
    target = check_target(path)
    network = _network(model)
    classifier = model if isinstance(model, Classifier) else None
    preprocess = None if classifier is None else classifier.transform
    _check_preprocessing(preprocessing)
    form = form_of(preprocess, preprocessing)
    first = normaliser(preprocess, network) if preprocess is not None and form != "x" else None
    if preprocess is not None and first is not None:  # W is of pixels, as in the classifier's own explanations
        network = FromPixels(first, network).eval()
        preprocess = dataclasses.replace(preprocess, encoding="none", mean=None, std=None)
    classes, count = _chosen(classifier, targets, top_k)
    raw, x = _examples(network, classifier, preprocess, form, size, example)
    given = torch.zeros(len(x), count, dtype=torch.int64) if targets is not False and targets is not None else None
    if classes is not None:
        given = torch.tensor(classes).expand(len(x), -1)
    graph = explanation_graph(network, x, given, top_k=count, portable=target.suffix.lower() == ONNX)
    if graph.batch is not None:
        raise StateError(
            f"{type(network).__name__} computes in another way for another number of images, so no file can take any number: "
            f"torchbcos.explanation_graph(model, x) records it for one."
        )
    if first is not None:
        graph.constants, graph.fixed = FromPixels.plain(graph.constants), FromPixels.plain(graph.fixed)
    served = KINDS[form](graph, preprocess if form != "x" else None, classes).eval()
    size_, runtimes = write(served, network, raw, target, _facts(classifier, graph, form, first is not None))
    arguments = served.arguments(raw)
    with torch.no_grad():
        found = served(**arguments)
    return Exported(target, size_, _ports(arguments), _ports(found), graph.constants, runtimes)


# -- what is asked -------------------------------------------------------------------------------------------------------


def check_target(path: object) -> Path:
    """The file to write, its kind known and its packages there.

    Raises:
        InputError, ArgumentTypeError: it is no name of a file, or of another kind.
        MissingPackageError: a package for its kind is not installed.
    """
    if not isinstance(path, (str, Path)):
        raise ArgumentTypeError(f"path must be a file's name, not {type(path).__name__}.")
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        known = "'.onnx' (onnxruntime, and what else reads ONNX) or '.pt2' (torch.export.load)"
        raise InputError(f"{quote(str(path))}: the name of an exported file ends in {known}.{hint(suffix, SUFFIXES)}")
    if target.is_dir():
        raise InputError(f"{quote(target)} is a folder: name a file in it.")
    if not target.absolute().parent.is_dir():
        raise InputError(f"{quote(target)}: the folder {quote(target.absolute().parent)} does not exist: make it first.")
    if suffix == ONNX:
        for package in ("onnx", "onnxscript"):
            require(package, extra="export", why="Writing ONNX")
    return target


def _check_preprocessing(preprocessing: object) -> None:
    if not (isinstance(preprocessing, bool) or (isinstance(preprocessing, str) and preprocessing == "pixels")):
        raise InputError(f"preprocessing must be True, False or 'pixels', not {preprocessing!r}.")


def _network(model: object) -> nn.Module:
    """The network itself, on the CPU, in float32 and in eval mode."""
    if isinstance(model, Classifier):
        model = model.model
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"export needs a Classifier or a torch.nn.Module, not {type(model).__name__}.")
    network = unwrapped(model)
    if network.training:
        raise StateError("export takes a network in eval mode: call model.eval(), or better torchbcos.deploy(model).")
    tensors = [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
    if all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors):
        return network
    return copy.deepcopy(network).to("cpu", torch.float32)


def _chosen(classifier: Classifier | None, targets: Any, top_k: object) -> tuple[tuple[int, ...] | None, int]:
    """The classes that are explained in every image, if they are the same for all, and K."""
    count = positive_integer(top_k)
    if count is None:
        raise InputError(f"top_k must be a positive integer, not {top_k!r}.")
    if isinstance(targets, bool) or targets is None:
        return None, count
    named = targets if classifier is None else classifier.class_index(targets)
    listed = np.asarray(named)
    if listed.dtype.kind not in "iu" or listed.ndim > 1 or not listed.size:
        raise InputError(f"targets must be True, False, or classes by name or index, not {shorten(repr(targets), 100)}.")
    if count != 1:
        raise InputError(f"top_k={count} goes with the highest classes, or with targets=True; named classes are counted.")
    classes = tuple(int(i) for i in listed.reshape(-1))
    return classes, len(classes)


def _examples(
    network: nn.Module, classifier: Classifier | None, preprocess: Preprocess | None, form: str, size: object, example: Any
) -> tuple[Tensor, Tensor]:
    """Inputs to record and check with: in the form of the file, and as `preprocess` encodes it (1, C, *S)."""
    if size is not None and example is not None:
        raise InputError("size and example both say how large images are: give one of them.")
    if classifier is None or preprocess is None:
        if not isinstance(example, Tensor):
            raise InputError("A network alone does not say what it takes: give example, an encoded batch (N, C, *S).")
        return example.detach().cpu().float(), example.detach().cpu().float()
    sides = _sides(classifier, size, example)
    generator = torch.Generator().manual_seed(0)
    bytes_ = torch.randint(0, 256, (1, preprocess.raw_channels, *sides), generator=generator, dtype=torch.uint8)
    numbers = bytes_.float() / 255
    x = preprocess.encode(numbers, 1)
    if form == "x":
        return x, x
    if form == "pixels":
        low, high = preprocess.value_range or (0.0, 1.0)
        return low + numbers * (high - low), x
    return bytes_[:, 0] if preprocess.raw_channels == 1 else bytes_.permute(0, 2, 3, 1).contiguous(), x


def _sides(classifier: Classifier, size: object, example: Any) -> tuple[int, ...]:
    """Sides of what the network sees, *S."""
    preprocess = classifier.transform
    axes, form = preprocess.axes, preprocess.form
    if example is not None:
        encoded = isinstance(example, Tensor) and example.dim() == axes + 2 and example.shape[1] == preprocess.channels
        return tuple((example if encoded else classifier.preprocess(example)).shape[2:])
    alone = positive_integer(size[0] if isinstance(size, (tuple, list)) and len(size) == 1 else size)
    if alone is not None:
        sides: tuple[int | None, ...] = (alone,) * axes
    elif isinstance(size, (tuple, list, torch.Size)):
        sides = tuple(positive_integer(side) for side in size)
    elif size is None and preprocess.crop is not None:
        sides = (preprocess.crop,) * axes
    elif size is None and (known := trained_sides(classifier.card, classifier.transform)) is not None:
        return known
    elif size is None:
        raise InputError(
            f"This classifier takes {form.words}, of any size, and a file takes one: say it, {_said(axes)}, or give an example."
        )
    else:
        sides = ()
    found = tuple(side for side in sides if side is not None)
    if len(found) != axes or len(sides) != axes:
        raise InputError(
            f"size must be a positive integer or {axes} of them, the sides of a {form.kind}, {_said(axes)}; got {size!r}."
        )
    if preprocess.crop is not None and found != (preprocess.crop,) * axes:
        raise InputError(f"This classifier cuts pictures to {preprocess.crop} x {preprocess.crop} pixels; size is {size!r}.")
    return found


def _said(axes: int) -> str:
    """How sizes are said, in a shell and in Python.

    >>> _said(3)
    '--size 16x32x32 (in Python size=(16, 32, 32))'
    """
    usual = {1: (1000,), 2: (64, 64)}.get(axes, (16, 32, 32))
    return f"--size {'x'.join(map(str, usual))} (in Python size={usual})"


def _ports(tensors: dict[str, Tensor]) -> tuple[Port, ...]:
    return tuple(Port(name, str(t.dtype).removeprefix("torch."), ("N", *t.shape[1:])) for name, t in tensors.items())


def _facts(classifier: Classifier | None, graph: ExplanationGraph, form: str, pixels: bool) -> str:
    """What whoever runs the file should know, as JSON; `pixels`: W belongs to these, not to encoded input."""
    known: dict[str, Any] = {
        "format": 1, "torchbcos": version_of("torchbcos"), "input": form, "outputs": list(NAMES),
        "constants": list(graph.constants), "explained": "pixels" if pixels else "encoded",
        "fixed": list(graph.fixed), "classes": None, "probability": None, "temperature": None, "preprocess": None,
        "card": None,
    }  # fmt: skip
    if classifier is not None:
        card = {key: value for key, value in classifier.card.to_dict().items() if key not in _LEFT_OUT}
        known |= {"classes": list(classifier.class_names), "probability": classifier.card.probability, "card": card}
        known |= {"temperature": classifier.card.temperature, "preprocess": classifier.transform.to_dict()}
    return json.dumps(finite_or_null(known), ensure_ascii=False, allow_nan=False)
