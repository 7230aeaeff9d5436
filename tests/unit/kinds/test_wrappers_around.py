"""What stands around an ordinary network: hooks, modes, wrappers, threads, training, compiled and recorded code."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import torchbcos
from tests.unit.kinds.test_wrappers import by_hand
from tests.unit.kinds.wrapped import check_same, network, pair, pictures, pooled, seeded, written
from torchbcos._core.errors import StateError

PLAIN = seeded(network)


class Inside(nn.Module):
    """A network that runs another one in some way."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Any], net: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.run = seeded(network) if net is None else net, run

    def forward(self, x: Tensor) -> Any:
        return self.run(self.net, x)


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_forward_hooks_belong_to_the_network() -> None:
    net, plain = seeded(network), seeded(network)
    net[0].register_forward_hook(lambda module, given, out: 2 * out)
    net[3].register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    with torch.no_grad():
        plain[0].weight.mul_(2)
        plain[0].bias.mul_(2)
        plain[3].bias.copy_(plain[3].bias)
    plain[3] = nn.Sequential(Inside(lambda net, y: net(y) + 1, nn.Identity()), plain[3])
    assert "3.added" in check_same(net, plain).constants
    net[0].register_forward_hook(lambda module, given, out: out.detach())
    with pytest.raises(StateError, match="'detach' in '0'"):
        torchbcos.explain(net, pictures())


def look(seen: list[object]) -> dict[str, Callable[[nn.Sequential], Any]]:
    """Hooks on gradients that only look."""
    return {
        "full": lambda net: net[0].register_full_backward_hook(lambda module, into, out: seen.append(out)),
        "full, of the network": lambda net: net.register_full_backward_hook(lambda module, into, out: seen.append(out)),
        "before": lambda net: net[3].register_full_backward_pre_hook(lambda module, out: seen.append(out)),
        "old": lambda net: net[3].register_backward_hook(lambda module, into, out: seen.append(out)),
        "of a weight": lambda net: net[0].weight.register_hook(lambda g: 5 * g),
    }


@pytest.mark.parametrize("name", look([]))
def test_hooks_on_gradients_may_look(name: str) -> None:
    net = seeded(network)
    look([])[name](net)
    check_same(net, PLAIN)


CHANGES: dict[str, Callable[[nn.Sequential], Any]] = {
    "full": lambda net: net[3].register_full_backward_hook(lambda module, into, out: tuple(2 * g for g in into)),
    "before": lambda net: net[3].register_full_backward_pre_hook(lambda module, out: tuple(2 * g for g in out)),
    "old": lambda net: net[3].register_backward_hook(lambda module, into, out: tuple(g if g is None else 2 * g for g in into)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_hooks_that_change_gradients_are_refused(name: str) -> None:
    net = seeded(network)
    CHANGES[name](net)
    with pytest.raises(StateError, match="hook"):
        torchbcos.explain(net, pictures(), 1)


def test_a_hook_on_a_tensor_changes_no_w() -> None:
    def hooked(s: Any, x: Tensor) -> Tensor:
        y = s.conv(x)
        if y.requires_grad:
            y.register_hook(lambda g: 3 * g)
        return pooled(s, y)

    x = pictures().requires_grad_()
    x.register_hook(lambda g: 3 * g)
    check_same(*pair(hooked, lambda s, x: pooled(s, s.conv(x))), x)
    assert x.grad is None and x.requires_grad


# -- wrappers ----------------------------------------------------------------------------------------------------------


def test_data_parallel_is_explained() -> None:
    e = check_same(nn.DataParallel(seeded(network)), PLAIN)
    assert "module.1.running_mean" in e.constants


def test_distributed_data_parallel_is_explained(tmp_path: Any) -> None:
    store = torch.distributed.FileStore(os.fspath(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        net = nn.parallel.DistributedDataParallel(seeded(network))
        check_same(net, PLAIN)
        check_same(net.train(), seeded(network).train())
        net(pictures()).sum().backward()
        assert all(p.grad is not None for p in net.parameters())
    finally:
        torch.distributed.destroy_process_group()


def test_functional_call_is_explained() -> None:
    state = {name: 2 * t if name == "0.weight" else t for name, t in seeded(network).state_dict().items()}
    plain = seeded(network)
    plain.load_state_dict(state)
    check_same(Inside(lambda net, x: torch.func.functional_call(net, state, x)), plain)


def test_deployed_twins_are_explained() -> None:
    check_same(torchbcos.deploy(seeded(network)), PLAIN)

    def mixed() -> nn.Module:
        return nn.Sequential(
            torchbcos.nn.BcosConv2d(3, 6, 3), nn.BatchNorm2d(6), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    check_same(torchbcos.deploy(seeded(mixed)), seeded(mixed))


# -- training, gradients -----------------------------------------------------------------------------------------------


def test_training_holds_the_statistics_of_the_batch_and_learns_nothing() -> None:
    net, x = seeded(network).train(), pictures()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    e = torchbcos.explain(net, x, 1)
    torch.testing.assert_close(e.weights[:, 0], by_hand(net, x, 1, training=True), rtol=0, atol=1e-12)
    assert "1.batch_mean" in e.constants and bool(e.complete.all()) and net.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_dropout_is_that_of_a_forward_pass() -> None:
    net = seeded(
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.Dropout2d(), nn.GELU(), nn.Flatten(), nn.Dropout(), nn.Linear(216, 4))
    )
    net, x = net.train(), pictures()
    torch.manual_seed(5)
    expected, after = net(x), torch.rand(1)
    torch.manual_seed(5)
    e = torchbcos.explain(net, x, 1)
    assert torch.equal(torch.rand(1), after)
    torch.testing.assert_close(e.outputs, expected)
    assert bool(e.complete.all())


def test_gradients_need_not_be_wanted() -> None:
    with torch.inference_mode():
        made, x = seeded(network), pictures()
    for net in (made, seeded(network).requires_grad_(False)):
        check_same(net, PLAIN, x)
        with torch.no_grad():
            check_same(net, PLAIN)
        with torch.inference_mode():
            check_same(net, PLAIN)
    follows = (pictures().requires_grad_() * 1).requires_grad_()
    check_same(PLAIN, PLAIN, follows)


# -- threads, tasks, explanations in explanations ----------------------------------------------------------------------


def test_threads_and_tasks_explain_at_once() -> None:
    net = seeded(network)
    expected = [torchbcos.explain(net, pictures(seed=i), 1).weights for i in range(4)]

    def same(i: int) -> bool:
        return torch.equal(torchbcos.explain(net, pictures(seed=i), 1).weights, expected[i])

    async def later(i: int) -> bool:
        await asyncio.sleep(0)
        return same(i)

    async def together() -> Iterable[bool]:
        return await asyncio.gather(*(later(i) for i in range(4)))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(same, [0, 1, 2, 3] * 5))
    assert all(asyncio.run(together()))


@pytest.mark.parametrize("itself", [False, True])
def test_an_explanation_in_a_hook_of_another(itself: bool) -> None:
    net = seeded(network)
    other = net if itself else seeded(network)
    expected = torchbcos.explain(other, pictures(seed=7), 2)
    found: list[torchbcos.Explanation] = []

    def inner(module: nn.Module, given: object, out: object) -> None:
        if not found:
            found.append(expected)
            found.append(torchbcos.explain(other, pictures(seed=7), 2))

    net[3].register_forward_hook(inner)
    check_same(net, PLAIN)
    assert torch.equal(found[1].weights, expected.weights) and list(found[1].constants) == list(expected.constants)


def test_a_network_that_explains_itself() -> None:
    gated = Inside(lambda net, x: net(x) * torchbcos.explain(net, x, 1).values)
    value = torchbcos.explain(PLAIN, pictures(), 1).values
    check_same(gated, Inside(lambda net, x: net(x) * value))
    with pytest.raises(StateError):
        torchbcos.explain(Inside(lambda net, x: net(x) + torchbcos.explain(net, x, 1).values), pictures(), 1)


def test_a_thousand_calls_leave_nothing() -> None:
    net, x = seeded(network), pictures(1)

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    torchbcos.explain(net, x, 1)
    before = alive()
    for _ in range(40):
        torchbcos.explain(net, x, 1)
    assert alive() <= before


# -- modes -------------------------------------------------------------------------------------------------------------


class Counts(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        return func(*args, **(kwargs or {}))


class Replaces(TorchFunctionMode):
    """Another GELU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _quick(args[0]) if func is F.gelu else func(*args, **(kwargs or {}))


def _quick(y: Tensor) -> Tensor:
    return y * torch.sigmoid(1.7 * y)


def _in(mode: Callable[[], Any]) -> Callable[[nn.Module, Tensor], Any]:
    def run(net: nn.Module, x: Tensor) -> Any:
        with mode():
            return net(x)

    return run


def test_modes_of_others() -> None:
    quick = seeded(network)
    quick[2] = Inside(lambda net, y: _quick(y), nn.Identity())
    with torch.device("cpu"), Counts():
        check_same(PLAIN, PLAIN)
    check_same(Inside(_in(lambda: torch.device("cpu"))), PLAIN)
    check_same(Inside(_in(Counts)), PLAIN)
    check_same(Inside(_in(Replaces)), quick)
    check_same(Inside(_in(lambda: torch.autocast("cpu", enabled=False))), PLAIN)
    with Replaces(), pytest.raises(StateError, match="does not add up"):  # what it does comes after the rules
        torchbcos.explain(PLAIN, pictures(), 1)
    with FlopCounterMode(display=False), pytest.raises(StateError, match="FlopCounterMode"):
        torchbcos.explain(PLAIN, pictures(), 1)


# -- compiled, scripted and recorded code ------------------------------------------------------------------------------


def _rms(y: Tensor) -> Tensor:
    return y * torch.rsqrt(y.pow(2).mean(1, keepdim=True)) + 1


@pytest.mark.newest
def test_compiled_functions_run_as_they_were_written() -> None:
    fast = torch.compile(_rms, backend="aot_eager")
    net, plain = pair(lambda s, x: pooled(s, fast(s.conv(x))), lambda s, x: pooled(s, _rms(s.conv(x))))
    with torch.no_grad():
        expected = net(pictures())
    check_same(net, plain)
    calls = torch._dynamo.utils.counters["stats"]["calls_captured"]
    with torch.no_grad():
        torch.testing.assert_close(net(pictures()), expected)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] == calls > 0  # compiled code runs again, nothing was added


@pytest.mark.newest
def test_compiled_networks_are_explained_and_compiled_parts_refused() -> None:
    whole, part = torch.compile(seeded(network), backend="eager"), seeded(network)
    check_same(whole, PLAIN)  # type: ignore[arg-type]
    part.compile(backend="eager")
    check_same(part, PLAIN)
    inner = seeded(network)
    inner[0].compile(backend="eager")
    with pytest.raises(StateError, match="compiled on its own"):
        torchbcos.explain(inner, pictures())


def _plus(y: Tensor) -> Tensor:
    return y + 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripted_code_is_refused_but_as_a_factor() -> None:
    scripted = torch.jit.script(_plus)
    with pytest.raises(StateError, match="code that cannot be watched"):
        torchbcos.explain(written(lambda s, x: pooled(s, scripted(s.conv(x)))), pictures())
    check_same(
        *pair(
            lambda s, x: pooled(s, s.conv(x) * scripted(s.conv(x))), lambda s, x: pooled(s, s.conv(x) * _plus(s.conv(x)).detach())
        )
    )
    with pytest.raises(StateError, match="scripted or traced"):
        torchbcos.explain(torch.jit.script(seeded(network)), pictures())


@pytest.mark.newest
def test_recorded_networks_are_explained() -> None:
    check_same(torch.fx.symbolic_trace(seeded(network)), PLAIN)
    program = torch.export.export(seeded(network), (pictures(),))
    assert "1.running_mean" in check_same(program.module(), PLAIN).constants
    with pytest.raises(StateError, match="explain the network it was made from"):
        torchbcos.explain(program.run_decompositions().module(), pictures())
