"""Max-pooling over windows that touch, as maxima of whole rows."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PoolPairs(nn.Module):
    """Max-pooling over windows that touch and do not overlap, as two maxima: of rows, then of columns.

    As in `nn.MaxPool2d` a gradient goes to one entry of its window, the first of those that are equal (by rows within
    a column, then by columns).

    Args:
        layer: the pooling.
        positive: only positive maxima matter, since a ReLU follows; instead of another it may give any negative number.

    Shapes: (n, c, h, w) -> (n, c, h // k, w // k).
    """

    def __init__(self, layer: nn.MaxPool2d, positive: bool) -> None:
        super().__init__()
        self.positive = positive
        self.side = _both(layer.kernel_size)[0]
        self.ceil_mode = layer.ceil_mode

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether a layer is such a pooling."""
        if type(layer) is not nn.MaxPool2d or layer.return_indices:
            return False
        side = _both(layer.kernel_size)
        apart = _both(layer.stride) == side and _both(layer.padding) == (0, 0) and _both(layer.dilation) == (1, 1)
        return apart and side in ((2, 2), (3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The maxima; as torch finds them where windows do not fill a picture or channels lie apart."""
        whole = x.dim() == 4 and not x.shape[2] % self.side and not x.shape[3] % self.side
        if not whole or not x.is_contiguous(memory_format=torch.channels_last):
            return F.max_pool2d(x, self.side, ceil_mode=self.ceil_mode)
        return cast("Tensor", _Pool.apply(x, self.side, self.positive))


def _both(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _apart(x: Tensor, axis: int, side: int) -> list[Tensor]:
    """The entries of every window along an axis: its first ones, its second ones, ..."""
    return [x[(slice(None),) * axis + (slice(k, None, side),)] for k in range(side)]


def _highest(x: Tensor, axis: int, side: int) -> Tensor:
    first, second, *others = _apart(x, axis, side)
    best = torch.maximum(first, second)
    for other in others:
        torch.maximum(best, other, out=best)
    return best


def _spread(x: Tensor, best: Tensor, gradient: Tensor, axis: int, side: int) -> Tensor:
    """Each window's gradient at the first of its entries x that is the best, and 0 at the others."""
    back = torch.empty_like(x)
    *places, last = _apart(back, axis, side)
    left = gradient
    # Equal is written as 0 and 1 of x's own type: so every operator here is a vector instruction.
    for place, entries in zip(places, _apart(x, axis, side)[:-1], strict=True):
        torch.eq(entries, best, out=place)
        place.mul_(left)
        left = torch.sub(left, place, out=last)
    return back


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, side: int, positive: bool) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        if positive:
            pixels = _bits(pixels)
        rows = _highest(pixels, 1, side)
        best = _highest(rows, 2, side)
        ctx.save_for_backward(x, rows, best)
        ctx.side = side
        return best.view(x.dtype).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, rows, best = ctx.saved_tensors
        (gradient,) = gradients
        if torch.is_grad_enabled():  # it will be differentiated itself
            pooled = F.max_pool2d(x, ctx.side)
            (back,) = torch.autograd.grad(pooled, x, gradient, create_graph=True)
            return back, None, None
        pixels, rows, best, gradient = (
            _bits(one) for one in (x.permute(0, 2, 3, 1), rows, best, gradient.permute(0, 2, 3, 1))
        )
        by_rows = _spread(rows, best, gradient, 2, ctx.side)
        back = _spread(pixels, rows, by_rows, 1, ctx.side)
        return back.view(x.dtype).permute(0, 3, 1, 2), None, None


def _bits(x: Tensor) -> Tensor:
    """The bits of bfloat16 numbers as integers: they compare alike where positive, and 0 and 1 times them is exact.

    A processor has vector instructions for such integers, and for bfloat16 numbers only by way of float32.
    """
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x
