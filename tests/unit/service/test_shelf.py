"""Models of a service: their names, and which are in memory."""

from __future__ import annotations

import gc
import weakref

import pytest

from torchbcos._core.errors import InputError
from torchbcos.service.refusals import Refused
from torchbcos.service.shelf import Shelf, named_sources


def test_names() -> None:
    assert named_sources(["hf-hub:org/name", "runs/mine/", "a=timm:resnet18"]) == {
        "name": "hf-hub:org/name", "mine": "runs/mine/", "a": "timm:resnet18",
    }  # fmt: skip


@pytest.mark.parametrize("sources", [[], ["a=x", "a=y"], ["x=", "b"], ["runs/a/model", "runs/b/model"]])
def test_names_that_do_not_do(sources: list[str]) -> None:
    with pytest.raises(InputError):
        named_sources(sources)


def test_the_least_used_makes_room() -> None:
    shelf = Shelf(dict.fromkeys("abc", "imagenette"), 2, {"device": "cpu"})
    first = weakref.ref(shelf.open("a").model)
    shelf.open("b")
    shelf.open("a")
    assert shelf.loaded() == ["b", "a"]
    shelf.open("c")
    assert shelf.loaded() == ["a", "c"] and shelf.places["b"].classifier is None
    assert first() is shelf.open("a").model
    shelf.open("b")
    gc.collect()
    assert shelf.loaded() == ["a", "b"]


def test_a_name_that_is_none() -> None:
    shelf = Shelf({"mine": "imagenette"}, 1, {})
    assert shelf.check(None) == shelf.check("mine") == "mine"
    with pytest.raises(Refused, match="Did you mean 'mine'"):
        shelf.check("mime")
