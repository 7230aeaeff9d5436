"""Arrays and tensors as pictures: what is taken, and what is refused with its remedy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.pictures.samples import FEW, SLACK, Range, Samples, range_note, range_words

__all__ = ["array_note", "as_numbers", "check_tensor", "from_array"]

_MUCH_WIDER = 16  # than [0, 1]
_LOOKED = 2**18  # numbers of an array that are looked at


def check_tensor(tensor: Tensor, name: str = "image", value_range: Range | None = None) -> Tensor:
    """`tensor` as float32, if it is a picture: (3, H, W), floating point, every value in [0, 1].

    What resampling puts beyond by no more than `SLACK` is cut. With a range numbers of any real dtype are brought to [0, 1] and
    cut there first; this is differentiable.

    Raises:
        InputError: it is not; the message says how to make it one.

    >>> check_tensor(torch.ones(3, 1, 1, dtype=torch.float64)).dtype
    torch.float32
    """
    shape = tuple(tensor.shape)
    if value_range is not None:
        tensor = _scaled(tensor, name, value_range)
    if not tensor.is_floating_point():
        fix = f" Use {name}.float() / 255." if tensor.dtype == torch.uint8 else ""
        raise InputError(f"{name} must be a float tensor with values in [0, 1], got {tensor.dtype}.{fix}")
    if tensor.dim() != 3 or shape[0] != 3:
        raise InputError(f"{name} must have shape (3, H, W), got {shape}.{_shape_help(shape)}")
    if 0 in shape:
        raise InputError(f"{name} has no pixels: its shape is {shape}.")
    low, high = (float(v) for v in torch.aminmax(tensor.detach().float()))
    if low != low or high != high:
        raise InputError(f"{name} holds NaN; a picture's values lie in [0, 1].")
    if low < -SLACK or high > 1 + SLACK:
        fix = " Divide by 255." if low >= 0 and 1.5 < high <= 255 else " Undo its normalisation, or clamp it."
        raise InputError(f"{name} has values from {low:.7g} to {high:.7g}; a picture's lie in [0, 1].{fix}")
    tensor = tensor.to(torch.float32)
    return tensor.clamp(0, 1) if low < 0 or high > 1 else tensor


def _shape_help(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[-1] == 3:
        return " Channels come first: use .permute(2, 0, 1)."
    if len(shape) == 2 or (len(shape) == 3 and shape[0] == 1):
        return " Repeat a grey picture three times: .expand(3, -1, -1)."
    if len(shape) == 3 and shape[0] == 4:
        return " Leave out its alpha channel: [:3]."
    if len(shape) == 3 and shape[0] == 6:
        return " Is it encoded already? Then give it to the network or to torchbcos.explain."
    return ""


def _scaled(tensor: Tensor, name: str, value_range: Range) -> Tensor:
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise InputError(f"{name} must be a tensor of numbers, got {tensor.dtype}.")
    low, high = value_range
    wide = tensor if tensor.is_floating_point() else tensor.double()
    return ((wide - low) / (high - low)).clamp(0, 1)  # NaN stays, to be found


def as_numbers(values: NDArray[Any] | Tensor, name: str, value_range: Range | None = None) -> Tensor:
    """Numbers of any shape as float32 in [0, 1]; the same to the bit, whether an array or a tensor holds them.

    Floats and truth values lie in [0, 1] already (what resampling puts beyond by no more than `SLACK` is cut), bytes (uint8) are
    divided by 255; whatever has a range is brought to it, and cut. Differentiable.

    Raises:
        InputError: they are no real numbers, none at all, NaN or infinite, or nothing says which become 0 and 1.

    >>> as_numbers(np.array([0, 51, 255], np.uint8), "a"), as_numbers(torch.tensor([0, 4095]), "a", (0, 4095))
    (tensor([0.0000, 0.2000, 1.0000]), tensor([0., 1.]))
    """
    kind = values.dtype.kind if isinstance(values, np.ndarray) else ("c" if values.is_complex() else "f")
    if kind not in "fiub":
        raise InputError(f"{name} contains {values.dtype}; supported: real numbers.")
    _check_dense(values, name)
    if 0 in values.shape:
        raise InputError(f"{name} contains {values.dtype} of shape {tuple(values.shape)}: it is empty.")
    byte = values.dtype in (np.uint8, torch.uint8)
    low, high = value_range or ((0.0, 255.0) if byte else (0.0, 1.0))
    wide = _wide(values, exact=value_range is not None)
    first, last = (float(v) for v in torch.aminmax(wide.detach()))
    if not (math.isfinite(first) and math.isfinite(last)):
        raise InputError(f"{name} holds NaN or infinity.")
    if value_range is None and (first < low - SLACK or last > high + SLACK):
        whole = kind in "iu" or (isinstance(values, Tensor) and not values.is_floating_point())
        top = 2.0 ** int(last).bit_length() - 1 if whole and first >= 0 else last
        fix = " Undo their normalisation, if there was one." if first < 0 else ""
        if not whole and first >= 0 and 1.5 < last <= 255:
            fix = " Divide them by 255, if they were bytes."
        raise InputError(
            f"{name} holds numbers from {first:g} to {last:g}: bring them to [0, 1], all files by the same scale, or write bytes "
            f"(uint8), which are divided by 255.{fix} Or say which become 0 and 1: {range_words(min(first, 0), top)}."
        )
    return ((wide.clamp(low, high) - low) / (high - low)).float()


def array_note(
    values: NDArray[Any] | Tensor, name: str, value_range: Range | None = None, *, stored: bool = False
) -> str | None:  # fmt: skip
    """What a user should hear of numbers that `as_numbers` takes: that nearly all lie outside their range, say; None of most.

    Args:
        values: any number of axes.
        name: what the sentence calls them.
        value_range: the numbers that become 0 and 1.
        stored: they are a file's, of which one number all over is said, too.

    >>> array_note(np.full(99, 0.5), "It", stored=True)
    'It holds one number all over, 0.5.'
    """
    some = values.reshape(-1) if isinstance(values, np.ndarray) else values.detach().reshape(-1)
    if isinstance(some, Tensor) and not some.is_floating_point():
        some = some.cpu().numpy()  # torch compares no unsigned numbers of 16 bits
    low, high = float(some.min()), float(some.max())
    if low == high:
        return f"{name} holds one number all over, {low:g}." if stored and len(some) >= FEW else None
    if value_range is None and isinstance(some, np.ndarray) and some.dtype.kind != "f":
        return None  # bytes and truth values may be dark
    floats = isinstance(some, Tensor) or some.dtype.kind == "f"
    if value_range is not None and floats and low >= 0 and high <= 1 and value_range[1] - value_range[0] >= _MUCH_WIDER:
        return (
            f"{name} holds floats from {low:.3g} to {high:.3g}, the darkest sixteenth of the range from {value_range[0]:g} to "
            f"{value_range[1]:g}. If they are scaled already, say value_range=(0, 1)."
        )
    some = some[:: max(1, len(some) // _LOOKED) | 1]
    looked = some if isinstance(some, np.ndarray) else some.float().cpu().numpy()
    return range_note(np.append(looked.astype(np.float64), (low, high)), name, value_range)


def _check_dense(values: NDArray[Any] | Tensor, name: str) -> None:
    """Refuse what holds no number in each place."""
    if isinstance(values, np.ndarray):
        if np.ma.is_masked(values):
            raise InputError(f"{name} is an array of which some numbers are masked: say what they are, with its filled(0), say.")
    elif values.layout != torch.strided or values.is_quantized or values.is_meta:
        what = "without numbers (meta)" if values.is_meta else "of a packed kind"
        raise InputError(f"{name} is a tensor {what}: give ordinary numbers, x.to_dense() or x.dequantize() say.")


def _wide(values: NDArray[Any] | Tensor, *, exact: bool) -> Tensor:
    """Floats that hold the numbers: of 64 bits where they have as many, or 32 and a range that may lie far from 0."""
    wide = values.dtype.itemsize > (2 if exact else 4)
    if isinstance(values, np.ndarray):
        with np.errstate(all="ignore"):  # NaN and infinity are refused when all is seen
            return torch.from_numpy(np.array(values, np.float64 if wide else np.float32, order="C"))
    return values.to(torch.float64 if wide and values.device.type != "mps" else torch.float32)  # Apple's chips have no 64 bits


def from_array(array: NDArray[Any], name: str, value_range: Range | None = None) -> tuple[Image.Image, str | None]:
    """An RGB image of an array (H, W) or (H, W, 3): uint8, or any real numbers within a range; and a word on them, if one is due.

    Raises:
        InputError: another dtype or shape; the message says how to make it one.

    >>> from_array(np.array([[0, 4095]], np.uint16), "a", (0, 4095))[0].getpixel((1, 0))
    (255, 255, 255)
    """
    if array.dtype != np.uint8 and (value_range is None or array.dtype.kind not in "uif"):
        wide = " Say which numbers are black and white: value_range=(0, 65535), or (0, 4095) for 12 bits."
        fixes = {"f": " Use (255 * a).round().astype('uint8'). Or say value_range=(0, 1).", "b": " Use a.astype('uint8') * 255."}
        fix = wide if array.dtype.kind in "ui" else fixes.get(array.dtype.kind, "")
        raise InputError(f"{name} must be a uint8 array with values 0 to 255, got {array.dtype}.{fix}")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        fix = " Channels come last: use a.transpose(1, 2, 0)." if array.ndim == 3 and array.shape[0] == 3 else ""
        if array.ndim == 3 and array.shape[2] == 4:
            fix = " For an alpha channel give PIL.Image.fromarray(a)."
        if array.ndim == 3 and array.shape[2] == 1:
            fix = " Use a[..., 0]."
        raise InputError(f"{name} must have shape (H, W) or (H, W, 3), got {array.shape}.{fix}")
    if array.size == 0:
        raise InputError(f"{name} has no pixels: its shape is {array.shape}.")
    note = None
    if value_range is not None:
        samples = Samples(array.dtype.kind, 8 * array.dtype.itemsize, value_range)
        array, note = samples.to_bytes(array), samples.judge(name)
    image = Image.fromarray(array)  # of three channels it is a copy; of grey it may point at the caller's memory
    return image if image.mode == "RGB" else image.convert("RGB"), note
