"""Sums, means, norms and extremes over axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op, op_table
from robcert.network.onnx_import.values import Apply, apply

Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in reversed(axes):
        x = x.prod(axis, keepdim=keep)
    return x


REDUCTIONS: dict[str, tuple[tuple[int, ...], Reduce]] = {
    "ReduceMean": ((1, 11, 13, 18), lambda x, a, k: x.mean(a, keepdim=k)),
    "ReduceSum": ((1, 11, 13), lambda x, a, k: x.sum(a, keepdim=k)),
    "ReduceMax": ((1, 11, 12, 13, 18, 20), lambda x, a, k: x.amax(a, keepdim=k)),
    "ReduceMin": ((1, 11, 12, 13, 18, 20), lambda x, a, k: x.amin(a, keepdim=k)),
    "ReduceProd": ((1, 11, 13, 18), _product),
    "ReduceL1": ((1, 11, 13, 18), lambda x, a, k: torch.linalg.vector_norm(x, 1, a, keepdim=k)),
    "ReduceL2": ((1, 11, 13, 18), lambda x, a, k: torch.linalg.vector_norm(x, 2, a, keepdim=k)),
    "ReduceLogSum": ((1, 11, 13, 18, 28), lambda x, a, k: x.sum(a, keepdim=k).log()),
    "ReduceLogSumExp": ((1, 11, 13, 18, 28), lambda x, a, k: torch.logsumexp(x, a, keepdim=k)),
    "ReduceSumSquare": ((1, 11, 13, 18), lambda x, a, k: (x * x).sum(a, keepdim=k)),
}
"""The axes are an attribute in old forms, an input in new ones. The slope of a norm at 0 is taken to be 0."""


def _reduce(function: Reduce, node: Node) -> Apply:
    given = node.ints(1, "axes") if node.has(1) else node.get("axes")
    keep, nothing = bool(node.get("keepdims", 1)), bool(node.get("noop_with_empty_axes", 0))
    axes = node.axes(given) if given else [] if nothing else list(range(node.x.rank))
    return apply(function, node.x, axes, keep) if axes else apply(nn.Identity(), node.x)


op_table(REDUCTIONS, _reduce)


@op("CumSum", 11, 14)
def cumulative(node: Node) -> Apply:
    """Sums of all entries up to each, along an axis."""
    axis = node.axis(node.ints(1, "axis")[0])
    if node.get("exclusive", 0) or node.get("reverse", 0):
        node.refuse("it is exclusive or reversed")
    return apply(torch.cumsum, node.x, axis)
