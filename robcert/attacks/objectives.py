r"""What a gradient attack climbs. Every objective is per image, and scale-free where scale is not information.

A network whose logits are multiplied by 1e6 (or 1e-6) answers the same, so an attack on it must do the same.
Gradients that are normalised afterwards are scale-free by themselves, but the weights that a cross-entropy puts
on the classes are not: with large logits they underflow to an exact zero, which looks like robustness.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.protocol import Objective
from robcert.errors import UsageError, did_you_mean

TEMPERATURE = 8.0
"""Distance, in nats, that `cross_entropy` puts between the largest logit and the middle one."""


def others_max(logits: Tensor, y: Tensor) -> Tensor:
    """The largest logit of a class other than the label: (n,)."""
    return logits.scatter(1, y.view(-1, 1), float("-inf")).amax(dim=1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    r""":math:`\max_{j \ne y} z_j - z_y`: positive where the image is misclassified (Carlini & Wagner 2017, f6)."""
    return others_max(logits, y) - logits.gather(1, y.view(-1, 1)).squeeze(1)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    r"""Cross-entropy at a temperature that every image sets for itself.

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


OBJECTIVES = {"ce": cross_entropy, "margin": margin}


def alternate(restart: Tensor, late: Tensor) -> Objective:
    """Cross-entropy, then the margin; each gets past maxima in which the other stops.

    Even restarts change from the first to the second in the middle, odd ones climb the margin from the start.

    Args:
        restart: (n,) int64, the restart of each image.
        late: (n,) bool, whether an image is in the second half of its iterations.
    """
    early = (restart % 2 == 0) & ~late

    def objective(logits: Tensor, y: Tensor) -> Tensor:
        return torch.where(early, cross_entropy(logits, y), margin(logits, y))

    return objective


def choose(name: str, restart: Tensor, late: Tensor) -> Objective:
    """The objective of that name; see `alternate` for the other arguments."""
    return alternate(restart, late) if name == "alternate" else OBJECTIVES[name]


def check_objective(name: str) -> None:
    """Refuse a name that `choose` does not know."""
    known = ["alternate", *OBJECTIVES]
    if name not in known:
        raise UsageError(f"unknown objective {name!r}", did_you_mean(name, known))
