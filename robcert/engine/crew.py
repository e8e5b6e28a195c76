"""One leg by several workers: each has a share of the images, with slots, a state and a device of its own.

All GPUs are asked before any is waited for, so that they compute beside one another. Workers meet at every look. There
work is shared out anew, so that nobody waits for the others for long; an image is always with one worker only, so what
is found does not depend on how many there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from robcert.attacks.protocol import Attack
from robcert.engine.batching import SMALLEST
from robcert.engine.leg import Leg
from robcert.engine.rows import put_rows, rows_of
from robcert.engine.slots import IDLE
from robcert.engine.snapshot import Snapshot, Spent
from robcert.engine.steps import Steps


class Crew:
    """The workers of one leg.

    Args:
        leg: makes the leg of one worker, given its number, its entrants and its snapshot or None.
        entrants: positions of all images to attack.
        restarts: how often each is attacked.
        workers: how many there are.
        snapshot: where to go on, or None; its legs go on, and more workers take over part of their work.
    """

    def __init__(
        self,
        leg: Callable[[int, list[int], Snapshot | None], Leg],
        entrants: list[int],
        restarts: int,
        workers: int,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.seconds = 0.0
        count = max(1, min(workers, -(-len(entrants) * restarts // SMALLEST)))
        if snapshot is None:
            self.legs = [leg(k, entrants[k::count], None) for k in range(count)]
            return
        parts = _apart(snapshot)
        self.seconds = float(snapshot.meta.get("seconds", sum(part.meta["spent"]["seconds"] for part in parts)))
        self.legs = [leg(k, [], part) for k, part in enumerate(parts)]
        self.legs += [leg(k, [], None) for k in range(len(parts), count)]
        self._share_out()

    @property
    def attack(self) -> Attack:
        """The attack, with its options."""
        return self.legs[0].attack

    @property
    def steps(self) -> Steps:
        """Those of the first worker, which stand for all."""
        return self.legs[0].steps

    @property
    def entered(self) -> int:
        """How many images are attacked."""
        return sum(leg.entered for leg in self.legs)

    @property
    def work(self) -> int:
        """Attacks (images times restarts) in all."""
        return sum(leg.work for leg in self.legs)

    @property
    def left(self) -> int:
        """How many of them have ended."""
        return sum(leg.left for leg in self.legs)

    @property
    def remaining(self) -> int:
        """How many run or wait."""
        return sum(leg.slots.remaining for leg in self.legs)

    @property
    def pending(self) -> set[int]:
        """The positions that run or wait."""
        waiting = {position for leg in self.legs for position, _ in leg.slots.queue}
        return waiting.union(leg.slots.position[row] for leg in self.legs for row in leg.slots.busy)

    @property
    def spent(self) -> Spent:
        """The cost of all workers, and the seconds that passed while they worked."""
        forwards, backwards = (sum(getattr(leg.spent, name) for leg in self.legs) for name in ("forwards", "backwards"))
        return Spent(forwards, backwards, self.seconds)

    def sign(self, name: str) -> list[int]:
        """The positions that any worker noted under a name of `robcert.engine.leg`: "broke", "zero_gradient", ..."""
        return sorted(set[int]().union(*(getattr(leg, name) for leg in self.legs)))

    @property
    def running(self) -> float:
        """What runs, in attacks: each by the share of a search step that it has spent."""
        whole = max(1, self.attack.iterations)
        return sum(
            float((leg.oracle.evaluations[leg.slots.busy].float() / whole).clamp_max(0.99).sum())
            for leg in self.legs
            if leg.slots.busy
        )

    def run(self, look: Callable[[Crew], None] = lambda _: None) -> None:
        """Run to the end; ``look`` is called between two looks, when `snapshot` is consistent."""
        while busy := [leg for leg in self.legs if leg.slots.remaining]:
            began = time.monotonic()
            for leg in busy:
                leg.advance()
            for leg in busy:
                leg.settle()
            self._share_out()
            self.seconds += time.monotonic() - began
            look(self)

    def _share_out(self) -> None:
        """Move images from who has most to do to who has least; what runs moves only where that spares rows."""
        while True:
            most = max(self.legs, key=lambda leg: leg.slots.remaining)
            least = min(self.legs, key=lambda leg: leg.slots.remaining)
            gap = most.slots.remaining - least.slots.remaining
            waiting = next((p for p, _ in reversed(most.slots.queue) if p not in most.slots.position), None)
            if gap >= 2 and waiting is not None and gap > sum(p == waiting for p, _ in most.slots.queue):
                hand_over(waiting, most, least)
                continue
            if gap < 2 * SMALLEST or most.recorder is not None or most.slots.queue:
                break
            position = most.slots.position[most.slots.busy[-1]]
            rows = sum(p == position for p in most.slots.position)
            if rows >= gap or len(least.slots.busy) + rows > least.most:
                break
            hand_over(position, most, least)
        for leg in self.legs:
            leg.fit()

    def snapshot(self) -> Snapshot:
        """Everything that `run` needs to go on."""
        parts = [leg.snapshot() for leg in self.legs]
        tensors = {f"{k}/{name}": tensor for k, part in enumerate(parts) for name, tensor in part.tensors.items()}
        return Snapshot(tensors, {"legs": [part.meta for part in parts], "seconds": self.seconds})


def hand_over(position: int, leg: Leg, other: Leg) -> None:
    """Give one image, with all its restarts, whether they wait or run, to another leg of the same attack.

    Args:
        position: of the image in the run.
        leg: that has it.
        other: that gets it; it gets more slots where it has too few for what runs.

    Raises:
        ValueError: so many slots are more than it may have.
    """
    other.slots.queue.extend(leg.slots.withdraw(position))
    if position in leg.rivals.counted:
        other.rivals.counted.add(position)
    rows = [row for row in leg.slots.busy if leg.slots.position[row] == position]
    if not rows:
        return
    if other.slots.count - len(other.slots.busy) < len(rows):
        other.resize(other.slots_for(len(other.slots.busy) + len(rows)))
    idle = [row for row, held in enumerate(other.slots.position) if held == IDLE][: len(rows)]
    there = torch.tensor(idle, device=other.problem.y.device)
    given = rows_of(leg.problem, leg.oracle, leg.state)
    kept = rows_of(other.problem, other.oracle, other.state)
    both = {name: old.index_copy(0, there, given[name][rows].to(old.device)) for name, old in kept.items()}
    other.state = put_rows(both, other.problem, other.oracle, other.state)
    for row, place in zip(rows, idle, strict=True):
        other.slots.position[place], other.slots.restart[place] = position, leg.slots.restart[row]
    leg.slots.free(rows)
    leg.problem.best[rows] = -1.0


def _apart(snapshot: Snapshot) -> list[Snapshot]:
    """The snapshots of the legs."""
    if "legs" not in snapshot.meta:  # of a version that had one
        return [snapshot]
    found: list[Snapshot] = []
    for k, meta in enumerate(snapshot.meta["legs"]):
        mark = f"{k}/"
        tensors = {name.removeprefix(mark): t for name, t in snapshot.tensors.items() if name.startswith(mark)}
        found.append(Snapshot(tensors, meta))
    return found
