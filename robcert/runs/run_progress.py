"""Tells the work of one model of a run as it goes on: which leg, how many images are open, how long it still takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from robcert.attacks import Attack
from robcert.progress import Work
from robcert.runs.plan import LegPlan, build
from robcert.search.budget import most_evaluations, work_of_evaluation
from robcert.search.forecast import shares_left
from robcert.search.problem import SearchProblem
from robcert.search.stage import Stage

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
        self.earlier: dict[str, list[float]] = {}
        self._later: list[tuple[str, float]] = []  # attack, and the most that it costs an image
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
        self._later = [(leg.attack, self._most(leg)) for leg in plan[k + 1 :]]
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
            self.work.left = pace * self._of_stage(stage) + seconds / paid * self._of_later_legs()

    def _close(self) -> None:
        """Keep what the stage before has shown."""
        stage = self._stage
        self._looks.clear()
        if stage is None:
            return
        self.earlier.setdefault(stage.plan.attack, []).extend(_stood(stage))
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
        ended, earlier = _shares(stage, [count for count, _ in stage.taken]), self.earlier.get(stage.plan.attack, [])
        fresh = shares_left([0.0, *ages], ended, earlier)
        # A restart that waits is dropped where one before it decides the image.
        kept = len(stage.taken) / stage.left if stage.left else 1.0
        shares = sum(fresh[1:]) + kept * stage.slots.waiting * fresh[0]
        attack = stage.attack
        return shares * most_evaluations(attack, stage.search.goal) * work_of_evaluation(attack)

    def _of_later_legs(self) -> float:
        """Return the work of the legs that follow, where the images that are open now stay so."""
        bracket, eps = self.search.bracket, self.search.threat.largest
        going = bracket.standing(eps) if self.search.goal == "decide" else ~bracket.wrong
        images = int((going & ~bracket.certified(eps)).sum())
        stage, total = self._stage, 0.0
        for attack, most in self._later:
            seen = list(self.earlier.get(attack, []))
            if stage is not None and stage.plan.attack == attack:
                seen += _stood(stage)
            total += images * most * shares_left([0.0], seen)[0]
        return total

    def _most(self, leg: LegPlan) -> float:
        attack: Attack = build(leg, self.search.threat.norm, self.options)
        return leg.restarts * most_evaluations(attack, self.search.goal) * work_of_evaluation(attack)


def _stood(stage: Stage) -> list[float]:
    """Return the shares of attacks that left an image standing: a later leg has such images."""
    return _shares(stage, [count for count, stood in stage.taken if stood])


def _shares(stage: Stage, evaluations: Sequence[int]) -> list[float]:
    most = most_evaluations(stage.attack, stage.search.goal)
    return [min(1.0, count / most) for count in evaluations]
