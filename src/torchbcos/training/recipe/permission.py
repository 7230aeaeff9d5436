"""Whose code a recipe runs: that of the person who typed or wrote it in Python, never that of a file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.names import quote
from torchbcos.training.recipe.groups import PROGRAM
from torchbcos.training.recipe.value import Recipe

__all__ = ["code_of", "refuse_code"]


def code_of(recipe: Recipe) -> dict[str, str]:
    """The settings of a recipe by which code runs that does not come with the library, and what they would run.

    >>> code_of(Recipe(model="nets:mine"))
    {'model': 'imports a module and calls its function'}
    """
    found = {}
    if ":" in recipe.model:
        found["model"] = "imports a module and calls its function"
        if recipe.options:
            found["options"] = "gives that function its arguments"
    if recipe.teacher.endswith(PROGRAM):
        found["teacher"] = "opens a program, which is code"
    return found


def refuse_code(recipe: Recipe, file: Path, *, typed: Collection[str] = ()) -> None:
    """Refuse what a recipe's file would run, before anything is imported or opened.

    Args:
        recipe: with all settings, those that were typed included.
        file: it comes from; named in the message.
        typed: the keys that the person set, and whose values are therefore the person's own.

    Raises:
        InputError: a setting of the file would run code.
    """
    for key, does in code_of(recipe).items():
        if key in typed:
            continue
        value = shorten(repr(getattr(recipe, key)), 80)
        raise InputError(
            f"{quote(file)} sets {key} = {value}, which {does}, and files do not run code by themselves: if you trust who "
            f"wrote it, add --allow-code, or type --set {key}=… yourself (in Python: read_recipe(file, allow_code=True))."
        )
