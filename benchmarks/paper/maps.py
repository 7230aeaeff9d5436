"""Claims about what maps say: (e) deletion of the least important pixels first, (f) neurons in the middle of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Bench, Network, cell, grids_of, inherent, method, number, rounded
from PIL import Image
from torch import Tensor, nn

import torchbcos
from torchbcos.attribution import Occlusion
from torchbcos.evaluation.statistics import pair
from torchbcos.metrics import compose_grids, grid_pointing, own_cells, protocol, removal_curve, removal_order
from torchbcos.rendering import rgba

ROOT = Path(__file__).parents[2]
_PICTURES = 256  # of the 1,024 of the protocol
_STEP = 4  # of its 129 points every fourth
_CODA = "CoDA-Net, CIFAR-10, from .927: the published column"
_HEIGHTS = {"inherent": 0.964, "occlusion, 5 px": 0.960, "occlusion, 9 px": 0.957, "Grad-CAM": 0.877, "gradient": 0.861,
            "integrated gradients": 0.573, "input × gradient": 0.561}  # fmt: skip
_ENDS = {"inherent": 0.962, "occlusion, 5 px": 0.949, "occlusion, 9 px": 0.962, "Grad-CAM": 0.842, "gradient": 0.756,
         "integrated gradients": 0.250, "input × gradient": 0.251}  # fmt: skip


def deletion(bench: Bench) -> dict[str, Any]:
    """(e) The confidence stays longest if pixels go in the order of the inherent explanation, least important first."""
    found, missing = bench.networks(["cifar-b2"])
    columns = [
        {"key": "height", "name": "probability, mean over 0 to 25 %"}, {"key": "ours", "name": "inherent minus this, paired"},
        {"key": "end", "name": "at 25 %"},
        {"key": "grey", "name": "mean over 0 to 25 %, grey instead of six zeros"},
    ]  # fmt: skip
    asked = {"columns": columns, "missing": missing, "published": _CODA}
    if missing:
        return {**asked, "rows": [], "verdict": "not shown yet", "why": "The network is not trained yet.", "notes": []}
    network = found["cifar-b2"]
    x, labels = network.pictures(torch.arange(_PICTURES)), network.labels[:_PICTURES]
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "inherent": inherent(network),
        "occlusion, 5 px": method(network, Occlusion(window=5, stride=2)),
        "occlusion, 9 px": method(network, Occlusion(window=9, stride=2)),
        "Grad-CAM": method(network, "grad_cam"), "gradient": method(network, "saliency"),
        "integrated gradients": method(network, "integrated_gradients", samples=20),
        "input × gradient": method(network, "input_x_gradient"),
        "uniform (random order)": lambda x, _: torch.zeros(len(x), 1, *x.shape[2:]),
    }  # fmt: skip
    curves = {name: _kept_curves(network, x, labels, name, maps) for name, maps in ways.items()}
    rows = []
    for name, (zeros, grey) in curves.items():
        known = {"published": _HEIGHTS[name]} if name in _HEIGHTS else {}
        end = {"published": _ENDS[name]} if name in _ENDS else {}
        cells = {"height": cell(zeros.mean(1), **known), "end": cell(zeros[:, -1], **end), "grey": cell(grey.mean(1))}
        if name != "inherent":
            apart = pair(curves["inherent"][0].mean(1), zeros.mean(1))
            cells["ours"] = {"value": rounded(apart["difference"]), "low": rounded(apart["low"]), "high": rounded(apart["high"])}
            cells["ours"]["n"] = apart["n"]
        rows.append({"label": name, "run": "cifar-b2", "cells": cells, "curve": [rounded(float(v)) for v in zeros.mean(0)]})
    return {**asked, "rows": rows, **_longest({name: both[0].mean(1) for name, both in curves.items()}), "notes": [
        f"First {_PICTURES} test pictures, right or wrong; signed maps of the label; {len(rows[0]['curve'])} points "
        f"from 0 to 25 % of the pixels; the untouched probability is {rows[0]['curve'][0]:.3f}. Removed pixels become "
        "six zeros, as published, "
        "which is no colour; the last column has grey. Curves may rise above their start, for pixels that speak against the "
        "label go "
        "first."]}  # fmt: skip


def _kept_curves(
    network: Network, x: Tensor, labels: Tensor, name: str, maps: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """`_curves`, kept with the network's answers: minutes each."""
    file = network.kept(f"removal-{len(x)}-{_STEP}-{''.join(c for c in name if c.isalnum())}")
    if file.is_file():
        zeros, grey = torch.load(file, weights_only=True)
    else:
        zeros, grey = _curves(network, x, labels, maps)
        torch.save([zeros, grey], file)
    return zeros, grey


def _curves(network: Network, x: Tensor, labels: Tensor, maps: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """(N, points) of the label's probability, with six zeros and with grey."""
    coda = protocol("coda").arguments
    drawn = torch.cat([maps(a, b[:, None])[:, 0] for a, b in zip(x.split(64), labels.split(64), strict=True)])
    constant = bool((drawn == drawn[:1, :1, :1]).all())
    order = removal_order(drawn, **{**coda["removal_order"], **({"ties": "random"} if constant else {})})
    given = {**coda["removal_curve"], "fractions": coda["removal_curve"]["fractions"][::_STEP]}
    return tuple(  # type: ignore[return-value]
        removal_curve(
            lambda part: network.model(part).sigmoid(), x, order, **{**given, "replace": replace}, targets=labels, batch_size=64
        ).values.double()
        for replace in (given["replace"], "grey")
    )  # fmt: skip


def _longest(heights: dict[str, Tensor]) -> dict[str, str]:
    """The verdict: against each of the others, picture by picture."""
    ours = heights["inherent"]
    found = {name: pair(ours, one) for name, one in heights.items() if name != "inherent"}
    longer = [name for name, one in found.items() if one["low"] > 0]
    shorter = [name for name, one in found.items() if one["high"] < 0]
    words = [f"longer than {', '.join(longer)}"] if longer else []
    words += [f"shorter than {', '.join(shorter)}"] if shorter else []
    rest = [name for name in found if name not in (*longer, *shorter)]
    words += [f"as long as {', '.join(rest)}"] if rest else []
    why = f"Paired by picture, it keeps the confidence {'; '.join(words)}."
    return {"verdict": "holds" if len(longer) == len(found) else "fails", "why": why}


# -- (f) ---------------------------------------------------------------------------------------------------------------

_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_NEURON_GRIDS = 100
_CELL = 80


def channel_parts(model: nn.Module, layer: str, x: Tensor, classes: Tensor) -> Tensor:
    """(K, channels): what every channel of a layer contributes to each class's logit, summed over space, of one input."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda *given: kept.append(given[2]))
    try:
        with torchbcos.frozen(), torch.enable_grad():
            logits = model(x.detach().clone().requires_grad_())
            grads = [torch.autograd.grad(logits[0, c], kept[-1], retain_graph=True)[0] for c in classes.tolist()]
    finally:
        handle.remove()
    return torch.stack([(g * kept[-1].detach()).sum((0, 2, 3)) for g in grads])


def neurons(bench: Bench) -> dict[str, Any]:
    """(f) Neurons in the middle are explained as exactly as logits, and those that matter to a class look at its object."""
    network = Network(bench, "imagenette", "imagenette", size=_CELL)
    grids = grids_of([network], 2, _NEURON_GRIDS)
    widths = {info.name: info.channels for info in network.model.feature_info}
    draws = torch.Generator().manual_seed(0)
    scores: dict[str, list[Tensor]] = {name: [] for layer in _LAYERS for name in (layer, f"{layer}, drawn")} | {"logits": []}
    worst = dict.fromkeys((*_LAYERS, "logits"), 0.0)
    for chosen in grids:
        grid = network.encode(compose_grids(bench.pixels("imagenette", _CELL)[0][chosen][None], 2, order="column"))
        classes = network.labels[chosen]
        for layer in (*_LAYERS, "logits"):
            asked = classes
            if layer != "logits":
                drawn = torch.randint(widths[layer], (4,), generator=draws)
                asked = torch.cat([channel_parts(network.model, layer, grid, classes).argmax(1), drawn])
            e = torchbcos.explain(network.model, grid, asked[None], at=None if layer == "logits" else layer)
            worst[layer] = max(worst[layer], float((e.residual.abs() / e.values.abs().clamp_min(1)).max()))
            maps = e.contributions[0]
            if layer != "logits":
                maps = maps * e.values[0].sign()[:, None, None]  # of a negative neuron, what makes it so
            of_cells = grid_pointing(maps, own_cells(2, "column").repeat(len(maps) // 4), n=2).split(4)
            for name, found in zip((layer, f"{layer}, drawn"), of_cells, strict=False):
                scores[name].append(found)
    return _neuron_table({name: torch.stack(parts) for name, parts in scores.items()}, worst, len(grids))


def _neuron_table(scores: dict[str, Tensor], worst: dict[str, float], grids: int) -> dict[str, Any]:
    rows = []
    for layer, residual in worst.items():
        cells = {"pointing": cell(scores[layer], "median"), "mean": cell(scores[layer]), "residual": number(residual)}
        if layer != "logits":
            cells["drawn"] = cell(scores[f"{layer}, drawn"])
        rows.append({"label": layer if layer != "logits" else "the logit itself", "run": "the embedded network", "cells": cells})
    apart = {layer: pair(scores[layer], scores[f"{layer}, drawn"]) for layer in _LAYERS}
    shown = [layer for layer in _LAYERS if apart[layer]["low"] > 0]
    exact = max(worst.values()) < 1e-4
    why = (
        f"The largest residual is {max(worst.values()):.1e} of the value. Neurons that matter most to a class lie on its cell "
        f"more than drawn ones in {', '.join(shown) or 'no layer'}"
        + (f"; not in {', '.join(layer for layer in _LAYERS if layer not in shown)}." if len(shown) < len(_LAYERS) else ".")
    )
    return {
        "columns": [
            {"key": "pointing", "name": "2×2 grid pointing, median"}, {"key": "mean", "name": "mean"},
            {"key": "drawn", "name": "mean of drawn neurons"}, {"key": "residual", "name": "largest residual, of the value"},
        ],
        "rows": rows, "missing": [], "verdict": "holds" if exact and len(shown) >= len(_LAYERS) / 2 else "fails", "why": why,
        "notes": [
            f"Embedded network, {grids} grids of {_CELL}-px cells from Imagenette's val; an even map scores 0.25. Of each "
            "class of a grid: the channel of a layer that contributes most to its logit, summed over space and "
            "explained down to the pixels "
            "(`explain(..., at=layer)`); the map of a negative neuron has its sign turned.",
        ],
        "published": "B-cos v1 (arXiv 2205.10268): pictures of neurons, no number",
    }  # fmt: skip


def neuron_picture(bench: Bench, file: Path, photos: Sequence[str] = ("dalmatian", "euphonium", "tower")) -> None:
    """Photos; the explanation of their first class; that of the neuron in each layer that matters most to it."""
    classifier, lines = torchbcos.load("imagenette"), []
    for name in photos:
        x = classifier.preprocess(ROOT / "docs" / "photos" / f"{name}.jpg")
        with torch.no_grad():
            top = classifier.model(x).argmax(1)
        tiles = [
            (x[0, :3].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8),
            _tile(torchbcos.explain(classifier.model, x)),
        ]
        for layer in reversed(_LAYERS[1:]):
            best = channel_parts(classifier.model, layer, x, top).argmax(1)
            tiles.append(_tile(torchbcos.explain(classifier.model, x, best[None], at=layer)))
        lines.append(np.concatenate([np.pad(tile, ((2, 2), (2, 2), (0, 0)), constant_values=255) for tile in tiles], 1))
    Image.fromarray(np.concatenate(lines)).quantize(255).save(file, optimize=True)


def _tile(e: torchbcos.Explanation) -> np.ndarray:
    sign = 1.0 if e.at is None else float(e.values[0, 0].sign())
    drawn = rgba(sign * e.weights[0, 0], e.inputs[0], smooth=5)
    return ((drawn[..., :3] * drawn[..., 3:] + 1 - drawn[..., 3:]) * 255).round().astype(np.uint8)
