"""Cross-entropy at a temperature that every image sets for itself."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.losses import Climb, loss
from robcert.attacks.protocol import Objective

TEMPERATURE = 8.0
"""Distance, in nats, that `cross_entropy` puts between the largest logit and the middle one."""


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    r"""Return cross-entropy at a temperature that every image sets for itself.

    The logits are divided by a constant (no gradient flows through it) such that the largest and the middle
    logit lie `TEMPERATURE` apart. The middle one is used and not the smallest (nor the largest in size, to say what
    is rounding), so that one class far below all others does not flatten the rest. An ordinary trained network has
    about that distance by itself.
    """
    with torch.no_grad():
        ordered = logits.sort(dim=1, descending=True).values
        top, middle = ordered[:, 0], ordered[:, logits.shape[1] // 2]
        spread = top - middle
        tiny = torch.maximum(top.abs(), middle.abs()) * 1e-6 + 16 * torch.finfo(logits.dtype).tiny
        scale = TEMPERATURE / torch.maximum(spread, tiny)
    scaled = (logits - logits.amax(dim=1, keepdim=True).detach()) * scale.view(-1, 1)
    return scaled.logsumexp(dim=1) - scaled.gather(1, y.view(-1, 1)).squeeze(1)


def towards_cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Return minus `cross_entropy` with the target as label."""
    return -cross_entropy(logits, target)


@loss("ce")
def untargeted_or_towards(climb: Climb) -> Objective:
    """Return `cross_entropy` of the label, or minus that of the target."""
    target = climb.target
    return cross_entropy if target is None else lambda logits, y: towards_cross_entropy(logits, y, target)
