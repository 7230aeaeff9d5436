"""What the claims share: a trained network with the pictures that report it, its answers, and numbers with their intervals."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import run
from torch import Tensor

import torchbcos
from torchbcos.data import open_labelled
from torchbcos.evaluation.splits import match_classes
from torchbcos.evaluation.statistics import row
from torchbcos.metrics import choose_grids, compose_grids, grid_pointing, own_cells, protocol
from torchbcos.pictures import Preprocess

__all__ = [
    "ANSWERS", "Bench", "Network", "accuracy", "cell", "inherent", "localisation", "method", "number", "packed", "rounded",
    "unpacked",
]  # fmt: skip

ANSWERS = Path(__file__).with_name("answers.json")  # of runs whose weights are too large to be kept

Maps = Callable[[Tensor, Tensor], Tensor]  # encoded (N, C, H, W), classes (N, K) -> (N, K, H, W)
_BATCH = 64


class Bench:
    """Where data, models and answers lie; pictures are read once a process.

    Args:
        data: holds `cifar10` and `imagenette`.
        model_of: name of a run -> the folder of its model, or None.
        cache: logits of whole splits are kept here, by the bytes of card and weights.
    """

    def __init__(self, data: Path, model_of: Callable[[str], Path | None], cache: Path) -> None:
        self.data, self.model_of, self.cache = data, model_of, cache
        self._pixels: dict[tuple[str, int], tuple[Tensor, Tensor, tuple[str, ...]]] = {}

    def networks(self, names: Sequence[str]) -> tuple[dict[str, Network], list[str]]:
        """Those that are there by their names, and the names of those that are not there yet."""
        places = {name: self.model_of(name) for name in names}
        found = {name: Network(self, run(name).data, place) for name, place in places.items() if place is not None}
        return found, [name for name, place in places.items() if place is None]

    def right(self, name: str) -> Tensor | None:
        """(N,) 1.0 where a run's highest logit is the label's; of a run that is not there, as keep.py kept it, or None."""
        found, _ = self.networks([name])
        if found:
            return found[name].correct
        kept = json.loads(ANSWERS.read_text("utf-8")).get(name) if ANSWERS.is_file() else None
        return None if kept is None else unpacked(kept)

    def pixels(self, data: str, size: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """(N, 3, size, size) in [0, 1], labels and their names, of the split that is reported."""
        if (data, size) not in self._pixels:
            found = open_labelled(self.data / data)
            assert found.report is not None
            split, read = found.report, Preprocess(resize=size, crop=size, encoding="none")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # small pictures are small
                pixels = torch.stack([read(split.read(i)) for i in range(len(split))])
            self._pixels[data, size] = pixels, split.targets, tuple(found.classes)
        return self._pixels[data, size]


class Network:
    """A trained classifier, and the pictures that report it."""

    def __init__(self, bench: Bench, data: str, place: Path | str, size: int | None = None) -> None:
        self.bench, self.data, self.place = bench, data, place
        self.classifier = torchbcos.load(place)
        self.model = self.classifier.model
        card = self.classifier.card
        self.size = size or int(card.preprocess["crop"])
        self.probability = str(card.probability)
        self.plain = card.preprocess["encoding"] != "add_inverse"

    @property
    def labels(self) -> Tensor:
        """(N,) in the order of the network's classes."""
        _, labels, classes = self.bench.pixels(self.data, self.size)
        return match_classes(labels, classes, self.classifier.class_names)

    def pictures(self, rows: Tensor) -> Tensor:
        """(len(rows), C, H, W), encoded for this network."""
        pixels = self.bench.pixels(self.data, self.size)[0]
        return self.encode(pixels[rows])

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] as the network takes it, of any size."""
        if not self.plain:
            return torchbcos.functional.add_inverse(pixels)
        given = self.classifier.card.preprocess
        mean, std = (torch.tensor(given[key]).view(3, 1, 1) for key in ("mean", "std"))
        return (pixels - mean) / std

    def kept(self, name: str) -> Path:
        """A file for answers of this very network, by the bytes of its card and weights."""
        files = [Path(self.place, file) for file in ("card.json", "model.safetensors")]
        whole = b"".join(file.read_bytes() for file in files) if Path(self.place).is_dir() else str(self.place).encode()
        self.bench.cache.mkdir(parents=True, exist_ok=True)
        return self.bench.cache / f"{hashlib.sha256(whole).hexdigest()[:16]}-{name}.pt"

    @functools.cached_property
    def logits(self) -> Tensor:
        """(N, classes) of the whole split that is reported."""
        kept = self.kept(str(self.size))
        if kept.is_file():
            return torch.load(kept, weights_only=True)
        with torch.no_grad():
            found = torch.cat([self.model(self.pictures(rows)) for rows in torch.arange(len(self.labels)).split(_BATCH)])
        torch.save(found, kept)
        return found

    @property
    def correct(self) -> Tensor:
        """(N,) 1.0 where the highest logit is the label's."""
        return (self.logits.argmax(1) == self.labels).double()


def packed(correct: Tensor) -> dict[str, Any]:
    """Which pictures are right, for a file: a bit each, from the first on.

    >>> packed(torch.tensor([1.0, 0.0, 1.0]))
    {'pictures': 3, 'right': 'oA=='}
    """
    return {"pictures": len(correct), "right": base64.b64encode(np.packbits(correct.bool().numpy()).tobytes()).decode()}


def unpacked(kept: Mapping[str, Any]) -> Tensor:
    """What was packed.

    >>> unpacked(packed(torch.tensor([1.0, 0.0, 1.0]))).tolist()
    [1.0, 0.0, 1.0]
    """
    bits = np.unpackbits(np.frombuffer(base64.b64decode(kept["right"]), np.uint8))
    return torch.from_numpy(bits[: kept["pictures"]]).double()


def rounded(value: float) -> float | None:
    """Six significant digits; None for what is no number, as JSON has it."""
    return None if value != value else float(f"{value:.6g}")


def cell(values: Tensor, of: str = "mean", *, scale: float = 1.0, **beside: Any) -> dict[str, Any]:
    """The mean or median of items (items,) or (items, V) with its interval, for a table."""
    found = row(values)
    keys = {"value": of, "low": f"{of}_low", "high": f"{of}_high"}
    numbers = {key: rounded(scale * found[name]) for key, name in keys.items()}
    return {**numbers, "n": found["n"], "undefined": found["undefined"], **beside}


def number(value: float, **beside: Any) -> dict[str, Any]:
    """A number without an interval."""
    return {"value": rounded(value), **beside}


def accuracy(network: Network, **beside: Any) -> dict[str, Any]:
    """Top-1 in per cent, its interval over pictures."""
    return cell(network.correct, scale=100, **beside)


def inherent(network: Network) -> Maps:
    """The exact contributions."""
    return lambda x, classes: torchbcos.explain(network.model, x, classes).contributions.detach()


def method(network: Network, name: Any, **settings: Any) -> Maps:
    """Maps of another method, as `torchbcos.attribute` makes them."""

    def maps(x: Tensor, classes: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what methods say of networks stands in docs/explanation/methods.md
            return torchbcos.attribute(network.model, x, classes, method=name, batch_size=_BATCH, **settings).maps.detach()

    return maps


def grids_of(networks: Sequence[Network], n: int, limit: int) -> Tensor:
    """(G, n²) rows of pictures that all networks get right and are sure of: one choice for all that are compared."""
    given = {**protocol("coda").arguments["choose_grids"], "n": n, "limit": limit}
    kinds = [network.probability for network in networks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the number of grids is in every table
        return choose_grids([one.logits for one in networks], networks[0].labels, **{**given, "probability": kinds})


def localisation(
    network: Network, grids: Tensor, maps: Maps, *, smooth: Sequence[int] = (1,), rescale: bool = False
) -> dict[int, Tensor]:
    """Smoothing in pixels -> (G, n²): of the positive evidence for a cell's class, the share in its cell."""
    n, pixels = round(grids.shape[1] ** 0.5), network.bench.pixels(network.data, network.size)[0]
    cells, found = own_cells(n, "column"), {k: [] for k in smooth}
    for chosen in grids:
        grid = network.encode(compose_grids(pixels[chosen][None], n, order="column", rescale=rescale))
        drawn = maps(grid, network.labels[chosen][None])[0]
        for k in smooth:
            found[k].append(grid_pointing(drawn, cells, n=n, smooth=k))
    return {k: torch.stack(scores) for k, scores in found.items()}
