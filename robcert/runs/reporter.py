"""Listeners to a run that executes."""

from __future__ import annotations

from typing import Protocol

from robcert.runs.plan import LegPlan
from robcert.runs.record import LegRecord
from robcert.search.stage import Stage


class Reporter(Protocol):
    """A listener that is told what happens while it happens."""

    def model(self, name: str, natural: int, n: int, resumed: int) -> None:
        """A model begins: its natural accuracy, and how many legs were finished earlier."""
        ...

    def leg(self, model: str, leg: LegPlan, work: int) -> None:
        """A leg begins, with so many attacks (images times restarts) to run."""
        ...

    def stage(self, eps: float, work: int) -> None:
        """The leg goes on at one of several budgets, with so many attacks."""
        ...

    def synchronised(self, stage: Stage) -> None:
        """Called several times a second, with the running stage of the leg."""
        ...

    def leg_done(self, record: LegRecord) -> None:
        """A leg has ended."""
        ...

    def note(self, text: str) -> None:
        """Something that a user should know now: about the model at hand, or about the data before there is one."""
        ...


class Silent:
    """Tells nobody."""

    def model(self, name: str, natural: int, n: int, resumed: int) -> None:
        """See `Reporter`."""

    def leg(self, model: str, leg: LegPlan, work: int) -> None:
        """See `Reporter`."""

    def stage(self, eps: float, work: int) -> None:
        """See `Reporter`."""

    def synchronised(self, stage: Stage) -> None:
        """See `Reporter`."""

    def leg_done(self, record: LegRecord) -> None:
        """See `Reporter`."""

    def note(self, text: str) -> None:
        """See `Reporter`."""
