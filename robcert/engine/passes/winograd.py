"""A convolution of few pixels and many channels, with four ninths of its products."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robcert.engine.passes.both_ways import BothWays
from robcert.engine.passes.geometry import Geometry, by_pixels

_SIDE = 8
"""Of larger pictures the direct convolution fills the registers, and moving the planes takes what is saved."""
_CHANNELS = 256
"""With fewer, a product is too small to pay for the planes."""
_AT_ONCE = 32
"""Pictures whose planes stay near the processor until their products are formed."""

_READ = ((1.0, 0.0, -1.0, 0.0), (0.0, 1.0, 1.0, 0.0), (0.0, -1.0, 1.0, 0.0), (0.0, 1.0, 0.0, -1.0))
_KERNEL = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
_GIVE = ((1.0, 1.0, 1.0, 0.0), (0.0, 1.0, -1.0, -1.0))


class Winograd(BothWays):
    """A convolution of side 3, stride 1 and padding 1 by Winograd's F(2x2, 3x3), and its way back likewise.

    Lavin & Gray 2016, section 4.1: four pixels of every axis give two results with four products in place of six. The
    transforms of all tiles of a picture are one matrix each, of zeros, ones and minus ones; the sixteen
    products of channels are summed in float32, and their weights, their planes and their results are rounded once each:
    three small errors where a direct convolution of bfloat16 numbers makes one.

    Shapes: (n, c, h, w) -> (n, out, h, w) for one h and w, with channels last.
    """

    read: Tensor
    give: Tensor
    weight: Tensor
    turned: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Conv2d, size: tuple[int, int]) -> None:
        super().__init__()
        kernel = layer.weight.detach()
        (rows_in, rows_out), (columns_in, columns_out) = (_axis(side) for side in size)
        # Of a picture with its pixels in one line: planes by products, then tiles; and back.
        read = torch.einsum("fkp,glq->fgklpq", rows_in, columns_in).reshape(-1, size[0] * size[1])
        give = torch.einsum("pfk,qgl->pqfgkl", rows_out, columns_out).reshape(size[0] * size[1], -1)
        self.register_buffer("read", read.to(kernel.dtype))
        self.register_buffer("give", give.to(kernel.dtype))
        self.register_buffer("weight", _products(kernel))
        self.register_buffer("turned", _products(kernel.flip(2, 3).transpose(0, 1)))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach()[:, None, None])

    @staticmethod
    def fits(layer: nn.Module, size: tuple[int, int]) -> bool:
        """Whether a layer is such a convolution of pictures of this size, and gains by it."""
        return (
            type(layer) is nn.Conv2d
            and layer.weight.dtype is torch.bfloat16  # in float32 the direct one is the faster
            and layer.groups == 1
            and layer.kernel_size == (3, 3)
            and layer.padding_mode == "zeros"
            and Geometry.of(layer) == Geometry((1, 1), (1, 1), (1, 1))
            and max(size) <= _SIDE
            and not size[0] % 2
            and not size[1] % 2  # the last tile of an odd side is half empty
            and min(layer.in_channels, layer.out_channels) >= _CHANNELS
        )

    def there(self, x: Tensor) -> Tensor:
        """The convolution of x."""
        result = self._convolve(x, self.weight)
        return result if self.bias is None else result.add_(self.bias)

    def back(self, gradient: Tensor) -> Tensor:
        """The convolution with the kernel turned."""
        return self._convolve(gradient, self.turned)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Of pictures (n, c, h, w), with weights (16, c, out)."""
        return torch.cat([self._part(part, weight) for part in x.split(_AT_ONCE)])

    def _part(self, x: Tensor, weight: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        pixels = x.permute(2, 3, 0, 1).reshape(height * width, n * channels)
        planes = torch.mm(self.read, pixels).view(len(weight), -1, channels)
        results = torch.bmm(planes, weight).view(self.give.shape[1], -1)
        given = torch.mm(self.give, results).view(height, width, n, -1)
        return by_pixels(given.permute(2, 3, 0, 1))


def _axis(side: int) -> tuple[Tensor, Tensor]:
    """One axis of so many pixels, in tiles of two: reading (4, tiles, side), and giving (side, 4, tiles)."""
    read, give = torch.tensor(_READ), torch.tensor(_GIVE)
    tiles = (side + 1) // 2
    into, out = torch.zeros(4, tiles, side), torch.zeros(side, 4, tiles)
    for tile in range(tiles):
        for tap in range(4):
            if 0 <= (pixel := 2 * tile + tap - 1) < side:
                into[:, tile, pixel] = read[:, tap]
        for result in range(2):
            if (pixel := 2 * tile + result) < side:
                out[pixel, :, tile] = give[result]
    return into, out


def _products(kernel: Tensor) -> Tensor:
    """Kernels (out, c, 3, 3) as weights of the sixteen products, (16, c, out)."""
    form = torch.tensor(_KERNEL, dtype=torch.float64)
    planes = torch.einsum("fi,ocij,gj->fgco", form, kernel.double(), form)
    return planes.flatten(0, 1).to(kernel.dtype).contiguous()
