"""Attacks that know less than others and break images that those leave, beyond chance.

Carlini et al. 2019, section 4: neither an attack without gradients nor one of a single step should beat iterative
gradient attacks. That one of them breaks a few images which the others left is no such sign: two attacks of equal
strength differ by chance, and now and then either way. So both ways are counted. Of the images that exactly one side
breaks each side has half, on average, if both are equally strong (McNemar's test, exact).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from robcert.accel.stepper import Networks, stepper_for
from robcert.bracket import Bracket
from robcert.math.binomial import sign_test
from robcert.runs.diagnostics import WeakerWin
from robcert.runs.plan import LegPlan, build, is_single_step
from robcert.runs.record import LegRecord, RunSpec
from robcert.runs.spec import seed_of
from robcert.runs.summary import as_list
from robcert.search.plateau import judge
from robcert.search.problem import SearchProblem, Work
from robcert.search.snapshot import Spent
from robcert.search.stage import Stage
from robcert.types import Threat

ITERATIVE = 10
"""From so many gradient steps on an attack counts as iterative."""
_LEVEL = 0.05
_AT_ONCE = 32

Again = Callable[[int, list[int]], Collection[int]]
"""Runs a leg of the plan alone on some images, at the largest budget: which of them it breaks."""


def weaker_wins(legs: list[LegRecord], notes: list[dict[str, list[int]]], proven: int, again: Again) -> list[WeakerWin]:
    """Return the legs without gradients, or of one step, that break more of a run's images than chance.

    Such a leg is looked at where, at the largest budget, it broke more than 1 % of the images that were open (neither
    broken nor ``proven``) when iterative gradient attacks had been run, by the exact one-sided 95 % bound. What is left
    of these images after the iterative gradient attacks of the run that came later is set against the images that
    such attacks broke and it misses, by the exact one-sided test at 5 %.

    Args:
        legs: that were run.
        notes: of each leg, what it broke at the largest budget.
        proven: how many images are certified at the largest budget.
        again: runs one of them on some images.
    """
    kinds = [_kind(leg) for leg in legs]
    strong = [k for k, kind in enumerate(kinds) if kind == "iterative"]
    found: list[WeakerWin] = []
    for k, (leg, kind) in enumerate(zip(legs, kinds, strict=True)):
        broke = set(notes[k].get("broke", []))
        left_open = as_list(leg.attacked_correct)[-1] + as_list(leg.newly_broken)[-1] - proven
        weaker = kind in ("gradient-free-wins", "one-step-wins") and any(j < k for j in strong)
        if not weaker or judge(left_open, len(broke))[0] != "falling":
            continue
        won = broke.difference(*(again(j, sorted(broke)) for j in strong if j > k))
        theirs = sorted(set[int]().union(*(notes[j].get("broke", []) for j in strong)))
        asked = missed = 0
        for at in range(0, len(theirs), _AT_ONCE):
            if sign_test(len(won), missed) > _LEVEL:
                break
            some = theirs[at : at + _AT_ONCE]
            asked, missed = asked + len(some), missed + len(some) - len(again(k, some))
        p = sign_test(len(won), missed)
        if p <= _LEVEL:
            message = _message(leg, [legs[j] for j in strong], len(won), asked, missed, p)
            found.append(WeakerWin(kind, message, sorted(won)))
    return found


class Rerun:
    """Legs of a run that are run again on some images, each as if it were the first, at the largest budget.

    Args:
        search: the model and the images; its bracket stays as it is.
        spec: of the run.
        plan: its legs.
        slots: the most images attacked at once.

    Attributes:
        spent: what it took.
    """

    def __init__(self, search: SearchProblem, spec: RunSpec, plan: Sequence[LegPlan], slots: int) -> None:
        threat = Threat(search.threat.norm, (search.threat.largest,), search.threat.box)
        self.search, self.spec, self.plan = replace(search, threat=threat, goal="decide"), spec, plan
        self.slots = slots
        self.spent = Spent()

    def __call__(self, k: int, positions: list[int]) -> set[int]:
        """Run leg ``k``; the positions that it breaks."""
        if not positions:
            return set()
        plan, own, threat = self.plan[k], Bracket(self.search.images.index), self.search.threat
        search = replace(self.search, bracket=own, seed=seed_of(self.spec, k))
        attack = build(plan, threat.norm, self.spec.options)
        stepper = stepper_for(attack, Networks(search.model.module), search.images.x.device)
        stage = Stage(search, Work(plan.attack, positions, plan.restarts, self.slots), stepper)
        stage.run()
        self.spent.forwards += stage.spent.forwards
        self.spent.backwards += stage.spent.backwards
        self.spent.seconds += stage.spent.seconds
        return {position for position in positions if float(own.distance[position]) <= threat.largest}


def _kind(leg: LegRecord) -> str:
    if leg.backwards == 0:
        return "gradient-free-wins" if leg.forwards > 0 else ""
    if leg.iterations == 1 or is_single_step(leg.attack):
        return "one-step-wins"
    return "iterative" if leg.iterations >= ITERATIVE and leg.entered > 0 else ""


def _message(leg: LegRecord, others: list[LegRecord], won: int, asked: int, missed: int, p: float) -> str:
    name, *names = (str(LegPlan(one.attack, one.iterations, one.restarts)) for one in (leg, *others))
    return (
        f"{name} broke {won} images that no iterative gradient attack of the run ({', '.join(names)}) breaks, and "
        f"misses {missed} of the {asked} that these broke: more than chance (exact one-sided McNemar test, p = {p:.2g})"
    )
