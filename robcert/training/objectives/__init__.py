"""Objectives: what is minimised. One file an objective, each registered by its decorator.

An objective is two classes: the table of its options in a recipe, and what it does in a training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn

from robcert.registry import Registry
from robcert.training.context import TrainingContext
from robcert.training.tables import Table


class Objective(ABC):
    """The loss of a batch, and what is done to the network before, between and after the epochs."""

    def prepare(self, net: nn.Module) -> None:  # noqa: B027
        """Change the network before the first epoch."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what is trained besides the network."""
        return ()

    def begin(self, net: nn.Module, epoch: int) -> None:  # noqa: B027
        """Set what depends on the epoch, counted from 0; called before each, after an interruption too."""

    @abstractmethod
    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of a batch, ().

        Args:
            net: the network, in training mode.
            x: (n, *shape).
            y: (n,) int64.
        """

    def settled(self, epoch: int) -> bool:
        """Return whether the objective is from this epoch on, counted from 0, what it is at the end.

        Weights from before (a budget that still grows, say) are not kept as the best on held-out images.
        """
        del epoch
        return True

    def finish(self, net: nn.Module) -> None:  # noqa: B027
        """Leave plain layers after the last epoch."""


class ObjectiveTable(Table, ABC):
    """The options of an objective: ``[objective]`` in a recipe.

    A table has a field ``name``, the literal under which it is registered.
    """

    @abstractmethod
    def build(self, context: TrainingContext) -> Objective:
        """Return the objective for one training."""

    def fault(self, epochs: int) -> str:
        """Return what makes these options useless in a training of so many epochs; "" for nothing."""
        del epochs
        return ""

    @property
    def nonexpansive(self) -> bool:
        """Return whether every logit of a network trained so is nonexpansive in l2, if its layers allow it."""
        return False


objectives: Registry[type[ObjectiveTable]] = Registry("objective", "robcert.training.objectives")
"""Names in a recipe to tables of options."""

objective = objectives.register
