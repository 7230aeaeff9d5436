"""A network with fewer channels: which stay, with which weights, and what it then costs."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import frozen
from torchbcos._core.names import hint
from torchbcos.conversion import conversion_of
from torchbcos.conversion.cutting import (
    Cut,
    channels_of,
    cuts_from,
    mark_cut,
    pruned_of,
    rows_of,
    take_heads,
    take_inputs,
    take_outputs,
)
from torchbcos.deployment import is_deployed, pairs_of
from torchbcos.models.calibration import NORMS, recalibrate
from torchbcos.search.costs import Costs
from torchbcos.search.groups import Group, find_groups
from torchbcos.search.reconstruction import Samples, fit, record
from torchbcos.search.watching import listening

__all__ = ["RANKINGS", "REPAIRS", "STEPS", "Pruner", "digest_of"]

STEPS = 8  # a share is a number of eighths
REPAIRS = ("least_squares", "norms", "none")
RANKINGS = ("magnitude", "contribution")
_BATCH = 32


class Pruner:
    """What may be cut of a network, and the networks that are left.

    Args:
        network: that is pruned; it stays as it is.
        x: (N, C, *S) a few hundred encoded inputs, to which layers are fitted, and by which channels are ranked.
        repair: "least_squares": layers that read fewer channels are fitted (`reconstruction`), then norms are estimated anew;
            "norms": norms only; "none": channels are cut, and that is all.
        ranking: which channels go first: by "magnitude", mean |activation| times the norm of the weights that read it; or by
            "contribution", the mean size of what the channel contributes, exactly, to the logit of the first class.
        free_gain: of B-cos layers that no batch norm follows, the gain is kept; False throws it away, to show what it is for.
        seed: of the places that are looked at.

    Attributes:
        groups: what may be cut. left: why other layers may not, by name.
        digest: of the network, the inputs and the arguments: what a search may go on with.
        costs: floating-point operations.

    Raises:
        InputError: the network cannot be pruned at all, or an argument is unknown.
    """

    def __init__(
        self, network: nn.Module, x: Tensor, *, repair: str = "least_squares", ranking: str = "magnitude", free_gain: bool = True,
        seed: int = 0,
    ) -> None:  # fmt: skip
        for name, word, known in (("repair", repair, REPAIRS), ("ranking", ranking, RANKINGS)):
            if word not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not {word!r}.{hint(str(word), known)}")
        if not len(x):
            raise InputError("A few inputs are needed, a few hundred are better: x is empty.")
        if is_deployed(network):
            raise InputError("A deployed twin is not pruned, its norms are folded: torchbcos.load(…, deploy=False).")
        if conversion_of(network) is not None:
            raise InputError(
                "A converted network is not pruned: its layers carry biases of their own. Prune first, then bcosify."
            )
        self.network, self.x, self.repair, self.ranking, self.free_gain = network, x, repair, ranking, free_gain
        state = network.state_dict().values()
        tensors = digest_of(*(value for value in state if isinstance(value, Tensor)), x)
        words = f"{network} {free_gain} {seed} {[value for value in state if not isinstance(value, Tensor)]}"
        self.digest = f"{tensors} {hashlib.sha256(words.encode()).hexdigest()[:16]}"
        self.groups, self.left = find_groups(network)
        readers = [name for group in self.groups for name in group.readers]
        self.samples: dict[str, Samples] = record(network, readers, x, seed=seed)
        for group in [group for group in self.groups if not set(group.readers) <= set(self.samples)]:
            self.groups.remove(group)
            self.left[group.name] = "what reads its channels does not run when the network predicts"
        if not self.groups:
            first = next(
                iter(self.left.items()), ("the network", "it has no linear layers and no convolutions in two dimensions")
            )
            raise InputError(f"Nothing of this network can be cut: {first[0] or 'the network'!r}: {first[1]}.")
        self.costs = Costs.of(network, x[:1], self.groups)
        readers = [name for group in self.groups for name in group.readers]
        self.normed = {layer for layer, _ in pairs_of(network, lambda _, norm: isinstance(norm, NORMS))}
        scores = _contributions(network, readers, x) if ranking == "contribution" else None
        self.ranks = {group.name: self._ranked(group, scores) for group in self.groups}

    def flops(self, steps: Sequence[int] | None = None) -> float:
        """Floating-point operations for one input, with so many eighths of each group; None: of the network as it is."""
        if steps is None:
            return self.costs.total()
        return self.costs.total({group.name: len(kept) / group.size for group, kept in self.kept(steps)})

    def uniform(self, share: float) -> tuple[int, ...]:
        """The most eighths, the same of each group, for which at most this share of all operations is left; at least one."""
        whole = self.flops()
        fitting = [s for s in range(1, STEPS + 1) if self.flops((s,) * len(self.groups)) <= share * whole]
        return (max(fitting, default=1),) * len(self.groups)

    def kept(self, steps: Sequence[int]) -> list[tuple[Group, list[int]]]:
        """Which channels of each group stay.

        Raises:
            InputError: there are more or fewer numbers than groups, or one is not from 1 to 8.
        """
        if len(steps) != len(self.groups) or not all(isinstance(s, int) and 1 <= s <= STEPS for s in steps):
            raise InputError(f"Give {len(self.groups)} whole numbers from 1 to {STEPS}, one a group, not {list(steps)}.")
        return [
            (group, sorted(self.ranks[group.name][: max(1, round(group.size * s / STEPS))].tolist()))
            for group, s in zip(self.groups, steps, strict=True)
        ]

    @torch.no_grad()
    def build(self, steps: Sequence[int]) -> nn.Module:
        """The network that is left, in eval mode; it knows what was cut, and can be saved, trained and explained."""
        network = copy.deepcopy(self.network).eval()
        cuts: dict[str, Cut] = cuts_from(pruned_of(network) or {})
        chosen = [(group, kept) for group, kept in self.kept(steps) if len(kept) < group.size]
        rows: dict[str, list[int]] = {}
        for group, kept in chosen:
            for name in _cut(network, group, kept, cuts):
                rows[name] = kept
        if self.repair == "least_squares":
            for group, kept in chosen:
                for name in group.readers:
                    weight, bias = fit(self.network.get_submodule(name), self.samples[name], self._channels(group, kept))
                    self._give(network.get_submodule(name), name, weight, bias, rows.get(name), cuts)
        mark_cut(network, cuts)
        if self.repair != "none" and any(isinstance(module, NORMS) for module in network.modules()):
            recalibrate(network, torch.split(self.x, _BATCH))
        return network

    def _channels(self, group: Group, kept: list[int]) -> list[int]:
        """Input channels of what reads a group; of heads, those of each head."""
        if not group.heads:
            return kept
        attention = self.network.get_submodule(group.name)
        assert isinstance(attention, bnn.Attention)
        return channels_of(kept, attention.head_dim)

    def _give(
        self, layer: nn.Module, name: str, weight: Tensor, bias: Tensor | None, rows: list[int] | None, cuts: dict[str, Cut]
    ) -> None:  # fmt: skip
        """Fitted weights, of the outputs that are left."""
        old, arms = layer.weight, int(getattr(layer, "max_out", 1))
        assert isinstance(old, nn.Parameter)
        if rows is not None:
            weight = weight[rows_of(rows, arms)]
            bias = None if bias is None else bias[rows]
        if isinstance(layer, bnn.BcosConv2d | bnn.BcosLinear) and layer.unit_norm:
            if not self.free_gain or (name in self.normed and arms == 1):  # the direction counts
                lengths = [one.flatten(1).norm(dim=1).clamp_min(1e-12) for one in (old.cpu(), weight)]
                weight = weight * (lengths[0] / lengths[1]).reshape(-1, *[1] * (weight.dim() - 1))
            else:
                layer.unit_norm = False
                cuts[name] = dataclasses.replace(cuts.get(name, Cut()), free=True)
        old.copy_(weight.to(old.device))
        if bias is not None:
            layer.bias.copy_(bias.to(old.device))  # type: ignore[operator, union-attr]

    def _ranked(self, group: Group, scores: Mapping[str, Tensor] | None) -> Tensor:
        """Channels or heads, what matters most first."""
        total = torch.zeros(0)
        for name in group.readers:
            samples, layer = self.samples[name], self.network.get_submodule(name)
            if scores is None:
                weight = layer.weight.detach().float().cpu()  # type: ignore[union-attr, operator]
                score = samples.activity * weight.movedim(1, 0).flatten(1).norm(dim=1)
            else:
                score = scores[name]
            total = score if not len(total) else total + score
        if group.heads:
            total = total.reshape(group.size, -1).sum(1)
        return total.argsort(descending=True, stable=True)


def digest_of(*tensors: Tensor) -> str:
    """A hash of numbers and shapes.

    >>> digest_of(torch.zeros(2)) == digest_of(torch.zeros(2)), digest_of(torch.zeros(2)) == digest_of(torch.zeros(3))
    (True, False)
    """
    found = hashlib.sha256()
    for tensor in tensors:
        kept = tensor.detach().cpu().contiguous()
        found.update(f"{kept.dtype} {tuple(kept.shape)} ".encode())
        found.update(kept.reshape(-1).view(torch.uint8).numpy().tobytes() if kept.numel() else b"")
    return found.hexdigest()[:32]


def _cut(network: nn.Module, group: Group, kept: list[int], cuts: dict[str, Cut]) -> list[str]:
    """Take channels away, in place; the names of the layers whose outputs are fewer."""
    maker = network.get_submodule(group.name)
    if group.heads:
        take_heads(maker, kept)
        cuts[group.name] = dataclasses.replace(cuts.get(group.name, Cut()), heads=len(kept))
        return []
    for name in (group.name, *group.between):
        take_outputs(network.get_submodule(name), kept)
        cuts[name] = dataclasses.replace(cuts.get(name, Cut()), outputs=len(kept))
    for name in group.readers:
        take_inputs(network.get_submodule(name), kept)
        cuts[name] = dataclasses.replace(cuts.get(name, Cut()), inputs=len(kept))
    return [group.name, *group.between]


def _contributions(network: nn.Module, names: Sequence[str], x: Tensor) -> dict[str, Tensor]:
    """(C,) of each layer: the mean size of what an input channel contributes to the logit of the first class."""
    read: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Any, Tensor, Tensor], None]:
        return lambda layer, given, _: read.update({name: given})

    found = {name: torch.zeros(0) for name in names}
    with listening(network, {name: keep(name) for name in found}):
        for part in torch.split(x, _BATCH):
            with frozen(), torch.enable_grad():
                logits = network(part.detach().requires_grad_())
                reached = [name for name in found if read[name].requires_grad]  # a stage that is held contributes nothing
                gradients = torch.autograd.grad(logits.amax(1).sum(), [read[name] for name in reached])
            held = {name: torch.zeros_like(read[name]) for name in found}
            for name, gradient in {**held, **dict(zip(reached, gradients, strict=True))}.items():
                product = (gradient * read[name]).detach()
                tokens = isinstance(network.get_submodule(name), nn.Linear | bnn.BcosLinear)
                product = product if tokens else product.movedim(1, -1)
                size = product.reshape(len(part), -1, product.shape[-1]).sum(1).abs().sum(0).cpu()
                found[name] = size if not len(found[name]) else found[name] + size
    return found
