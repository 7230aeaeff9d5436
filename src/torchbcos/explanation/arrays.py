"""The numbers of an explanation as one file that numpy alone can read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError, StateError
from torchbcos._core.files import replacing
from torchbcos._core.names import quote

if TYPE_CHECKING:
    from torchbcos.explanation.result import Explanation

__all__ = ["arrays_of", "save_arrays"]

_NUMBERS = ("inputs", "weights", "contributions", "outputs", "targets", "values", "residual", "share", "contrast", "photos")


def save_arrays(e: Explanation, path: Path) -> Path:
    """Write `.npz`; see `Explanation.save_arrays`."""
    if path.suffix.lower() != ".npz":
        raise InputError(f"Arrays are written as .npz, and {quote(path)} does not end so.")
    if not path.parent.is_dir():
        raise MissingFileError(f"The folder {quote(path.parent)} does not exist; make it before saving there.")
    arrays = arrays_of(e)
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StateError(f"Could not write {quote(path)}: {reason}. Nothing was left behind.") from error
    return path


def arrays_of(e: Explanation) -> dict[str, NDArray[Any]]:
    """The arrays of `Explanation.save_arrays`, by name."""
    numbers = {name: getattr(e, name) for name in _NUMBERS}
    arrays = {name: _array(tensor) for name, tensor in numbers.items() if tensor is not None}
    constants = [_array(c) for c in e.constants.values()]
    arrays["constants"] = np.stack(constants) if constants else np.zeros((0, *e.values.shape), arrays["values"].dtype)
    arrays["constant_names"], arrays["fixed"] = _text(e.constants), _text(e.fixed)
    arrays["labels"] = _text([e.label(int(c)) for c in e.targets.flatten()]).reshape(tuple(e.targets.shape))
    for name, words in (("titles", e.titles), ("class_names", e.class_names)):
        if words:
            arrays[name] = _text(words)
    return arrays


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _text(words: Any) -> NDArray[Any]:
    """Letters of fixed width: an array of objects would need pickle."""
    return np.array(list(words), dtype=np.str_)
