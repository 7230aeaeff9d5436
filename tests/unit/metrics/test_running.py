"""Metrics with a state: batches, processes, copies, and what they say of wrong calls."""

from __future__ import annotations

import copy
import math
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

torchmetrics = pytest.importorskip("torchmetrics")

from torchbcos import metrics  # noqa: E402  # behind what it needs
from torchbcos._core.errors import ArgumentTypeError, InputError, MissingPackageError  # noqa: E402
from torchbcos.metrics import METRICS, running, summary  # noqa: E402


def brightness(x: Tensor) -> Tensor:
    return (x * torch.arange(x[0].numel()).view(x.shape[1:])).sum((1, 2, 3))


def contrast(x: Tensor) -> Tensor:
    return x[:, 0] - x[:, 1].square()


def maps(count: int, size: int = 8) -> Tensor:
    found = torch.randn(count, size, size)
    found[0] = 0  # undefined for most
    return found


def masks(count: int) -> Tensor:
    return torch.rand(count, 8, 8) > torch.linspace(0, 0.9, count).view(-1, 1, 1)


def layers(count: int) -> dict[str, Tensor]:
    return {"fc": torch.randn(count, 8, 8), "conv": torch.randn(count, 8, 8)}


# class -> settings, what a batch of N images is
CASES: dict[str, tuple[dict[str, Any], Callable[[int], tuple[Any, ...]]]] = {
    "GridPointing": ({"n": 2}, lambda n: (maps(n), torch.arange(n) % 4)),
    "EnergyPointing": ({}, lambda n: (maps(n), masks(n))),
    "MapIoU": ({"threshold": 0.3}, lambda n: (maps(n), masks(n))),
    "PointingHit": ({}, lambda n: (maps(n), masks(n))),
    "Deletion": ({"replace": 0.0, "fractions": 4, "seed": 0}, lambda n: (brightness, torch.rand(n, 2, 8, 8), maps(n))),
    "Insertion": ({"replace": 0.0, "fractions": 4}, lambda n: (brightness, torch.rand(n, 2, 8, 8), maps(n))),
    "Road": ({"fractions": [0.2, 0.5]}, lambda n: (brightness, torch.rand(n, 2, 8, 8), maps(n))),
    "SensitivityN": ({"n": 5, "replace": 0.0}, lambda n: (brightness, torch.rand(n, 2, 8, 8), maps(n))),
    "Infidelity": ({"samples": 3}, lambda n: (brightness, torch.rand(n, 2, 8, 8), torch.randn(n, 2, 8, 8))),
    "MaxSensitivity": ({"samples": 2}, lambda n: (contrast, torch.rand(n, 2, 8, 8))),
    "SingleDeletion": ({"replace": 0.0}, lambda n: (brightness, torch.rand(n, 2, 8, 8), maps(n))),
    "Idsds": ({"cells": 2}, lambda n: (brightness, torch.rand(n, 2, 8, 8), maps(n))),
    "Residual": ({"floor": 0.1}, lambda n: (maps(n), torch.randn(n), torch.randn(n))),
    "Randomisation": ({}, lambda n: (maps(n), layers(n))),
    "LabelSensitivity": ({"kind": "pearson"}, lambda n: (maps(n), maps(n))),
    "Gini": ({}, lambda n: (maps(n),)),
    "Entropy": ({}, lambda n: (maps(n),)),
    "Agreement": ({"kind": "top_k", "top": 0.3}, lambda n: (maps(n), maps(n))),
}
EACH = pytest.mark.parametrize("name", CASES)
# not of maps alone, or the same function for maps that are made in another way
OTHERS = {"accuracy", "difull", "dipart", "funnybirds"}


def fresh(name: str, **more: Any) -> Any:
    return getattr(metrics, name)(**CASES[name][0], **more)


def direct(name: str, batch: tuple[Any, ...]) -> Tensor:
    """What the function itself says."""
    function = getattr(running, name).function
    found = function(*batch, **{key: value for key, value in CASES[name][0].items() if key != "seed"})  # 0 is the usual one
    return found if isinstance(found, Tensor) else found.mean


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], equal_nan=True, rtol=1e-6, atol=1e-9)


def test_every_metric_of_maps_has_one() -> None:
    functions = {getattr(running, name).function for name in CASES}
    assert {name for name, one in METRICS.items() if one.function not in functions} - OTHERS == set()
    assert {*CASES, "Running"} == set(running.__all__) == set(dir(metrics)) - set(metrics.__all__)


@EACH
def test_batches_give_what_the_function_gives_for_all(name: str) -> None:
    batches = [CASES[name][1](n) for n in (3, 1, 4)]
    metric = fresh(name)
    for batch in batches:
        metric.update(*batch)
    values = torch.cat([direct(name, batch).double() for batch in batches])
    found = metric.compute()
    equal({key: found[key] for key in summary(values)}, summary(values))
    assert int(found["n"]) == 8


@EACH
def test_two_processes_are_one(name: str) -> None:
    batches = [CASES[name][1](n) for n in (3, 2, 4)]
    whole, one, other = (fresh(name) for _ in range(3))
    for batch in batches:
        whole.update(*batch)
    one.update(*batches[0])
    one.update(*batches[1])
    other.update(*batches[2])
    one.merge_state(other)
    equal(one.compute(), whole.compute())


def _process(rank: int, folder: str, batches: list[Tensor]) -> None:
    """A process that measures its own batches, and what all of them find together."""
    warnings.simplefilter("ignore")  # torchmetrics warns of a process without images
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    metric = metrics.EnergyPointing(bins=(0, 20, 65))
    for batch in batches if rank == 0 else []:
        metric.update(batch, batch > 0)
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_a_process_without_images_agrees_with_the_other(tmp_path: Path) -> None:
    batches = [maps(3).double(), maps(2).double()]
    context = torch.multiprocessing.get_context("fork")
    workers = [context.Process(target=_process, args=(rank, str(tmp_path), batches)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    metric = metrics.EnergyPointing(bins=(0, 20, 65))
    for batch in batches:
        metric.update(batch, batch > 0)
    for rank in (0, 1):
        equal(torch.load(tmp_path / f"{rank}.pt"), metric.compute())


@EACH
def test_reset_copies_pickles_and_forward(name: str) -> None:
    batch, second = CASES[name][1](3), CASES[name][1](4)
    metric = fresh(name)
    now = metric(*batch)  # forward: of this batch alone, and kept
    equal(now, metric.compute())
    equal(metric(*second), _of(name, second))
    for twin in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        equal(twin.compute(), metric.compute())
        twin.update(*batch)
        assert int(twin.compute()["n"]) == 10 and int(metric.compute()["n"]) == 7
    metric.reset()
    assert all(len(state) == 0 for state in metric.metric_state.values())
    metric.update(*batch)
    equal(metric.compute(), now)


def _of(name: str, batch: tuple[Any, ...]) -> dict[str, Tensor]:
    metric = fresh(name)
    metric.update(*batch)
    found: dict[str, Tensor] = metric.compute()
    return found


def test_float64_is_kept() -> None:
    values = torch.tensor([[1.0, 1 + 1e-12]], dtype=torch.float64)
    metric = metrics.Gini()
    metric.update(values)
    assert metric.values[0].dtype == torch.float64 and float(metric.compute()["mean"]) == float(metrics.gini(values)) > 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_images_have_no_mean() -> None:
    found = metrics.Gini().compute()
    assert math.isnan(found["mean"]) and int(found["n"]) == 0


def test_bins_of_sizes() -> None:
    flat, inside = torch.ones(4, 8, 8), torch.zeros(4, 8, 8, dtype=torch.bool)
    for i, side in enumerate((1, 2, 4, 8)):
        inside[i, :side, :side] = True
    metric = metrics.EnergyPointing(bins=(0, 4, 20, math.inf))
    metric.update(flat[:3], inside[:3])
    metric.update(flat[3:], inside[3:])
    found = {name: float(value) for name, value in metric.compute().items()}
    areas = [1 / 64, 4 / 64, 16 / 64, 1.0]
    assert found["mean"] == found["area"] == pytest.approx(sum(areas) / 4)  # an even map measures the objects' size
    assert [found[f"{b}/n"] for b in ("0-4", "4-20", "20-inf")] == [1, 2, 1]
    assert found["4-20/mean"] == found["4-20/area"] == pytest.approx((areas[1] + areas[2]) / 2)
    with pytest.raises(InputError, match="edges are at least two increasing sizes"):
        metrics.EnergyPointing(bins=(4, 0))


def test_several_sizes_of_subsets_are_one_number_an_image() -> None:
    batch = (brightness, torch.rand(3, 2, 8, 8), maps(3))
    metric = metrics.SensitivityN(n=[3, 10, 64], replace=0.0)
    metric.update(*batch)
    each = torch.stack([metrics.sensitivity_n(*batch, n=n, replace=0.0) for n in (3, 10)])  # of all 64 there is one subset
    torch.testing.assert_close(metric.values[0].float(), each.mean(0), equal_nan=True)
    assert int(metric.compute()["n"]) == 3 and int(metric.compute()["undefined"]) == 1


def test_a_collection_of_metrics() -> None:
    found = torchmetrics.MetricCollection([metrics.Gini(), metrics.Entropy()], compute_groups=False)
    found.update(maps(3))
    assert any("mean" in name for name in found.compute())


def test_a_seed_decides_between_ties_and_no_image_depends_on_its_batch() -> None:
    x, flat = torch.rand(3, 2, 8, 8), torch.zeros(3, 8, 8)

    def found(seed: int, *sizes: int) -> Tensor:
        metric = metrics.Deletion(replace=0.0, fractions=4, seed=seed)
        for rows in torch.arange(3).split(list(sizes)):
            metric.update(brightness, x[rows], flat[rows])
        return torch.cat(metric.values)

    torch.testing.assert_close(found(0, 3), found(0, 1, 2))
    assert not torch.allclose(found(0, 3), found(1, 3))


def test_wrong_calls_are_one_sentence() -> None:
    with pytest.raises(InputError, match=r"GridPointing has no setting 'smoth'. Did you mean 'smooth'"):
        metrics.GridPointing(smoth=3)
    with pytest.raises(InputError, match=r"Gini has no setting 'n'. There are none"):
        metrics.Gini(n=2)
    with pytest.raises(ArgumentTypeError, match=r"MapIoU.update takes \(maps, masks\)"):
        metrics.MapIoU().update(maps(2))
    with pytest.raises(ArgumentTypeError, match=r"takes \(maps, constants, values\): missing a required argument"):
        metrics.Residual().update(maps(2), 0.0)
    with pytest.raises(InputError, match="numbers that are not finite"):
        metrics.Gini().update(maps(2) / 0)
    assert metrics.Gini(sync_on_compute=False).sync_on_compute is False


def test_a_wrong_name_is_no_metric() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Ginni'"):
        metrics.Ginni  # type: ignore[attr-defined]  # noqa: B018


def test_without_torchmetrics_it_is_named_and_functions_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(MissingPackageError, match=r"Gini needs the package 'torchmetrics', .* pip install '\.\[evaluate\]'"):
        metrics.Gini  # type: ignore[attr-defined]  # noqa: B018
    assert metrics.gini(torch.ones(1, 4)).tolist() == [0.0]
