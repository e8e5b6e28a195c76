"""Adversarial training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from robcert.training.adversary import Adversary
from robcert.training.context import TrainingContext
from robcert.training.objectives import Objective, ObjectiveTable, objective


@objective("adversarial")
class Adversarial(Adversary, ObjectiveTable):
    """Cross-entropy on the adversarial examples of projected gradient descent (Madry et al. 2018, eq. 2.1).

    Attributes:
        label_smoothing: the share of the target that is spread over all classes.
    """

    name: Literal["adversarial"]
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective for one training."""
        return AdversarialObjective(self, context)


class AdversarialObjective(Objective):
    """Cross-entropy on adversarial examples in place of the images.

    Source: A. Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018, eq.
    2.1.
    """

    def __init__(self, table: Adversarial, context: TrainingContext) -> None:
        self.table = table
        self.context = context
        self.eps = table.eps

    def begin(self, net: nn.Module, epoch: int) -> None:
        """Set the budget of this epoch."""
        del net
        self.eps = self.table.budget_of(epoch, self.context.epochs)

    def settled(self, epoch: int) -> bool:
        """Return whether the budget has grown to its value."""
        return self.table.budget_of(epoch, self.context.epochs) == self.table.eps

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy of the perturbed batch, ()."""
        x = self.table.perturbed(net, x, y, self.eps, self.context)
        return functional.cross_entropy(net(x), y, label_smoothing=self.table.label_smoothing)
