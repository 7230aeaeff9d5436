"""The table of rules: short, without dead names, and every rule says why."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos.kinds import table
from torchbcos.kinds.operation import functions_of, key_of
from torchbcos.kinds.table import TABLE, Row, register_rule, rule_of

_MOST_LINES = 60  # one screen
# of other releases of torch than the one that runs here
_OTHER_RELEASES = {"names"}
# an attribute and a method, which is no in-place form of it
_NO_PAIR = {"requires_grad"}


def lines_of_the_table(source: str) -> int:
    """How many lines stand between the two marks around the table."""
    before, rest = source.split("TABLE: tuple[Row, ...] = (\n")
    assert before
    return len(rest.split("\n)\n")[0].splitlines()) + 2


def unresolved(rows: tuple[Row, ...]) -> list[str]:
    """Names that are no function, method, operator or attribute of torch."""
    names = [name for row in rows for name in row.names.split()]
    return [n for n in names if not list(functions_of(n)) and not hasattr(torch.ops.aten, n) and n not in _OTHER_RELEASES]


def twice(rows: tuple[Row, ...]) -> list[str]:
    """Names that stand in two places."""
    return [name for name, count in Counter(n for row in rows for n in row.names.split()).items() if count > 1]


def test_the_table_stands_on_one_screen() -> None:
    assert 20 < lines_of_the_table(inspect.getsource(table)) <= _MOST_LINES


def test_every_name_is_one_of_torch_and_stands_there_once() -> None:
    assert unresolved(TABLE) == [] and twice(TABLE) == []
    assert unresolved((Row(TABLE[0].rule, "linear linaer"),)) == ["linaer"]  # and such a one would be seen
    assert twice((*TABLE[:1], Row(TABLE[1].rule, "conv2d"))) == ["conv2d"]


def test_every_rule_says_why() -> None:
    assert [row.rule.__name__ for row in TABLE if not (row.rule.__doc__ or "").strip()] == []


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.rule.__name__)
def test_every_function_of_a_name_has_its_rule(row: Row) -> None:
    """But for one that two names share: `x.where(c, y)` and `where(c, x, y)` have their arguments in another order."""
    for name in row.names.split():
        for function, inplace in functions_of(name):
            rule, operation = rule_of(function)
            assert rule is row.rule or (name in _NO_PAIR and inplace), (name, function, rule)
            shared = name in ("where", "where_method") or name in _NO_PAIR
            assert operation.inplace == inplace or shared, (name, function)


class Chosen(nn.Module):
    """A linear layer, a choice between its output and a number, a linear layer."""

    def __init__(self, method: bool) -> None:
        super().__init__()
        self.first, self.second, self.method = nn.Linear(4, 6), nn.Linear(6, 2), method

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x)
        other = torch.full_like(y, 0.5)
        out: Tensor = self.second(y.where(y > 0, other) if self.method else torch.where(y > 0, y, other))
        return out


def test_where_as_a_method_has_its_arguments_in_another_order() -> None:
    method, function = Chosen(True).double(), Chosen(False).double()
    function.load_state_dict(method.state_dict())
    x = torch.randn(3, 4, dtype=torch.float64)
    one, other = torchbcos.explain(method, x), torchbcos.explain(function, x)
    assert torch.equal(one.weights, other.weights) and torch.equal(one.outputs, method(x))
    assert float(one.residual.abs().max()) < 1e-12
    assert {k: v.tolist() for k, v in one.constants.items()} == {k: v.tolist() for k, v in other.constants.items()}


def test_a_rule_of_somebody_goes_before_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_registered", {})
    assert rule_of(torch.fft.fftshift)[0] is not torchbcos.kinds.rules.view
    register_rule(torch.fft.fftshift, torchbcos.kinds.rules.view)
    assert rule_of(torch.fft.fftshift)[0] is torchbcos.kinds.rules.view
    assert list(table._registered) == [key_of(torch.fft.fftshift)]
