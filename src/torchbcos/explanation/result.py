"""What an explanation is: numbers that add up, and pictures of them.

Shapes: N images, K targets, C channels, *S space.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.habits import EXPLANATION, no_attribute
from torchbcos._core.numbers import integer
from torchbcos._core.probability import probabilities
from torchbcos.explanation import drawn
from torchbcos.explanation.arrays import save_arrays
from torchbcos.explanation.choice import chosen, joined, picked
from torchbcos.explanation.complete import unit_of, usual_tolerance
from torchbcos.explanation.origin import Origin
from torchbcos.explanation.proving import prove
from torchbcos.explanation.told import record_of
from torchbcos.pictures import Seen
from torchbcos.rendering import Caption, Whole, heatmap, rgba

__all__ = ["Explanation"]

_CANCELLED = 1e-3  # of the sum of magnitudes: a smaller sum is what is left when its terms cancel
_TENSORS = ("inputs", "outputs", "targets", "values", "weights", "contrast", "photos")  # one row an image, or None
_WORDS = ("titles", "seen", "originals")  # one an image, or none


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Explanation:
    """Exact explanations of N images and K targets each.

    Attributes:
        inputs: (N, C, *S) what the network saw.
        outputs: (N, classes) its outputs.
        targets: (N, K) int64 what was explained.
        contrast: (N, K) int64 or None; the explained value is output[target] - output[contrast].
        values: (N, K) the explained values.
        weights: (N, K, C, *S) rows of the dynamic linear map W(x).
        constants: name -> (N, K): the contribution of every constant, measured on its own.
        fixed: names of the constants that are the fixed logit bias.
        class_names: names of the classes, if known.
        at: the module whose output is explained, or None.
        probability: "sigmoid" or "softmax".
        temperature: of the card: divides the outputs for `probabilities` alone; None: 1.
        photos: (N, C', *S) in [0, 1], what panels show beside the explanation, or None.
        titles: what panels call each image (a file's name); empty or N of them.
        seen: what part of each picture the network looked at; empty or N of them.
        originals: whole pictures, which panels show in place of what the network saw; empty or N of them.
        tolerance: how far the numbers may miss the value for `complete`; None: as their dtype says.
        origin: the network and how it was asked, for `prove`; None: not known.
    """

    inputs: Tensor
    outputs: Tensor
    targets: Tensor
    values: Tensor
    weights: Tensor
    constants: dict[str, Tensor]
    contrast: Tensor | None = None
    fixed: tuple[str, ...] = ()
    class_names: Sequence[str] | None = None
    at: str | None = None
    probability: str = "sigmoid"
    temperature: float | None = None
    photos: Tensor | None = None
    titles: tuple[str, ...] = ()
    seen: tuple[Seen, ...] = ()
    originals: tuple[Whole, ...] = ()
    tolerance: float | None = None
    origin: Origin | None = None

    @property
    def contributions(self) -> Tensor:
        """(N, K, *S): `weights * inputs`, summed over channels."""
        return self._once("contributions", self._contributions)

    @property
    def total(self) -> Tensor:
        """(N, K): the sum of all contributions, what the pixels carry."""
        return self._once("total", lambda: self._sums().to(self.values.dtype))

    @property
    def residual(self) -> Tensor:
        """(N, K): value - contributions - constants; rounding, unless the model adds something unnamed."""
        return self._once("residual", self._residual)

    @property
    def share(self) -> Tensor:
        """(N, K): contributions.sum / (contributions.sum + all constants but the fixed logit bias).

        NaN where that sum is below a thousandth of the sum of its terms' magnitudes: where they cancel, a part means nothing.
        """
        terms = [self._sums(), *(c.to(self._wide) for name, c in self.constants.items() if name not in self.fixed)]
        whole, size = torch.stack(terms).sum(0), torch.stack(terms).abs().sum(0)
        cancelled = whole.abs() < _CANCELLED * size
        share = terms[0] / torch.where(cancelled | (whole == 0), torch.full_like(whole, math.nan), whole)
        return share.to(self.values.dtype)

    @property
    def complete(self) -> Tensor:
        """(N, K) bool: whether contributions and constants add up to the value, but for rounding.

        `|residual| <= tolerance · max(1, |value|, 0.1·(Σ|contributions| + Σ|constants|))`; the tolerance is 1e-9 in float64,
        1e-4 in float32, 5e-3 where float32 is multiplied as TF32, 5e-2 below. Where it is false, the network does something that
        its explanation does not know: a layer, or a rule of `register_rule`, says what is not so. That it is true proves no W:
        `torchbcos.testing.check_model` does.
        """
        return self._once("complete", self._complete)

    def _once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives, computed at the first use; each time anew where its graph may be freed by a backward pass."""
        if any(t.requires_grad for t in (self.inputs, self.values, self.weights)):
            return compute()
        key = f"_{name}_once"
        if key not in self.__dict__:
            with torch.inference_mode(False):  # what is kept must also serve callers outside inference mode
                self.__dict__[key] = compute()
        kept: Tensor = self.__dict__[key]
        return kept

    def _contributions(self) -> Tensor:
        # target by target: the products of a thousand targets need not stand in memory together
        return torch.stack([(w * self.inputs).sum(1) for w in self.weights.unbind(1)], 1)

    def _sums(self) -> Tensor:
        """`total` before it is rounded to the dtype of the values."""
        return self._once("sums", self._summed)

    def _summed(self) -> Tensor:
        inputs = self.inputs.flatten(1).to(self._wide)
        return torch.stack([(w.flatten(1).to(self._wide) * inputs).sum(1) for w in self.weights.unbind(1)], 1)

    @property
    def _wide(self) -> torch.dtype:
        return torch.float64 if self.weights.device.type != "mps" else torch.float32

    def _residual(self) -> Tensor:
        rest = self.values - self.total
        for constant in self.constants.values():
            rest = rest - constant.to(rest.dtype)
        return rest

    def _complete(self) -> Tensor:
        usual = usual_tolerance(self.inputs.dtype, self.values.dtype, self.weights.dtype)
        unit = unit_of(self.values, self.contributions, self.constants.values())
        return self.residual.detach().abs().to(unit.dtype) <= (usual if self.tolerance is None else self.tolerance) * unit

    @property
    def aside(self) -> Tensor:
        """(N, K): the sum of the fixed logit biases, which `share` leaves aside; zero in a contrast, where they cancel."""
        fixed = [self.constants[name] for name in self.fixed if name in self.constants]
        return torch.stack(fixed).sum(0) if fixed else torch.zeros_like(self.values)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, i: Any) -> Explanation:
        """The explanation of image `i`, with N = 1; of several for a slice, whole numbers or a mask of N booleans.

        Raises:
            InputError: there is no such image.
        """
        rows = chosen(i, len(self))
        words: dict[str, Any] = {n: picked(getattr(self, n), rows) for n in _WORDS}
        return dataclasses.replace(self._map(lambda t: t[rows]), **words)

    def __iter__(self) -> Iterator[Explanation]:
        return (self[i] for i in range(len(self)))

    def to(self, device: torch.device | str) -> Explanation:
        """All tensors on `device`."""
        return self._map(lambda t: t.to(device))

    def detach(self) -> Explanation:
        """Without the autograd graph that `create_graph` kept."""
        return self._map(Tensor.detach)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Explanation:
        tensors: dict[str, Any] = {n: None if getattr(self, n) is None else change(getattr(self, n)) for n in _TENSORS}
        return dataclasses.replace(self, **tensors, constants={k: change(v) for k, v in self.constants.items()})

    @staticmethod
    def join(parts: Sequence[Explanation]) -> Explanation:
        """One explanation of all images of several; photos and titles where each part has its own."""
        return dataclasses.replace(parts[0], **joined(parts, _TENSORS, _WORDS))

    def shown_with(
        self, *, photos: Tensor | Sequence[Any] | None = None, titles: Sequence[str] | None = None,
        seen: Sequence[Seen] | None = None, originals: Sequence[Any] | None = None,
    ) -> Explanation:  # fmt: skip
        """This explanation with photos, titles and remarks for its panels; None leaves what is there.

        Args:
            photos: N inputs as the network saw them, resized and cropped alike: a tensor (N, C, *S) in [0, 1] of any channels,
                or a sequence of PIL images, arrays with their channels last or tensors with their channels first.
            titles: N names, of files for example.
            seen: what part of each picture the network looked at, which stands below its photo.
            originals: N whole pictures, paths or PIL images say, for figures: panels show them in place of the input, with a
                frame around what the network looked at (`seen`). An empty sequence takes them away.

        Raises:
            InputError: not one for each image, or a photo of another size than the explained input.

        Example:
            `clf.explain("bus.jpg").shown_with(originals=["bus.jpg"]).save("figure.pdf")`
        """
        given = {"photos": photos, "titles": titles, "seen": seen, "originals": originals or None}
        for name, one in given.items():
            if one is not None and (isinstance(one, str) or len(one) != len(self)):
                raise InputError(f"{name}: give one for each of the {len(self)} explained images, not {len(one)} of {type(one)}.")
        changed: dict[str, Any] = {n: tuple(w) for n, w in (("titles", titles), ("seen", seen)) if w is not None}
        if photos is not None:
            changed["photos"] = drawn.photos_of(self, photos)
        if originals is not None:
            looked = changed.get("seen", self.seen)
            changed["originals"] = tuple(drawn.original_of(p, looked[i] if looked else None) for i, p in enumerate(originals))
        return dataclasses.replace(self, **changed)

    # -- words and numbers --------------------------------------------------------------------

    def label(self, index: int) -> str:
        """The name of a class or channel."""
        if self.at is not None:
            return f"{self.at}[{index}]"
        if self.class_names is not None and 0 <= index < len(self.class_names):
            return self.class_names[index]
        return f"class {index}"

    def probabilities(self) -> Tensor:
        """(N, classes): the outputs as probabilities, as the model's card says."""
        outputs = self.outputs.detach().float()
        return probabilities(outputs, self.probability, self.temperature)

    def to_dict(self) -> dict[str, Any]:
        """All numbers but the maps, ready for JSON: no tensors, and None for what is not a number.

        Returns:
            {"explanations": per image a list, per target a dict with index, label, value,
            contribution, constants, aside, residual, complete, share; "contrast" where there is one}.
        """
        return {"at": self.at, "explanations": [[record_of(self, i, k) for k in range(self.targets.shape[1])]
                                                 for i in range(len(self))]}  # fmt: skip

    # -- pictures -----------------------------------------------------------------------------

    def rgba(self, i: int = 0, k: int = 0, smooth: int = 15, percentile: float = 99.5) -> np.ndarray:
        """The paper's picture of W: float32 (H, W, 4) in [0, 1]; see `torchbcos.rendering.rgba`.

        For six encoded channels, and in tones of grey for the two of a grey picture.
        """
        i, k = self._place(i, k)
        return rgba(self.weights[i, k].detach(), self.inputs[i].detach(), smooth=smooth, percentile=percentile)

    def heatmap(self, i: int = 0, k: int = 0, *, slices: Sequence[int] | None = None, axis: int = 0) -> np.ndarray:
        """The signed contribution map: float32 (H, W, 3).

        Args:
            i, k: which image, which target.
            slices: of a volume, which slices; None: the 16 that carry most.
            axis: of a volume, the space axis that is cut into slices.

        Raises:
            InputError: there is no such image, target, slice or axis.
        """
        i, k = self._place(i, k)
        return heatmap(self.contributions[i, k].detach(), slices=slices, axis=axis)

    def panel(
        self, i: int = 0, k: int = 0, *, slices: Sequence[int] | None = None, axis: int = 0,
        channels: Sequence[int] | None = None, spacing: Sequence[float] | float | None = None, scale: float = 1,
    ) -> Image.Image:  # fmt: skip
        """Input, picture, signed map and overlay, with names, share and residual; without a photo no input.

        Encoded inputs show their own photo; pictures and volumes of other numbers need one (`shown_with`). A signal is drawn as
        traces over an axis, a volume as numbered slices: those that carry most.

        Args:
            i, k: which image, which target.
            slices: of a volume, which slices; None: the 8 that carry most, or 16 where there is no input.
            axis: of a volume, the space axis that is cut into slices.
            channels: of a signal, which channels; None: the 8 that carry most.
            spacing: the distance of samples along each axis of space, seconds of a signal, millimetres of a scan; None: what the
                scan's file says.
            scale: at 2 all is drawn with twice the pixels, for print.

        Raises:
            InputError: there is no such image, target, slice, axis or channel, or a number is out of range.
        """
        i, k = self._place(i, k)
        return drawn.panel_of(self, i, k, slices=slices, axis=axis, channels=channels, spacing=spacing, scale=scale)

    def save(
        self, path: str | Path, i: int = 0, k: int = 0, *, slices: Sequence[int] | None = None, axis: int = 0,
        dpi: float | None = None, scale: float | None = None,
    ) -> Path:  # fmt: skip
        """Write the panel to `path` (.png, .jpg, .webp or .pdf); nothing is left half-written.

        Args:
            path: of the file.
            i, k: which image, which target.
            slices, axis: of a volume, as `panel` takes them.
            dpi: dots an inch, for print; None: not said, and 300 in a PDF.
            scale: pixels a unit; None: 1, and 2 where `dpi` is 200 or more or the file is a PDF, so that print is sharp.

        Raises:
            InputError: unknown file type, or a number out of range.
            StateError: the file could not be written.
        """
        i, k = self._place(i, k)
        return drawn.save(self, i, k, Path(path), dpi, scale, slices=slices, axis=axis)

    def save_all(
        self, folder: str | Path, *, suffix: str = ".png", dpi: float | None = None, scale: float | None = None
    ) -> list[Path]:  # fmt: skip
        """Write the panels of all images and targets into a folder, which is made if need be; image by image.

        Their names are made of titles and classes as `torchbcos explain` makes them, and no two are alike: "bus.jpg.tench.png".
        Files of these names are replaced.

        Args:
            folder: where they go.
            suffix: ".png", ".jpg", ".webp" or ".pdf".
            dpi, scale: as `save` takes them.

        Returns:
            The paths, N times K.

        Raises:
            InputError: unknown suffix, or a number out of range.
            StateError: the folder cannot be made, or a file not written.
        """
        return drawn.save_all(self, Path(folder), suffix, dpi, scale)

    def save_arrays(self, path: str | Path) -> Path:
        """Write all numbers to one `.npz` file that `numpy.load` reads without pickle and without this library.

        Arrays: "inputs" (N, C, *S), "weights" (N, K, C, *S), "contributions" (N, K, *S), "outputs" (N, classes), "targets",
        "values", "residual", "share" (N, K), "constants" (M, N, K) with their names in "constant_names" (M,), which of them are
        fixed biases in "fixed", "labels" (N, K) and, where there are any, "contrast", "titles", "class_names" and "photos".
        bfloat16, which numpy does not have, becomes float32.

        Raises:
            InputError: the path does not end with .npz.
            MissingFileError: there is no such folder.
            StateError: the file could not be written; an earlier one is as it was.
        """
        return save_arrays(self, Path(path))

    def prove(self, path: str | Path, i: int = 0, k: int = 0, *, picture: str | Path | None = None) -> Path:
        """Write a small file with which others can check this explanation: `torchbcos.verify`, `torchbcos verify FILE`.

        It holds what was explained, the map of contributions in half precision, all constants by name, and hashes of weights,
        card and input, but neither the network nor the picture. docs/how-to/proofs.md says what it shows, and what it cannot.

        Args:
            path: of the file, "bus.proof.json" say; an earlier one is replaced.
            i, k: which image, which target.
            picture: the picture's file, whose hash goes into the proof.

        Raises:
            InputError: there is no such image or target, or an inner feature was explained.
            MissingFileError: there is no such folder, or no such picture.
            StateError: the network is gone, or was changed since; or the file could not be written.
        """
        i, k = self._place(i, k)
        return prove(self, Path(path), i, k, None if picture is None else Path(picture))

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: the panel, or the first of several below each other, and how many there are."""
        return drawn.notebook(self)

    def __repr__(self) -> str:
        return drawn.summary(self)

    if not TYPE_CHECKING:  # type checkers know what there is

        def __getattr__(self, name: str) -> NoReturn:
            raise no_attribute("An Explanation", name, EXPLANATION, [*dir(type(self)), *vars(self)])

    def _place(self, i: int, k: int) -> tuple[int, int]:
        count, image, target = self.targets.shape[1], integer(i), integer(k)
        if image is None or target is None or not -len(self) <= image < len(self) or not -count <= target < count:
            raise InputError(f"There are {len(self)} images with {count} targets each; there is no ({i!r}, {k!r}).")
        return image % len(self), target % count

    def _caption(self, i: int, k: int) -> Caption:
        return drawn.caption_of(self, i, k)
