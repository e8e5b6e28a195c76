"""Projected gradient descent: steepest ascent steps inside the ball, restarted where that is asked for."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.budgets import BudgetState, end_search_steps, first_budget
from robcert.attacks.common.options import COUNT, GAP, check_options
from robcert.attacks.losses import losses, objective_of
from robcert.attacks.protocol import Cost, Oracle, Perturbing, Problem, among_the_last
from robcert.errors import UsageError
from robcert.math.norms import per_image
from robcert.threats.kind import NORMS
from robcert.types import ThreatNorm

_PACE = 2.0
"""So many times faster than of late a search step may still become before it is given up."""
_WINDOW = 3
"""The fewest iterations whose progress says anything; a short attack judges by so many and not by a tenth."""


@dataclass(frozen=True)
class PGDState(BudgetState):
    """The current point and, for "minimize", the bisection.

    Attributes:
        delta: (n, *shape), the perturbation that is evaluated next.
        top, mark: (n,), the largest margin of this search step, now and at the last check of progress.
    """

    delta: Tensor
    top: Tensor
    mark: Tensor


@attack("pgd")
@dataclass(frozen=True)
class PGD(Perturbing):
    """Projected gradient descent with restarts.

    Madry et al. 2018; without random start it is I-FGSM (Kurakin et al. 2017; paper E, section 3).

    With the goal "decide" it searches the ball of the one budget. With "minimize" it bisects the budget of every
    image, ``iterations`` for each of at most ``search_steps`` budgets; a search step ends with its first success.

    Attributes:
        iterations: gradient steps of one search step.
        step_size: length of a step (``--step``) relative to the budget. By default it falls over the iterations from
            0.5 to 0.005 along half a cosine: long enough to cross the ball, short enough at the end to settle on a
            corner.
        objective: a loss (`robcert.attacks.losses`), by default "alternate".
        random_start: start uniformly in the ball (else at the clean image in restart 0).
        search_steps: with "minimize", the most budgets that are tried.
        tolerance: with "minimize", the relative gap between a failed and a successful budget at which to stop.
        targeted: aim at one class, restart r at the r-th most likely wrong one (`pgd-t`).
        abort_early: end a search step whose margin, at twice the pace of its last tenth, would not reach zero in the
            iterations that are left. First asked after three tenths of them; "alternate" then changes to the margin,
            and is asked again one tenth later.
    """

    iterations: int = 100
    step_size: float | None = None
    objective: str = "alternate"
    random_start: bool = True
    search_steps: int = 20
    tolerance: float = 0.004
    targeted: bool = False
    abort_early: bool = True

    norms: ClassVar[Set[ThreatNorm]] = NORMS
    paper: ClassVar[str] = "Madry et al. 2018"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=1)

    def __post_init__(self) -> None:
        losses.get(self.objective)  # refuses a name that no loss has
        check_options(self, search_steps=COUNT, tolerance=GAP)
        if self.step_size is not None and not (math.isfinite(self.step_size) and self.step_size > 0):
            raise UsageError(
                f"the step is {self.step_size:g}, but it is a positive number relative to eps",
                "Example: --step 0.1 moves a tenth of the budget in one iteration",
            )

    def init(self, problem: Problem) -> PGDState:
        """Begin at a random point of the ball (of the largest budget, or of 0.7 of the best distance known)."""
        eps = first_budget(problem)
        zeros = torch.zeros_like(eps)
        state = PGDState(
            delta=torch.zeros_like(problem.x),
            top=torch.full_like(eps, -float("inf")),
            mark=torch.full_like(eps, -float("inf")),
            iteration=zeros,
            eps=eps,
            lower=zeros.clone(),
            search_step=torch.zeros_like(problem.y),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )
        return replace(state, delta=self._start(problem, state))

    def step(self, oracle: Oracle, problem: Problem, state: PGDState) -> PGDState:
        """Climb, project onto the ball, clip to the box."""
        low, high = problem.threat.box
        x = (problem.x + state.delta).clamp_(low, high)
        late = 2 * state.iteration >= self.iterations
        objective = objective_of(self.objective, problem, late, self.targeted)
        evaluation = oracle.value_and_grad(objective, x)
        gradient, top = (
            evaluation.gradient,
            torch.maximum(state.top, problem.criterion.margin(evaluation.logits, problem.y)),
        )
        if self.step_size is None:
            progress = state.iteration / self.iterations
            length = state.eps * (0.005 + 0.2475 * (1 + torch.cos(math.pi * progress)))
        else:
            length = state.eps * self.step_size
        delta = state.delta + per_image(length, x) * problem.norm.steepest(gradient, x, (low, high))
        return replace(state, delta=problem.project(delta, state.eps), top=top, iteration=state.iteration + 1)

    def needs_float32(self, problem: Problem, state: PGDState, steps: int = 1) -> Tensor:
        """Return the slots in the last of the iterations, whose steps are small."""
        return among_the_last(state.iteration, steps, self.iterations)

    def phase(self, problem: Problem, state: PGDState) -> PGDState:
        """End search steps: with "minimize", go to the next budget of the bisection."""
        state = self._look(problem, state) if self.abort_early else state
        state, ended = end_search_steps(problem, state, self.iterations, self.search_steps, self.tolerance)
        if not bool(ended.any()):
            return state
        fresh = self._start(problem, state)
        worst = torch.full_like(state.top, -float("inf"))
        return replace(
            state,
            delta=torch.where(per_image(ended, fresh), fresh, state.delta),
            top=torch.where(ended, worst, state.top),
            mark=torch.where(ended, worst, state.mark),
        )

    def _look(self, problem: Problem, state: PGDState) -> PGDState:
        """End those without hope, or let them go on to the margin at once: every tenth of the iterations or so."""
        window = max(max(self.iterations // 10, _WINDOW) // self.period, 1) * self.period
        looking = state.iteration % window == 0
        half = math.ceil(0.5 * self.iterations / window) * window
        changes = ((problem.restart % 2 == 0) | self.targeted) & (self.objective == "alternate")
        early = changes & (state.iteration < half)
        earliest = torch.where(changes & ~early, 0.6, 0.3) * self.iterations
        left = (self.iterations - state.iteration) / window
        hopeless = looking & (state.iteration >= earliest) & (-state.top > _PACE * left * (state.top - state.mark))
        ahead = torch.where(early, float(half), float(self.iterations))
        return replace(
            state,
            mark=torch.where(looking, state.top, state.mark),
            iteration=torch.where(hopeless, ahead, state.iteration),
        )

    def _start(self, problem: Problem, state: PGDState) -> Tensor:
        start = problem.random_start(state.eps)
        if self.random_start:
            return start
        return torch.where(per_image(problem.restart > 0, start), start, torch.zeros_like(start))
