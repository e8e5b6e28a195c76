"""The fast gradient (sign) method: one step from the clean image to the surface of the ball."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.losses import losses, objective_of
from robcert.attacks.protocol import Cost, Oracle, Problem
from robcert.math.norms import per_image
from robcert.threats.kind import NORMS
from robcert.types import ThreatNorm


@dataclass(frozen=True)
class FGSMState:
    """The point to evaluate, whether it is the one on the surface, and whether that one has been evaluated."""

    x: Tensor
    moved: Tensor
    done: Tensor


@attack("fgsm")
@dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method: one step.

    Goodfellow, Shlens & Szegedy 2015; in l2 the gradient over its norm (paper E, eq. 3.2 and 3.4).

    The first step takes the gradient at the clean image, the second evaluates the point that it points to, so it
    has two iterations whatever is asked for. With the goal "minimize" it still tries the largest budget only.
    """

    iterations: int = 2
    objective: str = "ce"

    norms: ClassVar[Set[ThreatNorm]] = NORMS
    paper: ClassVar[str] = "Goodfellow, Shlens & Szegedy 2015"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=1)
    single_step: ClassVar[bool] = True
    """More iterations change nothing."""

    def __post_init__(self) -> None:
        losses.get(self.objective)  # refuses a name that no loss has

    @property
    def period(self) -> int:
        """A synchronisation after each of the two steps."""
        return 1

    def init(self, problem: Problem) -> FGSMState:
        """Start at the clean image."""
        no = torch.zeros_like(problem.y, dtype=torch.bool)
        return FGSMState(x=problem.x.clone(), moved=no, done=no.clone())

    def step(self, oracle: Oracle, problem: Problem, state: FGSMState) -> FGSMState:
        """Go to the surface of the ball, then inside the box; then evaluate that point, and stay."""
        threat = problem.threat
        gradient = oracle.value_and_grad(
            objective_of(self.objective, problem, torch.zeros_like(state.done)), state.x
        ).gradient
        eps = torch.full_like(problem.best, threat.largest)
        delta = problem.project(threat.largest * problem.norm.steepest(gradient, problem.x, threat.box), eps)
        surface = (problem.x + delta).clamp(*threat.box)
        x = torch.where(per_image(state.moved, surface), state.x, surface)
        return replace(state, x=x, moved=torch.ones_like(state.moved), done=state.moved)

    def phase(self, problem: Problem, state: FGSMState) -> FGSMState:
        """Do nothing: nothing is left."""
        return state

    def proposal(self, problem: Problem, state: FGSMState) -> Tensor:
        """Return the point on the surface."""
        return state.x
