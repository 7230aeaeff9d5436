"""Two recordings of one function, for two numbers of images, become one graph for any number.

A tracer with a symbolic number of images specialises it: networks ask for `len(x)`, and autograd for shapes. But what a network
does for three images is what it does for two, with other sizes here and there. Each size that differs is a line through the
two numbers that were seen, `slope · N + offset`, and is replaced by that. Whoever calls this runs the graph for yet other
numbers and compares: a size that is no line in N, or a branch that depends on N, is found there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

__all__ = ["SIZES", "for_any_batch"]

SIZES = (2, 3)  # one image is a special case in too many places


class _Unlike(Exception):
    """The recordings differ in more than sizes."""


def for_any_batch(first: GraphModule, second: GraphModule) -> bool:
    """Make `first`, recorded for `SIZES[0]` images, a graph for any number; `second` was recorded for `SIZES[1]`.

    Args:
        first: changed in place; its first input is (N, ...).
        second: read only.

    Returns:
        Whether that could be done; where not, `first` is as it was.
    """
    try:
        lines = list(_lines(first, second))
    except _Unlike:
        return False
    if lines:
        _replace(first, lines)
    return True


# a node, its new args and its new kwargs
_Line = tuple[Node, Any, Any]


class _Size:
    """A number that is `slope · N + offset`."""

    def __init__(self, small: int, large: int) -> None:
        step = SIZES[1] - SIZES[0]
        if (large - small) % step:
            raise _Unlike
        self.slope = (large - small) // step
        self.offset = small - self.slope * SIZES[0]


def _lines(first: GraphModule, second: GraphModule) -> Iterable[_Line]:
    """The nodes of `first` that depend on N, with sizes in the place of numbers."""
    same: dict[Node, Node] = {}
    for a, b in zip_longest(first.graph.nodes, second.graph.nodes):
        if a is None or b is None or a.op != b.op:
            raise _Unlike
        same[a] = b
        if a.op == "get_attr":
            _check_equal(_attribute(first, a), _attribute(second, b))
        elif a.op != "placeholder" and a.target is not b.target and a.target != b.target:
            raise _Unlike
        args, kwargs = _merged(a.args, b.args, same), _merged(a.kwargs, b.kwargs, same)
        if _sized(args) or _sized(kwargs):
            yield a, args, kwargs


def _attribute(graph: GraphModule, node: Node) -> object:
    found: object = graph
    for name in str(node.target).split("."):
        found = getattr(found, name, None)
    return found


def _check_equal(a: object, b: object) -> None:
    """Whatever is kept as a tensor must not know how many images there are."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and (a is b or torch.equal(a, b)):
        return
    raise _Unlike


def _merged(a: Any, b: Any, same: dict[Node, Node]) -> Any:
    """`a`, with a `_Size` wherever `b` has another number."""
    if isinstance(a, Node):
        if same.get(a) is not b:
            raise _Unlike
        return a
    if isinstance(a, (list, tuple)):
        if not isinstance(b, (list, tuple)) or len(a) != len(b):
            raise _Unlike
        return [_merged(p, q, same) for p, q in zip(a, b, strict=True)]
    if isinstance(a, dict):
        if not isinstance(b, dict) or a.keys() != b.keys():
            raise _Unlike
        return {key: _merged(a[key], b[key], same) for key in a}
    if type(a) is int and type(b) is int and a != b:
        return _Size(a, b)
    if type(a) is not type(b) or not (a == b or (a != a and b != b)):  # NaN is as good as NaN
        raise _Unlike
    return a


def _sized(args: Any) -> bool:
    if isinstance(args, (list, dict)):
        return any(_sized(part) for part in (args.values() if isinstance(args, dict) else args))
    return isinstance(args, _Size)


def _replace(graph: GraphModule, lines: list[_Line]) -> None:
    """Compute N from the first input, and each size from N before it is used."""
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    with graph.graph.inserting_after(inputs[-1]):
        count = graph.graph.call_method("size", (inputs[0], 0))
    known: dict[tuple[int, int], Node] = {(1, 0): count}

    def step(function: Callable[[int, int], int], key: tuple[int, int], before: Node, number: int) -> Node:
        if key not in known:
            with graph.graph.inserting_after(list(known.values())[-1]):
                known[key] = graph.graph.call_function(function, (before, number))
        return known[key]

    def node_of(size: _Size) -> Node:
        scaled = step(operator.mul, (size.slope, 0), count, size.slope)
        return step(operator.add, (size.slope, size.offset), scaled, size.offset)

    for node, args, kwargs in lines:
        node.args, node.kwargs = tuple(_filled(args, node_of)), _filled(kwargs, node_of)


def _filled(args: Any, node_of: Callable[[_Size], Node]) -> Any:
    if isinstance(args, _Size):
        return node_of(args)
    if isinstance(args, list):
        return [_filled(part, node_of) for part in args]
    if isinstance(args, dict):
        return {key: _filled(part, node_of) for key, part in args.items()}
    return args
