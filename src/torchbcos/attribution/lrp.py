"""Layer-wise relevance propagation by zennit, on ordinary networks of convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from torchbcos._core.eagerly import eagerly
from torchbcos._core.errors import BcosError, InputError, StateError, in_short
from torchbcos._core.names import hint
from torchbcos._core.optional import require
from torchbcos.attribution.base import Explainer, Found
from torchbcos.attribution.lrp_network import LINEAR, Relevant, relevant_copy
from torchbcos.attribution.record import Method
from torchbcos.attribution.steps import check_watchable
from torchbcos.attribution.subject import Subject, rows_of

__all__ = ["COMPOSITES", "RECORDS", "Lrp"]

COMPOSITES = (
    "epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box",
)  # fmt: skip
_FIRST = ("epsilon_plus_flat", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box")  # with a rule for the first layer


@dataclass(frozen=True)
class Lrp(Explainer):
    """Layer-wise relevance propagation (Bach et al. 2015, doi 10.1371/journal.pone.0130140), by zennit.

    The output itself is the relevance at the top; each layer passes it on by a rule. It works on a copy of the network (one more
    set of its weights in memory while it runs), whose batch norms are merged into the convolutions before them; sums of
    branches and means over space get the same rule as their modules. Networks with an operation that has no rule are refused.
    `delta` is what the biases and the stabilisers took: `f(x) - Σ values`.

    Args:
        composite: which rules. "epsilon" (one rule everywhere), "epsilon_plus", "epsilon_alpha2_beta1" (for convolutions), with
            "_flat" for the first layer, or "epsilon_gamma_box" (Montavon et al. 2019).
        epsilon: of the epsilon rule, on linear layers; with "epsilon" on all.
        zero_bias: biases take no relevance, so that it is conserved.
        low, high: smallest and largest value of a pixel, for "epsilon_gamma_box".

    Raises:
        InputError: there is no such composite.
        MissingPackageError: zennit is not installed.
        StateError: the network has an operation without a rule; the message names it.
    """

    name: ClassVar[str] = "lrp"
    _: KW_ONLY
    composite: str = "epsilon_plus_flat"
    epsilon: float = 1e-6
    zero_bias: bool = False
    low: float = 0.0
    high: float = 1.0

    def compute(self, subject: Subject) -> Found:
        """Two passes forward, one back for each target."""
        if self.composite not in COMPOSITES:
            raise InputError(
                f"composite must be one of {', '.join(COMPOSITES)}, not {self.composite!r}."
                f"{hint(str(self.composite), COMPOSITES)}"
            )
        composites = require("zennit.composites", extra="evaluate", why="LRP")
        model = subject.module
        check_watchable(model, "LRP")
        expected, copy = subject.outputs, relevant_copy(model)
        composite = self._made(composites, subject)
        try:
            _register(composite, copy)
            copy.requires_grad_(False)  # a merged bias is a new parameter
            values = torch.cat(list(self._parts(subject, copy, expected)))
        except (BcosError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            why = in_short(" ".join(str(error).split()) or type(error).__name__, 200).rstrip(".")
            raise StateError(f"zennit's LRP does not work on this network: {why}.") from error
        finally:
            composite.remove()
        return Found(values.sum(2), values, subject.values - values.flatten(2).sum(2).to(expected.dtype))

    def _parts(self, subject: Subject, copy: nn.Module, expected: Tensor) -> Iterator[Tensor]:
        """(n, K, C, *S) relevances, batch by batch."""
        first = next((name for name, m in copy.named_modules() if isinstance(m, LINEAR)), None)
        for start in range(0, len(subject.x), subject.batch_size):
            rows = slice(start, start + subject.batch_size)
            given = _prepared(subject, subject.x[rows])
            if given.shape != subject.x[rows].shape:
                raise StateError(
                    "LRP gives the relevance of what the network takes, and what prepares its input changes its shape."
                )
            with torch.inference_mode(False), torch.enable_grad(), eagerly():
                leaf = given.clone().requires_grad_()
                with Relevant(copy) as steps:
                    outputs = copy(leaf.clone())  # it may edit its input in place
                steps.check(first if self.composite in _FIRST else None)
                _check_same(outputs.detach(), expected[rows])
                top = outputs.gather(1, subject.targets[rows])
                subject.forwards += len(leaf)
                subject.backwards += len(leaf) * subject.count
                yield rows_of(top * top.detach(), leaf)  # the relevance at the top is the output

    def _made(self, composites: Any, subject: Subject) -> Any:
        """The composite of zennit."""
        canonizers = [require("zennit.canonizers", extra="evaluate", why="LRP").SequentialMergeBatchNorm()]
        options: dict[str, Any] = {"canonizers": canonizers}
        zero = ["bias"] if self.zero_bias else None
        if self.composite == "epsilon":
            rules = require("zennit.rules", extra="evaluate", why="LRP")
            types = require("zennit.types", extra="evaluate", why="LRP")
            layers = [*composites.layer_map_base(self.epsilon), (types.Linear, rules.Epsilon(self.epsilon, zero_params=zero))]
            return composites.LayerMapComposite(layers, **options)
        if self.composite == "epsilon_gamma_box":
            options |= {name: self._bound(subject, name) for name in ("low", "high")}
        return composites.COMPOSITES[self.composite](epsilon=self.epsilon, zero_params=zero, **options)

    def _bound(self, subject: Subject, name: str) -> Tensor:
        """(1, C, *S) the smallest or largest picture, as the network takes it."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low < self.high:
            raise InputError(f"low and high are the smallest and largest value of a pixel, not {self.low!r} and {self.high!r}.")
        return _prepared(subject, torch.full_like(subject.x[:1], value))


def _register(composite: Any, copy: nn.Module) -> None:
    """Put zennit's hooks on the copy, and merge its batch norms."""
    try:
        composite.register(copy)
    except Exception as error:
        raise StateError(
            "LRP merges each batch norm into the convolution registered before it, and in this network some of these do not fit "
            "together, because they do not run one after the other: LRP is not defined on it here. method='inherent' is."
        ) from error


def _prepared(subject: Subject, x: Tensor) -> Tensor:
    """What the network takes."""
    with torch.no_grad():
        return subject.given(x)


def _check_same(outputs: Tensor, expected: Tensor) -> None:
    """Raise StateError unless the copy computes what the network does, up to the epsilon of merged norms."""
    scale = expected.abs().amax().clamp(min=1e-6)
    if not bool(((outputs - expected).abs() <= 1e-3 * scale).all()):
        raise StateError(
            "LRP merges each batch norm into the convolution registered before it, and runs sums of branches as modules. With "
            "that this network computes something else: its layers run in another order than they are registered in, or it adds "
            "in place by a.add_(b); write a = a + b."
        )


RECORDS = (
    Method(
        Lrp, "propagation", "The output as relevance, passed back from layer to layer by rules.", True, "", True,
        "an ordinary network of convolutions", "2 + K", lambda s, k: 2 + k,
        "Bach et al. 2015, doi 10.1371/journal.pone.0130140", "closed form, zennit",
    ),
)  # fmt: skip
