"""Measures a model for its first policy, within a time: natural accuracy, a budget, and what stands in it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from robcert.bracket import Bracket
from robcert.data import subset
from robcert.errors import EvaluationError
from robcert.math.binomial import lower_bound
from robcert.math.exact import decimal, least_that_reaches
from robcert.policy.evaluate import How
from robcert.policy.inputs import Inputs
from robcert.policy.schema import CONFIDENCE, Requirement, cost
from robcert.runs.api import attack
from robcert.runs.plan import LegPlan, default_attack, plan_without_gradient
from robcert.runs.record import ModelRecord
from robcert.runs.stop_condition import OUT_OF_TIME, StopCondition
from robcert.runs.summary import as_list
from robcert.types import Dataset, Threat, ThreatNorm

ASKED, LEAST, PROBED = 500, 150, 64
"""The most images of a first policy, the fewest (150 show a share to within 0.07), and those that choose eps."""
TOLERANCE = 0.01
"""The share of images that may fall on another machine: it sums in another order, or searches in another precision."""
PROBE = "fmn:50"
"""The search that chooses eps: it comes close to the nearest example within so many steps."""
PLAN = "pgd:10,20x2,{closest}:100,1k"
"""What is measured: from cheap to dear, with a sweep at its end by the attack that is the default of the norm."""
REACH: dict[ThreatNorm, float] = {"l2": 2.0, "linf": 0.3, "l1": 20.0}
"""The budget within which the search that chooses eps begins."""


@dataclass(frozen=True)
class Measured:
    """Counts of images, measured as the gate measures them.

    Attributes:
        n: images; ``of`` in the whole data set.
        eps: the budget.
        plan: the legs that ran to their end; ``unfinished``: those that did not.
        natural: images that are answered rightly; ``attacked``: that stand after the plan; ``certified``: at eps.
    """

    n: int
    of: int
    eps: float
    plan: tuple[LegPlan, ...]
    unfinished: tuple[LegPlan, ...]
    natural: int
    attacked: int
    certified: int

    def limit(self, count: int) -> float:
        """Return a share, in hundredths, that ``count`` images of ``n`` show and `TOLERANCE` fewer do too."""
        confidence = CONFIDENCE if self.n < self.of else None
        sure = max(0, count - math.ceil(TOLERANCE * self.n))
        share = sure / self.n if confidence is None else lower_bound(sure, self.n, confidence)
        hundredths = math.floor(100 * decimal(share))
        while hundredths > 0 and least_that_reaches(hundredths / 100, self.n, confidence) > sure:
            hundredths -= 1
        return hundredths / 100


def measure(inputs: Inputs, norm: ThreatNorm, time_budget: float, how: How, seed: int = 0) -> Measured:
    """Measure what the first policy of a model asks for.

    eps is half the median distance of the closest examples that a search of a sixth of the time finds for `PROBED`
    images. Then the plan of the policy runs, as the gate will run it, for a third of the time: the gate has three times
    as long for the legs that ended by then, so that a slower machine passes too. There are as many images as the
    cheaper half of the plan can take in half of this.

    Args:
        inputs: one model, and at most `ASKED` images.
        norm: of the budget.
        time_budget: seconds.
        how: devices, who is told.
        seed: of the sample.

    Raises:
        EvaluationError: not even the first leg of the plan ended.
    """
    model, box = inputs.models[0], inputs.data.box
    free = plan_without_gradient(norm) if model.no_gradient else ""
    probe = attack(
        model,
        _first(inputs, PROBED, seed),
        Threat(norm, (REACH[norm],), box),
        free or PROBE,
        goal="minimize",
        certify="none",
        reporter=how.reporter,
        batch_size=how.batch_size,
        enough=_for(how, time_budget / 6),
    ).models[0]
    eps = float(f"{(probe.distance.median or REACH[norm]) / 2:.2g}")
    text = free.replace(" + ", ",") or PLAN.format(closest=default_attack(norm))
    legs = Requirement(kind="attacked_accuracy", limit=0.5, name="probe", norm=norm, eps=eps, plan=text).legs()
    n = min(len(inputs.data), max(LEAST, _fitting(probe, legs, time_budget / 6)))
    found = attack(
        model,
        _first(inputs, n, seed),
        Threat(norm, (eps,), box),
        legs,
        goal="decide",
        reporter=how.reporter,
        batch_size=how.batch_size,
        enough=_for(how, time_budget / 3),
    ).models[0]
    ended = [leg for leg in found.legs[: len(legs)] if not leg.stopped]
    if not ended:
        raise EvaluationError(
            f"{model.name}: {legs[0]} on {n} images did not end in {time_budget / 3:.0f} s, a third of the time budget",
            f"Give it more: --time-budget {math.ceil(4 * time_budget / 60)}m",
        )
    whole = found.stopped is None
    return Measured(
        n=n,
        of=inputs.of,
        eps=eps,
        plan=tuple(legs[: len(ended)]),
        unfinished=tuple(legs[len(ended) :]),
        natural=found.natural_correct,
        attacked=_standing(found) if whole else min(as_list(ended[-1].attacked_correct)),
        certified=sum(1 for image in found.images if (image.radius or 0.0) > eps),
    )


def _first(inputs: Inputs, n: int, seed: int) -> Dataset:
    """Return the images that a policy with this n loads: a sample lies in the order in which samples are nested."""
    data = inputs.data
    if len(data) == inputs.of:
        return subset(data, n, seed)
    return replace(data, x=data.x[:n], y=data.y[:n], index=data.index[:n])


def _standing(found: ModelRecord) -> int:
    return sum(1 for image in found.images if image.status in ("certified", "open"))


def _fitting(probe: ModelRecord, legs: list[LegPlan], seconds: float) -> int:
    """Return how many images the first two legs take in a time, at the pace of a search that ran; 0 if none did."""
    spent = probe.spent
    passes = spent.forwards + spent.backwards
    if not passes or not spent.seconds:
        return 0
    return int(seconds / (spent.seconds / passes * sum(map(cost, legs[:2]))))


def _for(how: How, seconds: float) -> StopCondition:
    """Return a condition that ends a run so many seconds after it first asked: when its attacks began."""
    end: float | None = None

    def spent(bracket: Bracket) -> str | None:
        nonlocal end
        end = end or how.clock() + seconds
        return OUT_OF_TIME if how.clock() > end else None

    return spent
