"""`torchbcos.align` in a loop of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import BcosError, InputError, StateError
from torchbcos.functional import add_inverse

MOMENTS = {"mean": (0.5,) * 3, "std": (0.25,) * 3}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 4),
    ).eval()  # fmt: skip


def batches(count: int, size: int = 8) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.rand(size, 3, 12, 12, generator=generator)


def student_of(teacher: nn.Module) -> nn.Module:
    return torchbcos.bcosify(teacher, b=2.0, example=torch.rand(16, 3, 12, 12), **MOMENTS)[0]


def test_the_student_comes_nearer_and_the_teacher_stays() -> None:
    teacher = net()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    student, seen = student_of(teacher), []
    found = torchbcos.align(
        student, teacher, batches(60), steps=60, lr=0.01, warmup=5, watch=lambda step, losses: seen.append((step, losses))
    )
    assert found is student and not student.training
    assert [step for step, _ in seen] == list(range(1, 61)) and set(seen[0][1]) == {"loss", "features", "pooled", "logits"}
    assert seen[-1][1]["loss"] < 0.7 * seen[0][1]["loss"]
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    e = torchbcos.explain(student.double(), add_inverse(torch.rand(2, 3, 12, 12, dtype=torch.float64)))
    assert float(e.residual.abs().max()) < 1e-12 and not e.constants


def test_encoded_batches_and_classifiers_do_the_same() -> None:
    found = []
    for encode in (False, True):
        teacher = net()
        student = student_of(teacher)
        torchbcos.align(student, teacher, [add_inverse(x) if encode else x for x in batches(3)])
        found.append(student.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(found[0].values(), found[1].values(), strict=True))
    teacher = torchbcos.Classifier(net(), class_names=("a", "b", "c", "d"),
                                   preprocess={"resize": 12, "crop": 12, "encoding": "normalize", **MOMENTS})  # fmt: skip
    student, _ = torchbcos.bcosify(teacher, example=torch.rand(4, 3, 12, 12))
    assert torchbcos.align(student, teacher, batches(2)) is student


def test_steps_end_it_and_without_an_average_the_last_weights_stay() -> None:
    teacher, seen = net(), []
    student = student_of(teacher)
    torchbcos.align(student, teacher, batches(9), steps=2, ema_decay=0.0, watch=lambda step, losses: seen.append(step))
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("given", "message"),
    [([], "no batches"), ([torch.rand(2, 4, 12, 12)], "A batch is"), ([(torch.rand(2, 3, 12, 12), 1)], "A batch is"),
     ([torch.rand(0, 3, 12, 12)], "A batch is"), ([torch.ones(2, 3, 12, 12, dtype=torch.uint8)], "torch.uint8 from 1 to 1"),
     ([255 * torch.rand(2, 3, 12, 12)], "before any normalisation"), ([torch.randn(2, 3, 12, 12)], "before any normalisation"),
     ([torch.rand(2, 3, 2, 2)], "do not take a batch of shape"), ([torch.rand(3, 3, 12)], "do not take a batch of shape")],
)  # fmt: skip
def test_batches_that_are_none(given: list[Tensor], message: str) -> None:
    teacher = net()
    with pytest.raises(InputError, match=message):
        torchbcos.align(student_of(teacher), teacher, given)


def test_what_was_not_converted_or_of_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="was not converted"):
        torchbcos.align(net(), net(), batches(1))
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3)).eval()
    with pytest.raises(BcosError, match="not made of this teacher"):
        torchbcos.align(student_of(net()), other, batches(1))


def test_a_loss_that_is_no_number_leaves_the_average_of_before() -> None:
    teacher = net()
    student = student_of(teacher)
    good = [torch.rand(4, 3, 12, 12)]
    with pytest.raises(StateError, match="loss became nan"):
        torchbcos.align(student, teacher, [*good, torch.full((4, 3, 12, 12), torch.nan)])
    assert all(bool(value.isfinite().all()) for value in student.state_dict().values())


@pytest.mark.parametrize(
    ("values", "message"),
    [({"lr": 0.0}, "lr is"), ({"lr": "a"}, "lr is"), ({"warmup": -1}, "warmup is"), ({"steps": 0}, "steps is"),
     ({"ema_decay": 1.0}, "ema_decay is"), ({"temperature": 0}, "temperature is"), ({"logits": -1.0}, "Weights of"),
     ({"features": 0, "pooled": 0, "logits": 0}, "Weights of")],
)  # fmt: skip
def test_numbers_that_are_out_of_range(values: dict[str, Any], message: str) -> None:
    teacher = net()
    student = student_of(teacher)
    with pytest.raises(InputError, match=message):
        torchbcos.align(student, teacher, batches(1), **values)


def test_what_cannot_learn_is_refused() -> None:
    teacher = net()
    student = student_of(teacher)
    with torch.no_grad(), pytest.raises(InputError, match="Nothing would be learned"):
        torchbcos.align(student, teacher, batches(1))
    with pytest.raises(InputError, match="Nothing would be learned"):
        torchbcos.align(student.requires_grad_(False), teacher, batches(1))
    with pytest.raises(InputError, match="not str"):
        torchbcos.align(student, "timm:resnet18", batches(1))  # type: ignore[arg-type]


def test_both_networks_run_without_dropout_and_norms_keep_their_statistics() -> None:
    """Else the student would be compared with its teacher through noise, and through variances of small batches."""
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4),
    ).eval()  # fmt: skip
    seen: list[float] = []
    student, _ = torchbcos.bcosify(teacher, b=1.0, biases="keep", example=torch.rand(16, 3, 12, 12), **MOMENTS)
    torchbcos.align(student, teacher, batches(1), watch=lambda step, losses: seen.append(losses["loss"]))
    assert seen[0] < 1e-5 and not any(module.training for module in [*student.modules(), *teacher.modules()])


def test_a_network_without_blocks_is_aligned_by_the_rest() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).relu().mean((2, 3)))

    teacher, seen = One().eval(), []
    torchbcos.align(student_of(teacher), teacher, batches(1), watch=lambda step, losses: seen.append(losses))
    assert set(seen[0]) == {"loss", "pooled", "logits"}
    with pytest.raises(InputError, match="no blocks"):
        torchbcos.align(student_of(teacher), teacher, batches(1), pooled=0, logits=0)


def test_a_network_that_gives_several_things_is_refused_by_its_name() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.net(x), "aux": x}

    teacher = Several().eval()
    student, _ = torchbcos.bcosify(teacher, example=torch.rand(4, 3, 12, 12), output="logits", **MOMENTS)
    with pytest.raises(InputError, match="gives several things"):
        torchbcos.align(student, teacher, batches(1))
