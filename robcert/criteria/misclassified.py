"""The answer is not the label."""

from __future__ import annotations

from torch import Tensor

from robcert.criteria import criterion


def others_max(logits: Tensor, y: Tensor) -> Tensor:
    """The largest logit of a class other than the label: (n,)."""
    return logits.scatter(1, y.view(-1, 1), float("-inf")).amax(dim=1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    r""":math:`\max_{j \ne y} z_j - z_y`: positive where the image is misclassified (Carlini & Wagner 2017, f6)."""
    return others_max(logits, y) - logits.gather(1, y.view(-1, 1)).squeeze(1)


MISCLASSIFIED = criterion("misclassified")(margin)
"""The answer is not the label: what certificates speak of."""
