"""Paper A's hybrid model (section 3.2): where the confidence gap is small, another model answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Switch:
    """The hybrid at one threshold: how many images are delegated to the other model, and how many are right."""

    threshold: float
    delegated: int
    correct: int


def hybrid(gap: Tensor, correct: Tensor, fallback_correct: Tensor, threshold: float) -> Switch:
    """Evaluate one threshold.

    Args:
        gap: (n,) float64, of the first model.
        correct, fallback_correct: (n,) bool, whether each model is right.
        threshold: the other model answers where the gap is below.
    """
    own = gap >= threshold
    right = torch.where(own, correct, fallback_correct)
    return Switch(threshold, int((~own).sum()), int(right.sum()))


def thresholds(gap: Tensor, count: int = 20) -> list[float]:
    """0 and quantiles of the gap: the whole trade-off from the first model alone to almost only the other one."""
    shares = torch.linspace(0, 1, count, dtype=gap.dtype)
    return list(dict.fromkeys([0.0, *(float(value) for value in torch.quantile(gap, shares))]))
