"""Ending a run before its plan does, because somebody who watches it has seen enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUT_OF_TIME = "the time budget is spent before the attacks ran to their end"


@dataclass(frozen=True, eq=False)
class Standing:
    """What is known about the images of one model while its run goes on. Masks are (budgets, n) bool.

    Attributes:
        certified: no attack can break them.
        standing: no attack has broken them so far; certified ones included.
    """

    certified: NDArray[np.bool_]
    standing: NDArray[np.bool_]


Enough = Callable[[Standing], "str | None"]
"""Looks at a running model; a reason ends its run, None lets it go on."""


class Stopped(Exception):
    """Ends a leg from within: not an error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
