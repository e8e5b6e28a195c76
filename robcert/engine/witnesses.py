"""The closest verified adversarial example of every image of a run: what the adversary has to show."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robcert.engine.verifier import Verified


@dataclass(frozen=True)
class Found:
    """How an adversarial example was found: attack, its iterations, at which evaluation, in which restart."""

    attack: str
    iterations: int
    iteration: int
    restart: int
    label: int


class Witnesses:
    """One slot an image, by position in the run.

    Attributes:
        distance: (n,) float64, of the closest verified example; inf where there is none.
        found: how it was found, or None.
        changed: positions that improved since `settle` was last called.
    """

    def __init__(self, x: Tensor) -> None:
        self.x: dict[int, Tensor] = {}
        self.distance = torch.full((x.shape[0],), float("inf"), dtype=torch.float64)
        self.found: list[Found | None] = [None] * x.shape[0]
        self.changed: set[int] = set()

    def offer(self, position: int, row: int, verified: Verified, found: Found) -> bool:
        """Keep the example in the given row if it is accepted and closer than what is known."""
        distance = float(verified.distance[row])
        if not bool(verified.accepted[row]) or distance >= float(self.distance[position]):
            return False
        self.put(position, verified.x[row].detach().cpu().clone(), distance, found)
        self.changed.add(position)
        return True

    def put(self, position: int, x: Tensor, distance: float, found: Found) -> None:
        """Set an example that was verified before (a run that goes on)."""
        self.x[position] = x
        self.distance[position] = distance
        self.found[position] = found

    def settle(self) -> list[int]:
        """The positions that improved since the last call, ascending."""
        changed = sorted(self.changed)
        self.changed.clear()
        return changed
