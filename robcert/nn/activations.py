"""Nonlinearities that keep distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robcert.nn.ranges import Positive

# A little below 4, so that no slope is above 1 after rounding to float32 either.
_FOUR = 4 * (1 - 2.0**-21)


class TwoSidedReLU(nn.Module):
    """x -> (max(x, 0), max(-x, 0)), one after the other along the channels.

    Nonexpansive in every l_p norm, and no distance falls below 1 / sqrt(2) of itself in l2.

    Shapes: (n, c, ...) -> (n, 2c, ...).

    Source: L2-Nonexpansive Neural Networks, section 2.2 and lemma 4.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Doubles the channels."""
        return torch.cat([torch.relu(x), torch.relu(-x)], dim=1)


class TwoSided(nn.Module):
    """x -> (f(x), f(x) - x), one after the other along the channels.

    With f increasing and of slope at most 1, the slopes p of f and p - 1 of f - x have |p| + |p - 1| = 1, so
    that the pair is nonexpansive in every l_p norm; in l2 no distance falls below 1 / sqrt(2) of itself.

    Args:
        function: an elementwise module with slopes in [0, 1] everywhere (ReLU, tanh, `ScaledSigmoid`).

    Shapes: (n, c, ...) -> (n, 2c, ...).

    Source: L2-Nonexpansive Neural Networks, section 2.2 and lemma 4.
    """

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Doubles the channels."""
        y = self.function(x)
        return torch.cat([y, y - x], dim=1)


class ScaledSigmoid(nn.Module):
    """s(x) = t sigmoid(4 x / t) with a t > 0 of its own for every neuron: slopes up to 1, where sigmoid has 1/4.

    Args:
        shape: of one input, (features,) or (channels, height, width); also (channels, 1, 1) for a t a channel.
        t: where the t begin.

    Shapes: (n, *shape) -> (n, *shape).

    Source: L2-Nonexpansive Neural Networks, appendix A.2, eq. 8.
    """

    def __init__(self, *shape: int, t: float = 4.0) -> None:
        super().__init__()
        if not t > 0:
            raise ValueError(f"t is {t}, but t > 0 was expected")
        self.t = nn.Parameter(torch.full(shape, float(t)))

    def ranges(self) -> dict[str, nn.Module]:
        """While it is trained, t stays positive (`robcert.nn.nonexpansive.constrain`)."""
        return {"t": Positive()}

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        t = self.t
        return t * torch.sigmoid((_FOUR / t) * x)
