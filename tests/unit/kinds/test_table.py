"""The table of rules: short, without dead names, and every rule says why."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import StateError
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


class Written(nn.Module):
    """A linear layer, something that is written as a function or as a method, a linear layer."""

    def __init__(self, write: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.write = nn.Linear(4, 6), nn.Linear(6, 2), write

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.write(self.first(x)))
        return out


def first_of(y: Tensor) -> Tensor:
    """The index of the first column, for every row."""
    return torch.zeros(len(y), 1, dtype=torch.long)


def halves(y: Tensor) -> Tensor:
    return torch.full((len(y), 1), 0.5, dtype=y.dtype)


SPELLINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "where": (lambda y: y.where(y > 0, torch.full_like(y, 0.5)), lambda y: torch.where(y > 0, y, torch.full_like(y, 0.5))),
    "where, a number": (lambda y: y.where(y > 0, 0.5), lambda y: torch.where(y > 0, y, 0.5)),  # type: ignore[arg-type]
    "scatter, a number": (lambda y: y.scatter(1, first_of(y), 0.5), lambda y: y.scatter(1, first_of(y), halves(y))),
    "scatter, by name": (lambda y: y.scatter(1, first_of(y), value=0.5), lambda y: y.scatter(1, first_of(y), halves(y))),
    "scatter_": (lambda y: y.clone().scatter_(1, first_of(y), 0.5), lambda y: y.scatter(1, first_of(y), halves(y))),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_methods_and_functions_of_one_name_give_one_explanation(name: str) -> None:
    """Also where their arguments stand in another order, or one of them is a number."""
    one, other = (Written(write).double() for write in SPELLINGS[name])
    other.load_state_dict(one.state_dict())
    x = torch.randn(3, 4, dtype=torch.float64)
    e, f = torchbcos.explain(one, x, verify=True), torchbcos.explain(other, x)
    assert torch.equal(e.outputs, one(x)) and torch.allclose(e.weights, f.weights, atol=1e-14)
    assert float(e.residual.abs().max()) < 1e-12 and e.constants.keys() == f.constants.keys()
    assert all(torch.allclose(e.constants[key], f.constants[key], atol=1e-14) for key in e.constants)


def test_what_torch_cannot_differentiate_is_said() -> None:
    """The gradient of scatter has the index's shape, which a larger source has not."""
    network = Written(lambda y: y.scatter(1, first_of(y), 2 * y))
    with pytest.raises(StateError, match=r"an operation without a derivative: .*invalid gradient"):
        torchbcos.explain(network, torch.randn(3, 4))


def test_a_rule_of_somebody_goes_before_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_registered", {})
    assert rule_of(torch.fft.fftshift)[0] is not torchbcos.kinds.rules.view
    register_rule(torch.fft.fftshift, torchbcos.kinds.rules.view)
    assert rule_of(torch.fft.fftshift)[0] is torchbcos.kinds.rules.view
    assert list(table._registered) == [key_of(torch.fft.fftshift)]
