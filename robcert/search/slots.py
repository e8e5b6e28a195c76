"""The slots of a running stage, the images in them, and the queue behind them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

IDLE = -1


@dataclass
class Slots:
    """Work is a pair (position of the image in the run, restart). Pure bookkeeping, no tensors.

    Attributes:
        queue: work that waits.
        position, restart: of the work in each slot; position is `IDLE` where the slot is free.
    """

    queue: deque[tuple[int, int]]
    position: list[int]
    restart: list[int] = field(default_factory=list)

    @classmethod
    def fresh(cls, work: list[tuple[int, int]], count: int) -> Slots:
        """Return slots that are all free, and all work waiting."""
        return cls(deque(work), [IDLE] * count, [0] * count)

    @property
    def count(self) -> int:
        """Number of slots."""
        return len(self.position)

    @property
    def busy(self) -> list[int]:
        """Slots that hold work."""
        return [row for row, position in enumerate(self.position) if position != IDLE]

    @property
    def remaining(self) -> int:
        """Work in slots and in the queue."""
        return len(self.busy) + len(self.queue)

    def fill(self) -> list[int]:
        """Move waiting work into free slots, in order; the slots that were filled."""
        filled: list[int] = []
        for row, position in enumerate(self.position):
            if position == IDLE and self.queue:
                self.position[row], self.restart[row] = self.queue.popleft()
                filled.append(row)
        return filled

    def free(self, rows: list[int]) -> None:
        """Let go of the work in the given slots."""
        for row in rows:
            self.position[row] = IDLE

    def drop(self, positions: set[int]) -> None:
        """Take waiting work on these images out of the queue."""
        self.queue = deque(work for work in self.queue if work[0] not in positions)

    def resize(self, count: int) -> list[int]:
        """Have ``count`` slots, the busy ones first; the old slot of each, and 0 for one that is new.

        Raises:
            ValueError: more slots are busy.
        """
        kept = self.busy
        if len(kept) > count:
            raise ValueError(f"{len(kept)} busy slots do not fit into {count}")
        kept += [row for row, position in enumerate(self.position) if position == IDLE][: count - len(kept)]
        new = count - len(kept)
        self.position = [self.position[row] for row in kept] + [IDLE] * new
        self.restart = [self.restart[row] for row in kept] + [0] * new
        return kept + [0] * new
