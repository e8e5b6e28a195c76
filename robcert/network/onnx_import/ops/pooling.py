"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.ops.windows import Windows, of_axes, padded, windows
from robcert.network.onnx_import.table import op, op_table
from robcert.network.onnx_import.values import Apply, apply, method


def _ceiled(found: Windows, sizes: tuple[int, ...], ceil: bool) -> Windows:
    """The windows with as much padding behind as the last one needs; none begins in the padding behind."""
    high = list(found.high)
    if ceil:
        for a, n in enumerate(sizes):
            side = (found.kernel[a] - 1) * found.dilation[a] + 1
            count = math.ceil((n + found.low[a] + high[a] - side) / found.stride[a]) + 1
            if (count - 1) * found.stride[a] >= n + found.low[a]:
                count -= 1
            high[a] = max(high[a], (count - 1) * found.stride[a] + side - n - found.low[a])
    return replace(found, high=tuple(high))


@op("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(node: Node) -> Apply:
    """The largest entry of each window; padding is no entry."""
    ceil = bool(node.get("ceil_mode", 0))
    node.ignore("storage_order")
    if node.outputs > 1:
        node.refuse("its indices are read, and only its values are supported")
    found = windows(node, None)
    exact = _ceiled(found, node.spatial(), ceil)
    kind = of_axes(nn, "MaxPool{}d", len(found.kernel))
    fits = all(2 * p <= k for p, k in zip(found.low, found.kernel, strict=True))
    if found.symmetric and fits:
        return apply(kind(found.kernel, found.stride, found.low, found.dilation, ceil_mode=ceil), node.x)
    layer = kind(exact.kernel, exact.stride, 0, exact.dilation)
    return apply(padded(exact, -math.inf, layer), node.x)


@op("AveragePool", 7, 10, 11, 19, 22)
def average_pool(node: Node) -> Apply:
    """The mean of each window, over its entries or over entries and padding."""
    ceil, include = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    found = windows(node, None)
    fits = all(2 * p <= k for p, k in zip(found.low, found.kernel, strict=True))
    if set(found.dilation) == {1} and found.symmetric and fits:
        kind = of_axes(nn, "AvgPool{}d", len(found.kernel))
        return apply(kind(found.kernel, found.stride, found.low, ceil, include), node.x)
    return apply(_Average(found, node.spatial(), ceil, include), node.x)


class _Average(nn.Module):
    """The mean over windows that torch has no layer for: as sums, over the number of entries in each."""

    count: Tensor

    def __init__(self, found: Windows, sizes: tuple[int, ...], ceil: bool, include: bool) -> None:
        super().__init__()
        self.found = _ceiled(found, sizes, ceil)
        entries = torch.ones(1, 1, *sizes)
        # Of padding, what was asked for may count; what rounding up added does not.
        entries = functional.pad(entries, found.pads, value=float(include))
        added = zip(self.found.high[::-1], found.high[::-1], strict=True)
        entries = functional.pad(entries, [x for whole, asked in added for x in (0, whole - asked)])
        self.register_buffer("count", self._sums(entries))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, ...) -> (n, c, ...)."""
        return self._sums(functional.pad(x, self.found.pads)) / self.count

    def _sums(self, x: Tensor) -> Tensor:
        ones = torch.ones(x.shape[1], 1, *self.found.kernel, dtype=x.dtype, device=x.device)
        convolve = of_axes(functional, "conv{}d", len(self.found.kernel))
        return convolve(x, ones, None, self.found.stride, 0, self.found.dilation, x.shape[1])


@op("LpPool", 2, 11, 18, 22)
def lp_pool(node: Node) -> Apply:
    """The p norm of each window."""
    p, ceil = int(node.get("p", 2)), bool(node.get("ceil_mode", 0))
    found = windows(node, None)
    if set(found.dilation) != {1}:
        node.refuse("it has dilations")
    return apply(_PowerPool(p, _ceiled(found, node.spatial(), ceil)), node.x)


class _PowerPool(nn.Module):
    """(sum of |x|^p over a window)^(1 / p); a window of zeros has slope 0."""

    def __init__(self, p: int, found: Windows) -> None:
        super().__init__()
        self.p = p
        self.found = found

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, ...) -> (n, c, ...)."""
        powers = x * x if self.p == 2 else x.abs() if self.p == 1 else x.abs() ** self.p
        if any(self.found.pads):
            powers = functional.pad(powers, self.found.pads)
        pool = of_axes(functional, "avg_pool{}d", len(self.found.kernel))
        sums = math.prod(self.found.kernel) * pool(powers, self.found.kernel, self.found.stride)
        if self.p == 1:
            return sums
        sums = torch.clamp_min(sums, 2.0**-126)
        return torch.sqrt(sums) if self.p == 2 else sums ** (1 / self.p)


GLOBAL: dict[str, tuple[tuple[int, ...], Callable[[Node, list[int]], Apply]]] = {
    "GlobalAveragePool": ((1, 22), lambda node, axes: apply(method("mean"), node.x, axes, keepdim=True)),
    "GlobalMaxPool": ((1, 22), lambda node, axes: apply(method("amax"), node.x, axes, keepdim=True)),
    "GlobalLpPool": (
        (2, 22),
        lambda node, axes: apply(torch.linalg.vector_norm, node.x, float(node.get("p", 2)), axes, keepdim=True),
    ),
}
"""The mean, the largest entry and the p norm over all axes behind the channels."""

op_table(GLOBAL, lambda function, node: function(node, list(range(2, node.x.rank))))
