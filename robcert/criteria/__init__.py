"""What counts as success of an attack, one file a criterion; the decorator registers it by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from robcert.registry import Registry

Margin = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Criterion:
    """A notion of success, one value beside the threat, which says what an adversary may do.

    Attacks that climb a margin climb this one. Objectives of other names, and attacks that aim at single classes (fab,
    superdeepfool, alma), stay what they are: only their success is judged by it.

    Attributes:
        name: as a message and the specification of a run call it.
        margin: maps logits (n, classes) and labels (n,) to (n,), positive where the attack has succeeded. A point
            counts once it is above the rounding of the logits, so the unit is that of a logit; it has a gradient.
    """

    name: str
    margin: Margin


criteria: Registry[Criterion] = Registry("criterion", "robcert.criteria")


def criterion(name: str) -> Callable[[Margin], Criterion]:
    """Return the decorator that makes a margin the registered criterion of that name."""
    return lambda margin: criteria.register(name)(Criterion(name, margin))
