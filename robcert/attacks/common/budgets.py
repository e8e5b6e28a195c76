"""The search over the budget that an attack with a fixed budget makes for the goal "minimize"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from robcert.attacks.protocol import Problem


@dataclass(frozen=True)
class BudgetState:
    """The bisection of the budget, which the state of every such attack begins with.

    Attributes:
        iteration: (n,) float32, iterations of this search step.
        eps: (n,), the budget of this search step.
        lower: (n,), the largest budget at which the attack failed.
        search_step: (n,) int64, search steps that were spent.
        done: (n,) bool.
    """

    iteration: Tensor
    eps: Tensor
    lower: Tensor
    search_step: Tensor
    done: Tensor


State = TypeVar("State", bound=BudgetState)


def first_budget(problem: Problem) -> Tensor:
    """Return (n,): the largest budget; with "minimize", somewhat less than the closest example that is known."""
    eps = torch.full_like(problem.best, problem.threat.largest)
    if problem.goal == "minimize":
        eps = torch.where(problem.best.isfinite(), 0.7 * problem.best, eps)
    return eps


def inside(problem: Problem, eps: Tensor) -> Tensor:
    """Return (n,) bool: an example within ``eps`` (n,) is known, up to the rounding of the image."""
    return problem.best <= problem.threat.with_tolerance(eps, problem.shape)


def end_search_steps(
    problem: Problem, state: State, iterations: int, search_steps: int, tolerance: float
) -> tuple[State, Tensor]:
    """End the search steps whose iterations are spent.

    With "minimize" also those that succeeded, and the next one begins at another budget: between the largest that
    failed and the closest example, doubled while there is none.

    Args:
        problem: what is known.
        state: of the attack.
        iterations: of one search step.
        search_steps: the most that are made.
        tolerance: the relative gap at which to stop.

    Returns:
        The state with all of `BudgetState` brought forward, and (n,) bool where a search step begins anew.
    """
    spent = state.iteration >= iterations
    if problem.goal == "decide":
        return replace(state, done=spent), torch.zeros_like(spent)
    reached = inside(problem, state.eps)
    ended = (spent | reached) & ~state.done
    if not bool(ended.any()):
        return state, ended
    lower = torch.where(ended & ~reached, torch.maximum(state.lower, state.eps), state.lower)
    known = problem.best.isfinite()
    between = 0.5 * (lower + torch.where(known, problem.best, torch.zeros_like(lower)))
    eps = torch.where(ended, torch.where(known, between, 2 * state.eps), state.eps)
    search_step = state.search_step + ended
    close = known & (problem.best - lower <= tolerance * problem.best)
    beyond = ~known & (eps > 2 * problem.threat.diameter(problem.shape))
    over = ended & (close | beyond | (search_step >= search_steps))
    iteration = torch.where(ended, torch.zeros_like(state.iteration), state.iteration)
    done = state.done | over
    return replace(state, iteration=iteration, eps=eps, lower=lower, search_step=search_step, done=done), ended
