"""Cross-entropy of the logits as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.losses import Climb, loss
from robcert.attacks.protocol import Objective


def plain_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return cross-entropy of the logits as they are: what most libraries climb, and what large logits defeat.

    Where the largest logit is about 100 above the others its gradient is exactly zero in float32. It is here to
    reproduce what others measured (``robcert reproduce l2nnn-resnet-table``), not to attack with.
    """
    return torch.nn.functional.cross_entropy(logits, y, reduction="none")


@loss("ce-plain")
def untargeted_or_towards(climb: Climb) -> Objective:
    """Return `plain_cross_entropy` of the label, or minus that of the target."""
    target = climb.target
    return plain_cross_entropy if target is None else lambda logits, y: -plain_cross_entropy(logits, target)
