"""A fresh model may be met by all threads at once, and asyncio tasks keep their own state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchbcos
from torchbcos.models import build


def fresh() -> nn.Module:
    torch.manual_seed(3)
    model = build("cifar10_resnet20", num_classes=4, norm_bias=True)
    torchbcos.recalibrate(model, [torch.rand(4, 6, 16, 16)])
    return model.double().eval()


def at_once(works: list[Callable[[], None]]) -> list[BaseException]:
    """Start all works behind one barrier; return what they raised."""
    barrier, raised = threading.Barrier(len(works)), []

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.parametrize("deployed", [False, True])
def test_the_first_call_comes_from_all_threads_at_once(deployed: bool) -> None:
    x = torch.rand(2, 6, 16, 16, dtype=torch.float64)
    reference = fresh()
    logits, weights = reference(x).detach(), torchbcos.explain(reference, x, 1).weights
    gradient = torch.autograd.grad(reference(x).sum(), reference.conv1.weight)[0]  # type: ignore[arg-type, union-attr]
    for _ in range(5):
        model = torchbcos.deploy(fresh()) if deployed else fresh()

        def explain(model: nn.Module = model) -> None:
            torch.testing.assert_close(torchbcos.explain(model, x, 1).weights, weights)

        def predict(model: nn.Module = model) -> None:
            with torch.inference_mode():
                torch.testing.assert_close(model(x), logits)

        def differentiate(model: nn.Module = model) -> None:
            found = torch.autograd.grad(model(x).sum(), model.conv1.weight)[0]  # type: ignore[arg-type, union-attr]
            torch.testing.assert_close(found, gradient)

        works = [explain, predict, explain, predict] if deployed else [explain, predict, differentiate, explain]
        assert not at_once(works)


def test_the_barrier_reports_what_threads_raise() -> None:
    def fail() -> None:
        raise ValueError("seen")

    assert [str(e) for e in at_once([fail, lambda: None])] == ["seen"]


def test_the_embedded_network_is_loaded_by_all_threads_at_once() -> None:
    picture = torch.rand(3, 40, 40)
    expected = torchbcos.load().predict(picture)[0][0]
    found = []
    assert not at_once([lambda: found.append(torchbcos.load().predict(picture)[0][0]) for _ in range(4)])
    assert all(p.index == expected.index and abs(p.logit - expected.logit) < 1e-4 for p in found)


def test_tasks_of_one_thread_keep_their_own_state() -> None:
    model, x = fresh(), torch.rand(1, 6, 16, 16, dtype=torch.float64)

    async def frozen_task(order: list[str]) -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        with torchbcos.frozen():
            order.append("frozen in")
            await asyncio.sleep(0.01)
            out = model(leaf)[0, 0]
            order.append("frozen out")
        return torch.autograd.grad(out, leaf)[0]

    async def ordinary_task(order: list[str]) -> torch.Tensor:
        await asyncio.sleep(0.005)
        order.append("ordinary")
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(model(leaf)[0, 0], leaf)[0]

    async def both() -> tuple[list[str], list[torch.Tensor]]:
        order: list[str] = []
        return order, list(await asyncio.gather(frozen_task(order), ordinary_task(order)))

    order, (held, ordinary) = asyncio.run(both())
    assert order == ["frozen in", "ordinary", "frozen out"]
    torch.testing.assert_close(held, torchbcos.explain(model, x, 0).weights[:, 0])
    assert not torch.allclose(held, ordinary)
