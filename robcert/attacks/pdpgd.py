"""PDPGD: a proximal step for the l1 norm, whose weight against the margin is a dual variable."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.options import POSITIVE, check_options
from robcert.attacks.common.walks import start_of
from robcert.attacks.protocol import Cost, Oracle, Perturbing, Problem
from robcert.math.norms import linf_norm, per_image
from robcert.types import ThreatNorm


@dataclass(frozen=True)
class PDPGDState:
    """The perturbation (n, *shape), the log of the dual variable (n,), the iteration (n,) float32, done (n,) bool."""

    delta: Tensor
    dual: Tensor
    iteration: Tensor
    done: Tensor


@attack("pdpgd")
@dataclass(frozen=True)
class PDPGD(Perturbing):
    r"""Primal-dual proximal gradient descent: the smallest perturbation in l1.

    Matyasko & Chau 2021: :math:`\min_\delta \max_{\lambda \ge 0} \|\delta\|_1 + \lambda\, c(\delta)`.

    The primal step is proximal: a gradient step on :math:`\lambda c` and then the proximal operator of the norm, which
    takes :math:`\alpha` off the size of every entry (soft thresholding) and so keeps the perturbation sparse, then the
    box. The dual step is on :math:`\log \lambda`: up while the answer is right, down while it is wrong.

    What differs: the gradient is divided by its largest entry, so that :math:`\lambda = 1` is where one entry begins to
    pay, whatever the scale of the logits; both step lengths fall along half a cosine, the primal one relative to
    the largest budget.

    Attributes:
        iterations: gradient steps.
        step_size: the primal step at first, relative to the largest budget; at last a hundredth of it.
        dual_step: the change of log lambda at first; at last a twentieth of it.
    """

    iterations: int = 1000
    step_size: float = 0.1
    dual_step: float = 0.2

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l1"})
    paper: ClassVar[str] = "Matyasko & Chau 2021"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=1)

    def __post_init__(self) -> None:
        check_options(self, step_size=POSITIVE, dual_step=POSITIVE)

    def init(self, problem: Problem) -> PDPGDState:
        """Begin at the clean image; a restart begins at a random point of the ball."""
        return PDPGDState(
            delta=start_of(problem),
            dual=torch.full_like(problem.best, math.log(2.0)),
            iteration=torch.zeros_like(problem.best),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: PDPGDState) -> PDPGDState:
        """Take one proximal step and one dual step."""
        low, high = problem.threat.box
        x = (problem.x + state.delta).clamp_(low, high)
        evaluation = oracle.value_and_grad(problem.criterion.margin, x)
        wave = 0.5 * (1 + torch.cos(math.pi * state.iteration / self.iterations))
        # Only entries that can move tell the scale: a large gradient at the edge of the box is of no use.
        room = torch.where(evaluation.gradient > 0, x < high, x > low)
        peak = linf_norm(evaluation.gradient * room)
        scale = torch.where(peak > 0, peak, torch.ones_like(peak))
        alpha = problem.threat.largest * self.step_size * (0.01 + 0.99 * wave)
        pull = alpha * state.dual.exp() / scale
        moved = state.delta + per_image(pull, x) * evaluation.gradient
        delta = moved.sign() * (moved.abs() - per_image(alpha, x)).clamp_min(0)
        delta = (problem.x + delta).clamp_(low, high) - problem.x
        change = self.dual_step * (0.05 + 0.95 * wave)
        dual = state.dual + torch.where(evaluation.value > 0, -change, change)
        return replace(state, delta=delta, dual=dual.clamp(-10.0, 10.0), iteration=state.iteration + 1)
