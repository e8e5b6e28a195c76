"""Tells the work of one model of a run as it goes on: which leg, how many images are open, how long it still takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from robcert.progress import Work
from robcert.runs.plan import LegPlan, build
from robcert.runs.stages import stages
from robcert.search.budget import most_evaluations, work_of_evaluation
from robcert.search.forecast import shares_left
from robcert.search.problem import SearchProblem
from robcert.search.stage import Stage
from robcert.types import Goal

_APART = 0.5
"""Seconds between two looks: on a GPU the engine looks up a thousand times a second."""
_RECENT = 5.0
"""Seconds over which the pace of a leg is measured: a smaller batch has another."""


class RunProgress:
    """The work of one model, for whoever listens.

    Args:
        work: what is told.
        name: of the model, as a person reads it.
        search: the model, the images, and what is known about them.
        options: of the attacks.
    """

    def __init__(self, work: Work, name: str, search: SearchProblem, options: Mapping[str, dict[str, Any]]) -> None:
        self.work, self.name, self.search, self.options = work, name, search, dict(options)
        self.stages = stages(search.goal, search.threat)
        self.earlier: dict[tuple[str, Goal], list[float]] = {}
        self._later: list[LegPlan] = []
        self._looks: deque[tuple[float, float]] = deque()  # seconds and work of the running stage
        self._stage: Stage | None = None
        self._paid = [0.0, 0.0]  # seconds and work of the stages that have ended

    def doing(self, what: str) -> None:
        """Something goes on that is no leg."""
        self.work.title, self.work.left, self.work.rate = f"{self.name}: {what}", None, ""
        self._count()

    def leg(self, plan: Sequence[LegPlan], k: int) -> None:
        """Leg ``k`` of a plan begins."""
        self.work.title, self.work.left, self.work.rate = (
            f"{self.name}: leg {k + 1} of {len(plan)}, {plan[k]}",
            None,
            "",
        )
        self._later = list(plan[k + 1 :])
        self._count()

    def synchronised(self, stage: Stage) -> None:
        """Look at the running stage, now and then."""
        if stage is not self._stage:
            self._close()
            self._stage = stage
        now = time.monotonic()
        spent = self._spent(stage)
        if self._looks and now - self._looks[-1][0] < _APART:
            return
        self._looks.append((now, spent))
        while now - self._looks[0][0] > _RECENT and len(self._looks) > 2:
            self._looks.popleft()
        self._count()
        if stage.spent.seconds > 0:
            calls = stage.spent.backwards or stage.spent.forwards
            self.work.rate = f"{calls / stage.spent.seconds:,.0f} iterations/s"
        recent = self._looks[-1][1] - self._looks[0][1]
        if recent > 0 and len(self._looks) > 1:
            pace = (self._looks[-1][0] - self._looks[0][0]) / recent
            seconds, paid = stage.spent.seconds + self._paid[0], spent + self._paid[1]
            self.work.left = pace * self._of_stage(stage) + seconds / paid * self.of_what_follows(stage)

    def _close(self) -> None:
        """Keep what the stage before has shown."""
        stage = self._stage
        self._looks.clear()
        if stage is None:
            return
        self.earlier.setdefault((stage.plan.attack, stage.search.goal), []).extend(_lives(stage))
        self._paid = [self._paid[0] + stage.spent.seconds, self._paid[1] + self._spent(stage)]

    def _count(self) -> None:
        bracket, eps = self.search.bracket, self.search.threat.largest
        left = int((bracket.standing(eps) & ~bracket.certified(eps)).sum())
        self.work.note = f"{left} of {len(bracket)} images open"

    def _spent(self, stage: Stage) -> float:
        return stage.spent.forwards + 2.0 * stage.spent.backwards

    def _of_stage(self, stage: Stage) -> float:
        """Return the work that the running stage has left."""
        busy = stage.slots.busy
        ages = _shares(stage, stage.oracle.evaluations[busy].tolist())
        ended, earlier = _shares(stage, [count for count, _ in stage.taken]), self._known(stage)
        fresh = shares_left([0.0, *ages], ended, earlier)
        # A restart that waits is dropped where one before it decides the image.
        kept = len(stage.taken) / stage.left if stage.left else 1.0
        shares = sum(fresh[1:]) + kept * stage.slots.waiting * fresh[0]
        attack = stage.attack
        return shares * most_evaluations(attack, stage.search.goal) * work_of_evaluation(attack)

    def of_what_follows(self, stage: Stage) -> float:
        """Return the work of the stages and legs that follow, where the images that are open now stay so."""
        bracket = self.search.bracket
        images = [len(self.stages[0].entrants(bracket)), *(len(one.within_reach(bracket)) for one in self.stages[1:])]
        here = next(at for at, one in enumerate(self.stages) if one.threat.eps == stage.search.threat.eps)
        total = self._of_leg(LegPlan(stage.plan.attack, stage.attack.iterations, stage.plan.restarts), images, here + 1)
        return total + sum(self._of_leg(leg, images, 0) for leg in self._later)

    def _of_leg(self, leg: LegPlan, images: Sequence[int], first: int) -> float:
        """Return the work of the stages of a leg from ``first`` on, of which each attacks so many images."""
        attack, total = build(leg, self.search.threat.norm, self.options), 0.0
        for number in range(first, len(self.stages)):
            goal = self.stages[number].goal
            seen = list(self.earlier.get((leg.attack, goal), []))
            running = self._stage
            if running is not None and (running.plan.attack, running.search.goal) == (leg.attack, goal):
                seen += _lives(running)
            share = shares_left([0.0], seen)[0]
            total += images[number] * leg.restarts * share * most_evaluations(attack, goal) * work_of_evaluation(attack)
        return total

    def _known(self, stage: Stage) -> list[float]:
        return self.earlier.get((stage.plan.attack, stage.search.goal), [])


def _lives(stage: Stage) -> list[float]:
    """Return the shares of attacks that no example ended: a later leg has such images."""
    deciding = stage.search.goal == "decide"
    return _shares(stage, [count for count, stood in stage.taken if stood or not deciding])


def _shares(stage: Stage, evaluations: Sequence[int]) -> list[float]:
    most = most_evaluations(stage.attack, stage.search.goal)
    return [min(1.0, count / most) for count in evaluations]
