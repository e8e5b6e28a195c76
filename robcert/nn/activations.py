"""Nonlinearities that keep distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TwoSidedReLU(nn.Module):
    """x -> (max(x, 0), max(-x, 0)), one after the other along the channels.

    Nonexpansive in every l_p norm, and no distance falls below 1 / sqrt(2) of itself in l2.

    Shapes: (n, c, ...) -> (n, 2c, ...).

    Source: L2-Nonexpansive Neural Networks, section 2.2 and lemma 4.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Doubles the channels."""
        return torch.cat([torch.relu(x), torch.relu(-x)], dim=1)
