r"""The certified radius itself, of networks whose logits have a known slope.

With :math:`r_j = (z_y - z_j) / s` the radius within which class j cannot win, s a bound of the slope of differences of
logits, and :math:`r = \min_j r_j`, the loss of an image is

.. math:: w T \log\bigl(1 + \sum_{j \ne y} e^{(o - r_j) / T}\bigr) + \sigma\bigl((c - r) / d\bigr).

The first term is the cross-entropy with an offset at a temperature (B. Prach, C. Lampert, Almost-orthogonal layers for
efficient general-purpose Lipschitz networks, 2022, section 5.2), the second a smooth form of the certified accuracy at
the radius c.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robcert.training.context import TrainingContext
from robcert.training.objectives import Objective, ObjectiveTable, objective


@objective("certified_margin")
class CertifiedMargin(ObjectiveTable):
    """Radii of the network, as its slope gives them.

    Attributes:
        slope: bound of the slope of the difference of two logits in l2; of two orthonormal rows, the root of 2.
        offset: the radius o that the first term asks for.
        temperature: T, in units of a radius.
        weight: w of the first term.
        radius: c, about which the second term is steepest; 0 leaves the term out.
        width: d, in units of a radius.
    """

    name: Literal["certified_margin"] = "certified_margin"
    slope: float = Field(default=math.sqrt(2), gt=0)
    offset: float = Field(default=1.8, ge=0)
    temperature: float = Field(default=0.3, gt=0)
    weight: float = Field(default=0.8, ge=0)
    radius: float = Field(default=1.7, ge=0)
    width: float = Field(default=0.25, gt=0)

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective for one training."""
        del context
        return CertifiedMarginObjective(self)


class CertifiedMarginObjective(Objective):
    """The loss of `CertifiedMargin`."""

    def __init__(self, table: CertifiedMargin) -> None:
        self.table = table

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of the batch, ()."""
        table, logits = self.table, net(x)
        radii = (logits.gather(1, y.view(-1, 1)) - logits) / table.slope
        wanted = ((table.offset - radii) / table.temperature).scatter(1, y.view(-1, 1), 0.0)  # exp(0): the 1
        loss = table.weight * table.temperature * wanted.logsumexp(dim=1)
        if table.radius:
            least = radii.scatter(1, y.view(-1, 1), float("inf")).amin(dim=1)
            loss = loss + torch.sigmoid((table.radius - least) / table.width)
        return loss.mean()
