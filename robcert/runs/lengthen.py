"""A plan that is lengthened tenfold until its sweep is decided (``until="flat"``).

The next leg follows from the legs that have ended, so a resumed run goes on with the leg that it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from robcert.bracket import Bracket
from robcert.runs.plan import LegPlan, is_single_step
from robcert.runs.record import LegRecord
from robcert.runs.summary import sweep_verdict
from robcert.search.plateau import judge
from robcert.types import Threat

MOST = 10_000_000
"""Iterations of the longest leg."""


@dataclass(frozen=True)
class Lengthening:
    """The next leg, or None and why the sweep is not lengthened any more."""

    leg: LegPlan | None
    why: str = ""


def lengthened(legs: Sequence[LegRecord], bracket: Bracket, threat: Threat, flat: float) -> Lengthening:
    """Return the leg after those that have ended.

    A sweep that is neither flat nor disputed gets ten times the iterations of its longest leg. Where no sweep was run,
    the last attack with gradients begins one. It ends, undecided, where so few images are open that a leg which breaks
    none of them could not decide either.

    Args:
        legs: that have ended.
        bracket: what is known about the images.
        threat: with all budgets.
        flat: the share of open images that ten times the iterations may break in a flat sweep.
    """
    natural = int((~bracket.wrong).sum())
    proven = [int(bracket.certified(eps).sum()) for eps in threat.eps]
    verdict = sweep_verdict(natural, proven, list(legs), threat, flat)
    if verdict is not None and verdict.verdict in ("flat", "disputed"):
        return Lengthening(None)
    eps = threat.largest if verdict is None else verdict.eps
    left = int((bracket.standing(eps) & ~bracket.certified(eps)).sum())
    if judge(left, 0, flat)[0] != "flat":
        return Lengthening(
            None, f"{left} open images at eps {eps:g} are too few to tell whether more iterations help: raise --n"
        )
    if verdict is not None:
        longest = [LegPlan(verdict.attack, verdict.after, verdict.restarts)]
    else:
        able = [leg for leg in legs if not is_single_step(leg.attack)]
        able = [leg for leg in able if leg.backwards] or able
        longest = [LegPlan(leg.attack, leg.iterations, leg.restarts) for leg in able]
    if not longest:
        return Lengthening(None, "no attack of the plan takes more iterations")
    longer = replace(longest[-1], iterations=10 * longest[-1].iterations)
    return (
        Lengthening(longer)
        if longer.iterations <= MOST
        else Lengthening(None, f"more than {MOST:,} iterations are not tried")
    )
