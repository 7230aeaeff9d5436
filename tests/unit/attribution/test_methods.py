"""The list of methods, and methods of one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import torchbcos
from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError
from torchbcos.attribution import METHODS, Explainer, Found, Method, Saliency, Subject, methods, register_method

# the public list, in its order
_NAMES = """
    inherent saliency input_x_gradient integrated_gradients smooth_grad gradient_shap deep_lift guided_backprop grad_cam layer_cam
    hires_cam occlusion rise lime kernel_shap rollout raw_attention gradient_attention lrp
"""
NAMES = _NAMES.split()


@dataclass(frozen=True)
class Brightness(Explainer):
    """A method that looks at the picture only."""

    name: ClassVar[str] = "brightness"

    def compute(self, subject: Subject) -> Found:
        maps = subject.x.sum(1, keepdim=True).expand(-1, subject.count, *subject.x.shape[2:])
        return Found(maps)


RECORD = Method(
    Brightness, "gradient", "How bright it is.", False, "", False, "any network", "1", lambda s, k: 1, "nobody", "nothing"
)  # fmt: skip


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = dict(methods._methods)
    yield
    methods._methods.clear()
    methods._methods.update(before)


def test_the_names_are_the_public_ones_in_their_order() -> None:
    found = [name for name in METHODS if name in NAMES]
    assert found == [name for name in NAMES if name in METHODS] and found == list(METHODS)


def test_every_record_says_what_it_is() -> None:
    kinds = ("inherent", "gradient", "activation", "perturbation", "attention", "propagation")
    for name, record in METHODS.items():
        assert record.name == name and issubclass(record.build, Explainer) and record.build().name == name
        assert record.kind in kinds and record.summary.endswith(".") and record.source and record.verified and record.needs
        assert record.passes((1, 3, 32, 32), 2) >= record.passes((1, 3, 32, 32), 1) >= 1


def test_a_method_of_ones_own() -> None:
    register_method(RECORD)
    assert METHODS["brightness"] is RECORD
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval(), torch.rand(2, 3, 2, 2)
    for method in ("brightness", "Brightness", Brightness, Brightness()):
        a = torchbcos.attribute(net, x, [[0, 1], [1, 2]], method=method)
        assert a.method == "brightness" and torch.equal(a.maps[:, 1], x.sum(1)) and a.values is None
    assert torch.equal(Brightness(net).attribute(x, target=1), x.sum(1, keepdim=True))


@pytest.mark.parametrize("taken", ["saliency", "brightness"])
def test_a_name_that_is_taken(taken: str) -> None:
    register_method(RECORD)
    record = RECORD if taken == "brightness" else dataclasses.replace(RECORD, build=Saliency)
    with pytest.raises(InputError, match=f"A method is called '{taken}' already: give yours another name"):
        register_method(record)
    assert METHODS["saliency"].kind == "gradient" and METHODS["saliency"].build is Saliency


@pytest.mark.parametrize("wrong", ["saliency", Brightness, None, {"name": "x"}])
def test_what_is_no_record(wrong: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"register_method takes a torchbcos\.attribution\.Method, not"):
        register_method(wrong)


@pytest.mark.parametrize("build", [int, nn.Linear, lambda: Brightness(), Explainer, None])
def test_a_record_that_builds_no_method(build: Any) -> None:
    with pytest.raises(BcosError, match=r"build of a record.*subclass of torchbcos\.attribution\.Explainer"):
        register_method(dataclasses.replace(RECORD, build=build))


def test_a_method_without_a_good_name() -> None:
    for name in ("", "two words", "Upper", "a-b", None):
        build = type("Odd", (Brightness,), {"name": name})
        with pytest.raises(InputError, match="lower-case letters, digits and _"):
            register_method(dataclasses.replace(RECORD, build=build))


def test_the_list_cannot_be_edited() -> None:
    with pytest.raises(TypeError):
        METHODS["x"] = RECORD  # type: ignore[index]


def test_unknown_and_wrong_methods() -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval(), torch.rand(1, 3, 2, 2)
    with pytest.raises(InputError, match=r"Unknown method 'salency'.*saliency"):
        torchbcos.attribute(net, x, 0, method="salency")
    with pytest.raises(ArgumentTypeError, match="method is a name or a method such as"):
        torchbcos.attribute(net, x, 0, method=3)  # type: ignore[arg-type]
