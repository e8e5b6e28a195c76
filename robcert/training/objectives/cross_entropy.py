"""Ordinary training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from robcert.training.context import TrainingContext
from robcert.training.objectives import Objective, ObjectiveTable, objective


@objective("cross_entropy")
class CrossEntropy(ObjectiveTable):
    """Cross-entropy.

    Attributes:
        label_smoothing: the share of the target that is spread over all classes.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective for one training."""
        del context
        return CrossEntropyObjective(self)


class CrossEntropyObjective(Objective):
    """Cross-entropy with label smoothing."""

    def __init__(self, table: CrossEntropy) -> None:
        self.table = table

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean cross-entropy of the batch, ()."""
        return functional.cross_entropy(net(x), y, label_smoothing=self.table.label_smoothing)
