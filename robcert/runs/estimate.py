"""What a run of attacks will cost, from a measurement of a few seconds on this machine.

The plan is tried on a few images with as many CPU seconds as the measurement has (`robcert.runs.trial`); more images
are tried while these last. Three runs are then counted: one in which the images fall as these did, one in which as many
stay open as so few images allow (exact 95 % bound), and one in which all do.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from robcert.accel.allocator import keep_memory
from robcert.accel.threads import fastest_threads, threads
from robcert.bracket import Bracket
from robcert.criteria import criteria
from robcert.errors import EvaluationError
from robcert.network.batching import default_slots
from robcert.network.export import export_pt2
from robcert.progress import working
from robcert.runs.acceleration import Acceleration
from robcert.runs.artefacts import exported
from robcert.runs.checks import SAMPLE, STEPS
from robcert.runs.clean_images import clean_logits, met
from robcert.runs.execution import Execution
from robcert.runs.plan_cost import SLACK, plan_cost
from robcert.runs.proof import prove
from robcert.runs.record import RunSpec
from robcert.runs.records.estimate import EstimateRecord, ModelEstimate
from robcert.runs.spec import legs_of, threat_of
from robcert.runs.trial import Pace, Trials
from robcert.search.expectation import averaged, single_draw
from robcert.search.problem import SearchProblem
from robcert.types import Batch, Dataset, LoadedModel

SECONDS = 5.0
"""CPU seconds for which the plan of one model is tried."""


def estimate(
    models: Sequence[LoadedModel],
    data: Dataset,
    spec: RunSpec,
    execution: Execution,
    kept: bool = False,
    loading: float = 0.0,
) -> EstimateRecord:
    """Return what a run would cost, without running it.

    Args:
        models: the networks that the spec names, in its order.
        data: the images.
        spec: of the run.
        execution: how it would be done.
        kept: the run would store its networks and examples.
        loading: CPU seconds that were spent before, and would be before the run.
    """
    began = time.process_time()
    keep_memory()
    slots = execution.batch_size or default_slots(data.x[0].numel())
    count = execution.cpu_threads or fastest_threads(models[0].module, data.x[:slots])
    loading += time.process_time() - began
    found: list[ModelEstimate] = []
    with threads(count):
        for number, model in enumerate(models):
            with working(f"{model.name}: measuring what the plan costs"):
                found.append(_model(number, averaged(model, spec.eot), data, spec, execution, slots, kept))
    busy = sum(one.wall[1] for one in found) / max(1e-9, sum(one.seconds[1] for one in found))
    low, high = (sum(one.seconds[end] for one in found) for end in (0, 1))
    seconds = low + loading / SLACK, high + loading * SLACK
    return EstimateRecord(
        device=str(data.x.device),
        models=found,
        loading=loading,
        seconds=seconds,
        wall=(seconds[0] * busy, seconds[1] * busy),
    )


def _model(
    number: int, model: LoadedModel, data: Dataset, spec: RunSpec, execution: Execution, slots: int, kept: bool
) -> ModelEstimate:
    began, clock = time.process_time(), time.monotonic()
    threat, plan = threat_of(spec), legs_of(spec)
    criterion = criteria.get(spec.criterion)
    wrong = met(criterion, clean_logits(model, data, slots), data.y.cpu())
    bracket = Bracket(data.index, wrong)
    search = SearchProblem(model, Batch(data.x, data.y, data.index), bracket, threat, spec.goal, spec.seed, criterion)
    prove(spec.certify, single_draw(model), search, spec.time_per_image)
    if kept:
        _store(model)
    acceleration = Acceleration(data.x[:slots], spec.search_precision, None, execution)
    networks = acceleration.networks(number, model)
    width = acceleration.batch_size(number, networks, slots)
    start = time.process_time() - began
    certified = bracket.certified(threat.largest)
    rows = (~wrong & ~certified).nonzero().flatten().tolist()
    trials = Trials(search, networks, plan, spec, width)
    trials.run(rows, SECONDS)
    paces = [trials.pace(k, rows) if rows else Pace(0.0, 0.0) for k in range(len(plan))]
    busy = max(1.0, (time.monotonic() - clock) / max(1e-9, time.process_time() - began))
    legs, all_open = plan_cost(trials, paces, plan, spec.goal == "decide", len(rows))
    checked = min(SAMPLE, len(rows)) if not model.no_gradient else 0
    checks = STEPS * (paces[0].fixed + checked * paces[0].each) if checked else 0.0
    low = sum(leg.seconds[0] for leg in legs) + start / SLACK
    high = sum(leg.seconds[1] for leg in legs) + (start + checks) * SLACK
    return ModelEstimate(
        name=model.name,
        natural_correct=int((~wrong).sum()),
        certified=int(certified.sum()),
        n=len(data),
        measured=trials.tried,
        broken=trials.tried - trials.legs[-1].open,
        legs=legs,
        start=start,
        seconds=(low, high),
        all_open=max(high, all_open + (start + checks) * SLACK),
        wall=(low * busy, high * busy),
        memory=_memory(data.x),
    )


def _store(model: LoadedModel) -> None:
    """Export and write the network as a run does, to nowhere."""
    network = single_draw(model)
    with suppress(EvaluationError), TemporaryDirectory() as folder:  # the run says so, and goes on without
        export_pt2(network, Path(folder) / "network.pt2", exported=exported(network))


def _memory(x: Tensor) -> int | None:
    if x.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(x.device))
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
