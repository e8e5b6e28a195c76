"""What a run of attacks will cost, from a measurement of a few seconds on this machine.

The plan is run on a few images with as many CPU seconds as the measurement has, shared by its legs; one step on a
whole batch says how the cost grows with the batch. Three runs are then counted: one in which the images fall as these
did, one in which as many stay open as so few images allow (exact 95 % bound), and one in which all do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robcert.accel.benchmark import benchmark
from robcert.accel.stepper import Networks, stepper_for
from robcert.accel.threads import fastest_threads, threads
from robcert.attacks import Attack
from robcert.bracket import Bracket
from robcert.criteria import criteria
from robcert.math.binomial import upper_bound
from robcert.network.batching import default_slots
from robcert.progress import working
from robcert.runs.acceleration import Acceleration
from robcert.runs.checks import SAMPLE, STEPS
from robcert.runs.clean_images import clean_logits, met
from robcert.runs.execution import Execution
from robcert.runs.plan import LegPlan, build
from robcert.runs.proof import prove
from robcert.runs.record import RunSpec
from robcert.runs.records.estimate import EstimateRecord, LegEstimate, ModelEstimate
from robcert.runs.spec import legs_of, seed_of, threat_of
from robcert.search.budget import most_evaluations
from robcert.search.expectation import averaged, single_draw
from robcert.search.forecast import shares_left
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.types import Batch, Dataset, LoadedModel

IMAGES = 16
"""Images that are attacked to measure."""
SECONDS = 5.0
"""CPU seconds of the measurement of one model."""
_SLACK = 1.25
"""A pace that is measured for so short may be off by so much, either way."""


@dataclass
class _Trial:
    """A leg on the measured images.

    Attributes:
        attack: of the leg.
        entered, left: images that were open before and after.
        fell, stayed: shares of the budget that attacks took which ended, by whether the image stood then.
        ages: shares of those that the measurement interrupted.
        step: CPU seconds of an evaluation of the whole batch, or None where nothing was run.
    """

    attack: Attack
    entered: int
    left: int
    fell: list[float]
    stayed: list[float]
    ages: list[float]
    step: float | None = None


def estimate(models: Sequence[LoadedModel], data: Dataset, spec: RunSpec, execution: Execution) -> EstimateRecord:
    """Return what a run would cost, without running it.

    Args:
        models: the networks that the spec names, in its order.
        data: the images.
        spec: of the run.
        execution: how it would be done.
    """
    slots = execution.batch_size or default_slots(data.x[0].numel())
    count = execution.cpu_threads or fastest_threads(models[0].module, data.x[:slots])
    found: list[ModelEstimate] = []
    with threads(count):
        for number, model in enumerate(models):
            with working(f"{model.name}: measuring what the plan costs"):
                found.append(_model(number, averaged(model, spec.eot), data, spec, execution, slots))
    return EstimateRecord(device=str(data.x.device), models=found)


def _model(
    number: int, model: LoadedModel, data: Dataset, spec: RunSpec, execution: Execution, slots: int
) -> ModelEstimate:
    began, clock = time.process_time(), time.monotonic()
    threat, plan = threat_of(spec), legs_of(spec)
    criterion = criteria.get(spec.criterion)
    wrong = met(criterion, clean_logits(model, data, slots), data.y.cpu())
    bracket = Bracket(data.index, wrong)
    search = SearchProblem(model, Batch(data.x, data.y, data.index), bracket, threat, spec.goal, spec.seed, criterion)
    prove(spec.certify, single_draw(model), search, spec.time_per_image)
    acceleration = Acceleration(data.x[:slots], spec.search_precision, None, execution)
    networks = acceleration.networks(number, model)
    width = acceleration.batch_size(number, networks, slots)
    start = time.process_time() - began
    certified = bracket.certified(threat.largest)
    rows = (~wrong & ~certified).nonzero().flatten()
    some = rows[torch.linspace(0, len(rows) - 1, min(IMAGES, len(rows))).long()].tolist() if len(rows) else []
    trials = _trials(search, networks, plan, spec, some)
    pace = max(1.0, (time.monotonic() - clock) / max(1e-9, time.process_time() - began))
    growth = _growth(networks, data.x, width, min(IMAGES, max(8, len(some))))
    legs: list[LegEstimate] = []
    images = [float(len(rows))] * 3
    all_open = 0.0
    for k, leg in enumerate(plan):
        trial = trials[k]
        step = next((one.step for one in _like(trials, k) if one.step is not None), 0.0)
        fell, stayed = _shares(trials, k)
        ends = [_open(trial), upper_bound(trial.left, trial.entered) if trial.entered else 0.0, 1.0]
        # An image that falls is spared the restarts that are left.
        shares = [end * leg.restarts * stayed + (1 - end) * fell for end in ends]
        costs = [
            _cost(trial.attack, spec, count * share, min(width, count * leg.restarts), step, growth)
            for count, share in zip(images, shares, strict=True)
        ]
        legs.append(
            LegEstimate(
                leg=str(leg),
                images=(images[0], images[1]),
                forwards=(costs[0][0], costs[1][0]),
                backwards=(costs[0][1], costs[1][1]),
                seconds=(costs[0][2] / _SLACK, costs[1][2] * _SLACK),
                measured=trial.step is not None,
            )
        )
        all_open += costs[2][2] * _SLACK
        if spec.goal == "decide":
            # Of later legs only the first bound counts: they are about the same images.
            left = [images[0] * ends[0], len(rows) * _still_open(trials, k), images[2]]
            images = [min(before, after) for before, after in zip(images, left, strict=True)]
    first = next((one.step for one in trials if one.step is not None), 0.0)
    checks = STEPS * first if some and not model.no_gradient else 0.0
    low = sum(leg.seconds[0] for leg in legs) + start / _SLACK
    high = sum(leg.seconds[1] for leg in legs) + (start + checks * SAMPLE / IMAGES) * _SLACK
    return ModelEstimate(
        name=model.name,
        natural_correct=int((~wrong).sum()),
        certified=int(certified.sum()),
        n=len(data),
        measured=len(some),
        broken=len(some) - int(bracket.standing(threat.largest)[some].sum()) if some else 0,
        legs=legs,
        start=start,
        seconds=(low, high),
        all_open=max(high, all_open + start * _SLACK),
        wall=(low * pace, high * pace),
        memory=_memory(data.x),
    )


def _trials(
    search: SearchProblem, networks: Networks, plan: Sequence[LegPlan], spec: RunSpec, some: list[int]
) -> list[_Trial]:
    """Run the legs on some images, each for its share of the seconds that are left."""
    until, trials = time.process_time() + SECONDS, list[_Trial]()
    largest = search.threat.largest
    for k, leg in enumerate(plan):
        attack = build(leg, search.threat.norm, spec.options)
        deciding = spec.goal == "decide"
        going = [p for p in some if not deciding or bool(search.bracket.standing(largest)[p])]
        trial = _Trial(attack, len(going), len(going), [], [], [])
        trials.append(trial)
        seconds = (until - time.process_time()) / (len(plan) - k)
        if not going or seconds <= 0:
            continue
        stage = Stage(
            replace(search, seed=seed_of(spec, k)),
            Work(leg.attack, going, leg.restarts, IMAGES),
            stepper_for(attack, networks, search.images.x.device),
        )
        began, evaluations = time.process_time(), 0.0
        while stage.slots.remaining and time.process_time() - began < seconds:
            calls = stage.oracle.forwards
            stage.advance()
            evaluations += stage.oracle.forwards - calls
            stage.synchronise()
            stage.fit()
        trial.step = (time.process_time() - began) / max(1.0, evaluations)
        whole = most_evaluations(attack, spec.goal)
        trial.ages = [min(1.0, count / whole) for count in stage.oracle.evaluations[stage.slots.busy].tolist()]
        if deciding:
            trial.left = len(going) - len(stage.broke)
        shares = [(min(1.0, count / whole), stood) for count, stood in stage.taken]
        trial.fell = [share for share, stood in shares if not stood]
        trial.stayed = [share for share, stood in shares if stood]
    return trials


def _like(trials: list[_Trial], k: int) -> list[_Trial]:
    """Return leg ``k``, then the others of its attack, then all, the nearest first."""
    own = trials[k]
    same = [one for one in reversed(trials[:k]) if type(one.attack) is type(own.attack)]
    return [own, *same, *reversed(trials[:k]), *trials[k + 1 :]]


def _open(trial: _Trial) -> float:
    return trial.left / trial.entered if trial.entered else 0.0


def _still_open(trials: list[_Trial], k: int) -> float:
    """Return the largest share of all images that may be open after leg ``k``: the exact one-sided 95 % bound."""
    entered = trials[0].entered
    return upper_bound(trials[k].left, entered) if entered else 0.0


def _shares(trials: list[_Trial], k: int) -> tuple[float, float]:
    """Return the share of its budget that an image takes which falls, and that of one which stays open."""
    own = trials[k]
    same = [one for one in trials[:k] if type(one.attack) is type(own.attack)]
    stayed = shares_left([0.0, *own.ages], own.stayed, [share for one in same for share in one.stayed])[0]
    return min(stayed, sum(own.fell) / len(own.fell) if own.fell else 0.0), stayed


def _cost(
    attack: Attack, spec: RunSpec, budgets: float, batch: float, step: float, growth: float
) -> tuple[float, float, float]:
    """Return forwards, backwards and CPU seconds of a leg.

    Args:
        attack: of the leg.
        spec: of the run.
        budgets: the whole budgets of an image that it takes, together.
        batch: images that are searched at once.
        step: seconds of an evaluation of a batch of `IMAGES`.
        growth: seconds that every further image adds.
    """
    evaluations = budgets * most_evaluations(attack, spec.goal)
    each = (step + growth * max(0.0, batch - IMAGES)) / max(1.0, batch)
    return evaluations, evaluations * attack.cost.backwards / max(1, attack.cost.forwards), evaluations * each


def _growth(networks: Networks, x: Tensor, width: int, few: int) -> float:
    """Return the CPU seconds that one more image adds to a forward and a backward."""
    module = networks.exact if networks.low is None else networks.low
    many = x[torch.arange(max(width, few + 8), device=x.device) % len(x)]
    least, most = (benchmark([module], batch, 0.2)[0] for batch in (many[:few], many))
    return max(0.0, (most - least) / (len(many) - few))


def _memory(x: Tensor) -> int | None:
    if x.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(x.device))
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
