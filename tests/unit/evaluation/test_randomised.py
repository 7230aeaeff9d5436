"""Networks that lose their training layer by layer: what changes, what does not, and networks of other libraries."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.evaluation import randomised
from torchbcos.evaluation.randomised import ORDERS


def bcos_network() -> nn.Module:
    """Two layers of one shape among others, and norms that were trained."""
    return trained(
        nn.Sequential(
            bnn.BcosConv2d(6, 4, 3, padding=1), bnn.BatchNorm(4), bnn.BcosConv2d(4, 4, 3, padding=1, max_out=2),
            bnn.BatchNorm(4, centered=False), bnn.BcosConv2d(4, 4, 3, padding=1, max_out=2), bnn.GlobalAveragePool(),
            bnn.BcosLinear(4, 4), bnn.Logits(-1.0),
        )
    )  # fmt: skip


def trained(model: nn.Module) -> nn.Module:
    """A network none of whose numbers is what it was in the beginning."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.3 + 0.1)
    return model.eval()


class Tied(nn.Module):
    """An ordinary network with parameters of its own, tied ones, a number, a parametrised layer and an old weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 8))
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.turned = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("grid", torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.turned(self.second(self.first(x + self.position)))) / self.temperature + self.grid


def torchvision_network() -> nn.Module:
    torchvision = pytest.importorskip("torchvision")
    return trained(torchvision.models.VisionTransformer(16, 8, 1, 2, 12, 16))


def timm_network() -> nn.Module:
    timm = pytest.importorskip("timm")
    return trained(timm.models.VisionTransformer(16, 8, num_classes=3, embed_dim=12, depth=1, num_heads=2))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bcos": bcos_network, "tied": lambda: trained(Tied()), "torchvision": torchvision_network, "timm": timm_network,
}  # fmt: skip
EACH = pytest.mark.parametrize("name", NETWORKS)


def numbers(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


def hooks(model: nn.Module) -> list[int]:
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]


@EACH
@pytest.mark.parametrize("order", ORDERS)
def test_the_model_and_all_else_are_as_before(name: str, order: str) -> None:
    model = NETWORKS[name]()
    model.train()
    first = next(m for m in model.modules() if not list(m.children()))
    first.eval()
    first.register_forward_hook(lambda *_: None)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    grads, modes, held = [id(p.grad) for p in model.parameters()], [m.training for m in model.modules()], hooks(model)
    before, state = numbers(model), (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    twins = list(randomised(model, order=order))
    assert changed(before, numbers(model)) == set() and hooks(model) == held
    assert [id(p.grad) for p in model.parameters()] == grads
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (str(np.random.get_state()), random.getstate()) == state[1:]
    for _, twin in twins:
        assert [m.training for m in twin.modules()] == modes and hooks(twin) == held
        assert all(p.grad is None for p in twin.parameters())
        assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in twin.parameters()}


@EACH
def test_each_step_changes_one_layer_and_cascades_keep_what_they_changed(name: str) -> None:
    model = NETWORKS[name]()
    before = numbers(model)
    alone = {layer: changed(before, numbers(twin)) for layer, twin in randomised(model, order="independent")}
    assert len(alone) > 3 and all(alone.values())
    assert sum(map(len, alone.values())) == len(set().union(*alone.values()))
    for order in ("bottom_up", "top_down"):
        last, reached = before, set()
        for layer, twin in randomised(model, order=order):
            now = numbers(twin)
            reached |= alone[layer]
            assert changed(last, now) == alone[layer] and changed(before, now) == reached
            last = now
        names = [layer for layer, _ in randomised(model, order=order)]
        assert names == (list(alone) if order == "bottom_up" else list(alone)[::-1])


@EACH
def test_both_cascades_end_in_the_same_network_and_the_generator_decides_which(name: str) -> None:
    model = NETWORKS[name]()

    def end(order: str, seed: int | None = None) -> dict[str, Tensor]:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return numbers(list(randomised(model, order=order, generator=generator))[-1][1])

    bottom = end("bottom_up")
    assert changed(bottom, end("top_down")) == set() and changed(bottom, end("bottom_up", 0)) == set()
    torch.manual_seed(5)
    assert changed(bottom, end("bottom_up")) == set()  # nobody else's generator decides
    assert changed(bottom, end("bottom_up", 1))


def test_layers_of_one_shape_get_different_weights() -> None:
    last = list(randomised(bcos_network()))[-1][1]
    a, b = (last.get_parameter(f"{i}.weight").detach() for i in (2, 4))
    assert a.shape == b.shape and not torch.equal(a, b)
    assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.3


def test_parameters_and_statistics_are_those_of_a_fresh_layer() -> None:
    model = bcos_network()
    last = list(randomised(model))[-1][1]
    for i in (1, 3):
        norm = last.get_submodule(str(i))
        assert torch.equal(norm.weight, torch.ones(4)) and torch.equal(norm.running_var, torch.ones(4))  # type: ignore[arg-type]
    assert torch.equal(last.get_buffer("1.running_mean"), torch.zeros(4))
    bound = 1 / (4 * 9) ** 0.5  # as torch.nn.Conv2d has them
    weight = last.get_parameter("2.weight").detach()
    assert 0.8 * bound < float(weight.abs().max()) <= bound


def test_a_copy_predicts_what_its_numbers_say() -> None:
    """No layer goes on with what it remembered of the trained weights."""
    model, x = bcos_network(), torchbcos.functional.add_inverse(torch.rand(2, 3, 8, 8))
    with torch.no_grad():
        model(x)
        for _, twin in randomised(model):
            fresh = bcos_network()
            fresh.load_state_dict(twin.state_dict())
            torch.testing.assert_close(twin(x), fresh(x), rtol=0, atol=0)
            assert not torch.equal(twin(x), model(x))


def test_what_has_no_reset_is_drawn_with_its_own_spread() -> None:
    model = Tied()
    with torch.no_grad():
        model.position.copy_(torch.linspace(5, 7, 8))
    names, twins = zip(*randomised(model), strict=True)
    assert names == ("position, temperature", "first", "second", "turned", "turned.parametrizations.weight", "norm")
    last = twins[-1]
    assert 3 < float(last.position.detach().mean()) < 9 and not torch.equal(last.position, model.position)
    assert last.temperature.item() == 2.0 and torch.equal(last.grid, model.grid)  # type: ignore[arg-type]
    assert last.first.weight is last.second.weight
    scale = last.turned.parametrizations.weight  # type: ignore[union-attr]
    assert not torch.equal(scale.original1, model.turned.parametrizations.weight.original1)  # type: ignore[union-attr]


class Meddling(nn.Module):
    """Its reset touches what is below it, draws from every generator, and fails where asked."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fails = fails
        self.gain = nn.Parameter(torch.rand(6))
        self.below = nn.Linear(6, 6)

    def reset_parameters(self) -> None:
        self.below.reset_parameters()
        if self.fails:
            raise RuntimeError("not now")
        with torch.no_grad():
            self.gain.copy_(torch.rand(6) + float(np.random.rand()) + random.random())

    def forward(self, x: Tensor) -> Tensor:
        return self.below(x) * self.gain


@pytest.mark.parametrize("fails", [False, True])
def test_a_reset_that_does_more_or_fails(fails: bool) -> None:
    model = nn.Sequential(Meddling(fails))
    before, state = numbers(model), (str(np.random.get_state()), random.getstate())
    (name, twin), (below, both) = randomised(model)
    assert (name, below) == ("0", "0.below") and (str(np.random.get_state()), random.getstate()) == state
    assert changed(before, numbers(twin)) == {"0.gain"}
    assert changed(numbers(twin), numbers(both)) == {"0.below.weight", "0.below.bias"}
    np.random.seed(9)
    random.seed(9)
    assert changed(numbers(twin), numbers(next(iter(randomised(model)))[1])) == set()


def test_copies_may_be_kept() -> None:
    kept = list(randomised(bcos_network()))
    first = numbers(kept[0][1])
    with torch.no_grad():
        for p in kept[1][1].parameters():
            p.zero_()
    assert changed(first, numbers(kept[0][1])) == set()


def test_half_precision_and_old_weight_norm() -> None:
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.LayerNorm(4)).half()
    before = numbers(model)
    last = list(randomised(model))[-1][1]
    assert {"0.weight_v", "0.bias"} <= changed(before, numbers(last)) and last[0].weight_v.dtype == torch.float16


class Spectral(nn.Module):
    """Complex weights, as spectral layers have, and integers, which are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.modes = nn.Parameter(torch.randn(3, 4, dtype=torch.complex64))
        self.places = nn.Parameter(torch.arange(3), requires_grad=False)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("make", "names", "kept"),
    [
        (Spectral, ["modes, places"], {"places"}),
        (lambda: torch.jit.trace(nn.Sequential(nn.Linear(3, 3)).eval(), torch.rand(2, 3)), ["0"], set()),
        (lambda: nn.utils.prune.random_unstructured(nn.Linear(4, 4), "weight", 0.5), ["bias, weight_orig"], {"weight_mask"}),
        (lambda: nn.MultiheadAttention(4, 2), ["in_proj_weight, in_proj_bias", "out_proj"], {"in_proj_bias"}),
        (lambda: nn.Sequential(nn.Linear(0, 2, bias=False), nn.LSTM(2, 2)), ["0", "1"], {"0.weight"}),
    ],
)  # fmt: skip
def test_unusual_layers(make: Callable[[], nn.Module], names: list[str], kept: set[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, and of layers without inputs
        model = make()
        twins = list(randomised(model))
    assert [name for name, _ in twins] == names
    before, after = model.state_dict(), twins[-1][1].state_dict()
    assert before.keys() - changed(before, after) == kept


@pytest.mark.parametrize(
    ("model", "order", "said"),
    [
        (
            nn.Linear(2, 2),
            "bottom-up",
            "independent, not 'bottom-up'. Did you mean 'bottom_up'",
        ),
        (nn.ReLU(), "bottom_up", "nothing can begin again"),
        (nn.Sequential(nn.Linear(2, 2, device="meta")), "bottom_up", "'0' has shapes and no numbers"),
        (nn.Sequential(nn.LazyLinear(2)), "bottom_up", "'0' has no parameters yet: call the network once"),
    ],
)
def test_what_cannot_begin_again(model: nn.Module, order: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        randomised(model, order=order)  # at the call, not at the first step


def test_what_is_no_network_or_cannot_be_copied() -> None:
    with pytest.raises(ArgumentTypeError, match=r"clf\.model\), not function"):
        randomised(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"generator must be a torch\.Generator or None, not int"):
        randomised(nn.Linear(2, 2), generator=0)  # type: ignore[arg-type]
    model = nn.Linear(2, 2)
    model.file = open(__file__)  # type: ignore[assignment]  # noqa: SIM115
    with pytest.raises(InputError, match="The network cannot be copied"):
        next(iter(randomised(model)))
    model.file.close()


def test_one_seed_for_all_layers_would_be_seen() -> None:
    """The fault of a known implementation: layers of one shape become one."""
    torch.manual_seed(1)
    first = bnn.BcosConv2d(4, 4, 3, max_out=2)
    torch.manual_seed(1)
    second = copy.deepcopy(first)
    second.reset_parameters()
    torch.manual_seed(1)
    first.reset_parameters()
    torch.manual_seed(1)
    second.reset_parameters()
    assert torch.equal(first.weight, second.weight)  # what `test_layers_of_one_shape_get_different_weights` looks for
