"""The first convolution: of a picture, in two halves of bfloat16, and back to it by planes."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from robcert.accel.layers.geometry import Geometry, by_pixels

_FEW = 4
"""Channels of a picture: for more of them, reading each twice costs more than it saves."""


class ReadPicture(nn.Module):
    """The first convolution, of a picture with few channels.

    Its gradient by the picture is one product of matrices, which gives a plane for every channel and tap, and a sum of
    the planes, each moved by its tap. (A convolution with one or three results, as torch forms it, fills a small part
    of the registers: a quarter of the speed.)

    In bfloat16 it reads the picture as the sum of two bfloat16 numbers, so to 16 bits: twice the channels with the same
    weights, w hi + w lo = w x, summed in float32 by the kernel.

    A step takes 0.47 to 0.99 of the time that it takes without it (docs/speed.md).

    Shapes: (n, c, h, w) float32 -> (n, out, h', w') of the weights' type.
    """

    plain: Tensor
    twice: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.geometry = cast("Geometry", Geometry.of(layer))
        weight = layer.weight.detach()
        self.split = dtype != weight.dtype
        self.register_buffer("plain", weight.to(dtype))
        self.register_buffer("twice", by_pixels(self.plain.repeat(1, 2, 1, 1) if self.split else self.plain))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().to(dtype))

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Return whether a layer is a convolution of pictures that can be replaced, and gains by it."""
        return (
            type(layer) is nn.Conv2d
            and layer.groups == 1
            and layer.in_channels <= _FEW
            and layer.padding_mode == "zeros"
            and layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1] <= 2 * layer.out_channels
            and Geometry.of(layer) is not None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of x."""
        read = x.detach()
        if self.split:
            high = read.to(self.plain.dtype)
            read = torch.cat([high, (read - high).to(self.plain.dtype)], dim=1)
        return cast("Tensor", _Read.apply(x, by_pixels(read), self))


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, read: Tensor, layer: ReadPicture) -> Tensor:
        ctx.layer, ctx.shape, ctx.dtype = layer, x.shape, x.dtype
        geometry = layer.geometry
        return F.conv2d(read, layer.twice, layer.bias, geometry.stride, geometry.padding, geometry.dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        layer, (n, channels, height, width) = cast("ReadPicture", ctx.layer), ctx.shape
        (gradient,) = gradients
        geometry, (rows, columns) = layer.geometry, gradient.shape[2:]
        if torch.is_grad_enabled() or not gradient.is_cpu:  # it will be differentiated itself, or there are other ways
            options = (geometry.stride, geometry.padding, geometry.dilation)
            by_input = conv2d_input(ctx.shape, layer.plain, gradient, *options)  # pyright: ignore[reportArgumentType]
            return by_input.to(ctx.dtype), None, None
        out, _, high, wide = layer.plain.shape
        pixels = gradient.permute(0, 2, 3, 1).reshape(-1, out)
        taps = layer.plain.permute(1, 2, 3, 0).reshape(-1, out)
        planes = (taps @ pixels.t()).to(ctx.dtype).view(channels, high, wide, n, rows, columns)
        by_input = torch.zeros(channels, n, height, width, dtype=ctx.dtype, device=gradient.device)
        for i in range(high):
            results, seen = geometry.seen(i, 0, height, rows)
            for j in range(wide):
                across, beside = geometry.seen(j, 1, width, columns)
                by_input[:, :, seen, beside] += planes[:, i, j, :, results, across]
        return by_input.transpose(0, 1).contiguous(), None, None
