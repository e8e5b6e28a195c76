"""The difference of logits ratio (Croce & Hein 2020): a margin that is free of scale and shift."""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.losses import Climb, loss
from robcert.attacks.losses.margin import towards_margin
from robcert.attacks.protocol import Objective
from robcert.criteria.misclassified import margin


def difference_of_logits_ratio(logits: Tensor, y: Tensor) -> Tensor:
    r"""Return :math:`(\max_{j \ne y} z_j - z_y) / (z_{(1)} - z_{(3)})`, z sorted (Croce & Hein 2020, eq. 6).

    It is free of scale. With fewer than three classes there is no third logit, and it is the margin.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(_least(logits))


def towards_ratio(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    r"""Return :math:`(z_t - z_y) / (z_{(1)} - (z_{(3)} + z_{(4)}) / 2)` (Croce & Hein 2020, eq. 7).

    With fewer than four classes it is the margin.
    """
    value = towards_margin(logits, y, target)
    if logits.shape[1] < 4:
        return value
    top = logits.topk(4, dim=1).values
    return value / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(_least(logits))


def _least(logits: Tensor) -> float:
    return 16 * torch.finfo(logits.dtype).tiny


@loss("dlr")
def untargeted_or_towards(climb: Climb) -> Objective:
    """Return `difference_of_logits_ratio`, or `towards_ratio`."""
    target = climb.target
    return difference_of_logits_ratio if target is None else lambda logits, y: towards_ratio(logits, y, target)
