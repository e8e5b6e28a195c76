"""The verdict on a requirement. Pure: from what is known of images to one of four grades.

What is known of a set of images are two masks between which the truth lies: ``worst``, the images whose answer nothing
can change (certified), and ``best``, those that nothing has changed so far (not broken). Certificates and attacks only
ever move the two towards each other. A question is monotone: an image more that stands never turns shown into not
shown. So

    proven         worst alone shows it
    failed         best already excludes it: the adversarial examples are the evidence
    empirical      best shows it, and the attacks ran to the end of their plan
    inconclusive   the number of images decides neither at the asked confidence

and a verdict can be given early exactly when every mask in between gives the same. The grade of a finished run never
depends on where it was stopped, so the error of the test is that of a sample of fixed size: a model below its
requirement is passed only if ``best`` at the end of the plan shows the requirement, which has a probability of at most
1 - confidence (`robcert.math.exact`). Looking at the counts while they come costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from robcert.math.binomial import lower_bound, upper_bound
from robcert.math.exact import decimal, drop_bounds, least_that_reaches, most_that_excludes

Grade = Literal["proven", "empirical", "failed", "inconclusive"]
Mask = NDArray[np.bool_]
"""(n,) bool: images whose answer is right and stays right."""

PASSING: tuple[Grade, ...] = ("proven", "empirical")
MOST = 10_000_000
"""More images than anybody has: where not so many would decide, no number is named."""


class Question(Protocol):
    """A requirement on a mask, monotone in it."""

    def shown(self, right: Mask) -> bool:
        """Return whether these images show that the requirement holds; another right image never undoes it."""
        ...

    def excluded(self, right: Mask) -> bool:
        """Return whether these images show that it does not; another wrong image never undoes it."""
        ...

    def value(self, right: Mask) -> float:
        """The figure that the requirement is about."""
        ...

    def bounds(self, right: Mask) -> tuple[float, float]:
        """One-sided exact bounds on it, each at the asked confidence; equal to it where all data was seen."""
        ...

    def needed(self, right: Mask) -> int | None:
        """Images that would decide if the share seen stays; None where no number would."""
        ...


@dataclass(frozen=True)
class Share:
    """The share of right answers is at least ``share``.

    Attributes:
        n: images.
        share: the requirement.
        confidence: of the one-sided exact test; None where the images are all there are.
    """

    n: int
    share: float
    confidence: float | None

    @property
    def pass_at(self) -> int:
        """The smallest count that shows it."""
        return least_that_reaches(self.share, self.n, self.confidence)

    @property
    def fail_at(self) -> int:
        """The largest count that excludes it."""
        return most_that_excludes(self.share, self.n, self.confidence)

    def shown(self, right: Mask) -> bool:
        """See `Question`."""
        return int(right.sum()) >= self.pass_at

    def excluded(self, right: Mask) -> bool:
        """See `Question`."""
        return int(right.sum()) <= self.fail_at

    def value(self, right: Mask) -> float:
        """See `Question`."""
        return int(right.sum()) / self.n

    def bounds(self, right: Mask) -> tuple[float, float]:
        """See `Question`."""
        count = int(right.sum())
        if self.confidence is None:
            return count / self.n, count / self.n
        return lower_bound(count, self.n, self.confidence), upper_bound(count, self.n, self.confidence)

    def needed(self, right: Mask) -> int | None:
        """See `Question`."""
        count = int(right.sum())

        def decides(n: int) -> bool:
            scaled = Share(n, self.share, self.confidence)
            return not scaled.fail_at < count * n // self.n < scaled.pass_at

        return _first(self.n, decides)


@dataclass(frozen=True, eq=False)
class Drop:
    """The share of right answers is at most ``drop`` below that of a baseline on the same images.

    Attributes:
        before: (n,) bool, what stood in the baseline.
        drop: the requirement.
        confidence: of the one-sided exact bound; None where the images are all there are.
    """

    before: Mask
    drop: float
    confidence: float | None

    def lost(self, right: Mask) -> int:
        """Images that stood and do not any more."""
        return int((self.before & ~right).sum())

    def won(self, right: Mask) -> int:
        """Images that did not stand and do now."""
        return int((~self.before & right).sum())

    def shown(self, right: Mask) -> bool:
        """See `Question`."""
        if self.confidence is None:
            return self._net_allows(right)
        return self.bounds(right)[1] <= self.drop

    def excluded(self, right: Mask) -> bool:
        """See `Question`."""
        if self.confidence is None:
            return not self._net_allows(right)
        return self.bounds(right)[0] > self.drop

    def value(self, right: Mask) -> float:
        """See `Question`."""
        return (self.lost(right) - self.won(right)) / len(self.before)

    def bounds(self, right: Mask) -> tuple[float, float]:
        """See `Question`."""
        if self.confidence is None:
            return self.value(right), self.value(right)
        return drop_bounds(self.lost(right), self.won(right), len(self.before), self.confidence)

    def needed(self, right: Mask) -> int | None:
        """See `Question`."""
        lost, won, seen = self.lost(right), self.won(right), len(self.before)
        confidence = self.confidence
        if confidence is None:
            return None

        def decides(n: int) -> bool:
            low, high = drop_bounds(lost * n // seen, won * n // seen, n, confidence)
            return high <= self.drop or low > self.drop

        return _first(seen, decides)

    def _net_allows(self, right: Mask) -> bool:
        return self.lost(right) - self.won(right) <= decimal(self.drop) * len(self.before)


@dataclass(frozen=True)
class Judgement:
    """A grade, and whether more certificates or attacks could still change it."""

    grade: Grade
    settled: bool


def judge(question: Question, worst: Mask, best: Mask, finished: bool) -> Judgement:
    """The answer to a question, as far as it is known.

    Args:
        question: monotone in the mask.
        worst: (n,) bool, images that certainly stand.
        best: (n,) bool, images that may stand; ``worst`` is a part of it.
        finished: whether the attacks ran to the end of their plan.
    """
    if question.shown(worst):
        return Judgement("proven", True)
    if question.excluded(best):
        return Judgement("failed", True)
    can_pass, can_fail = question.shown(best), question.excluded(worst)
    if not can_pass and not can_fail:
        return Judgement("inconclusive", True)
    if finished:
        return Judgement("empirical" if can_pass else "inconclusive", True)
    return Judgement("inconclusive", False)


def convergence(grade: Grade, falling: bool | None, required: bool) -> Grade:
    """The grade of a requirement whose attacks ran a sweep.

    Args:
        grade: what the counts say.
        falling: whether the sweep still falls; None where that is undecided.
        required: whether the policy asks for a sweep that has settled.
    """
    if grade != "empirical" or not required or falling is False:
        return grade
    without: Grade = "failed" if falling else "inconclusive"
    return without


def overall(grades: Iterable[Grade]) -> Grade:
    """The worst grade: what a gate with several requirements says."""
    order: list[Grade] = ["proven", "empirical", "inconclusive", "failed"]
    found = list(grades)
    return max(found, key=order.index) if found else "inconclusive"


def _first(start: int, decides: Callable[[int], bool]) -> int | None:
    """A number of images that decides: the doubling that does, then bisected (counts step, so not always the least)."""
    low, high = start, start
    while not decides(high):
        low, high = high, high * 2
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if decides(middle):
            high = middle
        else:
            low = middle
    return high
