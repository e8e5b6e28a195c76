"""Regularisers: what is done to the weights besides the loss. One file each, registered by its decorator.

A regulariser goes with any objective, and a recipe may have several: ``[[regularisers]]``, in the order in which
they act. It is two classes: the table of its options, and what it does in a training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from robcert.registry import Registry
from robcert.training.context import TrainingContext
from robcert.training.tables import Table


class Regulariser(ABC):  # noqa: B024
    """Changes of a network in the steps of a training; a regulariser has those methods that it needs."""

    def prepare(self, net: nn.Module, context: TrainingContext) -> None:  # noqa: B027
        """Before the first epoch, after the objective has prepared the network: parametrise, learn sizes.

        Called after an interruption too, before `restore`.
        """

    def before(self, net: nn.Module) -> None:  # noqa: B027
        """Before the loss of a batch."""

    def gradients(self, net: nn.Module) -> None:  # noqa: B027
        """Between backward and the step of the optimiser: add to ``.grad``, which is None where nothing flowed."""

    def after(self, net: nn.Module, step: int) -> None:  # noqa: B027
        """After a step, counted from 1 over the whole training; called without gradients."""

    def state(self) -> dict[str, Any]:
        """Return what changes in training and is not in the network: tensors and plain values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`, bit for bit; its tensors are on the CPU."""
        del state

    def finish(self, net: nn.Module) -> None:  # noqa: B027
        """After the last epoch, before the objective finishes: leave plain layers."""


class RegulariserTable(Table, ABC):
    """The options of a regulariser: one of ``[[regularisers]]`` in a recipe.

    A table has a field ``name``, the literal under which it is registered.
    """

    @abstractmethod
    def build(self) -> Regulariser:
        """Return the regulariser for one training."""


regularisers: Registry[type[RegulariserTable]] = Registry("regulariser", "robcert.training.regularisers")
"""Names in a recipe to tables of options."""

regulariser = regularisers.register
