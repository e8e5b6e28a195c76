"""Random points of the ball: the honest lower bar, which no attack should lose to."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.budgets import BudgetState, end_search_steps, first_budget
from robcert.attacks.common.options import COUNT, GAP, check_options
from robcert.attacks.protocol import Cost, Oracle, Periodic, Problem
from robcert.math.norms import per_image
from robcert.threats.kind import NORMS
from robcert.types import ThreatNorm


@dataclass(frozen=True)
class NoiseState(BudgetState):
    """The bisection alone; ``draw`` (n,) int64 counts all points tried."""

    draw: Tensor


@attack("noise")
@dataclass(frozen=True)
class Noise(Periodic):
    """Random points of the surface of the ball: no gradients, and no answer is followed.

    Even iterations draw a direction uniformly (l2: from the sphere; linf and l1: from the surface of the ball), odd
    ones a corner or an edge: in linf every entry moves by eps, in l1 a tenth of the entries move, in l2 a tenth of
    the entries make up the direction. A gradient attack that loses to this has a masked gradient (Carlini et al.
    2019, section 5.2).

    Attributes:
        iterations: points that are tried at one budget.
        search_steps: with "minimize", the most budgets that are tried.
        tolerance: with "minimize", the relative gap between a failed and a successful budget at which to stop.
    """

    iterations: int = 100
    search_steps: int = 10
    tolerance: float = 0.01

    norms: ClassVar[Set[ThreatNorm]] = NORMS
    paper: ClassVar[str] = "Carlini et al. 2019, section 5.2"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=0)

    def __post_init__(self) -> None:
        check_options(self, search_steps=COUNT, tolerance=GAP)

    def init(self, problem: Problem) -> NoiseState:
        """Begin where no point has been tried."""
        eps = first_budget(problem)
        zeros = torch.zeros_like(eps)
        return NoiseState(
            iteration=zeros,
            draw=torch.zeros_like(problem.y),
            eps=eps,
            lower=zeros.clone(),
            search_step=torch.zeros_like(problem.y),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: NoiseState) -> NoiseState:
        """Try one point; the engine sees what the model answers."""
        low, high = problem.threat.box
        oracle.logits(self.proposal(problem, state).clamp_(low, high))
        return replace(state, iteration=state.iteration + 1, draw=state.draw + 1)

    def phase(self, problem: Problem, state: NoiseState) -> NoiseState:
        """End search steps: with "minimize", go to the next budget of the bisection."""
        return end_search_steps(problem, state, self.iterations, self.search_steps, self.tolerance)[0]

    def proposal(self, problem: Problem, state: NoiseState) -> Tensor:
        """Return the point that the next step tries."""
        rng, shape, norm = problem.rng.at(state.draw), problem.shape, problem.norm
        ball = norm.sample(rng, shape)
        few = rng.uniform(shape, tag=7) < 0.1
        sign = torch.where(rng.uniform(shape, tag=9) < 0.5, -1.0, 1.0)
        corner = sign if problem.threat.norm == "linf" else sign * few
        direction = torch.where(per_image(state.draw % 2 == 0, ball), ball, corner)
        length = norm.norm(direction).clamp_min(torch.finfo(ball.dtype).tiny)
        return problem.x + problem.project(direction * per_image(state.eps / length, ball), state.eps)
