"""All 34 official entry points against the official package, a line a model: `make parity`.

Random weights, saved as .pth by the official code and loaded by ours; norm statistics calibrated
on photos; one real photo. Logits relative to their range (or 1e-2, if that is larger), W and
contributions relative to their own scale; at most 2e-3. Preprocessing at most 1e-6.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from PIL import Image
from torch import nn

import torchbcos
from torchbcos.pictures import Preprocess
from torchbcos.zoo.card import official_card

PHOTOS = Path(__file__).parents[1] / "docs" / "photos"
LIMIT = 2e-3


def calibrate(model: nn.Module, x: torch.Tensor) -> None:
    """Running statistics that are those of the photos: in train mode every layer sees its batch normalised already."""
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.momentum = 1.0  # the newest batch alone
    model.train()
    with torch.no_grad():
        model(x)
    model.eval()


def scale_error(ours: torch.Tensor, theirs: torch.Tensor, floor: float = 0.0) -> float:
    return float((ours - theirs).abs().max()) / max(float(theirs.abs().max()), floor, 1e-30)


def compare(name: str, photos: list[Image.Image]) -> dict[str, float]:
    """Largest relative differences of one entry point."""
    torch.manual_seed(0)
    card = official_card(name)
    pretrained = importlib.import_module("bcos.models.pretrained")  # here, so that pytest can collect this file without it
    theirs = getattr(pretrained, name)(pretrained=False)
    for key, p in theirs.named_parameters():
        if key.endswith("layer_scale"):  # 1e-6 at first: the branches of ConvNeXt would not be compared at all
            nn.init.uniform_(p, 0.1, 1.0)
    preprocess = Preprocess.from_dict(dict(card.preprocess or {}))
    encoded = torch.stack([theirs.transform(photo) for photo in photos])
    found = {"input": float((preprocess.batch(photos) - encoded).abs().max())}
    calibrate(theirs, encoded)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / card.file)
        ours = torchbcos.create_model(card.architecture, weights=Path(folder) / card.file, **card.options).eval()
    x = encoded[:1]
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    found["logits"] = float((a - b).abs().max()) / max(float(b.max() - b.min()), 1e-2)
    if not card.plain:
        index = int(b.argmax())
        e = torchbcos.explain(ours, x, index)
        official = theirs.explain(x.clone(), idx=index)
        if not official["dynamic_linear_weights"].any():
            raise SystemExit(f"{name}: the official W is zero, nothing was compared")
        found["W"] = scale_error(e.weights[0, 0], official["dynamic_linear_weights"][0])
        found["contributions"] = scale_error(e.contributions[0, 0], official["contribution_map"][0].detach())
        found["residual"] = float(e.residual.abs().max())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_flush_denormal(True)
    photos = [Image.open(p).convert("RGB") for p in sorted(PHOTOS.glob("*.jpg"))]
    failed = 0
    for name in args.names or torchbcos.list_models(pretrained=True):
        found = compare(name, photos)
        good = found["input"] <= 1e-6 and all(v <= LIMIT for k, v in found.items() if k not in ("input", "residual"))
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name:38} " + "  ".join(f"{k} {v:.1e}" for k, v in found.items()), flush=True)
    print(f"{failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
