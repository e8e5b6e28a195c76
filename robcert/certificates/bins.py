"""Accuracy by confidence (paper A, figure 2): images sorted by their gap, in bins of equal size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bin:
    """One bin, the most confident first: its size, the range of its gaps, and how many images of it hold."""

    n: int
    largest_gap: float
    smallest_gap: float
    natural: int
    certified: int
    attacked: int | None


def gap_bins(gap: Tensor, correct: Tensor, certified: Tensor, attacked: Tensor | None, count: int = 10) -> list[Bin]:
    """Sort by gap and count.

    Args:
        gap: (n,) float64.
        correct, certified: (n,) bool.
        attacked: (n,) bool, whether the image stood all attacks; None without a run.
        count: the number of bins; sizes differ by at most one.
    """
    order = torch.argsort(gap, descending=True, stable=True)
    bins: list[Bin] = []
    for rows in order.tensor_split(min(count, max(1, len(order)))):
        if len(rows) == 0:
            continue
        bins.append(
            Bin(
                n=len(rows),
                largest_gap=float(gap[rows[0]]),
                smallest_gap=float(gap[rows[-1]]),
                natural=int(correct[rows].sum()),
                certified=int(certified[rows].sum()),
                attacked=None if attacked is None else int(attacked[rows].sum()),
            )
        )
    return bins
