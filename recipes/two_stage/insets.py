"""Objects pasted into scenes that go with them: does a network that provably looked nowhere else care for the scene?

    python recipes/two_stage/insets.py --data DATA --out insets          (`make insets`; runs that are there are not made again)

A CIFAR-10 photo of an animal or a vehicle (32 px) is pasted at a random place of a 64 px scene: a crop of an unlabelled photo,
warm or cold by its colours. Kind of object and kind of scene agree in 95 of 100 training pictures and in half of the test
pictures, so the scene is an easy wrong reason. The place of the object is known exactly.

The first stage takes features of the embedded network of ten classes, computed once; part vectors alone are learned there.
Compared are an ordinary and a B-cos transformer on the whole picture, two stages with hard masks (with and without the gradient
to the first stage that published code cuts; trained together or one after the other), and soft and late masks: accuracy of the
four groups, the worst of them, how well the selection meets the object, and how far the answer follows a scene that is
exchanged. What came out: docs/explanation/two-stages.md.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import torchbcos
from torchbcos import functional
from torchbcos.models.network import Network
from torchbcos.models.selecting import Features, chosen, describe
from torchbcos.models.two_stage import TwoStage
from torchbcos.training.parts import PartLosses

SIDE, INSET, PATCH = 64, 32, 8
VEHICLES = (0, 1, 8, 9)
TRAIN, TEST, EPOCHS, FIRST, BATCH, LR = 6000, 2000, 6, 30, 64, 1e-3
# network options, and how it is trained: "whole": everything is selected; "after": the first stage by itself, then the second
ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({"plain": True}, "whole"),
    "bcos": ({}, "whole"),
    "hard": ({}, "together"),
    "hard-cut": ({"cut": True}, "together"),
    "soft": ({"mask": "soft"}, "together"),
    "late": ({"mask": "late"}, "together"),
    "decoupled": ({"cut": True}, "after"),
    "published": (
        {"cut": True, "noise": "always"},
        "features",
    ),  # its defects: no gradient, drawn when judging, features compared
}


@dataclass
class Pictures:
    """Encoded later.

    Attributes:
        rgb: (N, 3, 64, 64) in [0, 1]. y: (N,) 1 for vehicles. ten: (N,) the class of CIFAR-10. warm: (N,) 1 for warm scenes.
        inside: (N, 8, 8) share of each patch that is object.
        features: of the first stage, as they are and mirrored.
    """

    rgb: Tensor
    y: Tensor
    ten: Tensor
    warm: Tensor
    inside: Tensor
    features: tuple[Tensor, Tensor] | None = None


def objects(data: Path, split: str, count: int) -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) in [0, 1] and which of ten classes each is of; as many vehicles as animals."""
    stored = np.load(data / "cifar10" / f"{split}.npz")
    header, content, ends = stored["header"].tobytes(), stored["data"].tobytes(), stored["offsets"]
    vehicle = np.isin(stored["labels"], VEHICLES)
    which = np.sort(np.concatenate([np.flatnonzero(vehicle)[: count // 2], np.flatnonzero(~vehicle)[: count - count // 2]]))
    pictures = [Image.open(io.BytesIO(header + content[ends[i] : ends[i + 1]])).convert("RGB") for i in which]
    pixels = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 255
    return pixels, torch.from_numpy(stored["labels"][which]).long()


def scenes(data: Path) -> tuple[Tensor, Tensor]:
    """Calm crops (M, 3, 64, 64) of unlabelled photos, and whether each is warm: more red than blue.

    Of 40 crops of a photo, each a third of its shorter side, the one with the least differences between neighbours; of the
    photos, the calmer three fifths; of those, the third between warm and cold is left out.
    """
    generator = np.random.default_rng(0)
    found: list[tuple[float, np.ndarray[Any, Any]]] = []
    for file in sorted((data / "photos-unlabelled").glob("*.tar")):
        with tarfile.open(file) as archive:
            for member in archive.getmembers():
                content = archive.extractfile(member)
                if content is not None:
                    found.append(_calm(Image.open(io.BytesIO(content.read())).convert("RGB"), generator))
    limit = np.quantile([score for score, _ in found], 0.6)
    pixels = torch.from_numpy(np.stack([crop for score, crop in found if score <= limit])).permute(0, 3, 1, 2).float() / 255
    warmth = (pixels[:, 0] - pixels[:, 2]).mean((1, 2))
    low, high = warmth.quantile(1 / 3), warmth.quantile(2 / 3)
    keep = (warmth < low) | (warmth > high)
    return pixels[keep], (warmth[keep] > high).long()


def _calm(photo: Image.Image, generator: np.random.Generator) -> tuple[float, np.ndarray[Any, Any]]:
    """The calmest of some crops: its mean difference between neighbours, and its pixels."""
    side, grey = min(photo.size) // 3, np.asarray(photo.convert("L")).astype(float)
    change = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    places = [(int(generator.integers(photo.width - side)), int(generator.integers(photo.height - side))) for _ in range(40)]
    score, left, top = min((change[y : y + side, x : x + side].mean(), x, y) for x, y in places)
    crop = photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return float(score), np.asarray(crop)


def paste(data: Path, split: str, count: int, agree: float, seed: int) -> Pictures:
    """Objects in scenes of which the share `agree` is of the kind that goes with them (vehicles: warm)."""
    things, ten = objects(data, split, count)
    y = torch.isin(ten, torch.tensor(VEHICLES)).long()
    places, warm = scenes(data)
    generator = torch.Generator().manual_seed(seed)
    half = len(places) // 2  # no scene is in both
    pool = torch.arange(half) if split == "train" else torch.arange(half, len(places))
    of_kind = [pool[warm[pool] == kind] for kind in (0, 1)]
    kind = torch.where(torch.rand(count, generator=generator) < agree, y, 1 - y)
    rgb, inside = torch.empty(count, 3, SIDE, SIDE), torch.zeros(count, SIDE, SIDE)
    for i in range(count):
        options = of_kind[int(kind[i])]
        rgb[i] = places[options[int(torch.randint(len(options), (), generator=generator))]]
        top, left = torch.randint(SIDE - INSET + 1, (2,), generator=generator).tolist()
        rgb[i, :, top : top + INSET, left : left + INSET] = things[i]
        inside[i, top : top + INSET, left : left + INSET] = 1
    shares = F.avg_pool2d(inside[:, None], PATCH)[:, 0]
    return Pictures(rgb, y, ten, kind, shares)


def encoded(rgb: Tensor, model: TwoStage) -> Tensor:
    """What a network takes."""
    return rgb if model.in_channels == 3 else functional.add_inverse(rgb)


@torch.no_grad()
def features_of(network: Network, rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, 8, 8, D) of pictures as they are and mirrored, in half precision."""
    first = Features(copy.deepcopy(network), PATCH)
    both = []
    for pixels in (rgb, rgb.flip(3)):
        both.append(torch.cat([first(functional.add_inverse(part)).half() for part in pixels.split(100)]))
    return both[0], both[1]


def make(arm: str, network: Network, mean: str, seed: int) -> TwoStage:
    """A fresh network of an arm."""
    torch.manual_seed(seed)
    options, _ = ARMS[arm]
    if options.get("plain"):
        model = torchbcos.create_model("two_stage_nano", num_classes=2, plain=True, parts=1)
    else:
        model = torchbcos.create_model(
            "two_stage_nano",
            num_classes=2,
            features=describe(network),
            normalize=mean,
            first_classes=10,
            **{"parts": 1, **options},
        )
        model.where.take(network)
    assert isinstance(model, TwoStage)
    return model


def train(arm: str, model: TwoStage, data: Pictures, epochs: int, seed: int) -> None:
    """AdamW, warm-up and cosine; mirrored pictures. Part vectors are learned by themselves first, which takes seconds."""
    how = ARMS[arm][1]
    losses = PartLosses(scores=3, certain=0.3, border=1, turned=0, of="features" if how == "features" else "parts")
    generator = torch.Generator().manual_seed(seed)
    if how == "whole":
        fit(arm, "second", model, data, losses, epochs, generator)
        return
    assert data.features is not None
    with torch.no_grad():  # vectors begin near what there is
        tokens = model.where.norm(data.features[0].float()).flatten(0, 2)
        model.where.parts.vectors.copy_(
            0.3 * tokens[torch.randperm(len(tokens), generator=generator)[: len(model.where.parts.vectors)]]
        )
    fit(arm, "first", model, data, losses, FIRST, generator)
    fit(arm, "second" if how == "after" else "both", model, data, losses, epochs, generator)


def fit(
    arm: str, stage: str, model: TwoStage, data: Pictures, losses: PartLosses, epochs: int, generator: torch.Generator
) -> None:  # fmt: skip
    """Train the first stage, the second, or both."""
    rates = {"where.parts.": 3e-2, "part_scores.": 1e-2}
    groups = [
        {
            "params": [p for n, p in model.named_parameters() if n.startswith(begin)],
            "peak": rate if stage == "first" else rate / 10,
        }
        for begin, rate in rates.items()
        if stage != "second"
    ]
    if stage != "first":
        rest = [p for n, p in model.named_parameters() if p.requires_grad and not n.startswith((*rates, "where"))]
        groups.append({"params": rest, "peak": LR})
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    batches = len(data.y) // BATCH
    for step in range(epochs * batches):
        if step % batches == 0:
            model.train()
            order, began, total = torch.randperm(len(data.y), generator=generator), time.perf_counter(), 0.0
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / batches) * 0.5 * (1 + math.cos(math.pi * step / epochs / batches))
        chosen = order[step % batches * BATCH :][:BATCH]
        loss = loss_of(arm, stage, model, data, losses, chosen, bool(torch.rand((), generator=generator) < 0.5))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 2.0)
        optimizer.step()
        total += float(loss.detach())
        if (step + 1) % batches == 0 and (stage != "first" or step + 1 == epochs * batches):
            spent = time.perf_counter() - began
            print(f"{arm} {stage} epoch {step // batches}: loss {total / batches:.3f}, {spent:.0f} s", flush=True)


def loss_of(
    arm: str, stage: str, model: TwoStage, data: Pictures, losses: PartLosses, chosen: Tensor, mirror: bool
) -> Tensor:  # fmt: skip
    """Of some pictures."""
    x = encoded(data.rgb[chosen].flip(3) if mirror else data.rgb[chosen], model)
    if ARMS[arm][1] == "whole":
        return F.cross_entropy(model.look(x, everything(len(x))), data.y[chosen])
    assert data.features is not None
    tokens = model.where.norm(data.features[mirror][chosen].float())
    loss = x.new_zeros(())
    if stage != "second":
        loss = loss + losses.loss(model, x, F.one_hot(data.ten[chosen], 10).float(), tokens)
    if stage != "first":
        loss = loss + F.cross_entropy(model.look(x, model.where.of_tokens(tokens)), data.y[chosen])
    return loss


def everything(count: int) -> Tensor:
    """A selection of every patch."""
    return torch.ones(count, SIDE // PATCH, SIDE // PATCH, dtype=torch.bool)


@torch.no_grad()
def judge(arm: str, model: TwoStage, data: Pictures) -> dict[str, Any]:
    """Accuracy of the four groups, and how the selection meets the object."""
    model.eval()
    logits, seen = [], []
    for i in range(0, len(data.y), 100):
        x = encoded(data.rgb[i : i + 100], model)
        if ARMS[arm][1] == "whole":
            selection = everything(len(x))
            logits.append(model.look(x, selection))
        else:
            assert data.features is not None
            tokens = model.where.norm(data.features[0][i : i + 100].float())
            selection = chosen(model.where.parts(tokens))
            logits.append(model.look(x, model.where.of_tokens(tokens)))
        seen.append(selection)
    right, selection = torch.cat(logits).argmax(1) == data.y, torch.cat(seen)
    groups = {
        f"{'vehicle' if y else 'animal'}, {'warm' if warm else 'cold'}": float(
            right[(data.y == y) & (data.warm == warm)].float().mean()
        )
        for y in (0, 1)
        for warm in (0, 1)
    }
    inset = data.inside >= 0.5
    union = (inset | selection).sum((1, 2))
    return {
        "average": float(right.float().mean()), "worst": min(groups.values()), "groups": groups,
        "agreeing": float(right[data.y == data.warm].float().mean()), "other": float(right[data.y != data.warm].float().mean()),
        "iou": float(((inset & selection).sum((1, 2)) / union).mean()), "selected": float(selection.float().mean()),
        "recall": float(((inset & selection).sum((1, 2)) / inset.sum((1, 2))).mean()),
    }  # fmt: skip


def run(arm: str, seed: int, parts: tuple[Pictures, Pictures], network: Network, out: Path, epochs: int) -> dict[str, Any]:
    """Train and judge one network, unless that was done."""
    file = out / f"{arm}-{seed}.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    training, test = parts
    mean = " ".join(f"{value:.3f}" for value in training.rgb.mean((0, 2, 3)).tolist())
    model = make(arm, network, mean, seed)
    began = time.perf_counter()
    train(arm, model, training, epochs, seed)
    found = {"arm": arm, "seed": seed, **judge(arm, model, test), "seconds": round(time.perf_counter() - began)}
    prepare = {"resize": SIDE, "crop": SIDE, **({"encoding": "none"} if model.plain else {})}
    classifier = torchbcos.Classifier(model, class_names=("animal", "vehicle"), preprocess=prepare)
    torchbcos.save(classifier, out / f"{arm}-{seed}")
    file.write_text(json.dumps(found, indent=1))
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10 and photos-unlabelled")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs")
    parser.add_argument("--arms", default=",".join(ARMS), help="which; default: all")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    given = parser.parse_args()
    torch.set_flush_denormal(True)
    given.out.mkdir(parents=True, exist_ok=True)
    network = torchbcos.load("imagenette", deploy=False).model
    assert isinstance(network, Network)
    stored = given.out / "pictures.pt"
    if not stored.exists():
        parts = paste(given.data, "train", TRAIN, 0.95, 0), paste(given.data, "test", TEST, 0.5, 1)
        for part in parts:
            part.features = features_of(network, part.rgb)
        torch.save([vars(part) for part in parts], stored)
    kept = [Pictures(**part) for part in torch.load(stored)]
    rows = [
        run(arm, seed, (kept[0], kept[1]), network, given.out, given.epochs)
        for seed in range(given.seeds)
        for arm in given.arms.split(",")
    ]
    (given.out / "insets.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
