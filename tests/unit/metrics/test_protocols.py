"""Protocols are data: every bundle fits its function, every report is what was published, the page prints the code."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reference import places as twin
from torchbcos import evaluation, metrics
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.metrics import PROTOCOLS, protocol, removal_curve
from torchbcos.metrics.protocols import page_with_protocols, protocols_text, rise_blur

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "protocols.md"
NAMES = ["bcos-v2", "coda", "difull", "probe", "rise", "idsds"]
CALLS = [(one.name, call) for one in PROTOCOLS.values() for call in one.arguments]


def function_of(call: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(evaluation if call in ("difull", "dipart") else metrics, call)
    return found


def test_names() -> None:
    assert list(PROTOCOLS) == NAMES
    with pytest.raises(InputError, match=r"no protocol 'bcos_v2': expected one of bcos-v2, .*Did you mean 'bcos-v2'"):
        protocol("bcos_v2")


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_every_argument_is_one_of_its_function(name: str, call: str) -> None:
    parameters = inspect.signature(function_of(call)).parameters
    assert set(PROTOCOLS[name].arguments[call]) <= set(parameters)


@pytest.mark.parametrize("call", ["deletion", "insertion"])
def test_the_curves_of_rise_by_its_arguments_alone(call: str) -> None:
    rise = protocol("rise").arguments
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = x.sum(1).round()  # ties
    settings = {**rise[call], "fractions": 16}
    found = function_of(call)(lambda batch: batch.square().sum((1, 2, 3)), x, maps, **settings)
    order = metrics.removal_order(maps, **rise["removal_order"])
    curve = removal_curve(
        lambda batch: batch.square().sum((1, 2, 3)), x, order, replace=settings["replace"], fractions=16,
        keep=call == "insertion",
    )  # fmt: skip
    torch.testing.assert_close(found, metrics.area(curve, **rise["area"]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["bcos-v2", "coda", "difull", "probe"])
def test_grids_of_a_protocol(name: str) -> None:
    """From pictures to a report, by its arguments alone."""
    one = protocol(name)
    n = one.arguments["grid_pointing"]["n"]
    labels = torch.arange(12).repeat(3)
    logits = 9 * torch.eye(12)[labels]
    chosen = metrics.choose_grids(logits, labels, **{**one.arguments["choose_grids"], "limit": 2})
    cells = metrics.own_cells(**one.arguments["own_cells"])
    flags = (torch.arange(n * n).view(1, n * n, 1, 1, 1) == torch.arange(n * n).view(n * n, 1, 1, 1, 1)).float()
    maps = metrics.compose_grids(flags.expand(-1, -1, -1, 8, 8), **one.arguments["compose_grids"])[:, 0]
    scores = metrics.grid_pointing(maps, cells, **{**one.arguments["grid_pointing"], "smooth": 1})
    assert chosen.shape == (2, n * n)
    assert scores.tolist() == [1.0] * n * n  # pictures stand where own_cells says
    report = one.report(scores)
    assert {report[name] for name in one.statistics} - {0.0} == {1.0}  # 0: the spread, where it is printed


@pytest.mark.parametrize(("name", "call"), [("coda", "removal_curve"), ("rise", "deletion"), ("rise", "insertion")])
def test_curves_of_a_protocol(name: str, call: str) -> None:
    one, x = protocol(name), torch.rand(1, 6, 16, 16)
    order = metrics.removal_order(x[:, 0], **one.arguments["removal_order"])
    settings = {key: value for key, value in one.arguments[call].items() if key not in one.arguments["removal_order"]}
    curve = removal_curve(lambda x: x.mean((1, 2, 3)), x, order, **settings)
    ends = {"coda": (0.0, 0.25), "rise": (0.0, 1.0)}[name]
    assert (curve.fractions[0].item(), curve.fractions[-1].item()) == ends
    assert len(curve.fractions) == {"coda": 129, "rise": 225}[name]


def test_deletions_of_idsds() -> None:
    """An additive score: the map of its summands is right."""
    one, x = protocol("idsds"), torch.rand(1, 6, 16, 16)
    for call in ("single_deletion", "idsds"):
        score = getattr(metrics, call)(lambda x: x[:, 0].sum((1, 2)), x, x[:, 0], **one.arguments[call])
        assert score.item() == 1


def test_what_is_undefined_counts_or_is_left_out() -> None:
    values = torch.tensor([0.8, math.nan, 0.4])
    coda, idsds = protocol("coda").report(values), protocol("idsds").report(values)
    assert (coda["50 %"], coda["values"], coda["undefined"]) == (pytest.approx(0.4), 3, 1)
    assert (idsds["mean"], idsds["undefined"]) == (pytest.approx(0.6), 1)
    found = protocol("difull").report(values)
    assert [round(found[name], 4) for name in ("mean", "std", "median", "min", "max")] == [0.4, 0.4, 0.4, 0, 0.8]
    assert math.isnan(protocol("idsds").report(torch.tensor([math.nan]))["mean"])
    assert math.isnan(protocol("difull").report(torch.tensor([1.0]))["std"])


def test_reports_need_tensors() -> None:
    with pytest.raises(ArgumentTypeError, match="values are a tensor"):
        protocol("coda").report([1.0])  # type: ignore[arg-type]


def test_protocols_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PROTOCOLS["mine"] = PROTOCOLS["coda"]  # type: ignore[index]
    with pytest.raises(TypeError):
        PROTOCOLS["coda"].arguments["grid_pointing"]["n"] = 2  # type: ignore[index]


def test_the_blur_of_rise_equals_its_twin() -> None:
    line = twin.rise_line()
    assert line == pytest.approx(line[::-1])
    assert sum(line) == pytest.approx(1)
    dot = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    dot[0, 0, 15, 15] = 1
    found = rise_blur(dot)[0, 0, 10:21, 10:21]
    torch.testing.assert_close(found, torch.tensor(line, dtype=torch.float64).outer(torch.tensor(line, dtype=torch.float64)))
    rgb = torch.rand(1, 3, 12, 12)
    blurred = rise_blur(torch.cat([rgb, 1 - rgb], 1))
    torch.testing.assert_close(blurred[:, :3] + blurred[:, 3:], torch.ones(1, 3, 12, 12))
    with pytest.raises(InputError, match="6 x 6 pixels or more"):
        rise_blur(torch.rand(1, 3, 5, 5))


def test_the_page_is_what_the_code_prints() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_protocols(page), "protocols have changed: run `make docs`"
    old = page.replace("`smooth=15`, `inside", "`smooth=7`, `inside")
    assert old != page
    assert page_with_protocols(old) == page
    assert [line.strip("# `") for line in protocols_text().splitlines() if line.startswith("###")] == NAMES
