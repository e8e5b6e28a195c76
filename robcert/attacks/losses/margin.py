"""The margin of the criterion, or of a target over the label."""

from __future__ import annotations

from torch import Tensor

from robcert.attacks.common.targets import pick
from robcert.attacks.losses import Climb, loss
from robcert.attacks.protocol import Objective


def towards_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return :math:`z_t - z_y`: positive only where the image is misclassified."""
    return pick(logits, target) - pick(logits, y)


@loss("margin")
def untargeted_or_towards(climb: Climb) -> Objective:
    """Return the margin of the criterion, or `towards_margin`."""
    target = climb.target
    return climb.criterion.margin if target is None else lambda logits, y: towards_margin(logits, y, target)
