"""Made-up arrays of two classes, to try things with: python make_arrays.py grey|signals|volumes FOLDER [--count N] [--seed S]

    grey      scans, (64, 64) float32 in [0, 1]: a bright "disc" or "ring" in noise
    signals   traces of two channels, (2, 256): "regular" beats, or one of them "wide"
    volumes   (16, 32, 32): a "solid" or a "hollow" ball in noise

Each array is a .npy file in the folder of its class. Nothing here is measured: it is for trying, not for conclusions.
"""

import argparse
from pathlib import Path

import numpy as np


def grey(kind, random):
    """A scan with a disc, or with a ring, at some place."""
    y, x = np.mgrid[:64, :64]
    centre, radius = random.uniform(20, 44, 2), random.uniform(9, 14)
    distance = np.hypot(y - centre[0], x - centre[1])
    shape = distance < radius if kind == "disc" else np.abs(distance - radius) < 2.5
    return 0.25 + 0.45 * shape + random.normal(0, 0.06, shape.shape)


def signals(kind, random):
    """Two leads of six beats; of the wide kind one takes too long."""
    time, beats = np.arange(256), 20 + 40 * np.arange(6) + random.uniform(-8, 8)
    widths = np.full(6, 2.5)
    if kind == "wide":
        widths[random.integers(6)] = 7
    peaks = np.exp(-(((time - beats[:, None]) / widths[:, None]) ** 2)).sum(0)
    waves = 0.25 * np.exp(-(((time - beats[:, None] - 14) / 4) ** 2)).sum(0)
    leads = np.stack([peaks + waves, 0.6 * peaks - waves])
    return 0.4 + 0.35 * leads + random.normal(0, 0.02, leads.shape)


def volumes(kind, random):
    """A volume with a ball at some place, solid or hollow."""
    z, y, x = np.mgrid[:16, :32, :32]
    centre, radius = random.uniform((6, 10, 10), (10, 22, 22)), random.uniform(4.5, 6)
    distance = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    shape = distance < radius if kind == "solid" else np.abs(distance - radius) < 1.2
    return 0.25 + 0.45 * shape + random.normal(0, 0.06, shape.shape)


KINDS = {"grey": (grey, ("disc", "ring")), "signals": (signals, ("regular", "wide")), "volumes": (volumes, ("hollow", "solid"))}


def main():
    """Write the arrays, and say where."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("kind", choices=KINDS)
    words.add_argument("folder", type=Path)
    words.add_argument("--count", type=int, default=40, help="arrays a class (40)")
    words.add_argument("--seed", type=int, default=0)
    given = words.parse_args()
    make, classes = KINDS[given.kind]
    random = np.random.default_rng(given.seed)
    for name in classes:
        (given.folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(given.count):
            array = make(name, random).clip(0, 1).astype(np.float32)
            np.save(given.folder / name / f"{i:03}.npy", array)
    print(f"{given.count} arrays {array.shape} of each of {', '.join(classes)} in {given.folder}")


if __name__ == "__main__":
    main()
