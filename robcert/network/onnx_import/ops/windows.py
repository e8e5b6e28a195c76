"""Windows with padding on each side of each axis, which convolutions and pooling share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from robcert.network.onnx_import.node import Node


@dataclass(frozen=True)
class Windows:
    """Windows over the axes behind (images, channels).

    Attributes:
        kernel: the sides of a window.
        stride: the distance of two windows.
        dilation: the distance of two entries of a window.
        low: padding in front of each axis.
        high: padding behind each axis.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        """True if both ends of every axis are padded alike."""
        return self.low == self.high

    @property
    def pads(self) -> tuple[int, ...]:
        """As torch's padding wants it: last axis first, (low, high) each."""
        return tuple(p for low, high in zip(self.low[::-1], self.high[::-1], strict=True) for p in (low, high))


def windows(node: Node, kernel: tuple[int, ...] | None) -> Windows:
    """Return the windows that the attributes of a node describe; ``kernel`` where a weight says it."""
    axes = node.x.rank - 2
    if axes not in (1, 2, 3):
        node.refuse(f"its input has {axes} spatial axes")
    given = node.get("kernel_shape")
    sides = tuple(int(k) for k in given) if given else kernel
    if sides is None:
        node.refuse("its kernel_shape is missing")
    if kernel is not None and sides != kernel:
        node.refuse(f"its kernel_shape is {sides}, and its weight has {kernel}")
    stride = _sizes(node, "strides", axes)
    dilation = _sizes(node, "dilations", axes)
    if len(sides) != axes or min(sides) < 1:
        node.refuse(f"its kernel_shape {sides} does not fit an input with {axes} spatial axes")
    auto = node.get("auto_pad", "NOTSET")
    pads = [int(p) for p in node.get("pads") or [0] * (2 * axes)]
    if auto in ("NOTSET", ""):
        if len(pads) != 2 * axes:
            node.refuse(f"its pads are {pads}, expected {2 * axes} numbers")
        low, high = tuple(pads[:axes]), tuple(pads[axes:])
    elif auto == "VALID":
        low = high = (0,) * axes
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        low, high = _same(node, sides, stride, dilation, auto == "SAME_UPPER")
    else:
        node.refuse(f"its auto_pad is {auto!r}")
    if min((*low, *high), default=0) < 0:
        node.refuse("its padding is negative")
    return Windows(sides, stride, dilation, low, high)


def _sizes(node: Node, name: str, axes: int) -> tuple[int, ...]:
    found = tuple(int(s) for s in node.get(name) or [1] * axes)
    if len(found) != axes or min(found, default=1) < 1:
        node.refuse(f"its {name} {found} do not fit an input with {axes} spatial axes")
    return found


def _same(
    node: Node, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...], upper: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding with which an axis of n entries has ceil(n / stride) windows; the odd one above or below."""
    sides = zip(node.spatial(), kernel, stride, dilation, strict=True)
    totals = [max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in sides]
    small, large = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (small, large) if upper else (large, small)


def of_axes(module: Any, name: str, axes: int) -> Any:
    """Return what torch has under one name for 1, 2 and 3 spatial axes: "Conv{}d"."""
    return getattr(module, name.format(axes))


def padded(found: Windows, value: float, layer: nn.Module) -> nn.Module:
    """Return the layer behind a padding of its own."""
    return nn.Sequential(of_axes(nn, "ConstantPad{}d", len(found.kernel))(found.pads, value), layer)
