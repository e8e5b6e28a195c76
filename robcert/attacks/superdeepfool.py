"""SuperDeepFool: DeepFool's step to the boundary, then a turn until the perturbation stands on it at a right angle."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.options import AT_LEAST_ZERO, COUNT, check_options
from robcert.attacks.common.walks import finite, start_of
from robcert.attacks.protocol import Cost, Jacobian, Oracle, Perturbing, Problem, steps_between_synchronisations
from robcert.math.hyperplane import l2_step_to
from robcert.math.norms import l2_norm, per_image
from robcert.types import ThreatNorm


@dataclass(frozen=True)
class SuperDeepFoolState:
    """The perturbation (n, *shape), the iteration (n,) float32, and done (n,) bool."""

    delta: Tensor
    iteration: Tensor
    done: Tensor


@attack("superdeepfool")
@dataclass(frozen=True)
class SuperDeepFool(Perturbing):
    r"""SuperDeepFool: the smallest perturbation in l2 by steps to linearised boundaries.

    Abdollahpour, Moosavi-Dezfooli & Frossard 2024: SDF, algorithm 2; DeepFool: Moosavi-Dezfooli et al. 2016.

    DeepFool's step goes from x to the nearest of the hyperplanes :math:`m_j(x) + \langle w_j, \delta\rangle = 0`,
    :math:`m_j = z_j - z_y` and :math:`w_j` its gradient, until the point is misclassified. Where it is, SDF projects
    the perturbation onto the normal of the boundary there, which is what the least perturbation is parallel to:
    :math:`\delta \leftarrow \langle\delta, w\rangle w / \|w\|^2`.

    What differs from the paper: the projection and the next step to the boundary are one, since both use the gradient
    at the same point: from the image to the hyperplane that touches the boundary there, which is
    :math:`(\langle\delta, w\rangle - m) w / \|w\|^2`; it stays inside the box (the nearest such point, exactly); steps
    shorten over the iterations, so that where both would go round in circles they settle; and it goes on after the
    first misclassified point, where the paper stops.

    Attributes:
        iterations: steps.
        classes: the most likely wrong classes that are considered, each at one backward.
        overshoot: by how much steps are longer, relative to their length, so that they end beyond the boundary.
    """

    iterations: int = 50
    classes: int = 9
    overshoot: float = 0.002

    norms: ClassVar[Set[ThreatNorm]] = frozenset({"l2"})
    paper: ClassVar[str] = "Abdollahpour et al. 2024; Moosavi-Dezfooli et al. 2016"
    cost: ClassVar[Cost] = Cost(forwards=1, backwards=10)
    targeted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self, classes=COUNT, overshoot=AT_LEAST_ZERO)

    @property
    def period(self) -> int:
        """At most five steps between two synchronisations: a few are often enough."""
        return steps_between_synchronisations(self.iterations, 5)

    def init(self, problem: Problem) -> SuperDeepFoolState:
        """Begin at the clean image; a restart begins at a random point of half the ball."""
        return SuperDeepFoolState(
            delta=start_of(problem, 0.5),
            iteration=torch.zeros_like(problem.best),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: SuperDeepFoolState) -> SuperDeepFoolState:
        """Step to the nearest boundary, or where the point is beyond one, to the foot of its normal."""
        low, high = problem.threat.box
        x = (problem.x + state.delta).clamp_(low, high)
        rows = torch.cat([problem.y.view(-1, 1), problem.target_classes[:, : self.classes]], dim=1)
        found = oracle.gradients(rows, x)
        gap, normal = nearest_face(found, rows)
        beyond = gap > 0
        here = (normal * state.delta).flatten(1).sum(dim=1)
        straight = l2_step_to(problem.x, normal, here - gap, problem.threat.box)
        closer = state.delta + l2_step_to(x, normal, -gap, problem.threat.box)
        settle = per_image(0.2 + 0.8 * (1 - state.iteration / self.iterations), x)
        turned = state.delta + settle * (straight - state.delta)
        delta = torch.where(per_image(beyond, x), turned, closer) * (1 + self.overshoot)
        delta = (problem.x + finite(delta)).clamp_(low, high) - problem.x
        return replace(state, delta=delta, iteration=state.iteration + 1)


def nearest_face(found: Jacobian, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest boundary to the classes of ``rows`` (the label first); beyond one, that of the answer.

    Returns:
        The margin (n,) of that class over the label, and its gradient (n, *shape).
    """
    logits = found.logits.gather(1, rows)
    gaps = logits[:, 1:] - logits[:, :1]
    normals = found.gradients[:, 1:] - found.gradients[:, :1]
    lengths = l2_norm(normals.flatten(0, 1)).view(gaps.shape)
    tiny = torch.finfo(lengths.dtype).tiny
    away = torch.where(lengths > 0, gaps.abs() / lengths.clamp_min(tiny), torch.full_like(gaps, float("inf")))
    beyond = gaps > 0
    # The answer is the class with the largest gap; among those not reached, the nearest.
    key = torch.where(beyond.any(dim=1, keepdim=True), -gaps, away)
    chosen = key.argmin(dim=1, keepdim=True)
    at = chosen.view(-1, 1, *([1] * (normals.dim() - 2))).expand(-1, 1, *normals.shape[2:])
    return gaps.gather(1, chosen).squeeze(1), normals.gather(1, at).squeeze(1)
