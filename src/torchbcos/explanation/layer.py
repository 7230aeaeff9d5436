"""What the positions of an inner layer contribute to a class: explanations at that layer's resolution."""

from __future__ import annotations

from torch import Tensor, nn

from torchbcos._core.errors import InputError
from torchbcos._core.frozen import Session, mark
from torchbcos._core.targets import resolve_targets
from torchbcos.explanation.arguments import check_arguments
from torchbcos.explanation.engine import channel_axis, explain, find_module, gradients_of
from torchbcos.explanation.finite import check_finite
from torchbcos.explanation.forward import run

__all__ = ["contribution_maps"]


def contribution_maps(
    model: nn.Module, x: Tensor, targets: Tensor, *, wrt: str | None = None, create_graph: bool | str = False
) -> Tensor:
    """What every position contributes to one logit of each image, summed over channels.

    At the input that is `W(x) ∘ x`; at an inner layer of output f it is `W_f ∘ f`, where `W_f` is the linear map from f
    to the logit with all dynamic factors held (arXiv 2306.10898, section 3; used for guidance in arXiv 2303.11932).

    Args:
        model: a network of torchbcos layers.
        x: (N, C, *S) encoded.
        targets: (N,) classes.
        wrt: name of a module that runs once and gives (N, C', *S') or tokens (N, *S', C'); None: the input.
        create_graph: as in `explain`.

    Returns:
        (N, *S) or (N, *S').

    Raises:
        InputError: the model has no such module, or a target does not fit.
        StateError: the module does not run exactly once, or the model cannot be explained.

    >>> import torch
    >>> from torchbcos.models import build
    >>> net = build("cifar10_resnet20", num_classes=3)
    >>> contribution_maps(net, torch.rand(2, 6, 16, 16), torch.tensor([0, 2]), wrt="layer2").shape
    torch.Size([2, 8, 8])
    """
    if wrt is None:
        return explain(model, x, targets, create_graph=create_graph).contributions.squeeze(1)
    check_arguments(model, x, None, create_graph)
    with Session.of(model, x, create_graph) as state:
        module = find_module(state.model, wrt)
        outputs, feature, _ = run(state, module)
        assert feature is not None
        columns = resolve_targets(targets, outputs)
        if columns.shape[1] != 1:
            raise InputError(f"contribution_maps takes one class an image, not {columns.shape[1]}.")
        value = mark(outputs.gather(1, columns), state).sum()
        (weights,) = gradients_of(value, [feature], create_graph=bool(create_graph), retain_graph=bool(create_graph))
        maps = (weights * feature).sum(channel_axis(feature, module, x.dim()))
    check_finite(state.model, state.inputs, {"outputs": outputs, "contributions": maps})
    return maps if create_graph else maps.detach()
