"""Fast adaptive boundary, targeted: towards the linearised boundary, drawn back to the image at each success."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from robcert.attacks import attack
from robcert.attacks.common.options import AT_LEAST_ONE, SHARE, UP_TO_ONE, check_options
from robcert.attacks.common.targets import target_of
from robcert.attacks.common.walks import finite
from robcert.attacks.losses.margin import towards_margin
from robcert.attacks.protocol import Cost, Oracle, Perturbing, Problem
from robcert.math.hyperplane import l1_step_to, l2_step_to, linf_step_to
from robcert.math.norms import per_image
from robcert.types import ThreatNorm

_STEP_TO = {"l2": l2_step_to, "linf": linf_step_to, "l1": l1_step_to}


@dataclass(frozen=True)
class FABState:
    """The point (n, *shape), as a perturbation, the iteration (n,) float32, and done (n,) bool."""

    delta: Tensor
    iteration: Tensor
    done: Tensor


@attack("fab")
@dataclass(frozen=True)
class FAB(Perturbing):
    r"""Fast adaptive boundary: the smallest perturbation by steps to linearised boundaries.

    Croce & Hein 2020, "Minimally distorted adversarial examples", algorithm 1, with the targets of AutoAttack.

    At x the boundary to the target t is the hyperplane :math:`m(x) + \langle w, z - x\rangle = 0` with
    :math:`m = z_t - z_y`. With :math:`d` the projections (inside the box) of x and :math:`d_0` of the image onto it,

    .. math:: x' = (1 - \alpha)(x + \eta d) + \alpha (x_0 + \eta d_0), \quad
              \alpha = \min(\|d\| / (\|d\| + \|d_0\|), \alpha_{max}),

    and where x' is misclassified the next point is :math:`(1 - \beta) x_0 + \beta x'`. Restart r aims at the r-th most
    likely wrong class; after all classes it begins at a random point, half as far as the closest example.

    What differs: the paper's last search on the line to the image is the engine's, for every attack.

    Attributes:
        iterations: steps.
        alpha_max: the most that the image counts.
        eta: overshoot.
        beta: how much of a misclassified perturbation is kept.
    """

    iterations: int = 100
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    norms: ClassVar[Set[ThreatNorm]] = frozenset(_STEP_TO)
    paper: ClassVar[str] = "Croce & Hein 2020 (FAB)"
    cost: ClassVar[Cost] = Cost(forwards=2, backwards=1)
    targeted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self, alpha_max=SHARE, eta=AT_LEAST_ONE, beta=UP_TO_ONE)

    def init(self, problem: Problem) -> FABState:
        """Begin at the clean image for the first try at every class, then at random points."""
        unit = problem.norm.sample(problem.rng, problem.shape)
        largest = torch.full_like(problem.best, problem.threat.largest)
        eps = (
            0.5
            * torch.minimum(largest, problem.best.clamp_min(0))
            * (problem.restart >= problem.target_classes.shape[1])
        )
        length = problem.norm.norm(unit).clamp_min(1e-12)
        start = problem.project(unit * per_image(eps / length, unit), eps)
        return FABState(
            delta=start,
            iteration=torch.zeros_like(problem.best),
            done=torch.zeros_like(problem.y, dtype=torch.bool),
        )

    def step(self, oracle: Oracle, problem: Problem, state: FABState) -> FABState:
        """Linearise, step, and draw back where the step succeeded."""
        threat = problem.threat
        low, high = threat.box
        x = (problem.x + state.delta).clamp_(low, high)
        evaluation = oracle.value_and_grad(partial(towards_margin, target=target_of(problem)), x)
        gap, normal = evaluation.value, evaluation.gradient
        here = (normal * (x - problem.x)).flatten(1).sum(dim=1)
        step_to = _STEP_TO[threat.norm]
        closer, straight = step_to(x, normal, -gap, threat.box), step_to(problem.x, normal, here - gap, threat.box)
        near, far = problem.norm.norm(closer), problem.norm.norm(straight)
        alpha = (near / (near + far).clamp_min(torch.finfo(near.dtype).tiny)).clamp_max(self.alpha_max)
        alpha = per_image(alpha, x)
        moved = (1 - alpha) * (state.delta + self.eta * closer) + alpha * self.eta * straight
        after = (problem.x + finite(moved)).clamp_(low, high)
        fooled = problem.criterion.margin(oracle.logits(after), problem.y) > 0
        delta = after - problem.x
        delta = torch.where(per_image(fooled, x), self.beta * delta, delta)
        return replace(state, delta=delta, iteration=state.iteration + 1)


@attack("fab-original")
@dataclass(frozen=True)
class FABOriginal(FAB):
    """`FAB` with the budget of AutoAttack and no more: what it leaves just outside the budget stays there.

    It breaks fewer images than ``fab`` and is here for the plan that is named after AutoAttack, so that its figures
    are those of published tables.
    """

    paper: ClassVar[str] = "Croce & Hein 2020 (FAB, as in AutoAttack)"
    climb_near_misses: ClassVar[bool] = False
