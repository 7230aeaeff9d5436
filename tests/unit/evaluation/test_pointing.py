"""Networks on grids: every cell alone (DiFull), or with features of the whole grid (DiPart)."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchbcos
from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos.attribution import attribute
from torchbcos.attribution.methods import method_of
from torchbcos.evaluation import cell_targets, difull, dipart
from torchbcos.metrics import compose_grids, grid_pointing
from torchbcos.models import resnet, vit
from torchbcos.models.blocks import Style

CLASSES = 5
LABELS = torch.tensor([[0, 3, 2, 4]])


def plain(kernel: int = 3) -> nn.Sequential:
    """Each pixel of its feature map sees `kernel - 1` pixels to each side."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, kernel, padding=kernel // 2), nn.ReLU(), nn.Conv2d(8, 8, kernel, padding=kernel // 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES),
    ).eval()  # fmt: skip


def bcos() -> nn.Module:
    torch.manual_seed(0)
    sizes = resnet.ResNetSizes(depths=(1, 1), widths=(8, 8), stem=8, small=True)
    net = resnet.build(sizes, Style(), num_classes=CLASSES, in_channels=3)
    torchbcos.recalibrate(net, [torch.rand(4, 3, 8, 8)])
    return net.eval()


def transformer() -> nn.Module:
    torch.manual_seed(0)
    sizes = vit.ViTSizes(dim=16, heads=2, mlp=24, depth=1, patch=4, head_dim=8)
    return vit.build(sizes, Style(norm="layer", norm_centered=True), num_classes=CLASSES, in_channels=3).eval()


def grid(side: int = 8) -> tuple[Tensor, Tensor]:
    cells = torch.rand(1, 4, 3, side, side, generator=torch.Generator().manual_seed(1))
    return cells, compose_grids(cells, 2)


def cell_of(maps: Tensor, k: int) -> Tensor:
    row, column = divmod(k, 2)
    half = maps.shape[-1] // 2
    return maps[..., row * half : (row + 1) * half, column * half : (column + 1) * half]


@pytest.mark.parametrize("make", [plain, bcos, transformer])
def test_difull_is_the_network_on_every_cell(make: Callable[[], nn.Module]) -> None:
    """Outputs and maps are those of the cells, one by one; nothing lies elsewhere, so that the score is exactly 1."""
    net, (cells, x) = make(), grid()
    whole = difull(net, 2)
    e = torchbcos.explain(whole, x, cell_targets(LABELS, CLASSES))
    torch.testing.assert_close(e.outputs.view(4, CLASSES), net(cells[0]).detach())
    for k in range(4):
        alone = torchbcos.explain(net, cells[0, k : k + 1], int(LABELS[0, k]))
        torch.testing.assert_close(cell_of(e.contributions[0, k], k), alone.contributions[0, 0])
        torch.testing.assert_close(e.values[0, k], alone.values[0, 0])
    assert grid_pointing(e.contributions[0], torch.arange(4), n=2).tolist() == [1.0] * 4
    assert e.residual.abs().max() < 1e-5


@pytest.mark.parametrize("make", [plain, bcos])
@pytest.mark.parametrize(
    ("method", "scales"),
    [("input_x_gradient", "live"), ("input_x_gradient", "frozen"), ("integrated_gradients", "live"), ("saliency", "live"),
     ("smooth_grad", "live")],
)  # fmt: skip
def test_every_gradient_scores_exactly_1_in_difull(make: Callable[[], nn.Module], method: str, scales: str) -> None:
    net, (_, x) = make(), grid()
    a = attribute(
        difull(net, 2),
        x,
        cell_targets(LABELS, CLASSES),
        method=method,
        scales=scales,
        samples=4 if method in ("integrated_gradients", "smooth_grad") else None,
    )
    scores = grid_pointing(a.maps[0], torch.arange(4), n=2)
    assert scores[~scores.isnan()].tolist() == [1.0] * int((~scores.isnan()).sum())
    assert bool((~scores.isnan()).any())


def test_dipart_shares_features_and_nothing_else() -> None:
    """By hand: features of the grid, cut, pooled and classified."""
    net, (_, x) = plain(), grid()
    for features, wanted in (("2", net[:3]), ("0", net[:1])):
        found = dipart(net, 2, features=features)(x)
        rest = net[len(wanted) :]
        by_hand = [rest(cell_of(wanted(x), k)) for k in range(4)]
        torch.testing.assert_close(found, torch.cat(by_hand, 1))


def test_a_split_by_name_is_the_network_s_own() -> None:
    net, (_, x) = bcos(), grid()
    name = net.feature_info[-1].name
    targets = cell_targets(LABELS, CLASSES)
    for make in (difull, dipart):
        own, named = torchbcos.explain(make(net, 2), x, targets), torchbcos.explain(make(net, 2, features=name), x, targets)
        torch.testing.assert_close(named.outputs, own.outputs)
        torch.testing.assert_close(named.contributions, own.contributions)
        assert named.residual.abs().max() < 1e-5


def test_dipart_reaches_as_far_as_its_receptive_field() -> None:
    """Two layers of 3 x 3 see two pixels beyond a border, and no more; layers of 1 x 1 see nothing there."""
    _, x = grid(12)
    e = torchbcos.explain(dipart(plain(3), 2, features="2"), x, cell_targets(LABELS, CLASSES))
    for k, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        outside = torch.ones(24, 24, dtype=torch.bool)
        outside[max(0, 12 * row - 2) : 12 * row + 14, max(0, 12 * column - 2) : 12 * column + 14] = False
        assert bool((e.contributions[0, k][outside] == 0).all())
    scores = grid_pointing(e.contributions[0], torch.arange(4), n=2)
    assert bool((scores < 1).any())
    assert bool((scores > 0.5).all())
    e = torchbcos.explain(dipart(plain(1), 2, features="2"), x, cell_targets(LABELS, CLASSES))
    assert grid_pointing(e.contributions[0].abs(), torch.arange(4), n=2).tolist() == [1.0] * 4


def test_a_map_of_features_is_found_by_name() -> None:
    """Methods that look at features find those of the grid."""
    net, (cells, x) = bcos(), grid()
    seen: list[Tensor] = []
    for make in (difull, dipart):
        whole = make(net, 2)
        whole.features.register_forward_hook(lambda module, given, found: seen.append(found))
        whole(x)
    alone, together = seen
    torch.testing.assert_close(together, net.forward_features(x))
    torch.testing.assert_close(cell_of(alone, 3), net.forward_features(cells[0, 3:4]))


@pytest.mark.parametrize("make", [difull, dipart])
@pytest.mark.parametrize("method", ["grad_cam", "hires_cam"])
def test_activation_maps_are_those_of_the_grid(make: Callable[..., nn.Module], method: str) -> None:
    """The layer that is chosen is the map of the whole grid, for each target alone as for all, not that of a head."""
    net, (_, x) = bcos(), grid()
    whole, targets = make(net, 2), cell_targets(LABELS, CLASSES)
    named = dataclasses.replace(method_of(method), layer="features")
    expected = attribute(whole, x, targets, method=named).maps
    assert bool(expected.flatten(2).any(2).all())
    torch.testing.assert_close(attribute(whole, x, targets, method=method).maps, expected)
    for k in range(4):
        torch.testing.assert_close(attribute(whole, x, targets[:, k : k + 1], method=method).maps, expected[:, k : k + 1])
    with pytest.raises(StateError, match="'features' did not run"):  # no halves, no map of the grid
        attribute(difull(plain(), 2), x, targets, method=method)


def test_transformers() -> None:
    """Ours keep their tokens in rows and columns: DiPart is defined, though attention reaches everywhere."""
    net, (_, x) = transformer(), grid()
    e = torchbcos.explain(dipart(net, 2), x, cell_targets(LABELS, CLASSES))
    assert e.residual.abs().max() < 1e-5
    assert bool((grid_pointing(e.contributions[0], torch.arange(4), n=2) < 1).all())


class Tokens(nn.Module):
    """Halves as timm's transformers have them: tokens in one row."""

    def forward_features(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)

    def forward_head(self, x: Tensor) -> Tensor:
        return x.mean(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def test_tokens_in_one_row_have_difull_only() -> None:
    cells, x = grid()
    torch.testing.assert_close(difull(Tokens().eval(), 2)(x).view(4, 3), cells[0].mean((2, 3)))
    with pytest.raises(StateError, match=r"not \(1, 256, 3\): tokens in one row cannot. Only difull"):
        dipart(Tokens().eval(), 2)(x)


class Last(nn.Module):
    """Channels last, as in timm's Swin."""

    def forward_features(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)

    def forward_head(self, x: Tensor) -> Tensor:
        return x.mean((1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def test_channels_last() -> None:
    cells, x = grid()
    for make in (difull, dipart):
        torch.testing.assert_close(make(Last().eval(), 2, layout="NHWC")(x).view(4, 3), cells[0].mean((2, 3)))
    with pytest.raises(InputError, match="feature map of a grid of 16 x 3 cannot be cut"):
        dipart(Last().eval(), 2)(x)


def test_targets_of_cells() -> None:
    assert cell_targets(torch.tensor([[3, 0, 1, 1]]), 10).tolist() == [[3, 10, 21, 31]]
    for labels, text in ((torch.tensor([[3, 10]]), "Labels go from 3 to 10"), (torch.tensor([3]), r"Expected labels \(G, n²\)")):
        with pytest.raises(InputError, match=text):
            cell_targets(labels, 10)


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def test_nothing_is_left_behind() -> None:
    net, (_, x) = plain(), grid()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    whole = dipart(net, 2, features="2")
    whole(x)
    with pytest.raises(RuntimeError, match="expected input"):
        whole(x[:, :2])  # another number of channels
    assert hooks(net) == 0
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())
    assert difull(net.train(), 2).training


def test_a_copy_is_one() -> None:
    """A deep copy, and one from a pickle, have halves of their own."""
    net, (_, x) = plain(), grid()
    whole = dipart(net, 2, features="2")
    expected = whole(x)
    others = copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))
    with torch.no_grad():
        net[0].weight.zero_()
    for other in others:
        torch.testing.assert_close(other(x), expected)


def test_other_threads_see_the_network_as_it_is() -> None:
    """While a head runs with features that are given, another thread uses the same network."""
    net, (cells, x) = plain(), grid()
    whole, other = dipart(net, 2, features="2"), cells[0, :1]
    expected, found = net(other), []

    def meanwhile(module: nn.Module, given: Any, output: Tensor) -> None:
        if not found:
            found.append(None)
            thread = threading.Thread(target=lambda: found.append(net(other)))
            thread.start()
            thread.join()

    handle = net[3].register_forward_hook(meanwhile)
    whole(x)
    handle.remove()
    torch.testing.assert_close(found[1], expected)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: difull(plain(), 0), "n is how many cells"),
        (lambda: dipart(plain(), 2), r'name the module .* features="layer4"'),
        (lambda: dipart(plain(), 2, features="8"), "no module '8'"),
        (lambda: dipart(plain(), 2, features=""), "no module ''"),
        (lambda: dipart(Last(), 2, layout="HWC"), "'NCHW' or 'NHWC', not 'HWC'"),
        (lambda: difull(plain(), 2)(torch.rand(1, 3, 7, 8)), "A grid of 7 x 8 cannot be cut into 2 x 2 equal cells"),
        (lambda: difull(plain(), 2)(torch.rand(3, 8, 8)), "A grid is a tensor of four axes"),
    ],
)
def test_bad_input_has_one_sentence(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()


def test_wrong_models_have_one_sentence() -> None:
    with pytest.raises(ArgumentTypeError, match=r"give clf\.model"):
        difull(lambda x: x, 2)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="labels are a tensor"):
        cell_targets([[1]], 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="A grid is a tensor of four axes, not list"):
        difull(plain(), 2)([1])
    with pytest.raises(InputError, match=r"no module 0\..*'0'"):
        difull(plain(), 2, features=0)  # type: ignore[arg-type]
    with pytest.raises(StateError, match=r"must give logits \(N, classes\), not \(1, 3, 8, 8\)"):
        difull(nn.Identity().eval(), 2)(grid()[1])
    shared = nn.ReLU()
    net = nn.Sequential(shared, nn.Conv2d(3, 4, 1), shared, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(StateError, match="'0' runs 2 times in one pass"):
        dipart(net, 2, features="0")(grid()[1])


def test_a_leak_between_cells_is_seen() -> None:
    """Planted: DiFull that shares features is DiPart, and does not score 1."""
    whole = difull(bcos(), 2)
    whole.alone = False
    e = torchbcos.explain(whole, grid()[1], cell_targets(LABELS, CLASSES))
    assert bool((grid_pointing(e.contributions[0], torch.arange(4), n=2) < 1).any())
