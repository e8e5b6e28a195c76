"""The search over the budget that an attack with a fixed budget makes for the goal "minimize"."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robcert.attacks.protocol import Problem
from robcert.math.norms import nearly


def first_budget(problem: Problem) -> Tensor:
    """(n,): the largest budget; with "minimize", somewhat less than the closest example that is known."""
    eps = torch.full_like(problem.best, problem.threat.largest)
    if problem.goal == "minimize":
        eps = torch.where(problem.best.isfinite(), 0.7 * problem.best, eps)
    return eps


def inside(problem: Problem, eps: Tensor) -> Tensor:
    """(n,) bool: an example within ``eps`` (n,) is known, up to the rounding of the image."""
    return problem.best <= nearly(eps, problem.threat, problem.x[0].numel())


def next_budget(
    problem: Problem,
    eps: Tensor,
    lower: Tensor,
    search_step: Tensor,
    ended: Tensor,
    search_steps: int,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Bisect between the largest budget that failed and the closest example; double while there is none.

    Args:
        problem: what is known.
        eps: (n,), the budgets of the search step.
        lower: (n,), the largest budgets at which the attack failed.
        search_step: (n,) int64, search steps that were spent.
        ended: (n,) bool, slots whose search step is over.
        search_steps: the most that are made.
        tolerance: the relative gap at which to stop.

    Returns:
        The new eps, lower and search_step, and (n,) bool where the search is over.
    """
    lower = torch.where(ended & ~inside(problem, eps), torch.maximum(lower, eps), lower)
    known = problem.best.isfinite()
    between = 0.5 * (lower + torch.where(known, problem.best, torch.zeros_like(lower)))
    eps = torch.where(ended, torch.where(known, between, 2 * eps), eps)
    search_step = search_step + ended
    close = known & (problem.best - lower <= tolerance * problem.best)
    beyond = ~known & (eps > 2 * diameter(problem))
    return eps, lower, search_step, ended & (close | beyond | (search_step >= search_steps))


def diameter(problem: Problem) -> float:
    """The largest distance that two points of the box can have."""
    low, high = problem.threat.box
    entries = problem.x[0].numel()
    return (high - low) * {"linf": 1.0, "l2": math.sqrt(entries), "l1": float(entries)}[problem.threat.norm]
