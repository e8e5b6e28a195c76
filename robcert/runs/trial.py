"""A plan tried on some images for some seconds, and the pace of its steps on a whole batch: what an estimate knows."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks import Attack
from robcert.bracket import Bracket
from robcert.network.batching import SMALLEST
from robcert.runs.legs import StagedLeg
from robcert.runs.plan import LegPlan, build
from robcert.runs.record import RunSpec
from robcert.runs.reporter import Silent
from robcert.runs.spec import seed_of
from robcert.runs.stages import stages
from robcert.runs.stop_condition import Stopped
from robcert.search.budget import most_evaluations
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.types import Goal

GROUP = 16
"""Images that are tried at once."""
MOST = 96
"""Images that are tried at most."""
_LONG = 0.1
"""CPU seconds in which the pace of a batch of one size is measured, where one synchronisation is not longer."""
_SLOW = 0.5
"""CPU seconds of a first synchronisation that is not repeated."""


@dataclass
class StageTrial:
    """A stage of a leg on the images that were tried.

    Attributes:
        goal: of the stage.
        most: evaluations that one restart takes of an image at most.
        entered, left: images that it attacked, and those that stood then.
        fell, stayed: shares of ``most`` that restarts took which ended, by whether the image stood then.
        ages: shares of those that were interrupted.
    """

    goal: Goal
    most: int
    entered: int = 0
    left: int = 0
    fell: list[float] = field(default_factory=list[float])
    stayed: list[float] = field(default_factory=list[float])
    ages: list[float] = field(default_factory=list[float])


@dataclass
class LegTrial:
    """A leg on the images that were tried.

    Attributes:
        attack: of the leg.
        stages: one, or with several budgets one more than there are budgets.
        entered, open: images that entered, and all that stood at the largest budget when it was through.
        beside: evaluations that are no part of a stage.
        reached: it was run.
    """

    attack: Attack
    stages: list[StageTrial]
    entered: int = 0
    open: int = 0
    beside: float = 0.0
    reached: bool = False


@dataclass(frozen=True)
class Pace:
    """CPU seconds of an evaluation of a batch: ``fixed`` and ``each`` for every image in it."""

    fixed: float
    each: float


class Trials:
    """The legs of a plan on some images of a run.

    Args:
        search: the model, the images, all budgets, and what certificates know; nothing that is found is added.
        networks: what is searched.
        plan: the legs.
        spec: of the run.
        width: the most images attacked at once.

    Attributes:
        legs: what each leg did.
        tried: images.
    """

    def __init__(
        self, search: SearchProblem, networks: Networks, plan: Sequence[LegPlan], spec: RunSpec, width: int
    ) -> None:
        self.search, self.networks, self.plan, self.spec, self.width = search, networks, plan, spec, width
        self.tried = 0
        self.legs: list[LegTrial] = []
        for leg in plan:
            attack = build(leg, search.threat.norm, spec.options)
            asked: list[Goal] = [one.goal for one in stages(spec.goal, search.threat)]
            self.legs.append(LegTrial(attack, [StageTrial(goal, most_evaluations(attack, goal)) for goal in asked]))

    def run(self, rows: list[int], seconds: float) -> None:
        """Try groups of the images at ``rows``, the first for at most so many CPU seconds, others while these last."""
        began, longest = time.process_time(), 0.0
        groups = max(1, -(-len(rows) // GROUP))
        for group in [rows[at::groups] for at in range(groups)] if rows else []:
            start = time.process_time()
            if self.tried and (start - began + 1.5 * longest > seconds or self.tried + len(group) > MOST):
                return
            self._group(group, None if self.tried else seconds)
            longest = max(longest, time.process_time() - start)
            self.tried += len(group)
            if not all(leg.reached for leg in self.legs) or any(s.ages for leg in self.legs for s in leg.stages):
                return

    def pace(self, k: int, rows: list[int]) -> Pace:
        """Return the pace of the steps of leg ``k``, from its smallest batch and the one that it begins with."""
        slots = stepper_for(self.legs[k].attack, self.networks, self.search.images.x.device).slots_for(
            len(rows) * self.plan[k].restarts, self.width
        )
        small = self._evaluation(k, rows, SMALLEST)
        if slots <= SMALLEST:
            return Pace(small, 0.0)
        each = max(0.0, (self._evaluation(k, rows, slots) - small) / (slots - SMALLEST))
        return Pace(max(0.0, small - SMALLEST * each), each)

    def _group(self, rows: list[int], seconds: float | None) -> None:
        bracket = copy.deepcopy(self.search.bracket)
        for position in set(range(len(bracket))).difference(rows):
            bracket.wrong[position] = True  # not tried
        search = replace(self.search, bracket=bracket)
        end = None if seconds is None else time.process_time() + seconds
        for k, leg in enumerate(self.legs):
            share = None if end is None else time.process_time() + (end - time.process_time()) / (len(self.legs) - k)
            if share is None or time.process_time() < share:
                self._leg(k, leg, search, share)
            leg.open += int(bracket.standing(search.threat.largest)[rows].sum())

    def _leg(self, k: int, trial: LegTrial, search: SearchProblem, until: float | None) -> None:
        running: dict[int, Stage] = {}

        def synchronised(stage: Stage) -> None:
            running[leg.done.stages] = stage
            if until is not None and stage.remaining and time.process_time() > until:
                raise Stopped("")

        leg = StagedLeg(
            replace(search, seed=seed_of(self.spec, k)), self.networks, self.plan[k], trial.attack, self.width, Silent()
        )
        with contextlib.suppress(Stopped):
            leg.run(synchronised)
        trial.reached = True
        trial.entered += len(leg.done.entered)
        trial.beside += leg.done.spent.forwards - sum(stage.spent.forwards for stage in running.values())
        for number, stage in running.items():
            _note(trial.stages[number], stage)

    def _evaluation(self, k: int, rows: list[int], slots: int) -> float:
        """Return the CPU seconds of an evaluation of so many images, all that a step does around it included."""
        attack, some = self.legs[k].attack, rows[:slots]
        spent, calls, rounds = 0.0, 0, 0
        stage: Stage | None = None
        while rounds < 2 or (spent < _LONG and rounds < 50):
            if stage is None or not stage.remaining:
                search = replace(self.search, bracket=Bracket(self.search.bracket.index, self.search.bracket.wrong))
                work = Work(self.plan[k].attack, some, -(-slots // len(some)), slots)
                stage = Stage(search, work, stepper_for(attack, self.networks, search.images.x.device))
            began, before = time.process_time(), stage.oracle.forwards
            stage.advance()
            stage.synchronise()
            took, made = time.process_time() - began, stage.oracle.forwards - before
            rounds += 1
            if rounds == 1:
                if took > _SLOW:
                    return took / max(1, made)
                continue  # the first prepares what the others find
            spent, calls = spent + took, calls + made
        return spent / max(1, calls)


def _note(trial: StageTrial, stage: Stage) -> None:
    bracket, eps = stage.bracket, stage.search.threat.largest
    entered = stage.plan.entrants
    trial.entered += len(entered)
    trial.left += int(bracket.standing(eps)[entered].sum())
    trial.ages += [min(1.0, count / trial.most) for count in stage.oracle.evaluations[stage.slots.busy].tolist()]
    for count, stood in stage.taken:
        (trial.stayed if stood else trial.fell).append(min(1.0, count / trial.most))
