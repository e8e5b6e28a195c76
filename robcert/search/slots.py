"""The slots of a running stage, the images in them, and the queue behind them."""

from __future__ import annotations

from collections import Counter, deque

IDLE = -1


class Slots:
    """Work is a pair (position of the image in the run, restart). Pure bookkeeping, no tensors.

    Args:
        work: what waits.
        count: the number of slots, all free.

    Attributes:
        position, restart: of the work in each slot; position is `IDLE` where the slot is free.
        waiting: how much work is in the queue.
    """

    def __init__(self, work: list[tuple[int, int]], count: int) -> None:
        self.position, self.restart = [IDLE] * count, [0] * count
        # What is dropped stays in the line until its turn comes: to rebuild it at every drop would be quadratic.
        self._line = deque(work)
        self._restarts = Counter(position for position, _ in work)
        self.waiting = len(work)

    @property
    def queue(self) -> list[tuple[int, int]]:
        """The work that waits, in order."""
        return [work for work in self._line if work[0] in self._restarts]

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
        return len(self.busy) + self.waiting

    @property
    def pending(self) -> set[int]:
        """The images with work in a slot or in the queue."""
        return {*self._restarts, *(self.position[row] for row in self.busy)}

    def fill(self) -> list[int]:
        """Move waiting work into free slots, in order; the slots that were filled."""
        filled: list[int] = []
        for row, position in enumerate(self.position):
            if position == IDLE and self._next():
                self.position[row], self.restart[row] = self._line.popleft()
                self._take(self.position[row])
                filled.append(row)
        return filled

    def _next(self) -> bool:
        """Have work that waits at the head of the line; return whether there is any."""
        while self._line and self._line[0][0] not in self._restarts:
            self._line.popleft()
        return bool(self._line)

    def _take(self, position: int) -> None:
        self.waiting -= 1
        self._restarts[position] -= 1
        if not self._restarts[position]:
            del self._restarts[position]

    def free(self, rows: list[int]) -> None:
        """Let go of the work in the given slots."""
        for row in rows:
            self.position[row] = IDLE

    def drop(self, positions: set[int]) -> None:
        """Take waiting work on these images out of the queue."""
        for position in positions:
            self.waiting -= self._restarts.pop(position, 0)

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
