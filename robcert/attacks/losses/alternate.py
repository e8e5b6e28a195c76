"""Cross-entropy, then the margin."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.losses import Climb, loss
from robcert.attacks.losses.cross_entropy import cross_entropy, towards_cross_entropy
from robcert.attacks.losses.margin import towards_margin
from robcert.attacks.protocol import Objective


@loss("alternate")
def alternate(climb: Climb) -> Objective:
    """Return cross-entropy, then the margin of the criterion; each gets past maxima in which the other stops.

    Even restarts change from the first to the second in the middle, odd ones climb the margin from the start. Towards a
    target every restart changes in the middle.
    """
    late, target, margin = climb.late, climb.target, climb.criterion.margin
    early = (climb.restart % 2 == 0) & ~late

    def untargeted(logits: Tensor, y: Tensor) -> Tensor:
        return torch.where(early, cross_entropy(logits, y), margin(logits, y))

    if target is None:
        return untargeted
    return lambda logits, y: torch.where(
        late, towards_margin(logits, y, target), towards_cross_entropy(logits, y, target)
    )
