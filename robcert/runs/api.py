"""``robcert.attack``: what the command does, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robcert.accel.precision import SearchPrecision
from robcert.certificates import certificates
from robcert.certificates.effort import SECONDS
from robcert.criteria import criteria
from robcert.data.check import check_images
from robcert.errors import UsageError, did_you_mean
from robcert.runs.execute import execute
from robcert.runs.execution import CHECKPOINT_SECONDS, Execution
from robcert.runs.plan import LegPlan, build, parse_plan, plan_for
from robcert.runs.record import UNTIL, LegSpec, RunRecord, RunSpec, Until
from robcert.runs.reporter import Reporter, Silent
from robcert.runs.spec import data_record, model_specs, run_name, threat_record
from robcert.runs.stop_condition import StopCondition, either, within
from robcert.search.plateau import FLAT
from robcert.types import Dataset, Goal, LoadedModel, Threat

if TYPE_CHECKING:
    from robcert.runs.records.estimate import EstimateRecord


def attack(
    model: LoadedModel | Sequence[LoadedModel],
    data: Dataset,
    threat: Threat,
    plan: str | Sequence[LegPlan] | None = None,
    *,
    goal: Goal | None = None,
    certify: str = "gap",
    time_per_image: float | None = SECONDS,
    seed: int = 0,
    options: dict[str, dict[str, Any]] | None = None,
    flat: float = FLAT,
    until: Until | None = None,
    time_budget: float | None = None,
    eot: int = 1,
    run: str | Path | None = None,
    runs: str | Path | None = None,
    reporter: Reporter | None = None,
    batch_size: int | None = None,
    cpu_threads: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    search_precision: SearchPrecision = "auto",
    criterion: str = "misclassified",
    enough: StopCondition | None = None,
) -> RunRecord:
    """Attack one or several models and say what held.

    Args:
        model: one network or several (`robcert.load_model`).
        data: the images (`robcert.load_dataset`), on the device of the models.
        threat: norm and budgets.
        plan: legs, e.g. "cw:100,1k,pgd:100x5", or a name: "autoattack", "strong", "fast"; by default a CW sweep and
            restarts of PGD, and for networks without a gradient attacks that need none.
        goal: "decide" (default with one budget: stop an image at its first verified example within the budget) or
            "minimize" (keep looking for closer ones; the only goal with several budgets, each of which is then also
            searched as "decide" does).
        certify: the certificate (`robcert.certify`) that is tried first: certified images are not attacked. "none"
            tries none. A network whose graph it does not support is attacked without, and a warning says so.
        time_per_image: CPU seconds for the certificate of each image, never an average; what is undecided by then is
            attacked. None: no limit. "gap" needs none.
        seed: of everything random.
        options: by attack name, options of that attack, e.g. ``{"pgd": {"step_size": 0.1}}``.
        flat: the share of open images that ten times the iterations may break for a sweep to be called flat.
        until: "flat" lengthens the sweep after the plan, each time to ten times the iterations, until it is flat or
            disputed, or so few images are open that nothing could decide (`robcert.runs.lengthen`).
        time_budget: seconds from this call on; the leg that runs then is saved and ended early, and the same call on
            the same run directory goes on with it.
        eot: for a random model: every answer and gradient is the mean over so many draws.
        run: the run directory; a run of the same specification found there goes on.
        runs: a directory in which the run gets a directory named after its specification, if ``run`` is not given.
        reporter: is told about progress.
        batch_size: the most images attacked at once.
        cpu_threads: by default the faster of one and as many as torch would use.
        checkpoint_seconds: how often a running leg is saved.
        search_precision: of the coarse part of a search: "float32", "bfloat16", or whichever is faster here. What it
            finds is confirmed by the float32 network either way. With "float32" and ``cpu_threads`` nothing is chosen
            by the clock, so two runs find the same points to the last bit.
        criterion: what counts as success, the name of a registered criterion (`robcert.criteria`). Certificates speak
            of "misclassified" alone, so with another one nothing is certified.
        enough: ends the run of a model early, see `robcert.runs.stop_condition`.

    Returns:
        The record: verdicts of all images, legs, plateau, warnings.

    Raises:
        UsageError: a name, budget, plan or shape does not fit.
        EvaluationError: the evaluation could not be done.
        Interrupted: Ctrl-C, after saving.
    """
    models = [model] if isinstance(model, LoadedModel) else list(model)
    spec, notes = _specified(
        models, data, threat, plan, goal=goal, certify=certify, time_per_image=time_per_image, seed=seed,
        options=options, flat=flat, until=until, eot=eot, search_precision=search_precision, criterion=criterion,
    )  # fmt: skip
    directory = Path(run) if run is not None else Path(runs) / run_name(spec) if runs is not None else None
    if time_budget is not None:
        enough = either(within(time_budget), enough)
    execution = Execution(directory, reporter or Silent(), batch_size, cpu_threads, checkpoint_seconds, enough)
    for note in notes:
        execution.reporter.note(note)
    return execute(models, data, spec, execution)


def estimate(
    model: LoadedModel | Sequence[LoadedModel],
    data: Dataset,
    threat: Threat,
    plan: str | Sequence[LegPlan] | None = None,
    *,
    goal: Goal | None = None,
    certify: str = "gap",
    time_per_image: float | None = SECONDS,
    seed: int = 0,
    options: dict[str, dict[str, Any]] | None = None,
    eot: int = 1,
    batch_size: int | None = None,
    cpu_threads: int | None = None,
    search_precision: SearchPrecision = "auto",
    kept: bool = False,
    loading: float = 0.0,
) -> EstimateRecord:
    """Say what `attack` would cost, from a measurement of some seconds.

    Args:
        model, data, threat, plan, goal, certify, time_per_image, seed, options, eot, batch_size, cpu_threads,
            search_precision: as of `attack`.
        kept: the run would have a directory.
        loading: CPU seconds that were spent before this call, and would be before that of `attack`.

    Returns:
        For each model and leg a range of forwards, backwards and CPU seconds: from images that fall as those did which
        were measured, to as many that stay open as so few allow (`robcert.runs.estimate`).

    Raises:
        UsageError: a name, budget, plan or shape does not fit.
        EvaluationError: the evaluation could not be done.
    """
    from robcert.runs.estimate import estimate as measure

    models = [model] if isinstance(model, LoadedModel) else list(model)
    spec, _ = _specified(
        models, data, threat, plan, goal=goal, certify=certify, time_per_image=time_per_image, seed=seed,
        options=options, flat=FLAT, until=None, eot=eot, search_precision=search_precision, criterion="misclassified",
    )  # fmt: skip
    return measure(models, data, spec, Execution(batch_size=batch_size, cpu_threads=cpu_threads), kept, loading)


def _specified(
    models: Sequence[LoadedModel],
    data: Dataset,
    threat: Threat,
    plan: str | Sequence[LegPlan] | None,
    *,
    goal: Goal | None,
    certify: str,
    time_per_image: float | None,
    seed: int,
    options: dict[str, dict[str, Any]] | None,
    flat: float,
    until: Until | None,
    eot: int,
    search_precision: SearchPrecision,
    criterion: str,
) -> tuple[RunSpec, list[str]]:
    """Return the specification of a run, and notes on it; for arguments and errors see `attack`."""
    named = parse_plan(plan, threat.norm) if isinstance(plan, str) else None if plan is None else list(plan)
    legs, notes = plan_for(models, named, threat.norm)
    for leg in legs:
        build(leg, threat.norm, options or {})
    goal = goal or ("decide" if len(threat.eps) == 1 else "minimize")
    if goal == "decide" and len(threat.eps) > 1:
        raise UsageError(
            "the goal 'decide' stops an image at one budget, but several eps were given",
            "Give one eps, or --goal minimize, which answers for all of them in one run",
        )
    if until is not None and until not in UNTIL:
        raise UsageError(f"unknown end {until!r} of a sweep", did_you_mean(until, UNTIL))
    if eot < 1:
        raise UsageError(f"--eot is {eot}, but it is a number of draws, at least 1")
    if certify != "none" and certificates.get(certify).probabilistic:
        raise UsageError(
            f"{certify} certifies another classifier, with a probability: it is no end of the bracket of an attack",
            f"Use --certify best, or robcert certify --method {certify}",
        )
    limited = certify != "none" and not certificates.get(certify).closed_form
    criteria.get(criterion)
    if not models:
        raise UsageError("no model was given", "Example: robcert attack digits-l2nnn --norm l2 --eps 0.5")
    for one in models:
        _check_fit(one, data, threat)
    used = {leg.attack for leg in legs}
    spec = RunSpec(
        threat=threat_record(threat),
        data=data_record(data),
        models=model_specs(models),
        plan=[LegSpec(attack=leg.attack, iterations=leg.iterations, restarts=leg.restarts) for leg in legs],
        goal=goal,
        certify=certify,
        time_per_image=time_per_image if limited else None,
        seed=seed,
        options={name: values for name, values in sorted((options or {}).items()) if name in used and values},
        flat=flat,
        until=until,
        eot=eot,
        search_precision=search_precision,
        criterion=criterion,
    )
    return spec, notes


def _check_fit(model: LoadedModel, data: Dataset, threat: Threat) -> None:
    if not len(data):
        raise UsageError(f"the data set {data.name} has no images")
    for what, box in ((f"the data set {data.name}", data.box), (f"the model {model.name}", model.box)):
        if box != threat.box:
            raise UsageError(
                f"the entries of {what} lie in [{box[0]:g}, {box[1]:g}], but the threat keeps an adversary to "
                f"[{threat.box[0]:g}, {threat.box[1]:g}]",
                "Give both the same box: Threat(norm, eps, data.box), load_model(..., box=data.box)",
            )
    check_images(data.x, data.name, threat.box)
    if tuple(model.input_shape) != data.shape:
        raise UsageError(
            f"{model.name} takes inputs of shape {tuple(model.input_shape)}, but {data.name} has {data.shape}",
            "Name the data it was trained for with --data (robcert data lists what there is); from Python,"
            " robcert.data.fit_to(data, [model]) brings images to other channels or another arrangement",
        )
    if int(data.y.max()) >= model.num_classes:
        raise UsageError(
            f"{model.name} has {model.num_classes} classes, but {data.name} has the label {int(data.y.max())}",
            "Name the data it was trained for with --data",
        )
