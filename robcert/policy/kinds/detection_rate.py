"""``detection_rate``: the share of adversarial examples that a detector rejects, at a given rate of false positives.

Half of the images fix the threshold, the other half are attacked. The rate is that of the attack that is detected
least; for an attack on the detector itself it counts images for which no example passes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from robcert.policy.kinds import Measurement, Subject, requirement
from robcert.policy.schema import Requirement
from robcert.policy.verdict import Grade, Mask, Share, judge, overall

if TYPE_CHECKING:
    from robcert.sensitivity.detection import Detection, DetectionResult

_STATISTIC = "probability"


class DetectionRate:
    """At least such a share of examples is detected, whichever attack of the plan made them."""

    title: ClassVar[str] = "detection rate"
    sign: ClassVar[Literal["at least", "at most"]] = "at least"
    needs: ClassVar[frozenset[str]] = frozenset({"false_positive_rate"})
    takes: ClassVar[frozenset[str]] = frozenset({"plan", "options", "statistic"})
    largest: ClassVar[float] = 1.0
    plan: ClassVar[str] = "cw:100,evasive-cw:100"

    def measure(self, requirement: Requirement, subject: Subject) -> Measurement:
        """See `Measured`."""
        from robcert.runs.detect import trials_of
        from robcert.runs.stop_condition import OUT_OF_TIME, Stopped
        from robcert.sensitivity.detection import detect, divide, fix_threshold

        seed = subject.data.seed or 0
        calibration, test = divide(subject.data, len(subject.data) // 2, None, seed)
        statistic = requirement.statistic or _STATISTIC
        threshold = fix_threshold(subject.model, calibration, statistic, requirement.false_positive_rate, seed)
        options = cast("dict[str, dict[str, Any]]", requirement.options)
        trials = trials_of(requirement.plan or self.plan, options)

        def end_in_time(_: float) -> None:
            if subject.late():
                raise Stopped(OUT_OF_TIME)

        try:
            found = detect(subject.model, test, threshold, trials, seed=seed, advance=end_in_time)
        except Stopped as end:
            return Measurement("inconclusive", math.nan, note=end.reason)
        return replace(
            _judged(found, requirement, len(test)),
            forwards=sum(one.forwards for one in found.results),
            backwards=sum(one.backwards for one in found.results),
        )


def _judged(found: Detection, requirement: Requirement, clean: int) -> Measurement:
    """The attack that is detected least decides."""
    tested = [one for one in found.results if one.tried]
    false = f"{found.rejected} of {clean} other clean images are rejected too"
    if not tested:
        return Measurement("inconclusive", math.nan, note=f"no attack found an example; {false}")
    grade = overall(_grade(one, requirement) for one in tested)
    worst = min(tested, key=lambda one: one.detected / one.tried)
    told = ", ".join(f"{one.name} {one.detected} of {one.tried}" for one in tested)
    blind = "" if any(one.adaptive for one in tested) else "; no attack on the detector itself was run"
    bounds = Share(worst.tried, requirement.limit, requirement.confidence).bounds(_mask(worst))
    note = f"detected: {told}; {false}{blind}"
    return Measurement(grade, worst.detected / worst.tried, bounds, confidence=requirement.confidence, note=note)


def _grade(result: DetectionResult, requirement: Requirement) -> Grade:
    question = Share(result.tried, requirement.limit, requirement.confidence)
    # Nothing is certified about a detector.
    return judge(question, np.zeros(result.tried, dtype=np.bool_), _mask(result), finished=True).grade


def _mask(result: DetectionResult) -> Mask:
    return np.arange(result.tried) < result.detected


requirement("detection_rate")(DetectionRate())
