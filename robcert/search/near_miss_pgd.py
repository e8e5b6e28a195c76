"""Projected gradient descent from near misses, the last thing that is tried for an image that is to be decided.

An attack that minimises a distance stops where the network changes its answer, now and then a thousandth outside the
budget. Whether the ball holds an example is another question than how close the closest is, and a better one to climb
from there: the margin is maximised over the ball, beginning at the near miss (projected gradient descent as in Madry
et al. 2018, but with a start that is all but a success).
"""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.math.norms import per_image
from robcert.network.batching import multiple_of_eight, padded
from robcert.search.verifier import Verified, Verifier
from robcert.threats.kind import norm_of

_STEPS = 300
_LENGTH = (0.1, 0.001)
"""Of the first and of the last step, relative to the budget."""


def near_miss_pgd(verifier: Verifier, near: Tensor, x: Tensor, y: Tensor, steps: int) -> tuple[Verified, int]:
    """Climb the margin in the ball, from near misses.

    Args:
        verifier: of the network, the threat, whose largest budget is the radius, and the criterion.
        near: (n, *shape), misclassified points just outside the ball.
        x, y: (n, *shape), (n,), the clean images and their labels.
        steps: the budget of the attack; so many are taken, at most 300, and none after all images have fallen.

    Returns:
        The verdicts on the points of largest margin, and the number of steps: forwards and backwards of all n images.
    """
    model, threat, criterion = verifier.model, verifier.threat, verifier.criterion
    norm = norm_of(threat.norm)
    n, steps, clean, labels = len(x), min(steps, _STEPS), x, y
    rows = multiple_of_eight(n, max(n, 8) + 7)
    near, x, y = padded(near, rows), padded(x, rows), padded(y, rows)
    eps = torch.full((rows,), threat.largest, dtype=x.dtype, device=x.device)
    point = x + norm.project_in_box(near - x, x, eps, threat.box)
    best, top = point, torch.full_like(eps, -float("inf"))
    taken = 0
    while taken < steps:
        asked = point.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = model.module(asked)
            value = criterion.margin(logits, y)
            (gradient,) = torch.autograd.grad(value.sum(), asked)
        taken += 1
        value = value.detach().nan_to_num(-float("inf"), -float("inf"), -float("inf"))
        best = torch.where(per_image(value > top, point), point, best)
        top = torch.maximum(top, value)
        if bool((top > model.rounding * logits.detach().abs().amax(dim=1)).all()):
            break
        length = eps * _LENGTH[0] * (_LENGTH[1] / _LENGTH[0]) ** (taken / steps)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        delta = point - x + per_image(length, x) * norm.steepest(gradient, point, threat.box)
        point = x + norm.project_in_box(delta, x, eps, threat.box)
    return verifier(best[:n], clean, labels), taken
