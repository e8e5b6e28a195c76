"""Layers that know their own way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn


class BothWays(nn.Module, ABC):
    """An affine layer whose gradient by its input is another affine layer's result, and not torch's own."""

    @abstractmethod
    def there(self, x: Tensor) -> Tensor:
        """The result."""

    @abstractmethod
    def back(self, gradient: Tensor) -> Tensor:
        """The gradient by the input, of the gradient by the result."""

    def forward(self, x: Tensor) -> Tensor:
        """The result, with that gradient."""
        return cast("Tensor", _BothWays.apply(x, self))


class _BothWays(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: BothWays) -> Tensor:
        ctx.layer = layer
        return layer.there(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return cast("BothWays", ctx.layer).back(gradients[0]), None
