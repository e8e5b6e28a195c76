"""``lipschitz``: the proven Lipschitz constant of the logit vector is at most this."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from robcert.errors import EvaluationError
from robcert.policy.kinds import Measurement, Subject, requirement
from robcert.policy.schema import Requirement
from robcert.types import bound_norm


class Lipschitz:
    """At most such a bound. It fails where the bound is larger, though the network itself may be flatter."""

    title: ClassVar[str] = "Lipschitz bound"
    sign: ClassVar[Literal["at least", "at most"]] = "at most"
    needs: ClassVar[frozenset[str]] = frozenset({"norm"})
    takes: ClassVar[frozenset[str]] = frozenset()
    largest: ClassVar[float] = float("inf")

    def measure(self, requirement: Requirement, subject: Subject) -> Measurement:
        """See `Measured`."""
        from robcert.bounds.lipschitz.network_bound import lipschitz_bound

        try:
            bound = lipschitz_bound(subject.model, bound_norm(requirement.norm or "l2"))
        except EvaluationError as error:
            return Measurement("failed", math.inf, note=f"no bound: {error.found}")
        holds = bound.whole <= requirement.limit
        note = "; ".join(bound.reasons[:1]) if not bound.finite else ""
        return Measurement("proven" if holds else "failed", bound.whole, note=note)


requirement("lipschitz")(Lipschitz())
