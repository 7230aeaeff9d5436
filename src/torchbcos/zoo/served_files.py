"""A served network as a file: written beside its place, run there, compared with `explain`, and only then put into place."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from torchbcos._core.errors import BcosError, MissingPackageError, StateError, shorten
from torchbcos._core.files import replacing
from torchbcos._core.names import quote
from torchbcos._core.optional import require
from torchbcos.explanation.graph import NAMES, compare_at, several
from torchbcos.zoo.served import Served

__all__ = ["FACTS", "ONNX", "SUFFIXES", "write"]

FACTS = "torchbcos"  # the key of the facts in the metadata of an ONNX file; with ".json" their name in a .pt2
ONNX, _PT2 = SUFFIXES = (".onnx", ".pt2")
_CHECKED = (1, 3)  # numbers of images
_MOST_BYTES = 2**31 - 2**25  # of weights in an ONNX file, which cannot be larger than 2 GiB

_AS_PT2 = "A .pt2 file takes layers that have no form in ONNX. "
_NO_RUN = f"onnxruntime cannot run the file that torch.onnx.export of torch {torch.__version__} wrote"

_Run = Callable[[dict[str, Tensor]], tuple[Tensor, ...]]


def write(served: Served, network: nn.Module, raw: Tensor, target: Path, facts: str) -> tuple[int, tuple[str, ...]]:
    """Write the file, whole or not at all.

    Args:
        served: what it computes.
        network: of which it must give the explanations.
        raw: an input (1, ...) in the form of the file.
        target: the file; its folder exists.
        facts: JSON that it holds, too.

    Returns:
        Its bytes, and in which runtimes it was compared with `explain`.

    Raises:
        StateError: it cannot be exported or written, or gives other numbers.
    """
    portable = target.suffix.lower() == ONNX
    runtimes = ["torch"]
    try:
        with replacing(target) as partial, _quiet():
            run = (_write_onnx if portable else _write_pt2)(served, served.arguments(several(raw, 2)), partial, facts)
            _check(run, served, network, raw, "The exported network")
            if portable and (onnxruntime := _onnxruntime()) is not None:
                _check(_running(onnxruntime, partial), served, network, raw, "In onnxruntime the file")
                runtimes.append("onnxruntime")
            return partial.stat().st_size, tuple(runtimes)
    except OSError as error:
        raise StateError(f"Could not write {quote(target)}: {error.strerror or error}.") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters print for those who write operations: errors say it. Nothing is recorded in inference mode."""
    handlers = list(logging.getLogger("torch").handlers)
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _write_pt2(served: Served, arguments: dict[str, Tensor], path: Path, facts: str) -> _Run:
    """A program of torch.export; returns what runs it."""
    count = torch.export.Dim("N")
    with _refusing(f"torch.export of torch {torch.__version__} cannot export this network"):
        shapes = {name: {0: count} for name in arguments}
        program = torch.export.export(served, tuple(arguments.values()), dynamic_shapes=shapes)
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={f"{FACTS}.json": facts})
        module = program.module()
    path.write_bytes(file.getbuffer())

    def run(given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        found = module(*given.values())
        return tuple(found[name] for name in NAMES)

    return run


def _write_onnx(served: Served, arguments: dict[str, Tensor], path: Path, facts: str) -> _Run:
    """An ONNX model; returns what computes the same in torch."""
    size = sum(t.numel() * t.element_size() for t in served.state_dict().values())
    if size > _MOST_BYTES:
        raise StateError(f"An ONNX file holds 2 GiB at most, and these weights take {size / 2**30:.1f}: write a .pt2 file.")
    with _refusing(f"torch.onnx.export of torch {torch.__version__} cannot export this network", _AS_PT2):
        program = torch.onnx.export(
            served, tuple(arguments.values()), dynamo=True, verbose=False, optimize=False,  # runtimes do that, in less time
            input_names=list(arguments), output_names=list(NAMES),
            dynamic_shapes={name: {0: "N"} for name in arguments},
        )  # fmt: skip
        if program is None:
            raise StateError("torch.onnx.export of this torch gives no program: use torch 2.6 or later.")
        program.model.metadata_props[FACTS] = facts
        program.save(str(path), external_data=False)

    def run(given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        found = served(**given)
        return tuple(found[name] for name in NAMES)

    return run


@contextlib.contextmanager
def _refusing(what: str, instead: str = "") -> Iterator[None]:
    """Turn whatever an exporter raises into one sentence; errors of writing pass."""
    try:
        yield
    except (BcosError, OSError):
        raise
    except Exception as error:
        cause = error.__cause__ or error
        reason = shorten(" ".join(str(cause).split()) or type(cause).__name__, 200).rstrip(".")
        raise StateError(f"{what}: {reason}. {instead}Export is tested with torch 2.14.") from error


def _onnxruntime() -> object | None:
    try:
        return require("onnxruntime", extra="export", why="Running ONNX")
    except MissingPackageError:
        return None


def _running(onnxruntime: object, path: Path) -> _Run:
    """What runs an ONNX file."""
    with _refusing(_NO_RUN, _AS_PT2):
        options = onnxruntime.SessionOptions()  # type: ignore[attr-defined]
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])  # type: ignore[attr-defined]

    def run(given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        with _refusing(_NO_RUN, _AS_PT2):
            found = session.run(list(NAMES), {name: value.numpy() for name, value in given.items()})
        return tuple(torch.from_numpy(array) for array in found)

    return run


def _check(run: _Run, served: Served, network: nn.Module, raw: Tensor, what: str) -> None:
    """Raise StateError where other numbers come out than those of `explain`, for any of some numbers of images."""
    for count in _CHECKED:
        given = served.arguments(several(raw, count, shifted=True))
        try:
            compare_at(network, served.encoded(given[served.form]), run(given), highest=not served.recorded.given)
        except BcosError as error:
            raise StateError(f"{what} does not compute what it should, for {count} images: {error}") from error
