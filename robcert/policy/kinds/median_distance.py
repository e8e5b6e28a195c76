"""``median_distance``: half of all images are farther than this from their nearest adversarial example.

The distance of an image is 0 where the model is wrong. The median of the distances exceeds d exactly if more than
half of the images stand at eps = d, so this is a requirement of more than 1/2 on the accuracy under attack at that
budget: what proves that one, and what decides it early, does the same here.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from robcert.policy.kinds import Subject, requirement
from robcert.policy.schema import ATTACKS, Requirement
from robcert.policy.verdict import Question, Share


class Majority(Share):
    """More than half of the images, all of which were seen: half of an even number is not enough."""

    @property
    def pass_at(self) -> int:
        """See `Share`."""
        return self.n // 2 + 1

    @property
    def fail_at(self) -> int:
        """See `Share`."""
        return self.n // 2


class MedianDistance:
    """At least so far to the nearest adversarial example, in the median over images."""

    title: ClassVar[str] = "median adversarial distance"
    sign: ClassVar[Literal["at least", "at most"]] = "at least"
    needs: ClassVar[frozenset[str]] = frozenset({"norm"})
    takes: ClassVar[frozenset[str]] = ATTACKS
    largest: ClassVar[float] = float("inf")

    def eps(self, requirement: Requirement) -> float:
        """See `Attacked`."""
        return requirement.limit

    def question(self, requirement: Requirement, subject: Subject) -> Question:
        """See `Attacked`."""
        n, confidence = len(subject.data), subject.confidence(requirement)
        # On a sample the test of 1/2 rejects a share of exactly 1/2 too: an error at p = 1/2 is as rare as below it.
        return Majority(n, 0.5, None) if confidence is None else Share(n, 0.5, confidence)


requirement("median_distance")(MedianDistance())
