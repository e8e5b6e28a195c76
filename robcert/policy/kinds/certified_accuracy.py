"""``certified_accuracy``: the share of images whose certified radius exceeds eps."""

from __future__ import annotations

from typing import ClassVar, Literal

from robcert.policy.kinds import Measurement, Subject, requirement
from robcert.policy.kinds.natural_accuracy import share_of
from robcert.policy.schema import Requirement


class CertifiedAccuracy:
    """At least so many certificates. It fails where too few are certified, whatever attacks would find."""

    title: ClassVar[str] = "certified accuracy"
    sign: ClassVar[Literal["at least", "at most"]] = "at least"
    needs: ClassVar[frozenset[str]] = frozenset({"norm", "eps"})
    takes: ClassVar[frozenset[str]] = frozenset({"certify"})
    largest: ClassVar[float] = 1.0

    def measure(self, requirement: Requirement, subject: Subject) -> Measurement:
        """See `Measured`."""
        norm, eps = requirement.threat()
        return share_of(requirement, subject, *subject.certified(requirement.certify, norm, eps))


requirement("certified_accuracy")(CertifiedAccuracy())
