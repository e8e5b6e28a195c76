"""``mean_gap``: the mean confidence gap, the largest logit less the second largest."""

from __future__ import annotations

from typing import ClassVar, Literal

from robcert.policy.kinds import Measurement, Subject, requirement
from robcert.policy.schema import Requirement


class MeanGap:
    """At least such a mean. On a sample it is the mean of the sample: a gap has no bound, so no exact test exists."""

    title: ClassVar[str] = "mean confidence gap"
    sign: ClassVar[Literal["at least", "at most"]] = "at least"
    needs: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    largest: ClassVar[float] = float("inf")

    def measure(self, requirement: Requirement, subject: Subject) -> Measurement:
        """See `Measured`."""
        value = float(subject.gaps.mean())
        if not value >= requirement.limit:  # so that NaN fails
            return Measurement("failed", value)
        note = "the mean of these images; nothing is claimed about others" if subject.sample else ""
        return Measurement("empirical" if subject.sample else "proven", value, note=note)


requirement("mean_gap")(MeanGap())
