"""`attribute`: any method, any number of targets, one call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos.attribution.base import Explainer
from torchbcos.attribution.methods import method_of
from torchbcos.attribution.result import Attribution
from torchbcos.attribution.subject import Baseline, Predict, Subject

__all__ = ["attribute", "attribute_through"]


def attribute(
    model: nn.Module | Predict, x: Tensor, targets: object = None, *, method: str | Explainer, scales: str = "live",
    baseline: Baseline = "grey", samples: int | None = None, generator: torch.Generator | None = None,
    batch_size: int | None = None, top_k: int = 1,
) -> Attribution:  # fmt: skip
    """Maps of any method in `torchbcos.attribution.METHODS`, for K targets of N images; targets share passes where they can.

    The network, its gradients, hooks and flags are as before afterwards, and so is torch's random state. A result depends
    neither on the other images of the batch, nor on `batch_size`.

    Args:
        model: a network in eval mode; for methods that only mask, also a function from (N, C, *S) to (N, classes).
        x: (N, C, *S) as the network takes it.
        targets: None (the `top_k` highest outputs of each image), an int, N ints or (N, K) ints.
        method: a name, or a method with settings: `IntegratedGradients(steps=50)`.
        scales: "live": gradients as the literature takes them; "frozen": dynamic factors are held (`torchbcos.explain`).
        baseline: what stands for "nothing": "grey", "mean", "blur", "black", "white", "zero6" (all zeros), a number, a tensor or
            a function; see `torchbcos.functional.replacement`.
        samples: steps, masks or noisy copies; None: the method's own number.
        generator: what random numbers are drawn from. None: one of its own, with a fixed seed.
        batch_size: images of one pass through the network.
        top_k: K where `targets` is None.

    Returns:
        An `Attribution`.

    Raises:
        InputError: an argument does not fit.
        ArgumentTypeError: the method needs a module, and `model` is a function.
        StateError: the network is in training mode, or the method is not defined on it: the message says why.

    Warns:
        ExplanationWarning: the method runs, and what it gives is not what its name promises: the message says why.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    >>> a = attribute(net, torch.rand(2, 3, 2, 2), [[0, 1, 4], [2, 3, 4]], method="integrated_gradients")
    >>> a.maps.shape, bool(a.delta.abs().max() < 1e-5)
    (torch.Size([2, 3, 2, 2]), True)
    """
    return attribute_through(
        model, None, x, targets, method=method, scales=scales, baseline=baseline, samples=samples, generator=generator,
        batch_size=batch_size, top_k=top_k,
    )  # fmt: skip


def attribute_through(
    model: nn.Module | Predict, prepare: nn.Module | None, x: Tensor, targets: object = None, *, method: str | Explainer,
    scales: str = "live", baseline: Baseline = "grey", samples: int | None = None, generator: torch.Generator | None = None,
    batch_size: int | None = None, top_k: int = 1,
) -> Attribution:  # fmt: skip
    """`attribute` of a network and of what prepares its input, as one map: values belong to the input of `prepare`."""
    chosen = method_of(method)
    with torch.inference_mode(False):  # what is made in it could not be differentiated
        subject = Subject(
            model, prepare, x, targets, scales=scales, baseline=baseline, samples=samples, generator=generator,
            batch_size=batch_size, top_k=top_k,
        )  # fmt: skip
        return chosen.run(subject)
