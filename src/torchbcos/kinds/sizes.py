"""Sizes that depend on the numbers of something that moves: a network can read them as Python numbers, which nobody sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchbcos.kinds.call import Call, tensors_in
from torchbcos.kinds.kind import Kind
from torchbcos.kinds.rules.reading import note

__all__ = ["note_sizes"]


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


# how long their results are, or what a function of Python is told, depends on the numbers of their arguments, floats or not
_COUNTS = _names(
    """one_hot arange range linspace logspace
    zeros ones full empty eye rand randn randint randperm tril_indices triu_indices apply map map2 to_sparse to_sparse_csr
    to_sparse_csc to_sparse_coo to_sparse_bsr to_sparse_bsc sparse_mask nonzero argwhere unique unique_consecutive bincount
    combinations resize set"""
)
# the same of their arguments but the first
_SIZED = _names("masked_select repeat_interleave tensor_split expand broadcast_to tile repeat narrow")
# an index says which numbers are taken and a factor how often, not how many there are
_PLACES = _names(
    """gather take take_along_dim index_select embedding scatter scatter_add scatter_reduce index_add index_copy index_fill
    index_put masked_fill masked_scatter where_method where copy setitem select roll fill full_like new_full maximum minimum
    max_unpool1d max_unpool2d max_unpool3d any all count_nonzero prod logsumexp var std norm mul multiply add sub subtract rsub
    div divide true_divide rdiv floor_divide remainder fmod pow rpow square bitwise_and bitwise_or bitwise_xor and or xor
    logical_and logical_or logical_xor gt lt ge le eq ne addcmul addcdiv lerp cat concat concatenate stack hstack vstack dstack"""
)
_MASKS = (torch.bool, torch.uint8)


def note_sizes(call: Call, value: Any, given: list[Tensor], *, known: bool) -> None:
    """Remember that numbers may have left torch where the size of a result depends on what moves.

    Args:
        call: what ran.
        value: what came out.
        given: the tensors that it was given.
        known: whether the table has a rule for it.
    """
    name = call.name.removeprefix("aten::")
    if name in _COUNTS or (name == "repeat_interleave" and len(given) == 1 and not given[0].is_floating_point()):
        _note(call, given)
        return
    if name in _SIZED:
        _note(call, [t for t in given if t is not call.signal])
        return
    if name in ("getitem", "index"):
        if _sliced(call):
            note(call)
        return
    if name == "where" and len(call.args) + len(call.kwargs) == 1:
        _note(call, given)
        return
    if name in _PLACES:
        return
    if not _follows(call, value, given, known=known):
        note(call)


def _follows(call: Call, value: Any, given: list[Tensor], *, known: bool) -> bool:
    """Whether the result of any other operation is as long as the shapes of its arguments make it."""
    first, whole = call.signal, [t for t in given if not t.is_floating_point() and not t.is_complex() and _moves(call, t)]
    if any(t is not first and t.dim() == 0 for t in whole):
        return False  # it may be a size
    if known and all(t is first for t in whole):
        return True
    found = tensors_in((value,), {})
    shapes = [t.shape for t in given]
    counted = any(not t.is_floating_point() and not t.is_complex() and t.dim() for t in found)  # of floats, perhaps: places
    return not (whole or counted) or all(t.shape in shapes for t in found)


def _sliced(call: Call) -> bool:
    """Whether a mask or the end of a slice moves."""
    places = call.argument(1, "indices")
    places = places if isinstance(places, (tuple, list)) else (places,)
    sizes = tensors_in([p for p in places if isinstance(p, slice)], {})
    return any(_moves(call, t) for t in (*sizes, *(t for t in tensors_in(places, {}) if t.dtype in _MASKS)))


def _note(call: Call, given: list[Tensor]) -> None:
    if any(_moves(call, t) for t in given):
        note(call)


def _moves(call: Call, t: Tensor) -> bool:
    return call.kind(t) is not Kind.CONSTANT
