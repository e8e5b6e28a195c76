"""Runs one leg of a plan on the images of a run, stage by stage (`robcert.runs.stages`)."""

from __future__ import annotations

from collections.abc import Callable

from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks import Attack
from robcert.bracket import Bracket
from robcert.runs.plan import LegPlan
from robcert.runs.reporter import Reporter
from robcert.runs.stages import Done, StagePlan, bring_closer, climb_near_misses, stages
from robcert.search.snapshot import Snapshot, check_format
from robcert.search.stage import SearchProblem, Stage, Work
from robcert.types import Batch, Goal, LoadedModel, Threat


class StagedLeg:
    """One leg of a plan.

    Args:
        model: the network.
        networks: the forms of it that are searched.
        images: of the run.
        plan: which leg, and ``attack`` what it runs.
        attack: with its options.
        threat: all budgets of the run.
        goal: of the run.
        seed: of the leg.
        bracket: what is known about the images; the leg adds examples.
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
        model: LoadedModel,
        networks: Networks,
        images: Batch,
        plan: LegPlan,
        attack: Attack,
        threat: Threat,
        goal: Goal,
        seed: int,
        bracket: Bracket,
        width: int,
        reporter: Reporter,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.model, self.networks, self.images = model, networks, images
        self.plan, self.attack, self.threat, self.seed = plan, attack, threat, seed
        self.bracket, self.width, self.reporter = bracket, width, reporter
        self.snapshot = None if snapshot is None else check_format(snapshot)
        self.stages = stages(goal, threat)
        each = [StagePlan("decide", Threat(threat.norm, (eps,), threat.box)) for eps in threat.eps]
        self.done = Done([one.entrants(bracket) for one in each]) if snapshot is None else Done.before(snapshot)
        self.leg: Stage | None = None

    def run(self, look: Callable[[Stage], None]) -> None:
        """Run to the end; ``look`` is called between two looks, when what it is given can be saved."""
        while self.done.stages < len(self.stages):
            self._stage(self.stages[self.done.stages], look)
            self.done.stages += 1

    @property
    def finished(self) -> int:
        """How many images were attacked to the end of the leg, where it is ended now."""
        left = set[int]() if self.leg is None else self.leg.pending
        left = left.union(*(stage.within_reach(self.bracket) for stage in self.stages[self.done.stages + 1 :]))
        return len(self.done.entered - left)

    def _stage(self, stage: StagePlan, look: Callable[[Stage], None]) -> None:
        snapshot, self.snapshot = self.snapshot, None
        if self.done.stages == 0:
            if snapshot is None:
                self.done.begin(stage.entrants(self.bracket))
            self._attack(stage, self.done.entering, snapshot, look)
            return
        model, images, bracket = self.model, self.images, self.bracket
        if snapshot is None:
            near = stage.within_reach(self.bracket)
            self.done.begin(near)
            self.done.pay(
                climb_near_misses(model, self.attack, self.plan.attack, stage.threat, images, bracket, near, self.width)
            )
        still = stage.within_reach(self.bracket)
        if still or snapshot is not None:
            self._attack(stage, still, snapshot, look)
        broke = [p for p in self.done.entering if float(bracket.distance[p]) <= stage.threat.largest]
        self.done.pay(bring_closer(model, self.threat, images, bracket, broke, self.width))

    def _attack(
        self, stage: StagePlan, entering: list[int], snapshot: Snapshot | None, look: Callable[[Stage], None]
    ) -> None:
        leg = self._leg(stage, entering, snapshot)
        self.leg = leg
        if self.done.stages == 0:
            self.reporter.leg(self.model.name, self.plan, leg.work)
        else:
            self.reporter.stage(stage.threat.largest, leg.work)
        try:
            if snapshot is not None:
                look(leg)
            leg.run(look)
        finally:
            self.done.note(leg)

    def _leg(self, stage: StagePlan, entering: list[int], snapshot: Snapshot | None) -> Stage:
        search = SearchProblem(self.model, self.images, self.bracket, stage.threat, stage.goal, self.seed)
        work = Work(self.plan.attack, entering, self.plan.restarts, self.width, anew=self.done.stages > 0)
        return Stage(search, work, stepper_for(self.attack, self.networks, self.images.x.device), snapshot)
