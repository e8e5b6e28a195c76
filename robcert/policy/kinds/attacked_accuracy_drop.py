"""``attacked_accuracy_drop``: how far the accuracy under attack may fall below the baseline, on the same images."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from robcert.errors import UsageError
from robcert.policy.kinds import Subject, requirement
from robcert.policy.schema import ATTACKS, Requirement
from robcert.policy.verdict import Drop, Question


class AttackedAccuracyDrop:
    """At most so much lower than in the baseline."""

    title: ClassVar[str] = "drop of the accuracy under attack"
    sign: ClassVar[Literal["at least", "at most"]] = "at most"
    needs: ClassVar[frozenset[str]] = frozenset({"norm", "eps"})
    takes: ClassVar[frozenset[str]] = ATTACKS
    largest: ClassVar[float] = 1.0

    def eps(self, requirement: Requirement) -> float:
        """See `Attacked`."""
        return requirement.threat()[1]

    def question(self, requirement: Requirement, subject: Subject) -> Question:
        """See `Attacked`."""
        before = (subject.baseline or {}).get(requirement.name)
        if before is None:
            raise UsageError(
                f"the baseline has nothing about {subject.model.name} and {requirement.name!r}",
                "Write it anew: robcert gate --update-baseline",
            )
        return Drop(
            np.array([before[int(index)] for index in subject.data.index], dtype=np.bool_),
            requirement.limit,
            subject.confidence(requirement),
        )


requirement("attacked_accuracy_drop")(AttackedAccuracyDrop())
