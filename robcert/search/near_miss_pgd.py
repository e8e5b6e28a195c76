"""Projected gradient descent from near misses, the last thing that is tried for an image that is to be decided.

An attack that minimises a distance stops where the network changes its answer, now and then a thousandth outside the
budget. Whether the ball holds an example is another question than how close the closest is, and a better one to climb
from there: the margin is maximised over the ball, beginning at the near miss (projected gradient descent as in Madry
et al. 2018, but with a start that is all but a success).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robcert.criteria import Criterion
from robcert.math.norms import per_image
from robcert.network.batching import multiple_of_eight, padded
from robcert.threats.kind import norm_of
from robcert.types import Threat

_STEPS = 300
_LENGTH = (0.1, 0.001)
"""Of the first and of the last step, relative to the budget."""


@dataclass(frozen=True)
class Climbed:
    """The result of the ascent.

    Attributes:
        x: (n, *shape), points inside the ball.
        steps: forwards and backwards that were taken, each for all n images.
    """

    x: Tensor
    steps: int


def near_miss_pgd(
    module: nn.Module,
    near: Tensor,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    criterion: Criterion,
    rounding: float,
    steps: int,
) -> Climbed:
    """Return the points of largest margin on an ascent from the near misses.

    Args:
        module: the float32 network.
        near: (n, *shape), misclassified points just outside the largest budget of ``threat``.
        x, y: (n, *shape), (n,), the clean images and their labels.
        threat: norm, budget and box.
        criterion: what counts as success; its margin is climbed.
        rounding: a margin counts from this share of the largest logit (`robcert.types.LoadedModel`).
        steps: the budget of the attack; so many are taken, at most 300, and none after all images have fallen.
    """
    norm = norm_of(threat.norm)
    n, steps = len(x), min(steps, _STEPS)
    rows = multiple_of_eight(n, max(n, 8) + 7)
    near, x, y = padded(near, rows), padded(x, rows), padded(y, rows)
    eps = torch.full((rows,), threat.largest, dtype=x.dtype, device=x.device)
    point = x + norm.project_in_box(near - x, x, eps, threat.box)
    best, top = point, torch.full_like(eps, -float("inf"))
    taken = 0
    while taken < steps:
        asked = point.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = module(asked)
            value = criterion.margin(logits, y)
            (gradient,) = torch.autograd.grad(value.sum(), asked)
        taken += 1
        value = value.detach().nan_to_num(-float("inf"), -float("inf"), -float("inf"))
        best = torch.where(per_image(value > top, point), point, best)
        top = torch.maximum(top, value)
        if bool((top > rounding * logits.detach().abs().amax(dim=1)).all()):
            break
        length = eps * _LENGTH[0] * (_LENGTH[1] / _LENGTH[0]) ** (taken / steps)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        delta = point - x + per_image(length, x) * norm.steepest(gradient, point, threat.box)
        point = x + norm.project_in_box(delta, x, eps, threat.box)
    return Climbed(best[:n], taken)
