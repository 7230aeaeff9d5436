"""SqueezeNet 1.1 of the package `ndf` (MIT): a classifier whose weights are a pickle of arrays, and a way to read it safely.

A pickle is a program. This one is read by a machine that knows three words, all of them ours: an array, its type, and how one
begins. Whatever else a file asks for is refused by name, before anything of it is called.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.squeezenet import Fire, SqueezeNet

__all__ = ["MEAN", "STD", "network", "read_arrays", "state_of"]

# of the pictures that it was trained on (BGR, 0 to 255, of Caffe), as numbers of RGB pictures in [0, 1]
MEAN = (122.679 / 255, 116.669 / 255, 104.006 / 255)
STD = (1 / 255,) * 3

_LARGEST = 2**25  # bytes of a file, and of an array
_KINDS = {("f4", "<"): "<f4", ("f8", "<"): "<f8"}
_LAYERS = {"conv1": "features.0", "conv10": "classifier.1"}
_FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}  # where torchvision has them


class _Type:
    """Stands for `numpy.dtype`: it keeps the letters of a type."""

    def __init__(self, letters: object = None, align: object = None, copy: object = None) -> None:
        self.letters, self.order = letters, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Array:
    """Stands for `numpy.ndarray`: shape, type, order and bytes as the file says them."""

    values: np.ndarray[Any, Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Type) or (kind.letters, kind.order) not in _KINDS:
            raise ValueError("an array whose type is not float32 or float64")
        if not isinstance(data, bytes) or len(data) > _LARGEST or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError("an array that is not a plain one")
        values = np.frombuffer(data, _KINDS[kind.letters, kind.order])
        if values.size != math.prod(shape):
            raise ValueError("an array whose bytes do not fill its shape")
        self.values = values.reshape(shape, order="F" if fortran else "C")


def _begun(kind: object, shape: object, letter: object) -> _Array:
    """Stands for `numpy.core.multiarray._reconstruct`, which makes an array that gets its numbers afterwards."""
    return _Array()


_WORDS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _begun,
    ("numpy._core.multiarray", "_reconstruct"): _begun,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _WORDS:
            raise ValueError(f"it asks for {module}.{name}"[:200])
        return _WORDS[module, name]


def read_arrays(path: Path) -> dict[str, list[Tensor]]:
    """The arrays of a pickle {name: [array, ...]}, which can neither import nor call anything but arrays of numbers.

    Raises:
        ValueError: the file is larger than 32 MiB, asks for anything else, or does not hold such arrays.
    """
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name} is refused: it is larger than 32 MiB.")
    try:
        with path.open("rb") as file:
            found = _Reader(file).load()
        if not isinstance(found, dict) or not all(
            isinstance(name, str) and isinstance(arrays, list) and all(isinstance(one, _Array) for one in arrays)
            for name, arrays in found.items()
        ):
            raise ValueError("it is not a table of arrays")
        if sum(one.values.nbytes for arrays in found.values() for one in arrays) > _LARGEST:
            raise ValueError("its arrays are larger than 32 MiB together")
        return {name: [torch.from_numpy(one.values.astype(np.float32)) for one in arrays] for name, arrays in found.items()}
    except Exception as error:  # a file that is not what it should be fails in any way it likes
        raise ValueError(f"{path.name} is refused as a pickle of arrays: {error}"[:500]) from None


def state_of(arrays: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """The weights under torchvision's names and in its layout, for RGB pictures.

    Args:
        arrays: (H, W, C, O) and (O,) of each layer; the first one takes BGR.

    Raises:
        ValueError: layers are missing, or there are others.
    """
    names = dict(_LAYERS)
    for number, place in _FIRES.items():
        names |= {f"fire{number}/{part}": f"features.{place}.{part.replace('1x1', '') if part == 'squeeze1x1' else part}"
                  for part in ("squeeze1x1", "expand1x1", "expand3x3")}  # fmt: skip
    if set(arrays) != set(names) or any([one.dim() for one in pair] != [4, 1] for pair in arrays.values()):
        raise ValueError("These are not the 26 layers of SqueezeNet 1.1, a filter bank and a bias each.")
    state = {}
    for name, (weight, bias) in arrays.items():
        turned = weight.permute(3, 2, 0, 1)
        turned = turned.flip(1) if name == "conv1" else turned
        state |= {f"{names[name]}.weight": turned.contiguous(), f"{names[name]}.bias": bias}
    return state


def network(path: Path) -> nn.Module:
    """torchvision's SqueezeNet 1.1 with the weights of a file, as wide as these are, in eval mode.

    It takes RGB pictures in [0, 1] after `(x - MEAN) / STD`.
    """
    state = state_of(read_arrays(path))
    model = SqueezeNet("1_1", num_classes=len(state["classifier.1.bias"]))

    def widths(name: str) -> tuple[int, int]:
        outputs, inputs, _, _ = state[f"{name}.weight"].shape
        return inputs, outputs

    model.features[0] = nn.Conv2d(*widths("features.0"), 3, 2)
    for place in _FIRES.values():
        parts = [widths(f"features.{place}.{part}") for part in ("squeeze", "expand1x1", "expand3x3")]
        model.features[place] = Fire(*parts[0], parts[1][1], parts[2][1])
    model.classifier[1] = nn.Conv2d(*widths("classifier.1"), 1)
    model.load_state_dict(state)
    return model.eval()
