"""Pooling that keeps distances."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.nn.bounds import copies

# ||(x, 2^-40)||_2 in place of ||x||_2: still nonexpansive, off by less than 1e-12, and smooth at zero,
# where the square root of a sum of squares has no derivative. 2^-80 to the power -3/2 is a float32 number,
# so that second derivatives are finite too.
SMOOTH = 2.0**-80


class NormPool2d(nn.Module):
    """The l2 norm over each pooling window, y = sqrt(sum of x^2 over the window) / sqrt(K).

    K is the largest number of windows that contain one entry: 1 if the windows do not overlap. Nonexpansive
    in l2; the gradient is finite everywhere, and zero where the window is zero.

    Args:
        kernel: the side of a window.
        stride: the distance of two windows; default: the side.

    Shapes: (n, c, h, w) -> (n, c, floor((h - kernel) / stride) + 1, likewise).

    Source: L2-Nonexpansive Neural Networks, section 2.3 and lemma 5.
    """

    def __init__(self, kernel: int, stride: int | None = None) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = kernel if stride is None else stride
        self.factor = 1 / math.sqrt(copies((self.kernel, self.kernel), (self.stride, self.stride)))

    def forward(self, x: Tensor) -> Tensor:
        """Pools each channel."""
        squares = functional.avg_pool2d(x * x, self.kernel, self.stride, divisor_override=1)
        return self.factor * torch.sqrt(squares + SMOOTH)

    def extra_repr(self) -> str:
        """Return the options that the module prints."""
        return f"kernel={self.kernel}, stride={self.stride}"
