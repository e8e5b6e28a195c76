"""What a plan costs, counted from what a trial of it showed: as the images fell, as many as may stay open, and all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robcert.math.hypergeometric import most_of
from robcert.runs.plan import LegPlan
from robcert.runs.records.estimate import LegEstimate
from robcert.runs.trial import LegTrial, Pace, StageTrial, Trials
from robcert.search.forecast import shares_left

SLACK = 1.3
"""A pace that is measured for so short may be off by so much, either way: on a busy machine the same work takes up to a
third more CPU time at one moment than at another."""


def plan_cost(
    trials: Trials, paces: Sequence[Pace], plan: Sequence[LegPlan], deciding: bool, count: int
) -> tuple[list[LegEstimate], float]:
    """Return the legs, and their CPU seconds where every image stays open.

    Args:
        trials: what was tried.
        paces: of the steps of each leg.
        plan: the legs.
        deciding: images that fall are attacked no more.
        count: images that enter the first leg.
    """
    images, all_open = [float(count)] * 3, 0.0
    legs: list[LegEstimate] = []
    for k, (leg, trial) in enumerate(zip(plan, trials.legs, strict=True)):
        left = images
        if deciding and trials.tried:
            left = [
                count * trial.open / trials.tried,
                min(images[1], float(most_of(trial.open, trials.tried, count))),
                float(count),
            ]
        costs = [
            _cost(trials, k, paces[k], _Case(end, images[end], left[end], leg.restarts, trials.width))
            for end in range(3)
        ]
        ratio = trial.attack.cost.backwards / max(1, trial.attack.cost.forwards)
        legs.append(
            LegEstimate(
                leg=str(leg),
                images=(images[0], images[1]),
                forwards=(costs[0][0], costs[1][0]),
                backwards=(costs[0][0] * ratio, costs[1][0] * ratio),
                seconds=(costs[0][1] / SLACK, costs[1][1] * SLACK),
                measured=trial.reached or not trials.tried,
            )
        )
        all_open += costs[2][1] * SLACK
        images = left
    return legs, all_open


@dataclass(frozen=True)
class _Case:
    """A run that is counted.

    Attributes:
        which: 0 as the tried images did, 1 as many as the bound allows, 2 all.
        images, left: images that enter a leg, and those that are open after it.
        restarts: of the leg.
        width: the most images at once.
    """

    which: int
    images: float
    left: float
    restarts: int
    width: int

    def share(self, seen: int, sample: int) -> float:
        """Return the share of the images of which ``seen`` in a ``sample`` are of a kind."""
        if self.which == 2 or not sample:
            return 1.0
        population = max(sample, round(self.images))
        return seen / sample if self.which == 0 else most_of(seen, sample, population) / population


def _cost(trials: Trials, k: int, pace: Pace, case: _Case) -> tuple[float, float]:
    """Return the evaluations, of all images, and the CPU seconds of leg ``k``."""
    trial = trials.legs[k]
    evaluations = case.images * trial.beside / trial.entered if trial.entered else 0.0
    seconds = evaluations * (pace.each + pace.fixed / max(1.0, min(case.images, case.width)))
    for number, stage in enumerate(trial.stages):
        images, end = case.images, case.left / case.images if case.images else 0.0
        if number:
            images *= case.share(stage.entered, trial.entered)
            end = case.share(stage.left, stage.entered)
        fell, stayed, longest = _shares(trials, k, number, case.restarts)
        if stage.goal == "minimize":
            end = 1.0
        budgets = images * (end * case.restarts * stayed + (1 - end) * fell)
        last = longest if end * images >= 0.5 else max(stage.fell, default=0.0)
        slots = max(1.0, min(case.width, images * case.restarts))
        evaluations += budgets * stage.most
        seconds += _seconds(pace, stage.most, budgets, last, slots)
    return evaluations, seconds


def _seconds(pace: Pace, most: int, budgets: float, last: float, slots: float) -> float:
    """Return the CPU seconds of so many whole budgets of ``most``, of which the longest takes the share ``last``."""
    return most * (pace.fixed * max(last if budgets else 0.0, budgets / slots) + pace.each * budgets)


def _shares(trials: Trials, k: int, number: int, restarts: int) -> tuple[float, float, float]:
    """Return shares of a budget: all restarts of an image that falls, one of an image that stays open, the largest."""
    own = trials.legs[k].stages[number]
    stood = _stood(own)
    attack = type(trials.legs[k].attack)
    earlier = [share for leg in trials.legs[:k] if type(leg.attack) is attack for share in _of(leg, number)]
    stayed = shares_left([0.0, *own.ages], stood, earlier)[0]
    longest = 1.0 if own.ages else max(stood, default=1.0)
    fallen = own.entered - own.left
    fell = sum(own.fell) / fallen if fallen else 0.0
    return min(restarts * stayed, fell), stayed, longest


def _stood(stage: StageTrial) -> list[float]:
    """Return the shares of restarts that tell how long one takes which does not end at an example."""
    return stage.stayed if stage.goal == "decide" else stage.stayed + stage.fell


def _of(leg: LegTrial, number: int) -> list[float]:
    return _stood(leg.stages[number]) if number < len(leg.stages) else []
