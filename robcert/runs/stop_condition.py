"""Ending a run before its plan does, because somebody who watches it has seen enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from robcert.bracket import Bracket
from robcert.errors import UsageError

OUT_OF_TIME = "the time budget is spent before the attacks ran to their end"

StopCondition = Callable[[Bracket], "str | None"]
"""Looks at what is known about the images of a running model; a reason ends its run, None lets it go on."""


def within(seconds: float) -> StopCondition:
    """Return the condition that ends a run so many seconds from now.

    Raises:
        UsageError: it is no number of seconds above 0.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"a time budget is {seconds:g}, but it is a number of seconds above 0")
    end = time.monotonic() + seconds
    return lambda _: OUT_OF_TIME if time.monotonic() >= end else None


def either(first: StopCondition, second: StopCondition | None) -> StopCondition:
    """Return the condition that ends a run for the first reason that there is."""
    return first if second is None else lambda bracket: first(bracket) or second(bracket)


class Stopped(Exception):
    """Ends a leg from within: not an error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
