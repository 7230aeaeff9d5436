"""Alignment: its losses against plain twins, where two networks are compared, whole runs, and what is refused."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

import torchbcos
from tests.unit.training.data import squares
from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos.conversion import conversion_of
from torchbcos.data.unlabelled import open_unlabelled
from torchbcos.functional import add_inverse
from torchbcos.training import Recipe, find_recipe, judge, read_recipe, train
from torchbcos.training.alignment import POOLED, AlignmentLoss, agreement, check_convolutional, points_of, relative_error
from torchbcos.zoo import Classifier

MOMENTS: dict[str, Any] = {"encoding": "normalize", "mean": (0.5,) * 3, "std": (0.25,) * 3}
NAMES = ("cat", "dog", "hen", "owl")


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, len(NAMES)),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("teacher") / "teacher"
    torchbcos.save(Classifier(net(), class_names=NAMES, preprocess={"resize": 16, "crop": 16, **MOMENTS}), place)
    return place


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("photos") / "photos", 8)


def recipe_of(known: Path, **values: Any) -> Recipe:
    small: dict[str, Any] = {
        "image_size": 16, "grow_from": 0, "test_size": 16, "test_resize": 16, "epochs": 2, "batch_size": 8, "workers": 0,
        "selection_share": 0.1, "warmup_steps": 1, "teacher": str(known),
    }  # fmt: skip
    return find_recipe("align").changed(**{**small, **values})


def run(known: Path, photos: Path, out: Path, **values: Any) -> tuple[dict[str, Any], list[str]]:
    lines: list[str] = []
    return train(recipe_of(known, **values), photos, out, accelerator="cpu", devices=1, say=lines.append), lines


# -- losses ----------------------------------------------------------------------------------------------------------------


def twin_of_loss(mine: dict[str, Tensor], theirs: dict[str, Tensor], s: Tensor, t: Tensor, loss: AlignmentLoss) -> float:
    """The loss, number by number."""
    blocks = [key for key in mine if key != POOLED]
    total = 0.0
    for key in blocks:
        a, b = mine[key].flatten().tolist(), theirs[key].flatten().tolist()
        above, below = sum((p - q) ** 2 for p, q in zip(a, b, strict=True)), sum(q**2 for q in b)
        total += loss.features / len(blocks) * above / below
    for a, b in zip(mine[POOLED].flatten(1), theirs[POOLED].flatten(1), strict=True):
        total += loss.pooled / len(s) * (1 - float(a @ b / (a.norm() * b.norm())))
    for a, b in zip(s / loss.temperature, t / loss.temperature, strict=True):
        p, q = b.exp() / b.exp().sum(), a.exp() / a.exp().sum()
        total += loss.logits / len(s) * float((p * (p / q).log()).sum())
    return total


@given(
    weights=st.tuples(st.floats(0.1, 9), st.floats(0.1, 9), st.floats(0.1, 9)), temperature=st.floats(0.5, 4),
    blocks=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_loss_is_its_twin(weights: tuple[float, float, float], temperature: float, blocks: int, seed: int) -> None:
    torch.manual_seed(seed)
    heard = [{f"{k}": torch.randn(3, 2 + k, 4, 4).double() for k in range(blocks)} | {POOLED: torch.randn(3, 5).double()}
             for _ in range(2)]  # fmt: skip
    s, t = torch.randn(3, 6).double(), torch.randn(3, 6).double()
    loss = AlignmentLoss(*weights, temperature)
    found = float(loss.total(loss.parts(heard[0], heard[1], (s, t))))
    assert found == pytest.approx(twin_of_loss(heard[0], heard[1], s, t, loss), rel=1e-9)


def test_a_student_that_agrees_loses_nothing_and_a_loss_of_weight_zero_is_not_there() -> None:
    heard = {"a": torch.randn(2, 3, 4, 4), POOLED: torch.randn(2, 5)}
    logits = torch.randn(2, 4)
    for probability in ("softmax", "sigmoid"):
        assert float(AlignmentLoss().total(AlignmentLoss().parts(heard, heard, (logits, logits), probability))) < 1e-5
    assert set(AlignmentLoss(1.0, 0.0, 0.0).parts(heard, heard, (logits, logits))) == {"features"}


def test_the_teacher_gets_no_gradient_and_sigmoids_their_own_divergence() -> None:
    mine, theirs = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    (relative_error(mine, theirs) + agreement(mine, theirs, 2.0) + agreement(mine, theirs, 1.0, "sigmoid")).backward()
    assert mine.grad is not None and theirs.grad is None
    p, q = (theirs.detach().double() / 2).sigmoid(), (mine.detach().double() / 2).sigmoid()
    wanted = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert float(agreement(mine.detach(), theirs, 2.0, "sigmoid")) == pytest.approx(float(wanted), rel=1e-4)


# -- where two networks are compared ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "blocks", "classifier"),
    [
        (lambda: torchvision.models.resnet18(num_classes=4), ("layer1.0", "layer4.1"), "fc"),
        (lambda: torchvision.models.vgg11(num_classes=4), ("features.1", "features.19"), "classifier.6"),
        (lambda: torchvision.models.densenet121(num_classes=4), ("features.denseblock1", "features.transition3"), "classifier"),
        (lambda: torchvision.models.mobilenet_v2(num_classes=4), ("features.0", "features.18"), "classifier.1"),
        (net, ("2", "4"), "7"),
    ],
    ids=["resnet", "vgg", "densenet", "mobilenet", "sequential"],
)
def test_blocks_and_classifier_are_found(make: Callable[[], nn.Module], blocks: tuple[str, ...], classifier: str) -> None:
    torch.manual_seed(0)
    given_net = make().eval()
    x = torch.rand(2, 3, 64, 64)
    student, _ = torchbcos.bcosify(given_net, b=1.5, example=x, mean=(0.5,) * 3, std=(0.25,) * 3)
    seen, encoded = (x - 0.5) / 0.25, add_inverse(x)
    points = points_of(given_net, student, seen, encoded)
    assert points.classifier == classifier and {*blocks} <= {*points.blocks}
    with torch.no_grad(), points.listening(given_net) as theirs, points.listening(student) as mine:
        given_net(seen)
        student(encoded)
    assert list(theirs) == list(mine) and all(theirs[key].shape == mine[key].shape for key in theirs)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


def test_a_student_of_another_network_is_refused() -> None:
    x = torch.rand(2, 3, 32, 32)
    student, _ = torchbcos.bcosify(net(), example=x, mean=(0.5,) * 3, std=(0.25,) * 3)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9))
    with pytest.raises(InputError, match="not made of this teacher"):
        points_of(other, student, x, add_inverse(x))


def test_networks_with_attention_are_refused_and_others_are_not() -> None:
    timm = pytest.importorskip("timm")
    x = torch.rand(1, 3, 32, 32)
    for network in (
        torchvision.models.vit_b_16(image_size=32, num_classes=2), torchvision.models.swin_t(num_classes=2),
        timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=2),
    ):  # fmt: skip
        with pytest.raises(InputError, match="has attention"):
            check_convolutional(network.eval(), x)
    for name in ("efficientnet_b0", "resnet18", "convnext_atto"):
        check_convolutional(timm.create_model(name, num_classes=2).eval(), torch.rand(1, 3, 64, 64))


# -- whole runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(teacher: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    report, lines = run(teacher, photos, out)
    said = "\n".join(lines)
    assert "constants: none" in said and "Compared with the teacher at 2 blocks" in said
    assert report["steps"] == 4 and 0 <= report["selection"]["top1"] <= 100
    return out


def test_the_model_is_a_b_cos_network_without_constants(whole: Path) -> None:
    model = torchbcos.load(str(whole / "model"), deploy=False)
    e = torchbcos.explain(model.model.double(), torch.rand(2, 6, 16, 16, dtype=torch.float64))
    assert float(e.residual.abs().max()) < 1e-12 and not e.constants and float((e.share - 1).abs().max()) < 1e-9
    assert model.class_names == NAMES and model.card.probability == "sigmoid" and model.card.top1 is not None
    assert str(model.card.measured).startswith("agreement with its teacher")


def test_it_learns(teacher: Path, photos: Path, tmp_path: Path) -> None:
    run(teacher, photos, tmp_path / "run", epochs=30, lr=0.01, options={"b": 3.0})
    losses = [float(line.split(",")[2]) for line in (tmp_path / "run/history.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.6 * losses[0]


def test_a_run_that_stopped_goes_on_to_the_bit(whole: Path, teacher: Path, photos: Path, tmp_path: Path) -> None:
    run(teacher, photos, tmp_path / "run", max_steps=3)
    (tmp_path / "run" / "report.json").unlink()
    shutil.rmtree(tmp_path / "run" / "model")
    _, lines = run(teacher, photos, tmp_path / "run")
    assert any("from step 3 of 4" in line for line in lines) and not any("Converting" in line for line in lines)
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_a_student_that_was_not_written_to_its_end_is_made_again(
    whole: Path, teacher: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole / "student", tmp_path / "run" / "student")
    (tmp_path / "run/student/report.json").unlink()
    (tmp_path / "run/student/model.safetensors").write_bytes(b"half")
    run(teacher, photos, tmp_path / "run")
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_a_student_of_another_teacher_or_with_other_options_is_made_again(
    whole: Path, teacher: Path, photos: Path, tmp_path: Path
) -> None:
    """Of a run that was killed before it began to train: its folder has no recipe yet."""
    preprocess = {"resize": 16, "crop": 16, **MOMENTS}
    torchbcos.save(Classifier(net(1), class_names=NAMES, preprocess=preprocess), tmp_path / "other")
    for out, (source, values) in {"a": (tmp_path / "other", {}), "b": (teacher, {"options": {"b": 2.0}})}.items():
        run(source, photos, tmp_path / "fresh" / out, **values)
        shutil.copytree(whole / "student", tmp_path / out / "student")
        _, lines = run(source, photos, tmp_path / out, **values)
        assert any("Converting" in line for line in lines)
        found, fresh = (place / out / "model/model.safetensors" for place in (tmp_path, tmp_path / "fresh"))
        assert found.read_bytes() == fresh.read_bytes()
    shutil.copytree(whole / "student", tmp_path / "run" / "student")
    assert not any("Converting" in line for line in run(teacher, photos, tmp_path / "run")[1])


def test_a_teacher_that_changed_while_a_run_was_interrupted_is_refused(photos: Path, tmp_path: Path) -> None:
    preprocess = {"resize": 16, "crop": 16, **MOMENTS}
    torchbcos.save(Classifier(net(), class_names=NAMES, preprocess=preprocess), tmp_path / "teacher")
    run(tmp_path / "teacher", photos, tmp_path / "run", max_steps=3)
    shutil.rmtree(tmp_path / "teacher")
    torchbcos.save(Classifier(net(1), class_names=NAMES, preprocess=preprocess), tmp_path / "teacher")
    with pytest.raises(StateError, match="not converted from the teacher as it is now"):
        run(tmp_path / "teacher", photos, tmp_path / "run")


def test_a_damaged_student_says_how_it_is_made_again(whole: Path, teacher: Path, photos: Path, tmp_path: Path) -> None:
    for damage in (lambda file: file.write_bytes(b"half"), lambda file: file.unlink()):
        shutil.copytree(whole / "student", tmp_path / "run" / "student")
        damage(tmp_path / "run/student/model.safetensors")
        with pytest.raises(BcosError, match="prepares the student again"):
            run(teacher, photos, tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "student")
    run(teacher, photos, tmp_path / "run")


def test_neither_network_has_dropout_or_statistics_of_batches(photos: Path, tmp_path: Path) -> None:
    """With B = 1 and its biases the student is its teacher: whatever is lost then is noise."""
    torch.manual_seed(0)
    noisy = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, len(NAMES)),
    ).eval()  # fmt: skip
    preprocess = {"resize": 16, "crop": 16, **MOMENTS}
    torchbcos.save(Classifier(noisy, class_names=NAMES, preprocess=preprocess), tmp_path / "noisy")
    options = {"b": 1.0, "biases": "keep", "border": "mean"}
    run(tmp_path / "noisy", photos, tmp_path / "run", lr=1e-9, lr_end=0.0, options=options)
    losses = [float(line.split(",")[2]) for line in (tmp_path / "run/history.csv").read_text().splitlines()[1:]]
    assert max(losses) < 1e-3


def test_a_finished_run_is_left_alone(whole: Path, teacher: Path, photos: Path) -> None:
    before = (whole / "model/model.safetensors").stat().st_mtime_ns
    _, lines = run(teacher, photos, whole)
    assert "is finished" in lines[-1] and (whole / "model/model.safetensors").stat().st_mtime_ns == before


def test_an_aligned_network_is_trained_on(whole: Path, teacher: Path, photos: Path, tmp_path: Path) -> None:
    """As the student of another alignment."""
    report, _ = run(teacher, photos, tmp_path / "run", pretrained=str(whole / "model"), epochs=1)
    assert report["steps"] == 2 and not (tmp_path / "run" / "student").exists()


def test_a_network_of_ours_that_was_converted_keeps_its_layers(photos: Path, tmp_path: Path) -> None:
    """A plain network of our own families is no other than networks of others once it is converted."""
    torch.manual_seed(0)
    plain = torchbcos.create_model("resnet18", num_classes=4, in_channels=3, plain=True, width_factor=0.25)
    preprocess = {"resize": 32, "crop": 32, **MOMENTS}
    torchbcos.save(Classifier(plain.eval(), class_names=NAMES, preprocess=preprocess), tmp_path / "teacher")
    run(tmp_path / "teacher", photos, tmp_path / "run", image_size=32, test_size=32, test_resize=32, epochs=1)
    model = torchbcos.load(str(tmp_path / "run/model"), deploy=False).model
    assert conversion_of(model) is not None
    assert float(torchbcos.explain(model, torch.rand(1, 6, 32, 32)).residual.abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teacher": ""}, "Which network is to be aligned"),
        ({"teacher": "nowhere/at/all"}, "nowhere"),
        ({"options": {"b": 1.5, "width_factor": 2}}, "not width_factor"),
        ({"pretrained": "imagenette"}, "was not converted"),
        ({"teacher_explanations": 1.0}, "leave out teacher_explanations"),
        ({"b_epochs": 3.0}, "more than epochs"),
        ({"b_epochs": 2.0, "max_steps": 3}, "before B is where"),
        ({"b_epochs": 2.0, "export": "best"}, "leave out compile"),
        ({"calibrate": True}, "leave out calibrate"),
        ({"loss": "bce"}, "need loss='none'"),
        ({"weight_decay": 0.1}, "no weight decay"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_sentence(
    values: dict[str, Any], message: str, teacher: Path, photos: Path, tmp_path: Path
) -> None:  # fmt: skip
    with pytest.raises(BcosError, match=message):
        run(teacher, photos, tmp_path / "run", **values)
    assert not (tmp_path / "run" / "model").exists()


def test_pictures_that_are_none(teacher: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        run(teacher, tmp_path / "empty", tmp_path / "run")
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "blue" / "00.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"00\.png"):
        run(teacher, tmp_path / "photos", tmp_path / "run")
    report, _ = run(teacher, tmp_path / "photos", tmp_path / "skipped", on_error="skip")
    assert report["steps"] == 4 and any("00.png" in text for text in report["unreadable"])


def test_a_picture_that_can_be_read_again_is_asked_about_again(
    teacher: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network disk: the teacher did not see a picture of the held-out ones in the first epoch, and the student does."""
    right, calls = judge.predict_split, []

    def predict(network: nn.Module, *args: Any, **values: Any) -> Any:
        found = right(network, *args, **values)
        calls.append(1)
        if len(calls) > 2:
            return found
        return replace(found, logits=found.logits[1:], targets=found.targets[1:], rows=found.rows[1:])

    monkeypatch.setattr(judge, "predict_split", predict)
    report, _ = run(teacher, photos, tmp_path / "run", on_error="skip")
    assert len(calls) == 5 and 0 <= report["selection"]["top1"] <= 100


def test_a_loss_that_is_no_number_stops_the_run_and_the_same_command_goes_on(
    whole: Path, teacher: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, calls = AlignmentLoss.term, []

    def term(self: AlignmentLoss, answer: Any) -> Tensor:
        calls.append(1)
        return right(self, answer) * (math.nan if len(calls) == 3 else 1.0)

    monkeypatch.setattr(AlignmentLoss, "term", term)
    with pytest.raises(StateError, match="loss became nan at step 2"):
        run(teacher, photos, tmp_path / "run")
    run(teacher, photos, tmp_path / "run")
    assert (tmp_path / "run/model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_pretrained_with_other_classes_is_refused(whole: Path, photos: Path, tmp_path: Path) -> None:
    torchbcos.save(
        Classifier(net(), class_names=("a", "b", "c", "d"), preprocess={"resize": 16, "crop": 16, **MOMENTS}), tmp_path / "other"
    )
    with pytest.raises(InputError, match="does not know 'cat'"):
        run(tmp_path / "other", photos, tmp_path / "run", pretrained=str(whole / "model"))


def test_the_recipe_is_written_as_it_was_given(whole: Path) -> None:
    recipe, facts = read_recipe(whole / "recipe.toml")
    assert recipe.pretrained == "" and recipe.loss == "none" and facts["classes"] == list(NAMES)


# -- levers against speckle ------------------------------------------------------------------------------------------------


def test_b_rises_to_what_the_card_says_and_a_run_goes_on_with_it(teacher: Path, photos: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {"b_epochs": 1.5, "b_start": 0.2, "options": {"b": 2.0}}
    run(teacher, photos, tmp_path / "whole", **values)
    run(teacher, photos, tmp_path / "run", max_steps=3, **values)
    (tmp_path / "run" / "report.json").unlink()
    shutil.rmtree(tmp_path / "run" / "model")
    run(teacher, photos, tmp_path / "run", **values)
    whole, gone_on = (tmp_path / name / "model/model.safetensors" for name in ("whole", "run"))
    assert whole.read_bytes() == gone_on.read_bytes()
    model = torchbcos.load(str(tmp_path / "whole" / "model"), deploy=False).model
    assert {module.b for module in model.modules() if hasattr(module, "b")} == {2.0}
    run(teacher, photos, tmp_path / "at once", options={"b": 2.0})
    assert (tmp_path / "at once" / "model/model.safetensors").read_bytes() != whole.read_bytes()


def test_b_of_an_aligned_network_is_raised(whole: Path, teacher: Path, photos: Path, tmp_path: Path) -> None:
    _, lines = run(teacher, photos, tmp_path / "run", pretrained=str(whole / "model"), options={"b": 2.5}, epochs=1)
    assert any("get B = 2.5" in line for line in lines)
    student, model = (torchbcos.load(str(tmp_path / "run" / name), deploy=False).model for name in ("student", "model"))
    before = torchbcos.load(str(whole / "model"), deploy=False).model
    for network in (student, model):
        assert sorted(module.b for module in network.modules() if hasattr(module, "b")) == [1.0, 2.5, 2.5]
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), student.state_dict().values(), strict=True))
    with pytest.raises(InputError, match=r"options\.b alone"):
        run(teacher, photos, tmp_path / "other", pretrained=str(whole / "model"), options={"b": {"conv": 2.0}})


def test_evidence_that_cancels_becomes_less(teacher: Path, photos: Path, tmp_path: Path) -> None:
    found = []
    for weight in (0.0, 5.0):
        out = tmp_path / f"{weight}"
        run(teacher, photos, out, epochs=20, lr=0.01, magnitude=weight, magnitude_share=1.0)
        model = torchbcos.load(str(out / "model"), deploy=False)
        e = model.explain(sorted(photos.rglob("*.png")))
        found.append(float((e.contributions.abs().flatten(2).sum(2) / e.values.abs()).median()))
    assert found[1] < 0.8 * found[0], found


def test_guided_by_masks_and_without_labels(teacher: Path, photos: Path, tmp_path: Path) -> None:
    """The evidence for what the teacher sees goes to where masks say that something is."""
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    for file in sorted(photos.rglob("*.png")):
        pixels = np.asarray(Image.open(file).convert("RGB")).max(2)
        place = data / "masks" / file.relative_to(photos)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(((pixels > 190) * 255).astype(np.uint8)).save(place)
    report, lines = run(teacher, data, tmp_path / "run", guide="energy", guide_weight=1.0)
    assert report["steps"] == 4 and any("Guidance by" in line for line in lines)
    assert len(open_unlabelled(data, NAMES).train) == 24
