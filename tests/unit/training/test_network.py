"""The network that a recipe names."""

import pytest

from torchbcos._core.errors import InputError
from torchbcos.training.network import build_network
from torchbcos.training.recipe import Recipe


@pytest.mark.parametrize("model", ["mynet0.py", "mynet0.MyCNN", "MyCNN", "./mynet0.py:MyCNN"])
def test_a_network_of_ones_own_that_is_named_otherwise(model, tmp_path, monkeypatch):
    (tmp_path / "mynet0.py").write_text("class MyCNN:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"a network of your own is FILE:FUNCTION, here 'mynet0:MyCNN'\."):
        build_network(Recipe(model=model), 2, 6)


def test_a_name_of_ours_keeps_its_own_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="Did you mean 'resnet50'"):
        build_network(Recipe(model="resnet5"), 2, 6)
