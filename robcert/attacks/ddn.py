"""Decoupled direction and norm: a fixed-length step along the gradient, and a radius that follows the answer."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.options import BETWEEN, check_options
from robcert.attacks.common.walks import fooled_at, start_of
from robcert.attacks.losses import losses, objective_of
from robcert.attacks.protocol import Cost, Oracle, Perturbing, Problem, among_the_last
from robcert.math.norms import l2_norm, l2_unit, per_image
from robcert.types import ThreatNorm

_REACH = 6.0
"""The sum of all gammas is half of it, whatever the iterations: exp(-3) is a twentieth."""


@dataclass(frozen=True)
class DDNState:
    """The perturbation (n, *shape), the radius (n,), the iteration (n,) float32, and done (n,) bool."""

    delta: Tensor
    radius: Tensor
    iteration: Tensor
    done: Tensor


@attack("ddn")
@dataclass(frozen=True)
class DDN(Perturbing):
    r"""Decoupled direction and norm: the smallest perturbation in l2.

    Rony et al. 2019, algorithm 1.

    :math:`\delta \leftarrow \delta + \alpha_k\, g / \|g\|_2`, then :math:`\epsilon \leftarrow (1 - \gamma)\epsilon`
    where the image was misclassified and :math:`(1 + \gamma)\epsilon` where it was not, then :math:`\delta` is scaled
    to the length :math:`\epsilon` and clipped to the box.

    What differs from the paper: :math:`\alpha` and the first radius are relative to the largest budget (the paper's
    1 is the size of a perturbation of MNIST), alpha falls along half a cosine to a hundredth, and gamma with it to a
    thirtieth, so that the radius settles; gamma is larger in a run of few iterations, so that the radius can still fall
    to a twentieth of the budget; the cross-entropy is taken at the temperature of the image
    (`robcert.attacks.losses.cross_entropy`); and nothing is quantised to 8 bits.

    Attributes:
        iterations: gradient steps.
        gamma: by what share the radius changes, at first (in a run of few iterations: at least 6 / iterations).
        objective: a loss (`robcert.attacks.losses`).
    """

    iterations: int = 1000
    gamma: float = 0.05
    objective: str = "ce"

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2"})
    paper: ClassVar[str] = "Rony et al. 2019"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=1)

    def __post_init__(self) -> None:
        losses.get(self.objective)  # refuses a name that no loss has
        check_options(self, gamma=BETWEEN)

    def init(self, problem: Problem) -> DDNState:
        """Begin at the clean image; a restart begins at a random point of the ball."""
        largest = torch.full_like(problem.best, problem.threat.largest)
        return DDNState(
            delta=start_of(problem),
            radius=torch.minimum(largest, problem.best.clamp_min(0)),
            iteration=torch.zeros_like(problem.best),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: DDNState) -> DDNState:
        """Take one step along the gradient, and change the radius once."""
        low, high = problem.threat.box
        late = 2 * state.iteration >= self.iterations
        evaluation = oracle.value_and_grad(objective_of(self.objective, problem, late), problem.x + state.delta)
        wave = 0.5 * (1 + torch.cos(math.pi * state.iteration / self.iterations))
        gamma = max(self.gamma, min(_REACH / self.iterations, 0.5)) * (1 + 29 * wave) / 30
        fooled = fooled_at(evaluation, problem)
        radius = state.radius * torch.where(fooled, 1 - gamma, 1 + gamma)
        length = problem.threat.largest * (0.01 + 0.99 * wave)
        delta = state.delta + per_image(length, state.delta) * l2_unit(evaluation.gradient)
        size = l2_norm(delta).clamp_min(1e-12 * problem.threat.largest)
        delta = delta * per_image(radius / size, delta)
        delta = (problem.x + delta).clamp_(low, high) - problem.x
        return replace(state, delta=delta, radius=radius, iteration=state.iteration + 1)

    def needs_float32(self, problem: Problem, state: DDNState, steps: int = 1) -> Tensor:
        """Return the slots in the last of the iterations, in which the radius settles."""
        return among_the_last(state.iteration, steps, self.iterations)
