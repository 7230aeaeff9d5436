"""Settings as other programs call them: the message has our word, never one that is only spelt like it."""

import re

import pytest

from torchbcos._core.errors import InputError
from torchbcos.training.recipe.habits import ELSEWHERE
from torchbcos.training.recipe.page import find_settings
from torchbcos.training.recipe.value import checked, list_settings

SAID = {
    "learning_rate": "It is 'lr' here", "num_labels": "The data has the classes", "split": "selection_share",
    "group": "stay on one side, and so does", "Label-Smoothing": "It is 'smoothing' here",
    "weightdecay": "Did you mean 'weight_decay'",
}  # fmt: skip


@pytest.mark.parametrize("word", SAID)
def test_what_it_is_here(word):
    for ask in (lambda: checked(word, 1), lambda: find_settings(word)):
        with pytest.raises(InputError) as error:
            ask()
        assert SAID[word] in str(error.value) and "erasing" not in str(error.value)


def test_the_table_names_what_there_is():
    known = list_settings()
    assert [word for word in ELSEWHERE if word in known] == []
    named = {
        key
        for text in ELSEWHERE.values()
        for key in re.findall(r"It is '(\w+)'| and '(\w+)'| or '(\w+)'", text)
        for key in key
        if key
    }
    assert len(named) > 25 and named <= set(known), named - {*known}
