"""Sound files of each kind, small; the spoiled ones are made from them."""

from __future__ import annotations

import io
import random
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import torchbcos
from tests.fuzz.mutate import MUTATORS
from tests.fuzz.scans import dicoms, niftis, prepare_slices
from torchbcos.training.recipe import find_recipe, to_toml

__all__ = ["FOREIGN", "NETWORK", "OPTIONS", "prepare", "proved", "seeds_of", "spoiled"]

NETWORK = "cifar10_resnet20"
OPTIONS = {"num_classes": 3}
FOREIGN = {"recipe": (1, 2)}  # these ask for code: they are refused


@cache
def seeds_of(kind: str) -> tuple[bytes, ...]:
    """The sound files of a kind, the same in every process."""
    makers = {"card": _cards, "recipe": _recipes, "shard": _shards, "table": _tables, "npy": _arrays, "pth": _weights,
              "dicom": dicoms, "nifti": niftis, "proof": _proofs}  # fmt: skip
    return makers[kind]()


def _network() -> torch.nn.Module:
    torch.manual_seed(0)
    network = torchbcos.create_model(NETWORK, **OPTIONS)
    network.class_names = ("cat", "dog", "owl")
    return network


@cache
def _saved() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        torchbcos.save(_network(), folder)
        return {one.name: one.read_bytes() for one in Path(folder).iterdir()}


def _cards() -> tuple[bytes, ...]:
    return (_saved()["card.json"],)


def _recipes() -> tuple[bytes, ...]:
    plain = f'model = "{NETWORK}"\nepochs = 1\nbatch_size = 4\nlr = 0.01\n[options]\nb = 2.0\n'
    foreign = 'model = "evil:net"\nepochs = 1\n[options]\nwidth = 8\n'
    taught = f'model = "{NETWORK}"\nteacher = "evil.pt2"\nteacher_weight = 1.0\n'
    run = plain + '[run]\nclasses = ["cat", "dog"]\ntorch = "2.14"\n'
    return tuple(text.encode() for text in (plain, foreign, taught, run, to_toml(find_recipe("imagenette"), comments=True)))


@cache
def picture(suffix: str) -> bytes:
    """A small picture that is encoded as the suffix says."""
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, {".png": "PNG", ".jpg": "JPEG"}[suffix])
    return out.getvalue()


def _shards() -> tuple[bytes, ...]:
    made = []
    for names in (("a", "b", "c", "d"), ("cat/a", "dog/b", "cat/c.v1", "dog/d.v2")):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for i, name in enumerate(names):
                for suffix, content in ((".jpg", picture(".jpg")), (".cls", b"%d" % (i % 2))):
                    member = tarfile.TarInfo(name + suffix)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        made.append(out.getvalue())
    return tuple(made)


def _tables() -> tuple[bytes, ...]:
    rows = [("a.png", "cat", "train"), ("b.png", "dog", "train"), ("c.png", "cat", "val"), ("d.png", "dog", "val")]
    one = "file,class\n" + "".join(f"{file},{label}\n" for file, label, _ in rows)
    split = "file,class,split\n" + "".join(",".join(row) + "\n" for row in rows)
    many = "file,cat,dog\na.png,1,0\nb.png,0,1\nc.png,1,1\nd.png,0,0\n"
    return tuple(text.encode() for text in (one, split, many, one.replace("\n", "\r\n")))


def _arrays() -> tuple[bytes, ...]:
    made = []
    for shape, kind in (((3, 8, 8), "f4"), ((8, 8, 3), "u1"), ((1, 16), "f8"), ((2, 4, 4, 4), "f2")):
        out = io.BytesIO()
        np.save(out, np.ones(shape, kind))
        made.append(out.getvalue())
    return tuple(made)


def _weights() -> tuple[bytes, ...]:
    out = io.BytesIO()
    torch.save(_network().state_dict(), out)
    return (out.getvalue(),)


@cache
def proved() -> tuple[torch.nn.Module, torch.Tensor]:
    """The network and the input of the sound proofs."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    return network, torch.rand(1, 3, 8, 8)


def _proofs() -> tuple[bytes, ...]:
    network, x = proved()
    with tempfile.TemporaryDirectory() as folder:
        return tuple(
            torchbcos.explain(network, x, 1, contrast=contrast).prove(Path(folder) / "a.json").read_bytes()
            for contrast in (None, 2)
        )


def prepare(kind: str, folder: Path) -> Path:
    """Write what stands around a file of a kind; returns where the file belongs."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "card":
        (folder / "model.safetensors").write_bytes(_saved()["model.safetensors"])
    if kind == "npy":
        for name in ("one", "two"):
            (folder / name).mkdir(exist_ok=True)
            np.save(folder / name / "sound.npy", np.ones((3, 8, 8), "f4"))
        return folder / "one" / "spoiled.npy"
    if kind == "dicom":
        return prepare_slices(folder)
    if kind == "table":
        for name in "abcd":
            (folder / f"{name}.png").write_bytes(picture(".png"))
    # what runs when a name of a file is imported or unpickled
    (folder / "evil.py").write_text("open('executed', 'w').close()\ndef net(**options):\n    raise SystemExit\n")
    names = {"card": "card.json", "recipe": "recipe.toml", "shard": "train-0.tar", "table": "labels.csv", "pth": "w.pth",
             "nifti": "a.nii.gz", "proof": "a.json"}  # fmt: skip
    return folder / names[kind]


def spoiled(kind: str, number: int, seed: int) -> bytes:
    """The spoiled file with this number."""
    rng = random.Random(f"{kind} {seed} {number}")
    return rng.choice(MUTATORS[kind])(rng, rng.choice(seeds_of(kind)))
