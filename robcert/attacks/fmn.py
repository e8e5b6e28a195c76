"""Fast minimum norm: gradient steps projected onto a ball whose radius closes in on the boundary."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.options import BETWEEN, POSITIVE, check_options
from robcert.attacks.common.walks import start_of
from robcert.attacks.protocol import Cost, Oracle, Perturbing, Problem
from robcert.math.norms import l2_unit, per_image
from robcert.types import ThreatNorm


@dataclass(frozen=True)
class FMNState:
    """The perturbation, its best length, the radius.

    Attributes:
        delta: (n, *shape).
        radius: (n,), the ball that the next point lies in.
        nearest: (n,), length of the shortest misclassified perturbation of this walk; inf: none.
        iteration: (n,) float32.
        done: (n,) bool.
    """

    delta: Tensor
    radius: Tensor
    nearest: Tensor
    iteration: Tensor
    done: Tensor


@attack("fmn")
@dataclass(frozen=True)
class FMN(Perturbing):
    r"""Fast minimum-norm: the smallest perturbation in l1, l2 or linf.

    Pintor et al. 2021, algorithm 1.

    The radius: while nothing is misclassified, :math:`\|\delta\|_p + |m| / \|\nabla m\|_q`, where the linearised
    margin m is zero; then :math:`(1 - \gamma_k) \min(\epsilon, \|\delta^*\|)` where the point is misclassified and
    :math:`(1 + \gamma_k)\epsilon` where it is not. The point: :math:`\delta + \alpha_k d(\nabla m)`, projected onto
    ball and box.

    What differs from the paper: :math:`\alpha` is relative to the radius, so that the unit of the data does not matter
    (the paper's 1 is for l2 on images in [0, 1]; in linf and l1 the same number stalls), d is the steepest unit
    step in linf (the sign) and the normalised gradient in l2 and l1; ball and box are projected onto together in l1.

    Attributes:
        iterations: gradient steps.
        step_size: alpha at first, relative to the radius; it falls along half a cosine to a thousandth of it.
        gamma: by what share the radius changes at first; it falls likewise to a fiftieth.
    """

    iterations: int = 1000
    step_size: float = 1.0
    gamma: float = 0.05

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2", "linf", "l1"})
    paper: ClassVar[str] = "Pintor et al. 2021"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=1)

    def __post_init__(self) -> None:
        check_options(self, step_size=POSITIVE, gamma=BETWEEN)

    def init(self, problem: Problem) -> FMNState:
        """Begin at the clean image; a restart begins at a random point of the ball."""
        infinite = torch.full_like(problem.best, float("inf"))
        return FMNState(
            delta=start_of(problem),
            radius=infinite,
            nearest=infinite.clone(),
            iteration=torch.zeros_like(problem.best),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: FMNState) -> FMNState:
        """Change the radius once, and take one step along the gradient of the margin."""
        threat = problem.threat
        low, high = threat.box
        evaluation = oracle.value_and_grad(problem.criterion.margin, (problem.x + state.delta).clamp_(low, high))
        fooled = evaluation.value > 0
        size = problem.norm.norm(state.delta)
        wave = 0.5 * (1 + torch.cos(math.pi * state.iteration / self.iterations))
        gamma = self.gamma * (0.02 + 0.98 * wave)
        nearest = torch.where(fooled, torch.minimum(state.nearest, size), state.nearest)
        slope = problem.norm.dual(evaluation.gradient)
        reach = evaluation.value.abs() / slope.clamp_min(torch.finfo(slope.dtype).tiny)
        # A flat spot says nothing about how far the boundary is.
        reach = torch.where(slope > 0, reach, torch.full_like(reach, threat.largest))
        reach = reach.nan_to_num(0.0).clamp_max(10 * threat.largest)
        never = nearest.isinf()
        smaller = torch.minimum(state.radius, nearest) * (1 - gamma)
        # A little further than where the margin seems to be zero: at zero nothing is misclassified yet.
        larger = torch.where(never, size + reach, state.radius) * (1 + gamma)
        radius = torch.where(fooled, smaller, larger)
        length = self.step_size * radius * (0.001 + 0.999 * wave)
        gradient = evaluation.gradient
        direction = gradient.sign() if threat.norm == "linf" else l2_unit(gradient)
        delta = problem.project(state.delta + per_image(length, state.delta) * direction, radius)
        return replace(state, delta=delta, radius=radius, nearest=nearest, iteration=state.iteration + 1)
