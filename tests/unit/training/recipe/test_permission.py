"""Files run no code by themselves: what would is refused before anything is imported or opened."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchbcos._core.errors import InputError
from torchbcos.training import Recipe, network, read_recipe, to_toml
from torchbcos.training.recipe import code_of, refuse_code
from torchbcos.zoo import list_models

MODELS = (
    "evil:net", "torch.hub:load", "os:system", "builtins:exec", "builtins:eval", "subprocess:run", "torchbcos:create_model",
    "torchbcos.zoo:load", "antigravity:fly", "runpy:run_path", "importlib:import_module", ":", "a:", ":b", "a:b:c", "C:\\net",
)  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_a_file_names_no_function(model: str, tmp_path: Path) -> None:
    """Whoever wrote the function: the standard library's and ours run code as well, with the options of the file."""
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(Recipe(model=model, options={"repo_or_dir": "x", "trust_repo": True})), "utf-8")
    codecs.lookup("utf-8-sig")  # Python loads it with the first text
    before = set(sys.modules)
    with pytest.raises(
        InputError, match=r"sets model = .* files do not run code by themselves.*--allow-code.*--set model="
    ) as caught:
        read_recipe(file)
    assert set(sys.modules) == before and "\n" not in str(caught.value) and len(str(caught.value)) <= 500
    assert read_recipe(file, allow_code=True)[0].model == model  # read, not run


@pytest.mark.parametrize("teacher", ["evil.pt2", "/tmp/a/b.pt2", ".pt2"])
def test_a_file_names_no_program(teacher: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(Recipe(teacher=teacher, teacher_weight=1.0)), "utf-8")
    with pytest.raises(InputError, match=r"sets teacher = .* which opens a program, which is code.*--set teacher="):
        read_recipe(file)


def test_what_is_typed_is_the_persons_own(tmp_path: Path) -> None:
    """But a function that the person names does not get its arguments from a file: `torch.hub:load` with a stranger's."""
    file, recipe = tmp_path / "r.toml", Recipe(model="nets:mine", teacher="t.pt2", teacher_weight=1.0)
    refuse_code(recipe, file, typed={"model", "teacher"})
    with pytest.raises(InputError, match="sets teacher"):
        refuse_code(recipe, file, typed={"model"})
    with pytest.raises(InputError, match="sets model"):
        refuse_code(recipe, file, typed={"teacher", "options.x"})
    with pytest.raises(InputError, match=r"sets options = .* which gives that function its arguments"):
        refuse_code(recipe.changed(options={"source": "local"}), file, typed={"model", "teacher", "options.x"})
    refuse_code(recipe.changed(options={"source": "local"}), file, typed={"model", "teacher", "options"})


def test_recipes_of_the_library_run_no_code() -> None:
    assert code_of(Recipe(model="resnet18", options={"norm": "layer"}, teacher="runs/large/model", teacher_weight=1.0)) == {}


@given(text=st.text(max_size=12))
def test_a_name_that_is_let_through_is_looked_up_and_not_imported(text: str) -> None:
    recipe = Recipe(model=text)
    if not code_of(recipe) and text not in list_models():
        with mock.patch.object(network, "run_builder") as imported:
            with pytest.raises(InputError, match="There is no network"):
                network.build_network(recipe, 2, 6)
            imported.assert_not_called()
