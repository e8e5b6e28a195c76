"""What counts as success of an attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


def others_max(logits: Tensor, y: Tensor) -> Tensor:
    """The largest logit of a class other than the label: (n,)."""
    return logits.scatter(1, y.view(-1, 1), float("-inf")).amax(dim=1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    r""":math:`\max_{j \ne y} z_j - z_y`: positive where the image is misclassified (Carlini & Wagner 2017, f6)."""
    return others_max(logits, y) - logits.gather(1, y.view(-1, 1)).squeeze(1)


@dataclass(frozen=True)
class Criterion:
    """What counts as success, one value beside the threat, which says what an adversary may do.

    Attacks that climb a margin climb this one. Objectives of other names, and attacks that aim at single classes (fab,
    superdeepfool, alma), stay what they are: only their success is judged by it.

    Attributes:
        name: as a message calls it.
        margin: maps logits (n, classes) and labels (n,) to (n,), positive where the attack has succeeded. A point
            counts once it is above the rounding of the logits, so the unit is that of a logit; it has a gradient.
    """

    name: str
    margin: Callable[[Tensor, Tensor], Tensor]


MISCLASSIFIED = Criterion("misclassified", margin)
"""The answer is not the label: what certificates speak of."""
