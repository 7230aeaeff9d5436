"""Prediction and explanation as one graph of tensor operations: to export, to compile, to run without this library.

`explain` asks autograd for W(x). Recorded while it does so, its forward and backward passes are a
plain graph from the picture to logits, W and contributions, which `torch.export`, `torch.compile`
and `torch.onnx` take like any network. No post-hoc method can offer this: they need the gradient,
or many passes, of a model that is still there.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.attention import SDPBackend, sdpa_kernel

from torchbcos._core import torch_private
from torchbcos._core.errors import InputError, StateError
from torchbcos._core.frozen import Session
from torchbcos.explanation.arguments import check_arguments
from torchbcos.explanation.batches import SIZES, for_any_batch
from torchbcos.explanation.engine import differentiate, explain
from torchbcos.explanation.forward import run as run_network
from torchbcos.explanation.portable import OPERATIONS, Written
from torchbcos.explanation.result import Explanation

_TOLERANCE = 1e-4  # of the largest value, float32
_CHECKED = (1, 4)  # numbers of images; no graph is recorded with these
NAMES = ("logits", "targets", "weights", "contributions", "constants")  # of what a graph gives


class ExplanationGraph(nn.Module):
    """A network and its explanation, recorded for one shape of image and, where that can be done, for any number of them.

    Attributes:
        constants: names of the constants, in the order of the last output's columns.
        fixed: those of them that are the fixed logit bias.
        shape: the shape (N, C, *S) of the example it was recorded with; the graph takes any N where `batch` is None.
        batch: the one number of images that it takes; None: any.
        top_k: K, how many targets each image has.
        given: whether targets are an input.
    """

    def __init__(
        self, graph: nn.Module, constants: tuple[str, ...], fixed: tuple[str, ...], shape: tuple[int, ...], given: bool,
        *, batch: int | None = None, top_k: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.recorded, self.constants, self.fixed, self.shape, self.given = graph, constants, fixed, shape, given
        self.batch, self.top_k = batch, top_k

    def forward(self, x: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Logits (N, classes), targets (N, K), W (N, K, C, *S), contributions (N, K, *S), constants (N, K, names).

        `Σ contributions + Σ constants` is the logit of the target. A graph cannot refuse: input so large that its squares
        overflow gives NaN in W.
        """
        if x.shape[1:] != self.shape[1:] or (self.batch is not None and x.shape[0] != self.batch):
            what = self.shape if self.batch is not None else f"(N, {', '.join(map(str, self.shape[1:]))})"
            raise InputError(f"This graph was recorded for input of shape {what}, not {tuple(x.shape)}.")
        if self.given != (targets is not None):
            raise InputError("This graph takes (x, targets)." if self.given else "This graph takes x alone.")
        if targets is not None and targets.shape != (x.shape[0], self.top_k):
            raise InputError(f"This graph takes {self.top_k} targets an image, not targets of shape {tuple(targets.shape)}.")
        out: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = self.recorded(x) if targets is None else self.recorded(x, targets)
        return out


def explanation_graph(
    model: nn.Module, x: Tensor, targets: Tensor | None = None, *, top_k: int = 1, portable: bool = False
) -> ExplanationGraph:  # fmt: skip
    """Record prediction and explanation as one graph without autograd, for any number of images.

    The graph holds the weights and the mode of this moment, for images of the shape of these. It is checked against
    `explain` for several numbers of images before it is returned. A network whose steps depend on the number of images
    gives a graph for that of `x` alone: its `batch` says so.

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
    >>> graph = torchbcos.explanation_graph(model, torch.rand(1, 6, 32, 32))
    >>> logits, targets, weights, contributions, constants = graph(torch.rand(5, 6, 32, 32))
    >>> tuple(weights.shape)
    (5, 1, 6, 32, 32)
    """
    check_arguments(model, x, None, False)
    if model.training:
        raise StateError("explanation_graph records a network in eval mode: call model.eval() or torchbcos.deploy(model).")
    if not torch_private.records():
        raise StateError("This release of torch cannot record graphs (torch.fx's make_fx): use another one, or explain().")
    x = x.detach()
    reference = explain(model, x, targets, top_k=top_k)  # also checks the targets
    _check_complete(reference)
    given = targets is not None
    graph, names, any_number = _recorded_for_all(model, x, reference.targets, given, portable)
    for name, p in list(graph.named_parameters(recurse=False)):  # recorded steps write in place, which a learning weight forbids
        setattr(graph, name, nn.Parameter(p.detach(), requires_grad=False))
    graph.graph.eliminate_dead_code()
    graph.recompile()
    made = ExplanationGraph(
        graph, names, reference.fixed, tuple(x.shape), given, batch=None if any_number else len(x),
        top_k=reference.targets.shape[1],
    ).eval()  # fmt: skip
    with torch.no_grad():
        compare(made(x, reference.targets) if given else made(x), reference)
        for count in _CHECKED if any_number else ():
            if count != len(x):
                _check_at(made, model, x, reference.targets, count)
    return made


def _recorded_for_all(
    model: nn.Module, x: Tensor, targets: Tensor, given: bool, portable: bool
) -> tuple[GraphModule, tuple[str, ...], bool]:
    """The graph, the names of its constants, and whether it is one for any number of images."""
    try:
        (first, names), (second, other) = (
            _record(model, several(x, n), several(targets, n), given, portable) for n in SIZES
        )  # fmt: skip
        if names == other and for_any_batch(first, second):
            return first, names, True
    except StateError:  # a network for one number of images alone
        pass
    return *_record(model, x, targets, given, portable), False


def _record(model: nn.Module, x: Tensor, targets: Tensor, given: bool, portable: bool) -> tuple[GraphModule, tuple[str, ...]]:
    """The graph for one number of images, and the names of its constants."""
    names: list[str] = []
    run = recorded(model, targets.shape[1], names)
    function, arguments = (run, (x, targets)) if given else ((lambda x: run(x, None)), (x,))
    attention = sdpa_kernel(SDPBackend.MATH) if portable else contextlib.nullcontext()
    with torch.inference_mode(False), warnings.catch_warnings(), attention, Written(portable=portable):
        warnings.simplefilter("ignore")
        try:
            graph = torch_private.record(function, arguments, OPERATIONS if portable else {})
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise StateError(f"{type(model).__name__} cannot be recorded as a graph: {reason}") from error
    graph.graph.eliminate_dead_code()
    return graph, tuple(names)


def several(x: Tensor, count: int, *, shifted: bool = False) -> Tensor:
    """`count` rows, those of `x` again and again; `shifted`: no two alike, row i moved by i along its axes.

    >>> several(torch.tensor([[0, 1, 2]]), 3, shifted=True).tolist()
    [[0, 1, 2], [2, 0, 1], [1, 2, 0]]
    """
    rows = x[torch.arange(count, device=x.device) % len(x)]
    axes = tuple(range(min(1, x.dim() - 2), x.dim() - 1))  # of a row but its channels, if it has others
    return torch.stack([row.roll([i] * len(axes), axes) for i, row in enumerate(rows)]) if shifted else rows


def _check_at(graph: ExplanationGraph, model: nn.Module, x: Tensor, targets: Tensor, count: int) -> None:
    """Raise StateError where the graph explains `count` images otherwise than `explain`."""
    images = several(x, count, shifted=True)
    found = graph(images, several(targets, count)) if graph.given else graph(images)
    compare_at(model, images, found, highest=not graph.given)


def recorded(model: nn.Module, top_k: int, names: list[str]) -> Callable[..., tuple[Tensor, ...]]:
    """The function that is recorded; fills `names` with those of the constants."""

    def run(x: Tensor, targets: Tensor | None) -> tuple[Tensor, ...]:
        with Session.of(model, x) as state:
            outputs = run_network(state, None).outputs
            columns = outputs.detach().topk(top_k, dim=1).indices if targets is None else targets
            weights, constants = differentiate(outputs.gather(1, columns), state.inputs, state, False)
        names[:] = list(constants)
        rows = torch.stack(list(constants.values()), -1) if constants else x.new_zeros((*columns.shape, 0))
        weights = weights.detach()
        return outputs.detach(), columns, weights, (weights * x.unsqueeze(1)).sum(2), rows

    return run


def compare_at(model: nn.Module, x: Tensor, found: Sequence[Tensor], *, highest: bool) -> None:
    """Raise StateError where what was `found` for `x` is not what `explain` gives for its targets.

    Args:
        model: the network.
        x: encoded input (N, C, *S).
        found: logits, targets, weights, contributions and constants.
        highest: the targets must be the highest classes; of equal ones any.
    """
    compare(found, explain(model, x, found[1]))
    logits, targets = found[:2]
    if highest and _apart(logits.gather(1, targets), logits.topk(targets.shape[1], dim=1).values):
        raise StateError("The recorded graph gives other targets than explain(): this network must not be exported.")


def compare(found: Sequence[Tensor], expected: Explanation) -> None:
    """Raise StateError where a graph does not give what `explain` gave."""
    _check_complete(expected)
    rows = list(expected.constants.values())
    constants = torch.stack(rows, -1) if rows else expected.values.new_zeros((*expected.targets.shape, 0))
    wanted = (expected.outputs, expected.targets, expected.weights, expected.contributions, constants)
    for name, a, b in zip(NAMES, found, wanted, strict=True):
        if a.shape != b.shape or _apart(a, b):
            raise StateError(f"The recorded graph gives other {name} than explain(): this network must not be exported.")


def _check_complete(e: Explanation) -> None:
    """Raise StateError where contributions and constants do not add up: a file would say something wrong for good."""
    if bool(e.complete.all()):
        return
    i, k = (int(place) for place in (~e.complete).nonzero()[0])
    raise StateError(
        f"This network's explanation does not add up: {float(e.residual[i, k]):.2g} of {float(e.values[i, k]):.2g} is missing. "
        "The network does something that its explanation does not know (a layer or a rule that says what is not so), so it "
        "must not be recorded or exported: torchbcos.testing.check_model(model, x) names it."
    )


def _apart(a: Tensor, b: Tensor) -> bool:
    scale = float(b.abs().max()) if b.numel() else 0.0
    return bool(b.numel()) and not float((a - b).abs().max()) <= _TOLERANCE * max(scale, 1e-30)


__all__ = ["NAMES", "ExplanationGraph", "compare", "compare_at", "explanation_graph", "recorded", "several"]
