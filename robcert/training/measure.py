"""Accuracy and confidence gaps of a trained network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robcert.types import Dataset

_BATCH = 500
_SHARES = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Measured:
    """The answers of a network on a data set.

    Attributes:
        correct: (n,) bool.
        gap: (n,) float64, the largest minus the second largest logit.
    """

    correct: Tensor
    gap: Tensor

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.correct.double().mean())

    @property
    def mean_gap(self) -> float:
        """The average confidence gap over all images (paper A's measure)."""
        return float(self.gap.mean())

    def certified(self, radius: float) -> float:
        """The share of images that are right with g / 2 > radius: paper A's guarantee for multi-L2NNNs."""
        return float((self.correct & (self.gap / 2 > radius)).double().mean())

    def results(self, *, guarantee: bool) -> dict[str, float]:
        """The numbers for the card; with ``guarantee`` also those that hold for an L2NNN only."""
        numbers = {"natural_accuracy": self.accuracy, "mean_gap": self.mean_gap}
        if guarantee:
            right = torch.where(self.correct, self.gap / 2, torch.zeros_like(self.gap))
            numbers["median_half_gap"] = float(right.median())
            for radius in _SHARES:
                numbers[f"half_gap_above_{radius:g}"] = self.certified(radius)
        return {key: round(value, 6) for key, value in numbers.items()}


@torch.no_grad()
def measure(net: nn.Module, data: Dataset, device: torch.device) -> Measured:
    """Evaluates a network on all images, in eval mode; it is left in the mode that it was in."""
    training = net.training
    net.eval()
    logits = torch.cat([net(x.to(device)).double().cpu() for x in data.x.split(_BATCH)])
    net.train(training)
    best = logits.topk(2, dim=1)
    return Measured(best.indices[:, 0] == data.y, best.values[:, 0] - best.values[:, 1])
