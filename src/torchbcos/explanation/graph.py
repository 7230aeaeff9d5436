"""Prediction and explanation as one graph of tensor operations: to export, to compile, to run without this library.

`explain` asks autograd for W(x). Recorded while it does so, its forward and backward passes are a
plain graph from the picture to logits, W and contributions, which `torch.export`, `torch.compile`
and `torch.onnx` take like any network. No post-hoc method can offer this: they need the gradient,
or many passes, of a model that is still there.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos._core import torch_private
from torchbcos._core.errors import InputError, StateError
from torchbcos._core.frozen import Session
from torchbcos._core.numbers import integer
from torchbcos.explanation.arguments import check_arguments
from torchbcos.explanation.engine import differentiate, explain
from torchbcos.explanation.engine import run as run_network

_TOLERANCE = 1e-4  # of the largest value, float32


class ExplanationGraph(nn.Module):
    """A network and its explanation, recorded for one shape of input.

    Attributes:
        constants: names of the constants, in the order of the last output's columns.
        fixed: those of them that are the fixed logit bias.
        shape: the shape of input (N, C, *S) it was recorded for.
    """

    def __init__(
        self, graph: nn.Module, constants: tuple[str, ...], fixed: tuple[str, ...], shape: tuple[int, ...], given: bool
    ) -> None:  # fmt: skip
        super().__init__()
        self.recorded, self.constants, self.fixed, self.shape, self.given = graph, constants, fixed, shape, given

    def forward(self, x: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Logits (N, classes), targets (N, K), W (N, K, C, *S), contributions (N, K, *S), constants (N, K, names).

        `Σ contributions + Σ constants` is the logit of the target. A graph cannot refuse: input so large that its squares
        overflow gives NaN in W.
        """
        if x.shape != self.shape:
            raise InputError(f"This graph was recorded for input of shape {self.shape}, not {tuple(x.shape)}.")
        if self.given != (targets is not None):
            raise InputError("This graph takes (x, targets)." if self.given else "This graph takes x alone.")
        out: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = self.recorded(x) if targets is None else self.recorded(x, targets)
        return out


def explanation_graph(
    model: nn.Module, x: Tensor, targets: Tensor | None = None, *, top_k: int = 1, portable: bool = False
) -> ExplanationGraph:  # fmt: skip
    """Record prediction and explanation as one graph without autograd.

    The graph holds the weights and the mode of this moment, for this shape of input. It is checked
    against `explain` before it is returned.

    Args:
        model: a network in eval mode; a deployed twin gives the smallest graph.
        x: an example (N, C, *S).
        targets: (N, K) int64: the graph then takes `(x, targets)`; None: it takes `x` and explains
            the `top_k` highest logits of each image.
        top_k: K where `targets` is None.
        portable: use only operations that other runtimes know, transposed convolutions instead of
            backward ones and attention written out: what `torch.onnx.export` wants.

    Returns:
        A module for `torch.export.export`, `torch.compile` or `torch.onnx.export`.

    Raises:
        StateError: the model trains, cannot be recorded, or the graph explains otherwise than the model.
        InputError: `x` or `targets` do not fit.

    >>> import torch, torchbcos
    >>> model = torchbcos.deploy(torchbcos.create_model("cifar10_resnet20", num_classes=3))
    >>> x = torch.rand(1, 6, 32, 32)
    >>> program = torch.export.export(torchbcos.explanation_graph(model, x), (x,))
    >>> logits, targets, weights, contributions, constants = program.module()(x)
    >>> tuple(weights.shape)
    (1, 1, 6, 32, 32)
    """
    check_arguments(model, x, None, False)
    count = integer(top_k) or top_k  # anything else is refused by `explain`
    if model.training:
        raise StateError("explanation_graph records a network in eval mode: call model.eval() or torchbcos.deploy(model).")
    if not torch_private.records():
        raise StateError("This release of torch cannot record graphs (torch.fx's make_fx): use another one, or explain().")
    x = x.detach()
    reference = explain(model, x, targets, top_k=top_k)  # also checks the targets
    names: list[str] = []
    arguments = (x,) if targets is None else (x, reference.targets)
    run = recorded(model, count, names)
    function = run if targets is not None else lambda x: run(x, None)
    attention = sdpa_kernel(SDPBackend.MATH) if portable else contextlib.nullcontext()
    with torch.inference_mode(False), warnings.catch_warnings(), attention:
        warnings.simplefilter("ignore")
        try:
            graph = torch_private.record(function, arguments, _PORTABLE if portable else {})
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise StateError(f"{type(model).__name__} cannot be recorded as a graph: {reason}") from error
    for name, p in list(graph.named_parameters(recurse=False)):  # recorded steps write in place, which a learning weight forbids
        setattr(graph, name, nn.Parameter(p.detach(), requires_grad=False))
    graph.graph.eliminate_dead_code()
    graph.recompile()
    made = ExplanationGraph(graph, tuple(names), reference.fixed, tuple(x.shape), targets is not None)
    with torch.no_grad():
        _compare(made(*arguments), (reference.outputs, reference.targets, reference.weights, reference.contributions))
    return made.eval()


def _transposed_convolution(
    g: Tensor, x: Tensor, weight: Tensor, _sizes: object, stride: list[int], padding: list[int], dilation: list[int],
    transposed: bool, output_padding: list[int], groups: int, mask: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """The gradient of a convolution with respect to its input, as a transposed convolution."""
    if transposed or mask[1] or mask[2]:
        return NotImplemented  # type: ignore[no-any-return]
    return _spread_back(g, x, weight, stride, padding, dilation, groups), None, None


def _transposed_pooling(
    g: Tensor, x: Tensor, kernel: list[int], stride: list[int], padding: list[int], ceil_mode: bool,
    count_include_pad: bool, divisor: int | None,
) -> Tensor:  # fmt: skip
    """The gradient of average pooling as a transposed convolution with equal weights."""
    if ceil_mode or (any(padding) and not count_include_pad):
        return NotImplemented  # type: ignore[no-any-return]
    channels = x.shape[1]
    weight = g.new_full((channels, 1, *kernel), 1 / (divisor or math.prod(kernel)))
    return _spread_back(g, x, weight, stride or kernel, padding, [1] * len(kernel), channels)


def _spread_back(
    g: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> Tensor:  # fmt: skip
    """A transposed convolution that returns to the shape of `x`."""
    steps = zip(g.shape[2:], x.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True)
    left = [size - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, size, s, p, d, k in steps]
    transposed: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[len(stride)]
    out: Tensor = transposed(g, weight, None, stride, padding, left, groups, dilation)
    return out


_TRANSPOSED = (
    (torch_private.CONVOLUTION_BACKWARD, _transposed_convolution),
    (torch_private.AVERAGE_POOL_BACKWARD, _transposed_pooling),
)
_PORTABLE: dict[Any, Callable[..., Any]] = {operation: instead for operation, instead in _TRANSPOSED if operation is not None}


def recorded(model: nn.Module, top_k: int, names: list[str]) -> Callable[..., tuple[Tensor, ...]]:
    """The function that is recorded; fills `names` with those of the constants."""

    def run(x: Tensor, targets: Tensor | None) -> tuple[Tensor, ...]:
        with Session.of(model, x) as state:
            outputs, _ = run_network(state, None)
            columns = outputs.detach().topk(top_k, dim=1).indices if targets is None else targets
            weights, constants = differentiate(outputs.gather(1, columns), state.inputs, state, False)
        names[:] = list(constants)
        rows = torch.stack(list(constants.values()), -1) if constants else x.new_zeros((*columns.shape, 0))
        weights = weights.detach()
        return outputs.detach(), columns, weights, (weights * x.unsqueeze(1)).sum(2), rows

    return run


def _compare(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    """Raise StateError where the graph does not give what `explain` gave."""
    for name, a, b in zip(("logits", "targets", "weights", "contributions"), found, expected, strict=False):
        scale = float(b.abs().max()) if b.numel() else 0.0
        if a.shape != b.shape or float((a - b).abs().max()) > _TOLERANCE * max(scale, 1e-30):
            raise StateError(f"The recorded graph gives other {name} than explain(): this network must not be exported.")


__all__ = ["ExplanationGraph", "explanation_graph", "recorded"]
