"""What the positions of an inner layer contribute to a class: explanations at that layer's resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos._core.frozen import CONSTANT, FULL, Session, mark, session
from torchbcos.explanation.engine import check_arguments, check_outputs, explain, find_module, gradients_of, run


def contribution_maps(
    model: nn.Module, x: Tensor, targets: Tensor, *, at: str | None = None, create_graph: bool | str = False
) -> Tensor:
    """What every position contributes to one logit of each image, summed over channels.

    At the input that is `W(x) ∘ x`; at an inner layer of output f it is `W_f ∘ f`, where `W_f` is the linear map from f
    to the logit with all dynamic factors held (arXiv 2306.10898, section 3; used for guidance in arXiv 2303.11932).

    Args:
        model: a network of torchbcos layers.
        x: (N, C, *S) encoded.
        targets: (N,) classes.
        at: name of a module whose output is (N, C', *S'); None: the input.
        create_graph: as in `explain`.

    Returns:
        (N, *S) or (N, *S').

    Raises:
        InputError: the model has no such module.

    >>> from torchbcos.models import build
    >>> net = build("cifar10_resnet20", num_classes=3)
    >>> contribution_maps(net, torch.rand(2, 6, 16, 16), torch.tensor([0, 2]), at="layer2").shape
    torch.Size([2, 8, 8])
    """
    if at is None:
        return explain(model, x, targets, create_graph=create_graph).contributions.squeeze(1)
    check_arguments(model, x, None, create_graph)
    module = find_module(model, at)
    names = {id(m): name for name, m in model.named_modules()}
    state = Session(FULL if create_graph is True else CONSTANT, names, len(x), x)
    state.detach = not create_graph
    with torch.inference_mode(False), torch.enable_grad():
        inputs = x.detach().requires_grad_()
        with session(state):
            outputs, feature = run(model, module, inputs, state)
            check_outputs(outputs, len(x), state)
            assert feature is not None
            value = mark(outputs.gather(1, targets[:, None]), state).sum()
            (weights,) = gradients_of(value, [feature], create_graph=bool(create_graph), retain_graph=bool(create_graph))
        maps = (weights * feature).sum(1)
    return maps if create_graph else maps.detach()
