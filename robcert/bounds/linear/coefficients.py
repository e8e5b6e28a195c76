"""Coefficients of linear functions of a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Window = tuple[int, int, int, int]
"""Rows y0 to y1 and columns x0 to x1 (excluded) of an image."""


@dataclass(frozen=True)
class Rows:
    """Coefficients of linear functions of a value.

    Attributes:
        a: (n, rows, *shape) float64, or (n, rows, channels, y1 - y0, x1 - x0) with a window.
        window: outside of it all coefficients are 0; None where ``a`` holds all of them.
    """

    a: Tensor
    window: Window | None = None

    def whole(self, shape: Sequence[int]) -> Rows:
        """The same without a window, of a value of that shape."""
        if self.window is None:
            return self
        y0, y1, x0, x1 = self.window
        full = self.a.new_zeros(*self.a.shape[:2], *shape)
        full[..., y0:y1, x0:x1] = self.a
        return Rows(full)

    def plus(self, other: Rows, shape: Sequence[int]) -> Rows:
        """The sum of two linear functions of one value."""
        if self.window == other.window:
            return Rows(self.a + other.a, self.window)
        return Rows(self.whole(shape).a + other.whole(shape).a)

    def cut(self, values: Tensor) -> Tensor:
        """(n, *shape) -> (n, 1, *window): what the coefficients are multiplied by."""
        if self.window is not None:
            y0, y1, x0, x1 = self.window
            values = values[..., y0:y1, x0:x1]
        return values.unsqueeze(1)

    def dot(self, values: Tensor) -> Tensor:
        """Sum of coefficient times value: (n, *shape) -> (n, rows)."""
        chosen = self.cut(values).flatten(2)
        return torch.bmm(self.a.flatten(2), chosen.expand(len(self.a), -1, -1).transpose(1, 2)).squeeze(2)
