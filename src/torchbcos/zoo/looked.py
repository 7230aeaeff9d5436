"""What a classifier warns of: networks that predict, and cannot be explained exactly."""

from __future__ import annotations

import warnings

from torch import nn

from torchbcos._core.errors import ExplanationWarning
from torchbcos.explanation import Explanation
from torchbcos.explanation.looking import objection
from torchbcos.models import Network
from torchbcos.pictures import Preprocess
from torchbcos.zoo.probe import outputs_of, samples

__all__ = ["look", "warn_incomplete"]


def look(network: nn.Module, prepare: Preprocess) -> None:
    """Warn where a network cannot be explained, or not exactly: one made-up example is explained.

    A network that consists of this library's B-cos layers alone is taken at its word.
    """
    if isinstance(network, Network) and not network.plain and all(_ours(module) for module in network.modules()):
        return
    found = outputs_of(network, samples(prepare))
    why = None if isinstance(found, Exception) else objection(network, found[0])
    if why is not None:
        warnings.warn(f"This network predicts, but explain cannot explain it exactly: {why}", ExplanationWarning, stacklevel=3)


def _ours(module: nn.Module) -> bool:
    """Whether a module is this library's, or holds no numbers of its own."""
    ours = type(module).__module__.startswith("torchbcos.")
    return ours or not any(True for _ in (*module.parameters(recurse=False), *module.buffers(recurse=False)))


def warn_incomplete(e: Explanation) -> bool:
    """Warn, and say so, where one of these explanations does not add up.

    The words hold no numbers: Python shows a warning that it has shown for a line of code only once.
    """
    if bool(e.complete.all()):
        return False
    warnings.warn(
        "An explanation of this network does not add up to its logit (Explanation.complete, Explanation.residual): the network "
        "does something that its explanation does not know; torchbcos.testing.check_model(model, x) names it.",
        ExplanationWarning,
        stacklevel=3,
    )
    return True
