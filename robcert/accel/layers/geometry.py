"""The positions of the taps of a convolution, and the memory format of pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Geometry:
    """The stride, padding and dilation of a convolution, each for rows and columns."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, layer: nn.Conv2d) -> Geometry | None:
        """Return the geometry of a layer; None where it pads its two sides differently."""
        dilation = (layer.dilation[0], layer.dilation[1])
        if layer.padding == "valid":
            padding = (0, 0)
        elif isinstance(layer.padding, str):
            total = [d * (k - 1) for d, k in zip(dilation, layer.kernel_size, strict=True)]
            if any(one % 2 for one in total):
                return None
            padding = (total[0] // 2, total[1] // 2)
        else:
            padding = (layer.padding[0], layer.padding[1])
        return cls((layer.stride[0], layer.stride[1]), padding, dilation)

    def seen(self, tap: int, axis: int, size: int, results: int) -> tuple[slice, slice]:
        """Return the results of an axis that see a pixel through this tap, and the pixels that they see."""
        stride, offset = self.stride[axis], tap * self.dilation[axis] - self.padding[axis]
        first = max(0, -(offset // stride))
        last = min(results - 1, (size - 1 - offset) // stride)
        if last < first:
            return slice(0, 0), slice(0, 0)
        return slice(first, last + 1), slice(first * stride + offset, last * stride + offset + 1, stride)


def by_pixels(x: Tensor) -> Tensor:
    """Return the same pictures (n, c, h, w) with channels last: those of a pixel side by side."""
    return x.contiguous(memory_format=torch.channels_last)
