"""Guidance losses against plain twins, their gradients against finite differences, and training that they steer."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import torchbcos
from tests.unit.training.data import squares, tiny
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, MissingFileError
from torchbcos.data.annotations import MOST, find_annotations
from torchbcos.data.sources import open_labelled
from torchbcos.explanation.layer import contribution_maps
from torchbcos.models import build
from torchbcos.pictures import Preprocess
from torchbcos.training import (
    distillation,
    energy_inside,
    energy_loss,
    explanation_distance,
    l1_loss,
    losses,
    optimisation,
    train,
)
from torchbcos.training.augment import Augment, preprocess_of
from torchbcos.training.recipe import Recipe


def energy_twin(maps: Tensor, mask: Tensor, corrected: bool) -> float:
    inside = outside = ins = outs = 0.0
    for value, m in zip(maps.flatten().tolist(), mask.flatten().tolist(), strict=True):
        positive = max(value, 0.0)
        if m:
            inside, ins = inside + positive, ins + 1
        else:
            outside, outs = outside + positive, outs + 1
    if corrected:
        inside, outside = inside / max(ins, 1), outside / max(outs, 1)
    return inside / (inside + outside) if inside + outside > 0 else 0.0


@given(seed=st.integers(0, 99), size=st.integers(2, 6), corrected=st.booleans())
def test_energy_is_that_of_a_plain_loop(seed: int, size: int, corrected: bool) -> None:
    torch.manual_seed(seed)
    maps, masks = torch.randn(2, size, size, dtype=torch.float64), (torch.rand(2, size, size) > 0.5).float()
    found = energy_inside(maps, masks, size_corrected=corrected)
    assert found.tolist() == pytest.approx([energy_twin(maps[i], masks[i], corrected) for i in range(2)], abs=1e-9)
    loss = energy_loss(maps, masks[:, None], size_corrected=corrected)
    torch.testing.assert_close(loss, 1 - found)


@given(seed=st.integers(0, 99), corrected=st.booleans())
def test_per_box_energy_counts_every_box_alike(seed: int, corrected: bool) -> None:
    torch.manual_seed(seed)
    maps = torch.randn(1, 6, 6, dtype=torch.float64)
    masks = torch.zeros(1, 3, 6, 6)
    masks[0, 0, 0, :3] = 1
    masks[0, 2, 3:, 2:5] = 1  # the second is empty
    expected = []
    for box in (masks[0, 0], masks[0, 2]):
        seen = ((box > 0) | (masks[0].amax(0) == 0)).double()
        expected.append(1 - energy_twin(maps[0] * seen, box, corrected))
    found = energy_loss(maps, masks, per_box=True, size_corrected=corrected)
    assert float(found) == pytest.approx(sum(expected) / 2, abs=1e-9)


@given(seed=st.integers(0, 99), per_box=st.booleans(), corrected=st.booleans())
def test_l1_is_a_plain_loops(seed: int, per_box: bool, corrected: bool) -> None:
    torch.manual_seed(seed)
    maps = torch.randn(1, 4, 4, dtype=torch.float64)
    masks = torch.zeros(1, 2, 4, 4)
    masks[0, 0, 0, :2] = 1
    masks[0, 1, 2:, 1:] = 1
    top = max(0.0, float(maps.max()))
    boxes = masks[0].unbind(0) if per_box else [masks[0].amax(0)]
    union, parts = masks[0].amax(0), []
    for box in boxes:
        within = [1 - max(float(v), 0) / top for v, m in zip(maps.flatten(), box.flatten(), strict=True) if m]
        around = [max(float(v), 0) / top for v, m in zip(maps.flatten(), union.flatten(), strict=True) if not m]
        if corrected:
            parts.append((sum(within) / len(within) + sum(around) / len(around)) / 2)
        else:
            parts.append((sum(within) + sum(around)) / (len(within) + len(around)))
    found = l1_loss(maps, masks, per_box=per_box, size_corrected=corrected)
    assert float(found) == pytest.approx(sum(parts) / len(parts), abs=1e-9)


def test_perfect_and_wrong_maps() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :2] = 1
    inside, outside = mask[:, 0] * 3.0, (1 - mask[:, 0]) * 3.0
    for loss in (energy_loss, l1_loss):
        assert float(loss(inside, mask)) == 0
        assert float(loss(outside, mask)) == 1
    assert float(energy_inside(-inside, mask[:, 0])) == 0
    assert float(explanation_distance(inside, -inside)) == pytest.approx(2)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        bnn.BcosConv2d(4, 5, 3, padding=1), bnn.BatchNorm(5, centered=False, bias=False), bnn.BcosConv2d(5, 3, 3, padding=1),
        bnn.GlobalAveragePool(),
    ).double().eval()  # fmt: skip


def test_maps_of_the_input_and_of_layers_sum_to_the_logit() -> None:
    model, x, y = net(), torch.rand(2, 4, 6, 5, dtype=torch.float64), torch.tensor([0, 2])
    value = model(x).gather(1, y[:, None]).squeeze(1)
    torch.testing.assert_close(contribution_maps(model, x, y), torchbcos.explain(model, x, y).contributions[:, 0])
    for at in (None, "0", "1", "2"):
        maps = contribution_maps(model, x, y, wrt=at)
        assert maps.shape == (2, 6, 5)
        torch.testing.assert_close(maps.sum((1, 2)), value.detach())
    with pytest.raises(InputError, match="no module '7'"):
        contribution_maps(model, x, y, wrt="7")


@pytest.mark.parametrize("at", [None, "1"])
def test_the_full_derivative_of_guidance_is_that_of_finite_differences(at: str | None) -> None:
    model, x = net(), torch.rand(1, 4, 4, 4, dtype=torch.float64)
    y = model(x).argmax(1)  # a class whose contributions are not all negative, or there is nothing to derive
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    mask[..., :2] = 1
    weight = model[0].weight

    def loss() -> Tensor:
        return energy_loss(contribution_maps(model, x, y, wrt=at, create_graph=True), mask).sum()

    (gradient,) = torch.autograd.grad(loss(), weight)
    assert float(gradient.abs().max()) > 1e-3
    (truncated,) = torch.autograd.grad(
        energy_loss(contribution_maps(model, x, y, wrt=at, create_graph="truncated"), mask).sum(), weight
    )
    with torch.no_grad():
        for index in ((0, 0, 0, 0), (1, 2, 1, 1), (4, 3, 2, 0)):
            before = float(weight[index])
            ends = []
            for step in (1e-6, -1e-6):
                weight[index] = before + step
                ends.append(float(loss()))
            weight[index] = before
            assert float(gradient[index]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-9)
    assert not torch.allclose(gradient, truncated)


def test_nothing_is_left_behind() -> None:
    model, x = build("cifar10_resnet20", num_classes=3).train(), torch.rand(2, 6, 16, 16)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    contribution_maps(model, x, torch.tensor([0, 1]), wrt="layer2", create_graph=True).sum().backward()
    assert model.training and x.grad is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def boxes(place: Path, rows: list[list[object]]) -> None:
    with (place / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "cx", "cy", "w", "h"], *rows])


def test_annotations_from_boxes_and_masks(tmp_path: Path) -> None:
    split = open_labelled(squares(tmp_path, 2)).train
    with pytest.raises(MissingFileError, match="Nothing says where the objects are"):
        find_annotations(tmp_path, split)
    boxes(tmp_path, [["blue/00.png", 0.25, 0.5, 0.5, 1.0], ["blue/00.png", 0.9, 0.9, 0.2, 0.2]])
    (tmp_path / "masks" / "red").mkdir(parents=True)
    grey = np.zeros((20, 20), np.uint8)
    grey[5:, :] = 255
    Image.fromarray(grey).save(tmp_path / "masks" / "red" / "01.png")
    found = find_annotations(tmp_path, split)
    assert len(found) == 2
    mask = found(0, (20, 20))
    assert mask.shape == (MOST, 20, 20)
    assert int(mask[0].sum()) == 200 and int(mask[1].sum()) == 16 and not mask[2:].any()
    assert int(found(5, (20, 20)).sum()) == 300
    assert not found(3, (20, 20)).any()
    assert len(find_annotations(tmp_path, split, share=0.5)) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [(["x", "a", 0, 1, 1], "line 2: cx, cy, w and h must be numbers"),
     (["x", 0.5, 0.5, 2, 1], "line 2: a box is given in fractions"),
     (["nowhere.png", 0.5, 0.5, 1, 1], "None of the 6 examples is annotated")],
)  # fmt: skip
def test_wrong_boxes(row: list[object], message: str, tmp_path: Path) -> None:
    split = open_labelled(squares(tmp_path, 2)).train
    boxes(tmp_path, [row])
    with pytest.raises(InputError, match=message):
        find_annotations(tmp_path, split)


def test_masks_are_cut_and_turned_with_their_pictures() -> None:
    recipe = tiny(crop="random", crop_scale=(0.3, 1.0), image_size=32, flip=0.5, brightness=0.0)
    augment = Augment(recipe, preprocess_of(recipe))
    pixels = np.zeros((48, 48, 3), np.uint8)
    pixels[10:30, 15:40] = 255
    mask = torch.from_numpy(pixels[None, :, :, 0] > 0).to(torch.uint8)
    for seed in range(10):
        torch.manual_seed(seed)
        x, cut = augment(Image.fromarray(pixels), mask)
        assert cut is not None
        bright = x[0] > 0.5
        assert float((bright == (cut[0] > 0)).float().mean()) > 0.9


def planted(place: Path) -> Path:
    """A red corner betrays the first class; the object in the middle does too."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("disk", "stripe")):
        (place / name).mkdir(parents=True)
        for i in range(24):
            pixels = rng.integers(0, 90, (24, 24, 3)).astype(np.uint8)
            pixels[9:17, 9:17, 1 + k] = 220
            if k == 0:
                pixels[:5, :5, 0] = 255
            Image.fromarray(pixels).save(place / name / f"{i:02}.png")
    box = [13 / 24, 13 / 24, 8 / 24, 8 / 24]
    boxes(place, [[f"{name}/{i:02}.png", *box] for name in ("disk", "stripe") for i in range(24)])
    return place


WAYS = [("energy", "", "truncated"), ("l1", "layer1", "truncated"), ("energy", "", "full")]


@pytest.mark.parametrize(("guide", "at", "order"), WAYS)
def test_guidance_moves_the_energy_inside(guide: str, at: str, order: str, tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    base = tiny(image_size=24, crop="none", flip=0.0, epochs=6, export="last", ema_decay=0.0, brightness=0.0)
    inside = []
    for weight in (0.0, 3.0):
        recipe = base
        if weight:
            recipe = base.changed(guide=guide, guide_weight=weight, guide_at=at, guide_order=order)
        train(recipe, data, tmp_path / f"run{weight}", accelerator="cpu", devices=1, say=lambda _: None)
        clf = torchbcos.load(tmp_path / f"run{weight}" / "model")
        pictures = [data / "disk" / f"{i:02}.png" for i in range(24)]
        e = clf.explain(pictures, "disk")
        mask = torch.zeros(24, 24, 24)
        mask[:, 9:17, 9:17] = 1
        inside.append(float(energy_inside(e.contributions[:, 0], mask).mean()))
    assert inside[1] > inside[0] + 0.1, inside


def test_guidance_refuses_what_moves_pictures_unknown_to_masks(tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    with pytest.raises(InputError, match="Guidance needs to know where things are"):
        train(tiny(guide="energy", guide_weight=1.0, cutmix=1.0), data, tmp_path / "r", accelerator="cpu", devices=1)


def test_several_processes_guide_though_one_has_no_annotated_picture(tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    rows = (data / "boxes.csv").read_text().splitlines()
    (data / "boxes.csv").write_text("\n".join(rows[:4]) + "\n")  # three of 48 pictures
    settings = ["model=cifar10_resnet20", "options={}", "pretrained=", "image_size=24", "test_size=24", "crop=none", "flip=0"]
    settings += ["workers=0"]
    settings += ["epochs=1", "batch_size=8", "freeze_epochs=1", "guide=energy", "guide_weight=1", "max_steps=4"]
    words = ["train", "finetune", "--data", str(data), "--out", str(tmp_path / "run"), "--device", "cpu", "--devices", "2"]
    words += ["--json"]
    done = subprocess.run(
        [sys.executable, "-m", "torchbcos.cli", *words, "--set", *settings], capture_output=True, text=True, timeout=250,
        cwd=Path(__file__).parents[3], env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["steps"] == 4  # printed by one process, and by no library below it


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    data = squares(tmp_path / "data")
    with pytest.raises(InputError, match=r"The teacher 'imagenette' has 10 classes \(tench.*, the data 3 .*know 'blue'"):
        train(tiny(teacher="imagenette", teacher_weight=1.0), data, tmp_path / "r", accelerator="cpu", devices=1)


def test_the_teacher_sees_the_mixed_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = squares(tmp_path / "data"), list[Tensor]()
    train(tiny(epochs=1), data, tmp_path / "teacher", accelerator="cpu", devices=1, say=lambda _: None)
    usual = distillation.Teacher.look

    def look(self: distillation.Teacher, x: Tensor, classes: int) -> distillation.Taught:
        seen.append(x)
        return usual(self, x, classes)

    def mixed(self: optimisation.Mixer, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x) + 0.25, targets

    monkeypatch.setattr(distillation.Teacher, "look", look)
    monkeypatch.setattr(optimisation.Mixer, "__call__", mixed)
    recipe = tiny(epochs=1, mixup=0.5, teacher=str(tmp_path / "teacher" / "model"), teacher_weight=1.0)
    train(recipe, data, tmp_path / "student", accelerator="cpu", devices=1, say=lambda _: None)
    assert seen and all(float((x - 0.25).abs().max()) == 0 for x in seen)


def test_distillation_brings_explanations_closer(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 16)
    quiet = dict(accelerator="cpu", devices=1, say=lambda _: None)
    base = tiny(epochs=3, export="last", ema_decay=0.0, flip=0.0, crop="none")
    train(base.changed(epochs=6), data, tmp_path / "teacher", **quiet)  # type: ignore[arg-type]
    distances = []
    teacher = torchbcos.load(tmp_path / "teacher" / "model")
    pictures = sorted((data / "red").glob("*.png"))
    theirs = teacher.explain(pictures, "red").contributions
    for weight in (0.0, 5.0):
        recipe = base.changed(
            seed=9, teacher=str(tmp_path / "teacher" / "model"), teacher_weight=1.0, teacher_explanations=weight
        )
        train(recipe, data, tmp_path / f"student{weight}", **quiet)  # type: ignore[arg-type]
        mine = torchbcos.load(tmp_path / f"student{weight}" / "model").explain(pictures, "red").contributions
        distances.append(float(explanation_distance(mine, theirs).mean()))
    assert distances[1] < distances[0], distances


class Reddest(nn.Module):
    """A plain classifier of pixels: the mean of each colour, blue first as the folders are sorted; never grey."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3
        return 40 * x.mean((2, 3)).flip(1)


def program(path: Path, classifier: nn.Module) -> str:
    sizes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    torch.export.save(torch.export.export(classifier, (torch.rand(4, 3, 32, 32),), dynamic_shapes=(sizes,)), path)
    return str(path)


def taught(recipe: Recipe, teacher: distillation.Teacher, student: nn.Module, x: Tensor, logits: Tensor) -> Tensor:
    """What the losses of distillation add for a student's logits."""
    count = logits.shape[1]
    answer = losses.Answer(student, losses.Batch(x, logits, logits.argmax(1)), logits, teacher.look(x, count))
    own, *terms = losses.terms_of(recipe, count)
    assert isinstance(own, losses.Bce) and terms
    return torch.stack([term.weight * term.term(answer) for term in terms]).sum()


@pytest.mark.parametrize("plain", [False, True])
def test_any_classifier_teaches_as_a_program(tmp_path: Path, plain: bool) -> None:
    """Its softmax of the pixels, whatever the student's encoding is."""
    recipe = Recipe(plain=plain, teacher=program(tmp_path / "t.pt2", Reddest()), teacher_weight=2.0)
    prepare = preprocess_of(recipe)
    teacher = distillation.Teacher(recipe, prepare)
    x, logits = torch.rand(5, 3, 24, 24), torch.randn(5, 3)
    encoded = prepare.encode(x, dim=1) if plain else torch.cat([x, 1 - x], 1)
    expected = torch.nn.BCEWithLogitsLoss()(logits, Reddest()(x).softmax(1))
    torch.testing.assert_close(taught(recipe, teacher, nn.Identity(), encoded, logits), 2 * expected, rtol=1e-4, atol=1e-5)


def test_a_program_teaches_a_whole_run(tmp_path: Path) -> None:
    recipe = tiny(epochs=1, teacher=program(tmp_path / "t.pt2", Reddest()), teacher_weight=1.0)
    train(recipe, squares(tmp_path / "data"), tmp_path / "run", accelerator="cpu", devices=1, say=lambda _: None)
    assert "learned from a teacher (program 't.pt2'" in (torchbcos.load(tmp_path / "run" / "model").card.terms or "")


def test_programs_that_cannot_teach_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.pt2").write_bytes(b"PK but no program")
    for name, kind in (("broken.pt2", InputError), ("missing.pt2", MissingFileError)):
        with pytest.raises(kind, match=name):
            distillation.Teacher(Recipe(teacher=str(tmp_path / name), teacher_weight=1.0), Preprocess())
    with pytest.raises(InputError, match="no B-cos explanations"):
        Recipe(teacher="t.pt2", teacher_explanations=1.0)
    teacher = distillation.Teacher(Recipe(teacher=program(tmp_path / "t.pt2", Reddest()), teacher_weight=1.0), Preprocess())
    with pytest.raises(InputError, match=r"t.pt2' returns \(2, 3\).*\(2, 7\)"):
        teacher.look(torch.rand(2, 6, 8, 8), 7)


def test_a_teacher_of_more_classes_in_another_order_teaches_those_of_the_data(tmp_path: Path) -> None:
    """The embedded network's columns and explanations, found by name."""
    clf = torchbcos.load("imagenette")
    names = (clf.class_names[6], clf.class_names[2], clf.class_names[9])
    recipe = Recipe(teacher="imagenette", teacher_weight=1.0, teacher_explanations=1.0, guide_order="full")
    teacher = distillation.Teacher(recipe, Preprocess())
    teacher.check_classes(names)
    torch.manual_seed(0)
    pixels = torch.rand(3, 3, 64, 64)
    x = torch.cat([pixels, 1 - pixels], 1)
    theirs = clf.model(x)[:, [6, 2, 9]]
    student = nn.Sequential(clf.model, Columns([6, 2, 9]))  # knows all that the teacher does
    own = torch.nn.BCEWithLogitsLoss()(theirs, theirs.sigmoid())
    torch.testing.assert_close(taught(recipe, teacher, student, x, theirs), own, rtol=1e-4, atol=1e-4)


class Columns(nn.Module):
    """Some classes of all."""

    def __init__(self, chosen: list[int]) -> None:
        super().__init__()
        self.chosen = chosen

    def forward(self, logits: Tensor) -> Tensor:
        return logits[:, self.chosen]
