"""Ending a run before its plan does, because somebody who watches it has seen enough."""

from __future__ import annotations

from collections.abc import Callable

from robcert.bracket import Bracket

OUT_OF_TIME = "the time budget is spent before the attacks ran to their end"

StopCondition = Callable[[Bracket], "str | None"]
"""Looks at what is known about the images of a running model; a reason ends its run, None lets it go on."""


class Stopped(Exception):
    """Ends a leg from within: not an error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
