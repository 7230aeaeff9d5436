"""An aligned EfficientNet-Lite as a row of torchbcos layers in half precision: it opens without the library that built it.

    python recipes/align/ship.py --model runs/a/model --name imagenet --out src/torchbcos/zoo/embedded/imagenet [--card CARD.json]

    python recipes/align/ship.py --back given --model imagenet --out runs/again     # and back: what `pretrained` goes on from

Layers, weights and logits are those of the model; what it was trained on, and what was measured, comes from
CARD.json: fields of a card.
"""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos.zoo import Classifier
from torchbcos.zoo.card import Card
from torchbcos.zoo.saveable import unwrapped


def followed(row: OrderedDict[str, nn.Module], name: str, layer: nn.Module, norm: nn.Module | None) -> None:
    """A layer, and the activation that came with the norm behind it, which was folded."""
    row[name] = layer
    for module in norm.modules() if norm is not None else ():
        if isinstance(module, nn.ReLU6):
            row[f"{name}_act"] = nn.ReLU6(inplace=True)


def block_of(block: Any) -> nn.Module:
    """A block as a row of its layers, with the path around it where it has one."""
    row: OrderedDict[str, nn.Module] = OrderedDict()
    convolutions = [name for name, _ in block.named_children() if name.startswith("conv")]
    for i, name in enumerate(convolutions, start=1):
        followed(row, name, getattr(block, name), getattr(block, f"bn{i}"))
    return bnn.Residual(row) if block.has_skip else nn.Sequential(row)


def row_of(network: Any) -> nn.Sequential:
    """A converted EfficientNet-Lite of timm as a row."""
    row: OrderedDict[str, nn.Module] = OrderedDict()
    followed(row, "stem", network.conv_stem, network.bn1)
    row["blocks"] = nn.Sequential(*(nn.Sequential(*map(block_of, stage)) for stage in network.blocks))
    followed(row, "head", network.conv_head, network.bn2)
    row["pool"], row["classifier"] = bnn.GlobalAveragePool(), network.classifier
    return nn.Sequential(row)


def back(teacher: str, row: str, out: Path) -> None:
    """A row as the converted teacher that it was made of, in `out`: weights of half precision, with which alignment goes on."""
    given, shipped = torchbcos.load(teacher, deploy=False, device="cpu"), torchbcos.load(row, deploy=False, device="cpu").model
    options = {"b": {"expand": 1.5, "classifier": 1.5}, "border": "repeat", "blur": 2}
    made, _ = torchbcos.bcosify(given, calibrate=False, **options)
    again = row_of(unwrapped(made.model))  # of the same layers: what is loaded into the row is in the network
    again.load_state_dict(unwrapped(shipped).state_dict())
    x = torch.rand(2, 6, 224, 224)
    with torch.no_grad():
        apart = float((made.model(x) - shipped(x)).abs().max())
    if apart > 1e-4:
        raise SystemExit(f"The network gives other logits than the row: {apart} apart.")
    torchbcos.save(made, out)
    print(f"{out}: logits are those of {row}, within {apart:.2g}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", default="imagenet")
    parser.add_argument("--back", metavar="TEACHER", help="the other way")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--card", type=Path, help="fields of the card, as JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.back is not None:
        back(args.back, args.model, args.out)
        return
    given = torchbcos.load(args.model, deploy=False, device="cpu")
    network = row_of(unwrapped(given.model)).eval()
    x = torch.rand(2, given.card.in_channels, 224, 224)
    with torch.no_grad():
        before, after = given.model(x), network(x)
        if not torch.equal(before, after):
            raise SystemExit(f"The row gives other logits: {float((before - after).abs().max())} apart.")
        network.half()
        rounded = float((before - network.float()(x)).abs().max())
    fields = json.loads(args.card.read_text("utf-8")) if args.card is not None else {}
    prepare = given.card.preprocess
    made = Classifier(network.half(), class_names=given.class_names, preprocess=prepare, probability=given.card.probability)
    card = Card.from_dict({**made.card.to_dict(), "name": args.name, "classes": "imagenet", **fields}, where=str(args.card))
    torchbcos.save(Classifier(made.model, card), args.out)
    size = sum(file.stat().st_size for file in args.out.iterdir()) / 1e6
    print(f"{args.out}: {size:.1f} MB; half precision moves logits by at most {rounded:.2g}.")


if __name__ == "__main__":
    main()
