r"""What a gradient attack climbs. Every objective is per image, and scale-free where scale is not information.

A network whose logits are multiplied by 1e6 (or 1e-6) answers the same, so an attack on it must do the same.
Gradients that are normalised afterwards are scale-free by themselves, but the weights that a cross-entropy puts
on the classes are not: with large logits they underflow to an exact zero, which looks like robustness.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robcert.attacks.common.targets import pick
from robcert.attacks.protocol import Objective
from robcert.criteria import Criterion
from robcert.criteria.misclassified import MISCLASSIFIED, margin
from robcert.errors import UsageError, did_you_mean

TEMPERATURE = 8.0
"""Distance, in nats, that `cross_entropy` puts between the largest logit and the middle one."""


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


def difference_of_logits_ratio(logits: Tensor, y: Tensor) -> Tensor:
    r""":math:`(\max_{j \ne y} z_j - z_y) / (z_{(1)} - z_{(3)})`, z sorted (Croce & Hein 2020, eq. 6): free of scale.

    With fewer than three classes there is no third logit, and it is the margin.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(_least(logits))


def towards_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """:math:`z_t - z_y`: positive only where the image is misclassified."""
    return pick(logits, target) - pick(logits, y)


def towards_cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Minus `cross_entropy` with the target as label."""
    return -cross_entropy(logits, target)


def towards_ratio(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    r""":math:`(z_t - z_y) / (z_{(1)} - (z_{(3)} + z_{(4)}) / 2)` (Croce & Hein 2020, eq. 7); margin below 4 classes."""
    value = towards_margin(logits, y, target)
    if logits.shape[1] < 4:
        return value
    top = logits.topk(4, dim=1).values
    return value / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(_least(logits))


def _least(logits: Tensor) -> float:
    return 16 * torch.finfo(logits.dtype).tiny


def plain_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the logits as they are: what most libraries climb, and what large logits defeat.

    Where the largest logit is about 100 above the others its gradient is exactly zero in float32. It is here to
    reproduce what others measured (``robcert reproduce l2nnn-resnet-table``), not to attack with.
    """
    return torch.nn.functional.cross_entropy(logits, y, reduction="none")


def towards_plain_cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Minus `plain_cross_entropy` with the target as label."""
    return -plain_cross_entropy(logits, target)


OBJECTIVES = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": difference_of_logits_ratio,
    "ce-plain": plain_cross_entropy,
}
TARGETED = {
    "ce": towards_cross_entropy,
    "margin": towards_margin,
    "dlr": towards_ratio,
    "ce-plain": towards_plain_cross_entropy,
}


def alternate(restart: Tensor, late: Tensor, margin: Objective = margin) -> Objective:
    """Cross-entropy, then the margin; each gets past maxima in which the other stops.

    Even restarts change from the first to the second in the middle, odd ones climb the margin from the start.

    Args:
        restart: (n,) int64, the restart of each image.
        late: (n,) bool, whether an image is in the second half of its iterations.
        margin: of the criterion.
    """
    early = (restart % 2 == 0) & ~late

    def objective(logits: Tensor, y: Tensor) -> Tensor:
        return torch.where(early, cross_entropy(logits, y), margin(logits, y))

    return objective


def choose(
    name: str, restart: Tensor, late: Tensor, target: Tensor | None = None, criterion: Criterion = MISCLASSIFIED
) -> Objective:
    """The objective of that name, untargeted or towards ``target`` (n,); see `alternate` for the other arguments."""
    if target is None:
        if name == "alternate":
            return alternate(restart, late, criterion.margin)
        return criterion.margin if name == "margin" else OBJECTIVES[name]
    if name == "alternate":
        return lambda logits, y: torch.where(
            late, towards_margin(logits, y, target), towards_cross_entropy(logits, y, target)
        )
    return lambda logits, y: TARGETED[name](logits, y, target)


def check_objective(name: str) -> None:
    """Refuse a name that `choose` does not know."""
    known = ["alternate", *OBJECTIVES]
    if name not in known:
        raise UsageError(f"unknown objective {name!r}", did_you_mean(name, known))
