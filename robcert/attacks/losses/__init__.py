"""Losses that attacks climb, one file a loss; ``objective`` of an attack names one.

Every loss is per image, and scale-free where scale is not information. A network whose logits are multiplied by 1e6 (or
1e-6) answers the same, so an attack on it must do the same. Gradients that are normalised afterwards are scale-free by
themselves, but the weights that a cross-entropy puts on the classes are not: with large logits they underflow to an
exact zero, which looks like robustness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from robcert.attacks.common.targets import target_of
from robcert.attacks.protocol import Objective, Problem
from robcert.criteria import Criterion
from robcert.registry import Registry


@dataclass(frozen=True)
class Climb:
    """The progress and the aim of each of n searches, for a loss that depends on them.

    Attributes:
        restart: (n,) int64, the restart of each image.
        late: (n,) bool, whether an image is in the second half of its iterations.
        target: (n,) int64, the class that each image is to be answered with; None: any that is a success.
        criterion: what counts as success.
    """

    restart: Tensor
    late: Tensor
    target: Tensor | None
    criterion: Criterion


Loss = Callable[[Climb], Objective]
"""Maps where the searches are to what they climb: a function of logits (n, classes) and labels (n,) to (n,)."""

losses: Registry[Loss] = Registry("objective", "robcert.attacks.losses")

loss = losses.register


def objective_of(name: str, problem: Problem, late: Tensor, targeted: bool = False) -> Objective:
    """Return what the slots of a problem climb with the loss of that name.

    Args:
        name: of a registered loss.
        problem: the images in the slots.
        late: see `Climb`.
        targeted: whether each restart aims at one class.
    """
    target = target_of(problem) if targeted else None
    return losses.get(name)(Climb(problem.restart, late, target, problem.criterion))
