"""``median_distance``: half of all images are farther than this from their nearest adversarial example.

The distance of an image is 0 where the model is wrong. The median of the distances exceeds d exactly if more than
half of the images stand at eps = d, so this is a requirement of 1/2 on the accuracy under attack at that budget: what
proves that one, and what decides it early, does the same here.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from robcert.gate import Question, Share
from robcert.policy.kinds import Subject, requirement
from robcert.policy.schema import ATTACKS, Requirement


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
        return Share(len(subject.data), 0.5, subject.confidence(requirement))


requirement("median_distance")(MedianDistance())
