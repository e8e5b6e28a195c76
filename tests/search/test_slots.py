"""Slots: every (image, restart) runs exactly once unless its image is decided before, and none is lost."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from robcert.network.batching import default_slots, multiple_of_eight, power_of_two
from robcert.search.slots import IDLE, Slots


class Bookkeeping(RuleBasedStateMachine):
    """Fill, end, decide, shrink and grow in any order, beside a model that is only sets."""

    @initialize(images=st.integers(0, 30), restarts=st.integers(1, 4), count=st.sampled_from([1, 8, 16, 32]))
    def begin(self, images: int, restarts: int, count: int) -> None:
        self.all = [(image, restart) for restart in range(restarts) for image in range(images)]
        self.slots = Slots(list(self.all), count)
        self.started: list[tuple[int, int]] = []
        self.ended: set[tuple[int, int]] = set()
        self.decided: set[int] = set()

    def running(self) -> dict[int, tuple[int, int]]:
        return {row: (self.slots.position[row], self.slots.restart[row]) for row in self.slots.busy}

    @rule()
    def fill(self) -> None:
        before = self.running()
        filled = self.slots.fill()
        after = self.running()
        assert {row: work for row, work in after.items() if row not in filled} == before, "others stay where they are"
        self.started += [after[row] for row in filled]
        assert not self.slots.waiting or len(after) == self.slots.count, "no slot idles while work waits"

    @precondition(lambda self: bool(self.slots.busy))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.sampled_from(self.slots.busy), min_size=1, unique=True))
        running = self.running()
        self.ended |= {running[row] for row in rows}
        self.slots.free(rows)

    @precondition(lambda self: bool(self.slots.busy))
    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        image = self.slots.position[data.draw(st.sampled_from(self.slots.busy))]
        running = self.running()
        rows = [row for row, work in running.items() if work[0] == image]
        self.ended |= {running[row] for row in rows}
        self.slots.free(rows)
        self.slots.drop({image})
        self.decided.add(image)

    @precondition(lambda self: not self.slots.waiting)
    @rule(spare=st.integers(0, 20))
    def resize(self, spare: int) -> None:
        before = self.running()
        old = [(self.slots.position[row], self.slots.restart[row]) for row in range(self.slots.count)]
        count = power_of_two(len(before), self.slots.count) + spare
        kept = self.slots.resize(count)
        assert self.slots.count == len(kept) == count
        assert sorted(before.values()) == sorted(self.running().values())
        for row, work in self.running().items():
            assert old[kept[row]] == work

    @invariant()
    def nothing_is_lost_or_run_twice(self) -> None:
        if not hasattr(self, "slots"):
            return
        waiting, running = self.slots.queue, list(self.running().values())
        assert len(set(self.started)) == len(self.started)
        assert self.slots.remaining == len(waiting) + len(running)
        assert self.slots.pending == {image for image, _ in (*waiting, *running)}
        assert not (set(waiting) | set(running)) & self.ended
        assert {image for image, _ in waiting} & self.decided == set()
        missing = set(self.all) - set(waiting) - set(running) - self.ended
        assert all(image in self.decided for image, _ in missing)


TestBookkeeping = Bookkeeping.TestCase
TestBookkeeping.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)


def test_busy_slots_are_never_thrown_away() -> None:
    slots = Slots([(k, 0) for k in range(5)], 8)
    slots.fill()
    with pytest.raises(ValueError, match="5 busy slots"):
        slots.resize(4)
    slots.free([0, 1])
    assert slots.resize(3) == [2, 3, 4]
    assert IDLE not in slots.position


def test_buckets() -> None:
    assert [power_of_two(n, 128) for n in (0, 1, 8, 9, 64, 65, 128, 500)] == [
        8,
        8,
        8,
        16,
        64,
        128,
        128,
        128,
    ]
    assert power_of_two(100, 1) == 8
    assert power_of_two(100, 100) == 64, "a limit between two sizes takes the smaller"
    assert [multiple_of_eight(n, 128) for n in (0, 1, 8, 9, 64, 65, 128, 500)] == [8, 8, 8, 16, 64, 72, 128, 128]
    assert multiple_of_eight(100, 1) == 8
    assert multiple_of_eight(100, 100) == 96, "a limit between two sizes takes the smaller"
    for entries in (1, 64, 784, 3072, 150_528, 10**9):
        assert default_slots(entries) in (8, 16, 32, 64, 128)
