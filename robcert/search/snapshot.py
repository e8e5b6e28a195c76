"""What a leg leaves behind to be taken up again, and what it has cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robcert.errors import EvaluationError


@dataclass
class Spent:
    """What a leg has cost so far: forwards and backwards in images, wall seconds."""

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """All that a leg needs to go on: tensors by name, and the rest as JSON."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def of_one_leg(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot as a leg takes it: robcert 0.1 kept a part for each GPU that shared the leg.

    Raises:
        EvaluationError: it has several parts.
    """
    if "legs" not in snapshot.meta:
        return snapshot
    first, *others = snapshot.meta["legs"]
    if others:
        raise EvaluationError(
            f"the run was begun by robcert 0.1 on {1 + len(others)} GPUs, and one goes on by itself",
            "Begin it anew: give another directory with --run",
        )
    rest = {name: value for name, value in snapshot.meta.items() if name not in ("legs", "seconds")}
    return Snapshot({name.removeprefix("0/"): tensor for name, tensor in snapshot.tensors.items()}, {**first, **rest})
