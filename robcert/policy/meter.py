"""After how many forwards a verdict was settled, in a run that went on to the end of its plan all the same."""

from __future__ import annotations

from robcert.runs.plan import LegPlan
from robcert.runs.record import LegRecord
from robcert.runs.reporter import Reporter
from robcert.search.stage import Stage


class Meter:
    """Passes on what a run tells, and remembers where it was when the verdict was settled.

    A run asks whether the verdict is settled before it tells of a synchronisation, so the place is that of the next
    thing told.

    Attributes:
        legs: that had ended before the verdict was settled; None while it is not.
        forwards: of the leg after these, up to the synchronisation that settled it.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._ended = 0
        self._settled = False
        self.legs: int | None = None
        self.forwards = 0

    def settle(self) -> None:
        """The verdict cannot change any more."""
        self._settled = True

    def within(self, legs: list[LegRecord]) -> int | None:
        """The forwards up to there of a run with these legs; None if it was never settled."""
        if self.legs is None:
            return None
        return sum(leg.forwards for leg in legs[: self.legs]) + self.forwards

    def model(self, name: str, natural: int, n: int, resumed: int) -> None:
        """See `Reporter`."""
        self._ended = resumed
        self._reporter.model(name, natural, n, resumed)

    def leg(self, model: str, leg: LegPlan, work: int) -> None:
        """See `Reporter`."""
        self._mark(0)
        self._reporter.leg(model, leg, work)

    def stage(self, eps: float, work: int) -> None:
        """See `Reporter`."""
        self._reporter.stage(eps, work)

    def synchronised(self, stage: Stage) -> None:
        """See `Reporter`."""
        self._mark(stage.spent.forwards)
        self._reporter.synchronised(stage)

    def leg_done(self, record: LegRecord) -> None:
        """See `Reporter`."""
        self._mark(record.forwards)
        self._ended += 1
        self._reporter.leg_done(record)

    def note(self, text: str) -> None:
        """See `Reporter`."""
        self._reporter.note(text)

    def _mark(self, forwards: int) -> None:
        if self._settled and self.legs is None:
            self.legs, self.forwards = self._ended, forwards
