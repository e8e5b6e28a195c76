"""``attacked_accuracy``: the share of images that are right and that no attack of the plan breaks within eps."""

from __future__ import annotations

from typing import ClassVar, Literal

from robcert.policy.kinds import Subject, requirement
from robcert.policy.schema import ATTACKS, Requirement
from robcert.policy.verdict import Question, Share


class AttackedAccuracy:
    """At least so many images stand."""

    title: ClassVar[str] = "accuracy under attack"
    sign: ClassVar[Literal["at least", "at most"]] = "at least"
    needs: ClassVar[frozenset[str]] = frozenset({"norm", "eps"})
    takes: ClassVar[frozenset[str]] = ATTACKS
    largest: ClassVar[float] = 1.0

    def eps(self, requirement: Requirement) -> float:
        """See `Attacked`."""
        return requirement.threat()[1]

    def question(self, requirement: Requirement, subject: Subject) -> Question:
        """See `Attacked`."""
        return Share(len(subject.data), requirement.limit, subject.confidence(requirement))


requirement("attacked_accuracy")(AttackedAccuracy())
