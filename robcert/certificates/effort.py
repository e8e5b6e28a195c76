"""The time that each image may have, and what is known of an image when it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor

SECONDS = 5.0
"""CPU seconds for an image, where nothing else is asked for."""


class TimeLimit:
    """One limit of CPU seconds (of all threads) for each of n images; what one image leaves no other one gets.

    What is computed for several images at once is charged to them in equal parts. Work that cannot be interrupted is
    finished when it has begun.

    Args:
        n: images.
        seconds: the limit; None for none.
        spent: (n,) float64, seconds that the images have had already.

    Attributes:
        spent: (n,) float64, CPU seconds so far.
        late: (n,) bool, something was not done for the image because its time was up.
    """

    def __init__(self, n: int, seconds: float | None = None, spent: Tensor | None = None) -> None:
        self.seconds = math.inf if seconds is None else seconds
        self.before = torch.zeros(n, dtype=torch.float64) if spent is None else spent.double()
        self.spent = self.before.clone()
        self.late = torch.zeros(n, dtype=torch.bool)

    @property
    def own(self) -> Tensor:
        """(n,): seconds since the limit was set up."""
        return self.spent - self.before

    def allowed(self, rows: Tensor) -> Tensor:
        """Return the images among ``rows`` (m,) that have time left; the others are late."""
        over = self.spent[rows] >= self.seconds
        self.late[rows[over]] = True
        return rows[~over]

    def left(self, image: int) -> float:
        """Return the seconds that an image has left."""
        return self.seconds - float(self.spent[image])

    @contextmanager
    def charged(self, rows: Tensor) -> Generator[None]:
        """Charge what is done inside to some images (m,)."""
        began = time.process_time()
        try:
            yield
        finally:
            self.spent[rows] += (time.process_time() - began) / max(1, len(rows))


@dataclass(frozen=True)
class Effort:
    """What n images cost, and how far a method came with those that it did not decide.

    Attributes:
        seconds: (n,) float64, CPU seconds.
        late: (n,) bool, the time was up, and the image is undecided.
        failed: (n,) float64, the smallest radius at which no proof was found; infinite where there is none.
        margin: (n,) float64, a lower bound of the smallest margin f_y - f_j there; NaN where none was computed.
    """

    seconds: Tensor
    late: Tensor
    failed: Tensor
    margin: Tensor

    @classmethod
    def none(cls, n: int) -> Effort:
        """Return the effort of a method in closed form."""
        nothing = torch.zeros(n, dtype=torch.float64)
        return cls(nothing, nothing.bool(), torch.full_like(nothing, math.inf), torch.full_like(nothing, math.nan))

    def put(self, rows: Tensor, later: Effort) -> Effort:
        """Return this effort, and that of a later method on some of the images (m,)."""
        seconds, late, failed, margin = (getattr(self, field.name).clone() for field in fields(self))
        seconds[rows] += later.seconds
        late[rows] = later.late
        smaller = later.failed <= failed[rows]
        failed[rows] = torch.where(smaller, later.failed, failed[rows])
        known = smaller & ~later.margin.isnan()
        margin[rows] = torch.where(known, later.margin, margin[rows])
        return Effort(seconds, late, failed, margin)


def join_effort(parts: Sequence[Effort]) -> Effort:
    """Return the effort of all images from those of parts of them, in order."""
    return Effort(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Effort)))
