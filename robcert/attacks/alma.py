"""ALMA: an augmented Lagrangian in the place of the search over a trade-off constant."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.options import POSITIVE, check_options
from robcert.attacks.common.walks import start_of
from robcert.attacks.losses.logit_difference_ratio import difference_of_logits_ratio
from robcert.attacks.protocol import Cost, Oracle, Perturbing, Problem
from robcert.math.norms import l2_norm, per_image
from robcert.types import ThreatNorm

_SMOOTH = 0.9
"""How much of the old multiplier is kept."""
_WINDOW, _GROWTH, _PROGRESS = 10, 1.2, 0.95
"""Every so many steps rho grows by this factor where the constraint is not below this share of what it was."""
_FORGET, _MOMENTUM = 0.99, 0.9
_MULTIPLIERS = (1e-6, 1e6)


@dataclass(frozen=True)
class ALMAState:
    """The perturbation, the multiplier and the running scale of the gradient.

    Attributes:
        delta, speed: (n, *shape), the perturbation and the momentum.
        square: (n,), the running mean of the squared norm of the gradient.
        spread: (n,), with two classes: how far the logits have been apart, at most.
        multiplier, penalty: (n,), mu and rho.
        mark: (n,), the constraint at the last update of rho; ``hit``: (n,) bool, misclassified since.
        iteration: (n,) float32.
        done: (n,) bool.
    """

    delta: Tensor
    speed: Tensor
    square: Tensor
    spread: Tensor
    multiplier: Tensor
    penalty: Tensor
    mark: Tensor
    hit: Tensor
    iteration: Tensor
    done: Tensor


@attack("alma")
@dataclass(frozen=True)
class ALMA(Perturbing):
    r"""Augmented Lagrangian attack: the smallest perturbation in l2.

    Rony, Granger, Pedersoli & Ben Ayed 2021: min D subject to c < 0, algorithm 1.

    c is the ratio of logit differences with the label's logit in front (positive while the answer is right). Each
    step descends on :math:`D(\delta) + P(c, \rho, \mu)` with the penalty-Lagrangian function

    .. math:: P(y, \rho, \mu) = \mu y + \mu \rho y^2 + \rho^2 y^3 / 6 \;(y \ge 0), \qquad \mu y / (1 - \rho y) \;(y <
    0),

    the multiplier follows :math:`\mu \leftarrow 0.9 \mu + 0.1\, \partial P / \partial y`, and rho grows by 1.2 every
    ten steps without progress. The step is divided by the running root mean square of the gradient's norm and falls
    geometrically to a hundredth.

    What differs: D and the step are relative to the largest budget, so that the unit of the data does not matter; and
    with two classes, where there is no third logit to divide by, the margin is relative to the largest that this walk
    has seen.

    Attributes:
        iterations: gradient steps.
        step_size: the first step, relative to the largest budget.
    """

    iterations: int = 1000
    step_size: float = 0.1

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2"})
    paper: ClassVar[str] = "Rony et al. 2021 (ALMA)"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=1)

    def __post_init__(self) -> None:
        check_options(self, step_size=POSITIVE)

    def init(self, problem: Problem) -> ALMAState:
        """Begin at the clean image; a restart begins at a random point of the ball."""
        start = start_of(problem)
        zeros = torch.zeros_like(problem.best)
        return ALMAState(
            delta=start,
            speed=torch.zeros_like(start),
            square=zeros,
            spread=zeros.clone(),
            multiplier=torch.ones_like(zeros),
            penalty=torch.ones_like(zeros),
            mark=torch.full_like(zeros, float("inf")),
            hit=torch.zeros_like(problem.y, dtype=torch.bool),
            iteration=zeros.clone(),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: ALMAState) -> ALMAState:
        """Update multiplier and penalty, then descend on the Lagrangian."""
        low, high = problem.threat.box
        scale = problem.threat.largest
        evaluation = oracle.value_and_grad(difference_of_logits_ratio, (problem.x + state.delta).clamp_(low, high))
        value, slope, spread = evaluation.value, evaluation.gradient, state.spread
        if evaluation.logits.shape[1] < 3:
            value, slope, spread = relative(value, slope, spread)
        constraint = (-value).nan_to_num(1.0)  # an answer that is not finite counts as right
        iteration = state.iteration + 1
        hit = state.hit | (constraint < 0)
        looking = iteration % _WINDOW == 0
        slow = looking & ~hit & (constraint > _PROGRESS * state.mark)
        penalty = torch.where(slow, _GROWTH * state.penalty, state.penalty)
        learned = penalty_slope(constraint, penalty, state.multiplier)
        multiplier = (_SMOOTH * state.multiplier + (1 - _SMOOTH) * learned).clamp(*_MULTIPLIERS)
        pull = penalty_slope(constraint, penalty, multiplier)
        size = l2_norm(state.delta).clamp_min(1e-12 * scale)
        # In units of the budget: d (|delta| / scale) / d (delta / scale), and the same for the constraint.
        gradient = state.delta / per_image(size, state.delta)
        gradient = gradient - per_image(pull * scale, gradient) * slope
        square = _FORGET * state.square + (1 - _FORGET) * gradient.flatten(1).square().sum(dim=1)
        root = (square / (1 - _FORGET**iteration)).sqrt().clamp_min(1e-12)
        speed = _MOMENTUM * state.speed + (1 - _MOMENTUM) * gradient / per_image(root, gradient)
        length = scale * self.step_size * 0.01 ** (state.iteration / self.iterations)
        size = length / (1 - _MOMENTUM**iteration)
        delta = state.delta - per_image(size, speed) * speed
        delta = (problem.x + delta).clamp_(low, high) - problem.x
        return replace(
            state,
            delta=delta,
            speed=speed,
            square=square,
            spread=spread,
            multiplier=multiplier,
            penalty=penalty,
            mark=torch.where(looking, constraint, state.mark),
            hit=hit & ~looking,
            iteration=iteration,
        )


def relative(value: Tensor, slope: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a margin (n,) and its gradient (n, *shape) over the largest margin so far (n,), which comes with it."""
    spread = torch.fmax(spread, value.abs().where(value.isfinite(), 0))
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    return value / safe, slope / per_image(safe, slope), spread


def penalty_slope(y: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    r"""Return :math:`\partial P / \partial y`.

    It is :math:`\mu + 2\mu\rho y + \rho^2 y^2 / 2`, and :math:`\mu / (1 - \rho y)^2`.
    """
    above = y.clamp_min(0)
    below = y.clamp_max(0)
    return torch.where(y >= 0, mu + 2 * mu * rho * above + 0.5 * (rho * above) ** 2, mu / (1 - rho * below) ** 2)
