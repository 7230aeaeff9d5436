"""The published protocols: named bundles of arguments, so that a number can be set beside a published one. Data, no branches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos._core.names import hint

__all__ = ["PROTOCOLS", "Protocol", "page_with_protocols", "protocol", "protocols_text", "rise_blur"]

_STATISTICS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda v: v.mean(),
    "std": lambda v: v.std() if len(v) > 1 else torch.tensor(math.nan),
    "median": lambda v: v.quantile(0.5),
    "min": lambda v: v.amin(),
    "max": lambda v: v.amax(),
    **{f"{q} %": lambda v, q=q: v.quantile(q / 100) for q in (5, 25, 50, 75, 100)},  # type: ignore[misc]
}


@dataclass(frozen=True)
class Protocol:
    """One published way to measure.

    Attributes:
        name: as `evaluate --protocol` takes it.
        summary: one sentence: where it comes from.
        source: paper and code.
        arguments: of each function of `torchbcos.metrics` or `torchbcos.evaluation` (or of a metric of `METRICS`), what it is
            called with: `grid_pointing(maps, cells, **PROTOCOLS["coda"].arguments["grid_pointing"])`.
        undefined: what becomes of NaN: "zero", or "skip".
        statistics: what is printed of all values.
        beside: what no argument says: which pictures, what else the network went through, where ours differs.
    """

    name: str
    summary: str
    source: str
    arguments: Mapping[str, Mapping[str, Any]]
    undefined: str
    statistics: tuple[str, ...]
    beside: str

    def report(self, values: Tensor) -> dict[str, float]:
        """What the protocol prints of its values, and how many of them were undefined (which published code does not say).

        Args:
            values: of any shape, one a map; NaN where undefined.

        Returns:
            A number for each of `statistics`; "values" and "undefined" count.

        >>> PROTOCOLS["coda"].report(torch.tensor([1.0, 0.5, math.nan]))["50 %"]
        0.5
        """
        if not isinstance(values, Tensor):
            raise ArgumentTypeError(f"values are a tensor, one number a map, not {type(values).__name__}.")
        flat = values.detach().flatten().cpu().double()
        lost = int(flat.isnan().sum())
        used = flat.nan_to_num(0.0) if self.undefined == "zero" else flat[~flat.isnan()]
        found = {name: float(_STATISTICS[name](used)) if len(used) else math.nan for name in self.statistics}
        return {**found, "values": len(flat), "undefined": lost}


def protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        InputError: there is none of that name.

    >>> protocol("coda").arguments["grid_pointing"]["n"]
    3
    """
    if name not in PROTOCOLS:
        raise InputError(f"There is no protocol {name!r}: expected one of {', '.join(PROTOCOLS)}.{hint(str(name), PROTOCOLS)}")
    return PROTOCOLS[name]


def rise_blur(x: Tensor) -> Tensor:
    """The blurred pictures from which RISE (arXiv 1806.07421) starts insertion: 11 x 11 pixels of a Gaussian, σ = 5.

    Its window is cut at 11 pixels and what is cut is folded back, as in the published code; reflected at the border of the
    picture, where that code has zeros, so that encoded colours stay colours.

    Args:
        x: (N, C, H, W), at least 6 x 6 pixels.

    >>> torch.allclose(rise_blur(torch.full((1, 6, 8, 8), 0.25)), torch.tensor(0.25))
    True
    """
    if x.dim() != 4 or min(x.shape[2:]) < 6:
        raise InputError(f"This blur takes pictures (N, C, H, W) of 6 x 6 pixels or more, not {tuple(x.shape)}.")
    gauss = [math.exp(-(d**2) / 50) if d <= 20 else 0.0 for d in range(40)]
    line = torch.tensor(
        [sum(gauss[d] for d in (abs(i - 5), i + 6, 16 - i, i + 17, 27 - i)) for i in range(11)], dtype=torch.float64
    )
    line = (line / line.sum()).to(x)
    padded = F.pad(x, (5, 5, 5, 5), mode="reflect").flatten(0, 1)[:, None]
    return F.conv2d(F.conv2d(padded, line.view(1, 1, 1, 11)), line.view(1, 1, 11, 1))[:, 0].unflatten(0, x.shape[:2])  # type: ignore[no-untyped-call,no-any-return]


def _grids(n: int, order: str = "row", **chosen: Any) -> dict[str, dict[str, Any]]:
    return {
        "choose_grids": {"n": n, **chosen},
        "compose_grids": {"n": n, "order": order, "rescale": False},
        "own_cells": {"n": n, "order": order},
    }


_PERCENTILES = ("25 %", "50 %", "75 %", "100 %")

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({
    one.name: replace(one, arguments=MappingProxyType({call: MappingProxyType(given) for call, given in one.arguments.items()}))
    for one in (
        Protocol(
            "bcos-v2", "Grid pointing of B-cos networks on ImageNet.", "arXiv 2306.10898; B-cos/B-cos-v2, 250_2x2",
            {
                **_grids(2, "column", confidence=0.5, probability="sigmoid", limit=250, legacy=True),
                "grid_pointing": {"n": 2, "smooth": 15, "inside": False, "kernel": "average"},
            },
            "zero", _PERCENTILES,
            "Smoothing leaks over the borders of cells: set `grid_lines` beside it. Variants: 500 grids, n=3, rescale=True, "
            "confidence=0.",
        ),
        Protocol(
            "coda", "Grid pointing and pixel removal of CoDA-Nets on CIFAR-10.", "arXiv 2104.00032; moboehle/CoDA-Nets, 500_3x3",
            {
                **_grids(3, "column", confidence=0.5, probability="sigmoid", limit=500, legacy=True),
                "grid_pointing": {"n": 3, "smooth": 1, "inside": False, "kernel": "average"},
                "removal_order": {"first": "least", "ties": "raster", "sign": "signed"},
                "removal_curve": {"replace": "zero6", "fractions": tuple(j / 512 for j in range(129)), "keep": False},
            },
            "zero", _PERCENTILES,
            "Removal: the first 1,024 pictures of the test set, right or wrong; the map and the probability of the label.",
        ),
        Protocol(
            "difull", "Grid pointing, DiFull and DiPart of torchvision's networks.",
            "arXiv 2205.10435; sukrutrao/Attribution-Evaluation",
            {
                **_grids(3, confidence=0.99, probability="softmax", limit=500, legacy=False),
                "difull": {"n": 3},
                "dipart": {"n": 3},
                "grid_pointing": {"n": 3, "smooth": 1, "inside": False, "kernel": "average"},
            },
            "zero", ("mean", "std", "median", "min", "max"),
            "Pictures that all compared networks get right. In DiFull and DiPart only the first and the last cell are scored. "
            "Maps of layers are enlarged to the grid, bilinearly. Its examples have n=2.",
        ),
        Protocol(
            "probe", "Grid pointing of probed networks.", "How to Probe, ICLR 2025",
            {
                **_grids(3, confidence=0.95, probability="sigmoid", limit=500, legacy=False),
                "grid_pointing": {"n": 3, "smooth": 5, "inside": False, "kernel": "average"},
            },
            "zero", ("mean",),
            'probability="softmax" for plain networks. Input x Gradient alone has smooth=129, kernel="gaussian". There at '
            "most 100 pictures a class are used, some of them several times; here each is used once. Also n=2.",
        ),
        Protocol(
            "rise", "Deletion and insertion.", "arXiv 1806.07421; eclique/RISE",
            {
                "removal_order": {"first": "most", "ties": "reversed", "sign": "signed"},
                "deletion": {"replace": "zero6", "fractions": 224, "ties": "reversed", "sign": "signed"},
                "insertion": {"replace": rise_blur, "fractions": 224, "ties": "reversed", "sign": "signed"},
                "area": {"normalised": False},
            },
            "skip", ("mean",),
            "Pictures of 224 x 224 pixels, 224 pixels a step; the softmax of the class that is highest at first. Equal pixels "
            "have no certain order there.",
        ),
        Protocol(
            "idsds", "In-domain single deletion.", "arXiv 2407.11910; visinf/idsds",
            {
                "single_deletion": {"cells": 4, "replace": "black"},
                "idsds": {"cells": 4, "replace": "black"},
            },
            "skip", ("mean",),
            'The label\'s logit, of all pictures, right or wrong; "black" is for B-cos networks, replace=0.0 for networks on '
            "normalised pictures. The network is fine-tuned first (30 epochs, every second picture without one random cell): of "
            "any other say single deletion.",
        ),
    )
})  # fmt: skip

_BEGIN = "<!-- printed from torchbcos.metrics.PROTOCOLS by `make docs` -->"
_END = "<!-- end of the table -->"


def protocols_text() -> str:
    """A part for every protocol, in Markdown.

    >>> protocols_text().splitlines()[0]
    '### `bcos-v2`'
    """
    return "\n\n".join(_part(one) for one in PROTOCOLS.values())


def _part(one: Protocol) -> str:
    rows = [f"| `{name}` | {_shown(given)} |" for name, given in one.arguments.items()]
    lost = "counts as 0" if one.undefined == "zero" else "is left out"
    return "\n".join([
        f"### `{one.name}`", "", f"{one.summary} {one.source}.", "", "| call | with |", "|---|---|", *rows, "",
        f"Prints {', '.join(one.statistics)}; what is undefined {lost}. {one.beside}",
    ])  # fmt: skip


def _shown(given: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={_value(value)}`" for name, value in given.items())


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({value[0]:g}, {value[1]:.6g}, … {value[-1]:g})"
    return value.__name__ if callable(value) else repr(value)


def page_with_protocols(page: str) -> str:
    """A page with the protocols between its two marks.

    >>> page_with_protocols("no marks")
    Traceback (most recent call last):
    ValueError: not enough values to unpack (expected 2, got 1)
    """
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}\n\n{protocols_text()}\n\n{_END}{after}"
