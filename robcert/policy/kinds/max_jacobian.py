"""``max_jacobian``: the largest operator norm of the Jacobian over the images is at most this."""

from __future__ import annotations

from typing import ClassVar, Literal

from robcert.policy.kinds import Measurement, Subject, requirement
from robcert.policy.schema import Requirement
from robcert.types import bound_norm


class MaxJacobian:
    """At most such a slope at the images: from the norm of the threat to the same norm of the logits.

    Proven where the bound of the graph is below the limit, or all images were seen. On a sample the largest of the
    sample says nothing of the largest of all.
    """

    title: ClassVar[str] = "largest Jacobian"
    sign: ClassVar[Literal["at least", "at most"]] = "at most"
    needs: ClassVar[frozenset[str]] = frozenset({"norm"})
    takes: ClassVar[frozenset[str]] = frozenset()
    largest: ClassVar[float] = float("inf")

    def measure(self, requirement: Requirement, subject: Subject) -> Measurement:
        """See `Measured`."""
        from robcert.sensitivity.jacobian import sensitivity

        found = sensitivity(subject.model, subject.data, bound_norm(requirement.norm or "l2")).upper
        if not found.measured_whole <= requirement.limit:  # so that NaN fails
            return Measurement("failed", found.measured_whole)
        if found.whole <= requirement.limit:
            return Measurement("proven", found.measured_whole, note=f"no image can exceed {found.whole:.6g}")
        if not subject.sample:
            return Measurement("proven", found.measured_whole)
        return Measurement("empirical", found.measured_whole, note="the largest of these images, others may exceed it")


requirement("max_jacobian")(MaxJacobian())
