"""Alignment: a converted network learns to give what its teacher gives, block by block, from pictures without labels.

Shapes: N pictures, C classes; of a block's output the teacher's t and the student's s have one shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torchbcos._core.errors import InputError, shorten
from torchbcos._core.probability import SIGMOID
from torchbcos.conversion.attending import MultiheadAttention
from torchbcos.conversion.steps import prefix_of
from torchbcos.nn.bcosified import Biased
from torchbcos.training.guidance import TINY

__all__ = ["POOLED", "AlignmentLoss", "Points", "agreement", "check_convolutional", "points_of", "relative_error"]

POOLED = "pooled"  # what the classifier takes, among what was heard
_MOST = 64  # blocks that are compared
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_BENT = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish, nn.ELU, nn.Mish)


def relative_error(mine: Tensor, theirs: Tensor) -> Tensor:
    """`mean((s - t)²) / mean(t²)` of a whole batch: 0 where they agree, 1 for a student that gives nothing. (Ours.)

    >>> float(relative_error(torch.zeros(2, 3), torch.ones(2, 3)))
    1.0
    """
    theirs = theirs.detach()
    return (mine - theirs).square().mean() / theirs.square().mean().clamp_min(TINY)


def agreement(mine: Tensor, theirs: Tensor, temperature: float = 1.0, probability: str = "softmax") -> Tensor:
    """How far the student's probabilities are from the teacher's, in nats; mean over N.

    Of a softmax `KL(t ‖ s)` at a temperature (Hinton et al. 2015, arXiv 1503.02531, without the factor of its section 2); of
    sigmoids the sum of the KL of each class, divided by C.

    Args:
        mine, theirs: logits (N, C).
        temperature: divides both.
        probability: "softmax" or "sigmoid".

    >>> float(agreement(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).round(decimals=5))
    0.0
    """
    mine, theirs = mine / temperature, theirs.detach() / temperature
    if probability == SIGMOID:
        wanted = theirs.sigmoid()
        known = F.binary_cross_entropy_with_logits(theirs, wanted)
        return F.binary_cross_entropy_with_logits(mine, wanted) - known
    return F.kl_div(mine.log_softmax(1), theirs.log_softmax(1), log_target=True, reduction="batchmean")


@dataclass(frozen=True)
class AlignmentLoss:
    """Weighted sum of three: relative error of block outputs (their mean), `1 - cos` of pooled features, KL of logits.

    Attributes:
        features, pooled, logits: the weights.
        temperature: of the logits.

    Raises:
        InputError: a weight is negative, or all are 0; the temperature is not above 0.
    """

    features: float = 7.0
    pooled: float = 3.0
    logits: float = 1.0
    temperature: float = 1.5
    weight: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        weights = (self.features, self.pooled, self.logits)
        if not all(isinstance(weight, int | float) and 0 <= weight < math.inf for weight in weights) or not any(weights):
            text = shorten(str(weights), 90)
            raise InputError(f"Weights of features, pooled and logits are 0 or more, and one is above 0; got {text}.")
        if not isinstance(self.temperature, int | float) or not 0 < self.temperature < math.inf:
            raise InputError(f"A temperature is above 0, not {shorten(repr(self.temperature), 60)}.")

    def parts(
        self, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], logits: tuple[Tensor, Tensor],
        probability: str = "softmax",
    ) -> dict[str, Tensor]:  # fmt: skip
        """Each of the three without its weight; those of weight 0 are left out, and `features` where no block was heard.

        Args:
            mine, theirs: what was heard, by `Points`.
            logits: the student's and the teacher's, (N, C) each.
            probability: that the teacher's logits become.

        Raises:
            InputError: nothing is left to compare.
        """
        found = {}
        errors = [relative_error(mine[key], theirs[key]) for key in mine if key != POOLED] if self.features else []
        if errors:
            found["features"] = torch.stack(errors).mean()
        if self.pooled:
            cosine = F.cosine_similarity(mine[POOLED].flatten(1), theirs[POOLED].detach().flatten(1), dim=1, eps=TINY)
            found["pooled"] = 1 - cosine.mean()
        if self.logits:
            found["logits"] = agreement(*logits, self.temperature, probability)
        if not found:
            raise InputError("The networks have no blocks that could be compared: give pooled features or logits a weight.")
        return found

    def total(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Their weighted sum."""
        weighted = [getattr(self, name) * part for name, part in parts.items()]
        total: Tensor = sum(weighted[1:], weighted[0])
        return total

    def term(self, answer: Any) -> Tensor:
        """See `torchbcos.training.losses`."""
        taught = answer.taught
        return self.total(self.parts(answer.heard, taught.heard, (answer.logits, taught.logits), taught.teacher.probability))


# -- where two networks are compared ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """Where a converted network is compared with the one that it was made from.

    Attributes:
        blocks: paths in the given network of modules whose outputs are compared.
        classifier: path of the layer that gives the logits, whose input is compared.
    """

    blocks: tuple[str, ...]
    classifier: str

    @contextmanager
    def listening(self, network: nn.Module, prefix: str = "") -> Iterator[dict[str, Tensor]]:
        """What the network gives at these points in the block, by their paths; the input of the classifier as `POOLED`.

        Args:
            network: the given or the converted one.
            prefix: that paths of the converted network begin with (`torchbcos.conversion.steps.prefix_of`).
        """
        heard: dict[str, Tensor] = {}
        modules = dict(network.named_modules())
        with ExitStack() as stack:
            for path in self.blocks:
                handle = modules[prefix + path].register_forward_hook(_keeper(heard, path))
                stack.callback(handle.remove)
            handle = modules[prefix + self.classifier].register_forward_pre_hook(_keeper_of_input(heard))
            stack.callback(handle.remove)
            yield heard


def _keeper(heard: dict[str, Tensor], path: str) -> Callable[..., None]:
    def keep(module: nn.Module, args: tuple[Any, ...], y: Any) -> None:
        heard[path] = y

    return keep


def _keeper_of_input(heard: dict[str, Tensor]) -> Callable[..., None]:
    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        heard[POOLED] = args[0]

    return keep


@torch.no_grad()
def points_of(teacher: nn.Module, student: nn.Module, seen: Tensor, x: Tensor) -> Points:
    """Where to compare a converted network with its teacher: blocks, else activations, that give tensors of one shape in both.

    Args:
        teacher: the given network.
        student: the converted one.
        seen: (N, C, *S) as the teacher takes it.
        x: (N, 2C, *S), the same as the student takes it.

    Raises:
        InputError: the student was not made of this teacher, or nothing can be compared.
    """
    prefix = prefix_of(student)
    theirs, mine = _shapes(teacher, seen), _shapes(student, x)
    if "" not in theirs or "" not in mine:
        raise InputError(
            "The teacher gives several things (a dict, a tuple), and logits alone can be aligned: write a module around it whose "
            "forward returns its logits, and convert that one."
        )
    there = {path for path, shape in theirs.items() if len(shape) > 2 and mine.get(prefix + path) == shape}
    modules = dict(teacher.named_modules())
    blocks = [path for path in theirs if path in there and _is_block(path, modules)]
    blocks = [path for path in blocks if not any(path.startswith(f"{other}.") for other in blocks)]
    if len(blocks) < 2:  # a row of layers
        blocks = [path for path in theirs if path in there and isinstance(modules[path], _BENT)]
    weighted = [path for path, module in student.named_modules() if isinstance(module, Biased) and path in mine]
    logits = mine.get("", ())
    last = [path.removeprefix(prefix) for path in mine if path in weighted and mine[path][:2] == logits[:2]]
    if not last or last[-1] not in modules or theirs.get("") != logits:
        raise InputError(
            "The student was not made of this teacher by bcosify: its logits have another shape, or no layer of it gives them."
        )
    return Points(_spread(blocks), last[-1])


def _spread(blocks: list[str]) -> tuple[str, ...]:
    """At most so many, evenly."""
    count = min(_MOST, len(blocks))
    return tuple(blocks[(i + 1) * len(blocks) // count - 1] for i in range(count)) if count else ()


def _is_block(path: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a module is one of a row of modules, and has layers with weights inside."""
    module, parent = modules[path], modules.get(path.rpartition(".")[0]) if path else None
    inside = any(isinstance(inner, nn.Conv1d | nn.Conv2d | nn.Conv3d) for inner in module.modules() if inner is not module)
    return isinstance(parent, _LISTS) and type(module) not in _LISTS and inside


def _shapes(network: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of what each module gives, in the order in which they end; those that give no tensor, or run twice, are left
    out."""
    found: dict[str, tuple[int, ...]] = {}
    twice: set[str] = set()

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, y: Any) -> None:
            twice.update({path} & set(found))
            if isinstance(y, Tensor):
                found[path] = tuple(y.shape)

        return hook

    with ExitStack() as stack:
        for path, module in network.named_modules():
            stack.callback(module.register_forward_hook(note(path)).remove)
        network(x)
    return {path: shape for path, shape in found.items() if path not in twice}


class _Names(TorchFunctionMode):
    """The names of torch functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def check_convolutional(network: nn.Module, x: Tensor) -> None:
    """Refuse networks with attention: they are fine-tuned with labels instead.

    Raises:
        InputError: this one has attention.
    """
    with _Names() as seen:
        network(x)
    products = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum"}
    attends = any(isinstance(module, nn.MultiheadAttention | MultiheadAttention) for module in network.modules())
    attends |= "scaled_dot_product_attention" in seen.names or ("softmax" in seen.names and bool(products & seen.names))
    if attends:
        raise InputError(
            "Alignment without labels is for convolutional networks, and this one has attention (a published method for "
            "transformers is patent pending). Convert it, then fine-tune it with labels: torchbcos bcosify SOURCE -o mine; "
            "torchbcos train finetune --data DIR --set pretrained=mine freeze_epochs=0 head_lr=1."
        )
