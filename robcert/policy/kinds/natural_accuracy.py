"""``natural_accuracy``: the share of clean images that are answered rightly."""

from __future__ import annotations

from typing import ClassVar, Literal

from robcert.policy.kinds import Measurement, Subject, requirement
from robcert.policy.schema import Requirement
from robcert.policy.verdict import Mask, Share, judge


def share_of(requirement: Requirement, subject: Subject, right: Mask, note: str = "") -> Measurement:
    """The verdict on a share that is known, image by image."""
    question = Share(len(subject.data), requirement.limit, subject.confidence(requirement))
    grade = judge(question, right, right, finished=True).grade
    return Measurement(grade, question.value(right), question.bounds(right), right, question, note=note)


class NaturalAccuracy:
    """At least so many right answers without any attack."""

    title: ClassVar[str] = "natural accuracy"
    sign: ClassVar[Literal["at least", "at most"]] = "at least"
    needs: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    largest: ClassVar[float] = 1.0

    def measure(self, requirement: Requirement, subject: Subject) -> Measurement:
        """See `Measured`."""
        return share_of(requirement, subject, subject.correct)


requirement("natural_accuracy")(NaturalAccuracy())
