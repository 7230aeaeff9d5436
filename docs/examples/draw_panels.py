"""Draw docs/pictures/grey.png, signal.png and volume.png: exact explanations of made-up data, by networks made by hand.

    python docs/examples/draw_panels.py docs/pictures

Each network has one filter a class: it looks for what is planted (a bright spot, an early beat, a ball), or for its opposite.
Nothing is trained, and nothing here was measured on anybody.
"""

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import nn

import torchbcos
from torchbcos.nn import BcosConv1d, BcosConv2d, BcosConv3d, GlobalAveragePool, Logits
from torchbcos.pictures import Seen


def looks_for(shape, kind, b, temperature):
    """A network of two classes: one filter looks for that shape (1, *S), the other for its opposite, wherever they are."""
    layer = kind(2, 2, shape.shape[1:], b=b)
    wanted = shape - shape.mean()
    with torch.no_grad():
        next(layer.parameters()).copy_(torch.stack([torch.cat([wanted, -wanted]), torch.cat([-wanted, wanted])]))
    return nn.Sequential(layer, GlobalAveragePool(), Logits(bias=-1.0, temperature=temperature)).eval()


def explained(network, pixels, title, names, **facts):
    """The first class's explanation for pixels (C, *S) in [0, 1], with what a scan's file would say of them."""
    x = pixels.clamp(0, 1)[None]
    e = torchbcos.explain(network, torch.cat([x, 1 - x], 1), 0)
    seen = Seen(fit="crop", share=1.0, box=(0, 0, x.shape[-1], 1), scan=facts)
    return dataclasses.replace(e, class_names=names).shown_with(titles=[title], seen=[seen])


def distance(sizes, centre, radius):
    """How far every point of a grid is from a centre, in radii."""
    places = torch.meshgrid(*(torch.arange(float(n)) for n in sizes), indexing="ij")
    return sum(((p - c) / r) ** 2 for p, c, r in zip(places, centre, radius, strict=True)).sqrt()


def inside(sizes, centre, radius):
    """1 in an ellipse, 0 outside it, with a soft edge."""
    return torch.sigmoid((1 - distance(sizes, centre, radius)) * 2 * min(radius))


def grey(random):
    """A slice of a body with a bright spot."""
    size = (96, 96)
    body = 0.35 * inside(size, (48, 48), (42, 36)) + 0.12 * inside(size, (44, 60), (20, 11))
    scan = body + 0.45 * inside(size, (56, 32), (6, 6)) + 0.01 * torch.randn(size, generator=random)
    network = looks_for(inside((17, 17), (8, 8), (6, 6))[None], BcosConv2d, 4.0, 2e-4)
    e = explained(network, scan[None], "slice-11.dcm", ["spot", "no spot"], window=[-160, 240], unit="HU", orientation="PL")
    return e.panel()


def signal(random):
    """Two leads of a heart; one beat comes too early."""
    time = torch.arange(1500) / 250
    beats = torch.tensor([0.5, 1.3, 2.1, 2.55, 3.7, 4.5, 5.3])[:, None]

    def wave(at, height, width):
        return height * torch.exp(-(((time - beats - at) / width) ** 2)).sum(0)

    first = wave(0, 1.0, 0.025) + wave(-0.17, 0.12, 0.04) + wave(0.25, 0.25, 0.06) - wave(0.04, 0.2, 0.02)
    second = 0.6 * wave(0, 1.0, 0.025) - wave(0.25, 0.2, 0.06) - wave(-0.03, 0.15, 0.02)
    leads = torch.stack([first, second]) + 0.01 * torch.randn(2, 1500, generator=random)
    shape = torch.zeros(1, 171)  # two beats 0.45 s apart, on either side of the middle
    for beat in (29, 141):
        shape += torch.exp(-(((torch.arange(171.0) - beat) / 6) ** 2))
    network = looks_for(shape, BcosConv1d, 4.0, 2e-5)
    first_lead = nn.Sequential(OneLead(), *network)
    facts = {"window": [-1.0, 2.0], "unit": "mV", "spacing": [1 / 250], "channels": ["II", "V1"]}
    return explained(first_lead, (leads + 1) / 3, "record-007.npy", ["early beat", "regular"], **facts).panel()


class OneLead(nn.Module):
    """The first lead and its inverse, of four encoded channels."""

    def forward(self, x):
        return x[:, [0, 2]]


def volume(random):
    """A body with a ball in it, in slices of 2.5 mm."""
    size = (24, 64, 64)
    body = 0.4 * inside(size, (12, 32, 32), (14, 25, 29)) + 0.004 * torch.randn(size, generator=random)
    scan = body + 0.4 * inside(size, (13, 24, 42), (3.2, 5, 5))
    network = looks_for(inside((9, 15, 15), (4, 7, 7), (3, 5, 5))[None], BcosConv3d, 7.0, 2.2e-7)
    facts = {"window": [-160, 240], "unit": "HU", "spacing": [2.5, 1.5, 1.5], "orientation": "SPL"}
    return explained(network, scan[None], "ct-042", ["ball", "no ball"], **facts).panel()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for number, draw in enumerate((grey, signal, volume)):
        picture = draw(torch.Generator().manual_seed(number))
        picture.save(folder / f"{draw.__name__}.png", optimize=True)
        print(folder / f"{draw.__name__}.png", picture.size)


if __name__ == "__main__":
    main()
