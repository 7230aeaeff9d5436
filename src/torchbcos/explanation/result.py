"""What an explanation is: numbers that add up, and pictures of them.

Shapes: N images, K targets, C channels, *S space.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos._core.numbers import integer
from torchbcos._core.probability import probabilities
from torchbcos.pictures import Seen
from torchbcos.rendering import Caption, heatmap, panel, photo, rgba, save_png, sheet, undrawable

__all__ = ["Explanation"]

_CANCELLED = 1e-3  # of the sum of magnitudes: a smaller sum is what is left when its terms cancel
_TENSORS = ("inputs", "outputs", "targets", "values", "weights", "contrast", "photos")  # one row an image, or None
_MOST_PANELS = 6  # in a notebook


@dataclass(frozen=True, kw_only=True, eq=False)
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
        photos: (N, 3, H, W) in [0, 1], what panels show beside the explanation, or None.
        titles: what panels call each image (a file's name); empty or N of them.
        seen: what part of each picture the network looked at; empty or N of them.
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
    photos: Tensor | None = field(default=None, repr=False)
    titles: tuple[str, ...] = ()
    seen: tuple[Seen, ...] = ()

    @property
    def contributions(self) -> Tensor:
        """(N, K, *S): `weights * inputs`, summed over channels."""
        return self._once("contributions", self._contributions)

    @property
    def total(self) -> Tensor:
        """(N, K): the sum of all contributions, what the pixels carry."""
        return self._once("total", self._total)

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

    def _total(self) -> Tensor:
        return self._sums().to(self.values.dtype)

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

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, i: int) -> Explanation:
        """The explanation of image `i`, with N = 1."""
        place = integer(i)
        if place is None or not -len(self) <= place < len(self):
            raise InputError(f"There are {len(self)} explained images; {i!r} is not one of them.")
        start = place % len(self)
        return dataclasses.replace(
            self._map(lambda t: t[start : start + 1]), titles=self.titles[start : start + 1], seen=self.seen[start : start + 1]
        )

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
        present = {n: [getattr(p, n) for p in parts] for n in _TENSORS}
        joined: dict[str, Any] = {n: None if any(t is None for t in ts) else torch.cat(ts) for n, ts in present.items()}
        keys = list(dict.fromkeys(k for p in parts for k in p.constants))
        constants = {k: torch.cat([p.constants.get(k, torch.zeros_like(p.values)) for p in parts]) for k in keys}
        return dataclasses.replace(
            parts[0], **joined, constants=constants, fixed=tuple(dict.fromkeys(k for p in parts for k in p.fixed)),
            titles=tuple(t for p in parts for t in p.titles) if all(p.titles for p in parts) else (),
            seen=tuple(t for p in parts for t in p.seen) if all(p.seen for p in parts) else (),
        )  # fmt: skip

    def shown_with(
        self, *, photos: Tensor | Sequence[Any] | None = None, titles: Sequence[str] | None = None,
        seen: Sequence[Seen] | None = None,
    ) -> Explanation:  # fmt: skip
        """This explanation with photos, titles and remarks for its panels; None leaves what is there.

        Args:
            photos: N pictures as the network saw them, resized and cropped alike: a tensor (N, 3, H, W) in [0, 1], or a
                sequence of PIL images, (H, W, 3) arrays or (3, H, W) tensors.
            titles: N names, of files for example.
            seen: what part of each picture the network looked at, which stands below its photo.

        Raises:
            InputError: not one for each image, or a photo of another size than the explained input.
        """
        for name, given in (("photos", photos), ("titles", titles), ("seen", seen)):
            if given is not None and (isinstance(given, str) or len(given) != len(self)):
                raise InputError(
                    f"{name}: give one for each of the {len(self)} explained images, not {len(given)} of {type(given)}."
                )
        words: dict[str, Sequence[Any] | None] = {"titles": titles, "seen": seen}
        changed: dict[str, Any] = {name: tuple(given) for name, given in words.items() if given is not None}
        if photos is not None:
            shown = photos if isinstance(photos, Tensor) else _stacked(photos)
            if shown.shape[1:] != (3, *self.inputs.shape[2:]) or not shown.is_floating_point():
                size = " x ".join(map(str, self.inputs.shape[2:]))
                raise InputError(
                    f"photos must be floats (N, 3, H, W) of the explained size, {size}, as the network saw them, resized and "
                    f"cropped; got {tuple(shown.shape)} of {shown.dtype}."
                )
            changed["photos"] = shown.detach().to(device=self.inputs.device, dtype=torch.float32).clamp(0, 1)
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
            contribution, constants, residual, share; "contrast" where there is one}.
        """
        return {"at": self.at, "explanations": [[self._record(i, k) for k in range(self.targets.shape[1])]
                                                 for i in range(len(self))]}  # fmt: skip

    def _record(self, i: int, k: int) -> dict[str, Any]:
        index = int(self.targets[i, k])
        record: dict[str, Any] = {
            "index": index,
            "label": self.label(index),
            "value": _number(self.values[i, k]),
            "contribution": _number(self.total[i, k]),
            "constants": {name: _number(c[i, k]) for name, c in self.constants.items()},
            "residual": _number(self.residual[i, k]),
            "share": _number(self.share[i, k]),
        }
        if self.contrast is not None:
            other = int(self.contrast[i, k])
            record["contrast"] = {"index": other, "label": self.label(other)}
        return record

    # -- pictures -----------------------------------------------------------------------------

    def rgba(self, i: int = 0, k: int = 0, smooth: int = 15, percentile: float = 99.5) -> np.ndarray:
        """The paper's picture of W: float32 (H, W, 4) in [0, 1]; see `torchbcos.rendering.rgba`."""
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

    def panel(self, i: int = 0, k: int = 0, *, slices: Sequence[int] | None = None, axis: int = 0) -> Image.Image:
        """Input, picture, heat map and overlay side by side, with names, share and residual; without a photo no input.

        Encoded RGB shows its own photo; inputs of other channels need one (`shown_with`). Volumes show slices with their
        numbers: those that `heatmap` shows.
        """
        i, k = self._place(i, k)
        contributions = self.contributions[i, k].detach()
        caption = self._caption(i, k)
        encoded = self.inputs.dim() == 4 and self.inputs.shape[1] == 6  # the network saw r, g, b, 1-r, 1-g, 1-b
        image = None if self.photos is None else self.photos[i]
        if image is None and encoded:
            image = self.inputs[i, :3].detach().float().clamp(0, 1)
        picture = self.rgba(i, k) if encoded else None
        return panel(caption, contributions, image=image, picture=picture, slices=slices, axis=axis)

    def save(self, path: str | Path, i: int = 0, k: int = 0) -> Path:
        """Write the panel to `path` (.png, .jpg or .webp); nothing is left half-written.

        Raises:
            InputError: unknown file type.
            StateError: the file could not be written.
        """
        save_png(self.panel(i, k), path)
        return Path(path)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: the panel, or the first of several below each other, and how many there are."""
        targets = self.targets.shape[1]
        places = [(i, k) for i in range(len(self)) for k in range(targets)]
        if len(places) == 1:
            return self.panel()._repr_png_()
        shown = places[:_MOST_PANELS]
        count = f"{len(self)} pictures x {targets} classes" if targets > 1 else f"{len(self)} pictures"
        first = f"All {len(places)}" if len(shown) == len(places) else f"The first {len(shown)} of {len(places)}"
        return sheet([self.panel(i, k) for i, k in shown], f"{first} explanations ({count}): panel(i, k) shows one")._repr_png_()

    def _place(self, i: int, k: int) -> tuple[int, int]:
        count, image, target = self.targets.shape[1], integer(i), integer(k)
        if image is None or target is None or not -len(self) <= image < len(self) or not -count <= target < count:
            raise InputError(f"There are {len(self)} images with {count} targets each; there is no ({i!r}, {k!r}).")
        return image % len(self), target % count

    def _caption(self, i: int, k: int) -> Caption:
        chances = self.probabilities()[i]
        best = self.outputs[i].detach().topk(min(3, len(chances))).indices.tolist()  # above 17 all probabilities round to 1
        target, other = int(self.targets[i, k]), None if self.contrast is None else int(self.contrast[i, k])
        asked = [c for c in (target, other) if c is not None and self.at is None and 0 <= c < len(chances)]
        listed = list(dict.fromkeys([*best, *asked]))  # the classes of the question, however improbable they are
        bad = undrawable([self._class(c) for c in listed])

        def name(c: int) -> str:
            return f"class {c} (name not drawable)" if self._class(c) in bad else self._class(c)

        def of_question(c: int) -> str:
            return name(c) if c in asked else self.label(c)

        return Caption(
            title=self.titles[i] if self.titles else "", predictions=tuple((name(c), float(chances[c])) for c in listed),
            explained=of_question(target), contrast=None if other is None else of_question(other),
            value=float(self.values[i, k]), contribution=float(self.total[i, k]),
            constants=sum(float(c[i, k]) for c in self.constants.values()),
            share=float(self.share[i, k]), residual=float(self.residual[i, k]), note=self.seen[i].note if self.seen else "",
        )  # fmt: skip

    def _class(self, index: int) -> str:
        return dataclasses.replace(self, at=None).label(index)


def _stacked(photos: Sequence[Any]) -> Tensor:
    """PIL images, (H, W, 3) arrays or (3, H, W) tensors of one size as (N, 3, H, W) in [0, 1]."""
    shown = [photo(np.asarray(p.convert("RGB")) if isinstance(p, Image.Image) else p) for p in photos]
    sizes = sorted({p.shape[:2] for p in shown})
    if len(sizes) > 1:
        raise InputError(f"photos must have one size, that of the explained inputs; these differ: {sizes[0]} and {sizes[1]}.")
    return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)


def _number(value: Tensor) -> float | None:
    """A Python float, or None for NaN and infinity."""
    x = float(value)
    return x if math.isfinite(x) else None
