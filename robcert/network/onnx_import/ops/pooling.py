"""Pooling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.ops.windows import Windows, padded, windows
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply

_MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


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
    node.get("storage_order")
    if node.outputs > 1:
        node.refuse("its indices are read, and only its values are supported")
    found = windows(node, None)
    exact = _ceiled(found, node.spatial(), ceil)
    kind = _MAX.get(len(found.kernel))
    if kind is None:
        node.refuse(f"it has {len(found.kernel)} spatial axes")
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
    if len(found.kernel) not in _AVERAGE:
        node.refuse(f"it has {len(found.kernel)} spatial axes")
    plain = set(found.dilation) == {1}
    fits = all(2 * p <= k for p, k in zip(found.low, found.kernel, strict=True))
    if plain and found.symmetric and fits:
        kinds: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
        return apply(kinds[len(found.kernel)](found.kernel, found.stride, found.low, ceil, include), node.x)
    return apply(_Average(found, node.spatial(), ceil, include), node.x)


class _Average(nn.Module):
    """The mean over windows that torch has no layer for: as sums, over the number of entries in each."""

    count: Tensor

    def __init__(self, found: Windows, sizes: tuple[int, ...], ceil: bool, include: bool) -> None:
        super().__init__()
        self.found = _ceiled(found, sizes, ceil)
        entries = torch.ones(1, 1, *sizes)
        if include:  # the padding that was asked for counts, what rounding up added does not
            entries = functional.pad(entries, found.pads, value=1.0)
            entries = functional.pad(
                entries,
                [x for a, b in zip(self.found.high[::-1], found.high[::-1], strict=True) for x in (0, a - b)],
            )
        else:
            entries = functional.pad(entries, self.found.pads)
        self.register_buffer("count", self._sums(entries))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, ...) -> (n, c, ...)."""
        return self._sums(functional.pad(x, self.found.pads)) / self.count

    def _sums(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kinds = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
        ones = torch.ones(channels, 1, *self.found.kernel, dtype=x.dtype, device=x.device)
        return kinds[len(self.found.kernel)](x, ones, None, self.found.stride, 0, self.found.dilation, channels)  # pyright: ignore[reportCallIssue]


@op("LpPool", 2, 11, 18, 22)
def lp_pool(node: Node) -> Apply:
    """The p norm of each window."""
    p, ceil = int(node.get("p", 2)), bool(node.get("ceil_mode", 0))
    found = windows(node, None)
    if len(found.kernel) not in (1, 2, 3) or set(found.dilation) != {1}:
        node.refuse("it has dilations, or too many axes")
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
        pool, count = _AVERAGE[len(self.found.kernel)], math.prod(self.found.kernel)
        sums = count * pool(powers, self.found.kernel, self.found.stride)
        if self.p == 1:
            return sums
        sums = torch.clamp_min(sums, 2.0**-126)
        return torch.sqrt(sums) if self.p == 2 else sums ** (1 / self.p)


@op("GlobalAveragePool", 1, 22)
def global_average(node: Node) -> Apply:
    """The mean over all axes behind the channels."""
    return apply(_mean, node.x, list(range(2, node.x.rank)))


def _mean(x: Tensor, axes: list[int]) -> Tensor:
    return x.mean(axes, keepdim=True)


@op("GlobalMaxPool", 1, 22)
def global_maximum(node: Node) -> Apply:
    """The largest entry over all axes behind the channels."""
    return apply(_amax, node.x, list(range(2, node.x.rank)))


def _amax(x: Tensor, axes: list[int]) -> Tensor:
    return x.amax(axes, keepdim=True)


@op("GlobalLpPool", 2, 22)
def global_lp(node: Node) -> Apply:
    """The p norm over all axes behind the channels."""
    return apply(_norm, node.x, list(range(2, node.x.rank)), float(node.get("p", 2)))


def _norm(x: Tensor, axes: list[int], p: float) -> Tensor:
    return torch.linalg.vector_norm(x, p, axes, keepdim=True)
