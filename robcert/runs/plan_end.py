"""The end of a plan whose legs are no sweep: what its last iterations still broke.

Whether ten times the iterations would help is asked by a leg that has them (`robcert.search.plateau`). A plan without
one (a named plan, or one leg) still shows when its images fell: an attack whose last iterations break nothing more says
something, though less than a longer run would, since attacks spread their schedule over the iterations that they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from robcert.attacks import attacks
from robcert.bracket import Bracket
from robcert.runs.plan import LegPlan
from robcert.runs.record import LegRecord, PlanEndRecord
from robcert.search.plateau import images_that_decide, judge
from robcert.types import Goal

FIRST = 0.1
"""The share of an attack's iterations, of all restarts together, after which it counts as its end."""

Broken = Sequence[int]
"""Positions of the images that a leg broke at the largest budget."""


def plan_end(
    legs: Sequence[LegRecord], broke: Sequence[Broken], bracket: Bracket, left: int, goal: Goal, flat: float
) -> PlanEndRecord:
    """Return what the last attack of a plan broke late, and when the last image of the plan fell.

    The last attack with gradients is looked at, where there is one: queries at the end of a plan (square) break so
    little after gradients that their silence says nothing.

    Args:
        legs: that ran to their end, in order, at least one.
        broke: of each leg.
        bracket: what is known about the images.
        left: images that were open at the largest budget after the last leg.
        goal: with "decide" the example of an image is the one that broke it, so that its iteration tells when; with
            "minimize" it may have been found later, and all that the leg broke is counted.
        flat: the share of open images that may break in a plan that is called settled.
    """
    last = max((k for k, leg in enumerate(legs) if leg.backwards), default=len(legs) - 1)
    leg = legs[last]
    timed = goal == "decide"
    late = [one for one in broke[last] if not timed or _share(leg, bracket, one) > FIRST]
    entered = left + sum(map(len, broke[last + 1 :])) + len(late)
    shape, interval = judge(entered, len(late), flat)
    breaking = max((k for k in range(len(legs)) if broke[k]), default=None)
    fell = None if breaking is None or not timed else max(_share(legs[breaking], bracket, p) for p in broke[breaking])
    return PlanEndRecord(
        verdict="settled" if shape == "flat" else "falling" if shape == "falling" else "undecided",
        leg=_name(leg),
        after=FIRST if timed else 0.0,
        entered=entered,
        newly_broken=len(late),
        interval=interval,
        last=None if breaking is None else _name(legs[breaking]),
        last_at=None if fell is None else round(fell, 4),
        needed=None if judge(left, 0, flat)[0] == "flat" else images_that_decide(left, 0, flat),
    )


def _share(leg: LegRecord, bracket: Bracket, position: int) -> float:
    """Return how much of a leg's iterations, restarts one after the other, an image had when it was broken.

    1 where its example does not say.
    """
    example = bracket.examples[position]
    how = None if example is None else example.provenance
    if how is None or (how.attack, how.iterations) != (leg.attack, leg.iterations):
        return 1.0
    iteration = how.iteration / max(1, attacks.get(leg.attack).cost.forwards)
    return (how.restart + min(1.0, iteration / leg.iterations)) / leg.restarts


def _name(leg: LegRecord) -> str:
    return str(LegPlan(leg.attack, leg.iterations, leg.restarts))
