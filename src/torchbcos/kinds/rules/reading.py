"""Leaving torch, cutting gradients, listening to them: what a watch must remember, since it cannot follow."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torchbcos.kinds.call import Call, Outcome, tensors_in
from torchbcos.kinds.kind import CONSTANT, GATE, Bend, Kind
from torchbcos.kinds.place import place_here

__all__ = ["counted", "cut", "listen", "note", "read", "unknown"]


def cut(call: Call) -> Outcome:
    """A tensor without its gradient is a value that is held."""
    if call.name == "data":
        note(call)
    if call.kind(call.signal) is Kind.BENT:
        value = call.run(*call.args, **call.kwargs)
        return value, call.bend()
    return call.run(*call.args, **call.kwargs), GATE


def read(call: Call) -> Outcome:
    """Numbers leave torch: whatever comes back is a constant nobody has seen."""
    note(call)
    return call.run(*call.args, **call.kwargs), CONSTANT


def listen(call: Call) -> Outcome:
    """A hook on a gradient may look at it; what it gives back would be another W."""
    tensor, hook = call.args[0], call.argument(1, "hook")

    def heard(gradient: Tensor | None) -> None:
        if gradient is not None:  # in a second derivative there may be none
            hook(gradient)

    return call.run(tensor, heard), CONSTANT


def unknown(call: Call) -> Outcome:
    """Everything else that touches something that moves: good only as a factor."""
    value, known = call.bent("", _help(call.name))
    if not _tensors(value):
        note(call)
    # some operations of torch update statistics that they are given without saying so
    call.watch.origins.shown(
        t for t in tensors_in(call.args, call.kwargs) if not t.requires_grad and call.kind(t) is Kind.CONSTANT
    )
    return value, known


def counted(call: Call) -> Outcome:
    """A result whose size depends on the numbers: a size can be read out of it."""
    note(call)
    return call.bent()


def note(call: Call) -> None:
    """Remember that numbers of something that moves left torch here."""
    origins = call.watch.origins
    if origins.read is None:
        origins.read = Bend(call.name, place_here(call.watch.state.names))


_RECURRENT = 'Explain what goes into it: explain(…, at="…") with the name of the module that gives that.'
_LOGITS = 'Explain the logits: leave {} out, or say explain(…, at="…") with the name of the module that gives them.'
_HELPS = {
    **{name: _LOGITS.format(name) for name in ("log_softmax", "logsumexp", "gumbel_softmax", "cross_entropy", "nll_loss")},
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _RECURRENT),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _RECURRENT),
}


def _help(name: str) -> str:
    """What would help where an operation that many networks end in bends the signal."""
    return _HELPS.get(name.removeprefix("aten::").strip("_").partition(".")[0], "")


def _tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and any(_tensors(v) for v in value))
