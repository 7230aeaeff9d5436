"""How well an explanation predicts what removing a part does: on the page of `torchbcos serve`, and by the library alone.

    python benchmarks/changes.py --data DATA/imagenette --pictures 200 --json changes.json

Of each picture of the validation split one disc (radius 15 to 45 % of the side) is removed (grey, blurred, mean colour in turn)
or kept alone. "predicted": minus the contributions of what was removed; "held": the old W on the new pixels; "real": the network
run again. Every number comes over HTTP, and is compared with the library's own.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from starlette.testclient import TestClient

import torchbcos
from torchbcos.data import open_labelled
from torchbcos.service import app

WAYS = ("grey", "blur", "mean")


def disc(size: int, generator: torch.Generator) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(size, size) bool: a disc whose centre lies within the picture."""
    radius, *centre = (torch.rand(3, generator=generator) * torch.tensor([0.3, 1, 1]) + torch.tensor([0.15, 0, 0])).tolist()
    y, x = np.mgrid[:size, :size] / size
    found: np.ndarray[Any, np.dtype[np.bool_]] = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    return found


def png(picture: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def by_library(
    classifier: torchbcos.Classifier, picture: Image.Image, mask: Any, way: str, keep: bool, target: int
) -> list[float]:
    """Predicted and real, without the service."""
    pixels = classifier.transform.placed(picture).pixels[None]
    removed = torch.from_numpy(~mask if keep else mask)
    changed = torch.where(removed, torchbcos.functional.replacement(pixels, way), pixels)
    first, second = (
        torchbcos.explain(classifier.model, classifier.transform.encode(p, dim=1), target) for p in (pixels, changed)
    )
    return [-float(first.contributions[0, 0].double()[removed].sum()), float(second.values) - float(first.values)]


def correlation(a: list[float], b: list[float]) -> float:
    return round(float(np.corrcoef(a, b)[0, 1]), 3)


def measured(name: str, data: Path, pictures: int) -> dict[str, Any]:
    """Numbers of one model."""
    classifier = torchbcos.load(name, device="cpu")
    split = open_labelled(data).report
    assert split is not None
    size, generator = classifier.transform.crop, torch.Generator().manual_seed(0)
    assert size is not None
    rows, apart = [], 0.0
    with TestClient(app([name], device="cpu")) as client:
        for i, index in enumerate(torch.linspace(0, len(split) - 1, pictures).long().tolist()):
            picture, mask = split.read(index), disc(size, generator)
            way, keep = WAYS[i % 3], i % 4 == 3
            sent = png(np.asarray(picture))
            answer = client.post(
                f"/v1/change?steps={way}:{'keep' if keep else 'remove'}",
                files={"picture": ("p.png", sent), "mask1": ("m.png", png(mask.astype(np.uint8) * 255))},
            )
            assert answer.status_code == 200, answer.text
            facts = answer.json()["change"]
            own = by_library(classifier, picture, mask, way, keep, facts["index"])
            apart = max(apart, abs(own[0] - facts["predicted"]), abs(own[1] - facts["real"]))
            rows.append(facts | {"way": way, "keep": keep})
            assert base64.b64decode(answer.json()["explanations"][0]["maps"]["rgba"])
    found: dict[str, Any] = {"pictures": len(rows), "largest difference to the library": float(f"{apart:.2g}")}
    for words, chosen in (
        ("all", rows), ("removed", [r for r in rows if not r["keep"]]), ("kept alone", [r for r in rows if r["keep"]]),
        *((way, [r for r in rows if r["way"] == way and not r["keep"]]) for way in WAYS),
    ):  # fmt: skip
        real = [r["real"] for r in chosen]
        found[words] = {
            "n": len(chosen), "predicted and real": correlation([r["predicted"] for r in chosen], real),
            "held and real": correlation([r["held"] for r in chosen], real),
            "median |predicted - real|": round(float(np.median([abs(r["predicted"] - r["real"]) for r in chosen])), 2),
            "median |real|": round(float(np.median(np.abs(real))), 2),
            "same sign, %": round(100 * float(np.mean([(r["predicted"] > 0) == (r["real"] > 0) for r in chosen]))),
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--models", nargs="+", default=["imagenet", "imagenette"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {name: measured(name, args.data, args.pictures) for name in args.models}
    print(json.dumps(found, indent=1))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
