"""A convolution that goes back as a convolution."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from robcert.engine.passes.both_ways import BothWays
from robcert.engine.passes.geometry import Geometry, by_pixels


class Convolve(BothWays):
    """A convolution of stride 1 whose way back is a convolution too, with its kernel turned and its channels swapped.

    Shapes: (n, c, h, w) -> (n, out, h', w').
    """

    weight: Tensor
    turned: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.geometry = cast("Geometry", Geometry.of(layer))
        weight = layer.weight.detach()
        self.register_buffer("weight", by_pixels(weight))
        self.register_buffer("turned", by_pixels(weight.flip(2, 3).transpose(0, 1)))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        reach = [d * (k - 1) for d, k in zip(self.geometry.dilation, layer.kernel_size, strict=True)]
        self.outside = (reach[0] - self.geometry.padding[0], reach[1] - self.geometry.padding[1])

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether a layer is such a convolution, and its padding no wider than its kernel reaches."""
        if type(layer) is not nn.Conv2d or layer.groups != 1 or layer.padding_mode != "zeros":
            return False
        geometry = Geometry.of(layer)
        if geometry is None or geometry.stride != (1, 1):
            return False
        reach = [d * (k - 1) for d, k in zip(geometry.dilation, layer.kernel_size, strict=True)]
        return geometry.padding[0] <= reach[0] and geometry.padding[1] <= reach[1]

    def there(self, x: Tensor) -> Tensor:
        """The convolution of x."""
        return F.conv2d(x, self.weight, self.bias, 1, self.geometry.padding, self.geometry.dilation)

    def back(self, gradient: Tensor) -> Tensor:
        """The convolution with the kernel turned."""
        return F.conv2d(gradient, self.turned, None, 1, self.outside, self.geometry.dilation)
