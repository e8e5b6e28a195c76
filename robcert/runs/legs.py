"""Runs one leg of a plan on the images of a run, stage by stage (`robcert.runs.stages`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks import Attack
from robcert.runs.plan import LegPlan
from robcert.runs.reporter import Reporter
from robcert.runs.stages import Done, StagePlan, bring_closer, climb_near_misses, stages
from robcert.search.problem import SearchProblem, Work
from robcert.search.snapshot import Snapshot, check_format
from robcert.search.stage import Stage
from robcert.types import Threat


class StagedLeg:
    """One leg of a plan.

    Args:
        search: the model, the images, all budgets of the run, the seed of the leg.
        networks: the forms of the model that are searched.
        plan: which leg, and ``attack`` what it runs.
        attack: with its options.
        width: the most images attacked at once.
        reporter: is told of every stage.
        snapshot: where to go on, or None.

    Raises:
        EvaluationError: another version of robcert wrote the snapshot.

    Attributes:
        done: what it has come to.
    """

    def __init__(
        self,
        search: SearchProblem,
        networks: Networks,
        plan: LegPlan,
        attack: Attack,
        width: int,
        reporter: Reporter,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.search, self.bracket, self.networks = search, search.bracket, networks
        self.plan, self.attack, self.width, self.reporter = plan, attack, width, reporter
        self.snapshot = None if snapshot is None else check_format(snapshot)
        threat = search.threat
        self.stages = stages(search.goal, threat)
        each = [StagePlan("decide", Threat(threat.norm, (eps,), threat.box)) for eps in threat.eps]
        self.done = Done([one.entrants(self.bracket) for one in each]) if snapshot is None else Done.before(snapshot)
        self.running: Stage | None = None

    def run(self, synchronised: Callable[[Stage], None]) -> None:
        """Run to the end; ``synchronised`` is called whenever what it is given can be saved."""
        while self.done.stages < len(self.stages):
            self._stage(self.stages[self.done.stages], synchronised)
            self.done.stages += 1

    @property
    def finished(self) -> int:
        """The number of images that were attacked to the end of the leg, where it is ended now."""
        left = set[int]() if self.running is None else self.running.pending
        left = left.union(*(stage.within_reach(self.bracket) for stage in self.stages[self.done.stages + 1 :]))
        return len(self.done.entered - left)

    def _stage(self, stage: StagePlan, synchronised: Callable[[Stage], None]) -> None:
        snapshot, self.snapshot = self.snapshot, None
        if self.done.stages == 0:
            if snapshot is None:
                self.done.begin(stage.entrants(self.bracket))
            self._attack(stage, self.done.entering, snapshot, synchronised)
            return
        if snapshot is None:
            near = stage.within_reach(self.bracket)
            self.done.begin(near)
            at_budget = replace(self.search, threat=stage.threat)
            self.done.pay(climb_near_misses(at_budget, self.attack, self.plan.attack, near, self.width))
        still = stage.within_reach(self.bracket)
        if still or snapshot is not None:
            self._attack(stage, still, snapshot, synchronised)
        broke = [p for p in self.done.entering if float(self.bracket.distance[p]) <= stage.threat.largest]
        self.done.pay(bring_closer(self.search, broke, self.width))

    def _attack(
        self, plan: StagePlan, entering: list[int], snapshot: Snapshot | None, synchronised: Callable[[Stage], None]
    ) -> None:
        search = replace(self.search, threat=plan.threat, goal=plan.goal)
        work = Work(self.plan.attack, entering, self.plan.restarts, self.width, anew=self.done.stages > 0)
        stepper = stepper_for(self.attack, self.networks, search.images.x.device)
        self.running = stage = Stage(search, work, stepper, snapshot)
        if self.done.stages == 0:
            self.reporter.leg(search.model.name, self.plan, stage.work)
        else:
            self.reporter.stage(plan.threat.largest, stage.work)
        try:
            if snapshot is not None:
                synchronised(stage)
            stage.run(synchronised)
        finally:
            self.done.note(stage)
