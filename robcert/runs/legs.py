"""Runs one leg of a plan on the images of a run, stage by stage (`robcert.runs.stages`)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from robcert.attacks import Attack
from robcert.bracket import Bracket
from robcert.engine.crew import Crew
from robcert.engine.leg import Leg
from robcert.engine.precision import Lowered
from robcert.engine.snapshot import Snapshot
from robcert.runs.plan import LegPlan
from robcert.runs.reporter import Reporter
from robcert.runs.stages import Done, Stage, bring_closer, last_chance, stages
from robcert.types import Batch, Goal, LoadedModel, Threat


@dataclass(frozen=True)
class Place:
    """What a worker needs on its device."""

    model: LoadedModel
    images: Batch
    layout: nn.Module | None
    search: Lowered | None

    def on(self, device: torch.device) -> Place:
        """A copy there."""
        images = Batch(*(tensor.to(device) for tensor in (self.images.x, self.images.y, self.images.index)))
        layout = None if self.layout is None else copy.deepcopy(self.layout).to(device)
        search = None if self.search is None else copy.deepcopy(self.search).to(device)
        module = copy.deepcopy(self.model.module).to(device)
        return Place(replace(self.model, module=module), images, layout, search)


class StagedLeg:
    """One leg of a plan.

    Args:
        places: one a device.
        plan: which leg, and ``attack`` what it runs.
        attack: with its options.
        threat: all budgets of the run.
        goal: of the run.
        seed: of the leg.
        bracket: what is known about the images; the leg adds examples.
        width: the most images attacked at once.
        reporter: is told of every stage.
        snapshot: where to go on, or None.

    Attributes:
        done: what it has come to.
    """

    def __init__(
        self,
        places: list[Place],
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
        self.places, self.plan, self.attack, self.threat, self.seed = places, plan, attack, threat, seed
        self.bracket, self.width, self.reporter = bracket, width, reporter
        self.snapshot = snapshot
        self.stages = stages(goal, threat)
        each = [Stage("decide", Threat(threat.norm, (eps,), threat.box)) for eps in threat.eps]
        self.done = Done([one.entrants(bracket) for one in each]) if snapshot is None else Done.before(snapshot)
        self.crew: Crew | None = None

    def run(self, look: Callable[[Crew], None]) -> None:
        """Run to the end; ``look`` is called between two looks, when what it is given can be saved."""
        while self.done.stages < len(self.stages):
            self._stage(self.stages[self.done.stages], look)
            self.done.stages += 1

    @property
    def finished(self) -> int:
        """How many images were attacked to the end of the leg, where it is ended now."""
        left = set[int]() if self.crew is None else self.crew.pending
        left = left.union(*(stage.within_reach(self.bracket) for stage in self.stages[self.done.stages + 1 :]))
        return len(self.done.entered - left)

    def _stage(self, stage: Stage, look: Callable[[Crew], None]) -> None:
        snapshot, self.snapshot = self.snapshot, None
        if self.done.stages == 0:
            if snapshot is None:
                self.done.begin(stage.entrants(self.bracket))
            self._attack(stage, self.done.entering, snapshot, look)
            return
        model, images, bracket = self.places[0].model, self.places[0].images, self.bracket
        if snapshot is None:
            near = stage.within_reach(self.bracket)
            self.done.begin(near)
            self.done.pay(
                last_chance(model, self.attack, self.plan.attack, stage.threat, images, bracket, near, self.width)
            )
        still = stage.within_reach(self.bracket)
        if still or snapshot is not None:
            self._attack(stage, still, snapshot, look)
        broke = [p for p in self.done.entering if float(bracket.distance[p]) <= stage.threat.largest]
        self.done.pay(bring_closer(model, self.threat, images, bracket, broke, self.width))

    def _attack(
        self, stage: Stage, entering: list[int], snapshot: Snapshot | None, look: Callable[[Crew], None]
    ) -> None:
        crew = Crew(self._worker(stage), entering, self.plan.restarts, len(self.places), snapshot)
        self.crew = crew
        if self.done.stages == 0:
            self.reporter.leg(self.places[0].model.name, self.plan, crew.work)
        else:
            self.reporter.stage(stage.threat.largest, crew.work)
        try:
            if snapshot is not None:
                look(crew)
            crew.run(look)
        finally:
            self.done.note(crew)

    def _worker(self, stage: Stage) -> Callable[[int, list[int], Snapshot | None], Leg]:
        def leg(worker: int, share: list[int], snapshot: Snapshot | None) -> Leg:
            place = self.places[worker % len(self.places)]
            return Leg(
                model=place.model,
                attack=self.attack,
                name=self.plan.attack,
                images=place.images,
                bracket=self.bracket,
                threat=stage.threat,
                goal=stage.goal,
                seed=self.seed,
                entrants=share,
                restarts=self.plan.restarts,
                slots=self.width,
                snapshot=snapshot,
                search=place.search,
                layout=place.layout,
                anew=self.done.stages > 0,
            )

        return leg
