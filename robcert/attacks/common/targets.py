"""The class that a targeted attack aims at: restart r at the r-th most likely wrong class of the clean image."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.protocol import Problem


def rank_target_classes(logits: Tensor, y: Tensor) -> Tensor:
    """Return the wrong classes of every image, the most likely first.

    Args:
        logits: (n, classes), of the clean images.
        y: (n,) int64, the labels.

    Returns:
        (n, classes - 1) int64.
    """
    others = logits.scatter(1, y.view(-1, 1), float("-inf"))
    return others.argsort(dim=1, descending=True, stable=True)[:, :-1]


def target_of(problem: Problem) -> Tensor:
    """Return (n,) int64: the class that each slot aims at; after the least likely class it begins anew."""
    at = problem.restart % problem.target_classes.shape[1]
    return problem.target_classes.gather(1, at.view(-1, 1)).squeeze(1)


def pick(values: Tensor, classes: Tensor) -> Tensor:
    """Return (n,): the entry of every row of ``values`` (n, classes) at ``classes`` (n,)."""
    return torch.gather(values, 1, classes.view(-1, 1)).squeeze(1)
