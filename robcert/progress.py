"""What long work tells of itself while it goes on, and who listens.

Work that may take more than a moment says so with `working` and counts what is done; work inside it is a line below.
A listener looks when it likes, so counting costs nothing, and nobody needs to hand a listener down:

    with working("certify digits-at", 200, "images") as work:
        for image in images:
            ...
            work.advance()
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(eq=False)
class Work:
    """A piece of work that goes on; whoever does it writes, a listener reads.

    Attributes:
        title: what is done.
        total: how much there is, or None where that is not known.
        unit: what is counted, in the plural.
        done: of the total.
        note: what else a person wants to know now.
        rate: how fast it goes, in words; by default units a second.
        left: seconds that are left, where the work knows better than its pace so far.
        began: on the clock of `time.monotonic`.
    """

    title: str
    total: float | None = None
    unit: str = ""
    done: float = 0.0
    note: str = ""
    rate: str = ""
    left: float | None = None
    began: float = field(default_factory=time.monotonic)

    def advance(self, count: float = 1.0, note: str | None = None) -> None:
        """So much more is done."""
        self.done += count
        if note is not None:
            self.note = note

    def remaining(self, now: float) -> float | None:
        """Return the seconds that are left, by what was measured; None where nothing is known yet."""
        if self.left is not None or self.total is None or self.done <= 0:
            return self.left
        return (now - self.began) * max(0.0, self.total - self.done) / self.done


class Listener(Protocol):
    """Whoever shows work."""

    def begin(self, work: Work) -> None:
        """A piece of work begins, inside those that have not ended."""
        ...

    def end(self, work: Work) -> None:
        """It has ended."""
        ...

    def hush(self) -> None:
        """Results are printed now: nothing may be shown beside them until other work begins."""
        ...


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Let a listener hear of all work inside."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def working(title: str, total: float | None = None, unit: str = "") -> Generator[Work]:
    """Yield a piece of work that goes on inside."""
    work, listener = Work(title, total, unit), _listener.get()
    if listener is None:
        yield work
        return
    listener.begin(work)
    try:
        yield work
    finally:
        listener.end(work)


def hush() -> None:
    """Have nothing shown beside the results that are printed next."""
    listener = _listener.get()
    if listener is not None:
        listener.hush()
