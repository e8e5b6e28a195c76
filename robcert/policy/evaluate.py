"""Evaluates a policy: what needs no attack first, then one run of attacks for the requirements that share it."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy
import torch

from robcert import __version__
from robcert.bracket import Bracket
from robcert.errors import EvaluationError, UsageError
from robcert.policy.baseline import Baseline, BaselineEntry, read_baseline, stood, write_baseline
from robcert.policy.finding import Asked, attacked, measured
from robcert.policy.inputs import Inputs, load_policy_inputs
from robcert.policy.kinds import Attacked, Measured, Subject, kinds
from robcert.policy.load import Source
from robcert.policy.meter import Meter
from robcert.policy.record import GatedModel, GateRecord, PolicyRecord, RequirementRecord, RunUse
from robcert.policy.schema import Requirement
from robcert.policy.verdict import PASSING, judge, overall
from robcert.runs.api import attack
from robcert.runs.plan import LegPlan
from robcert.runs.record import ModelRecord, RunRecord, Versions
from robcert.runs.reporter import Reporter, Silent
from robcert.runs.spec import data_record
from robcert.runs.stop_condition import OUT_OF_TIME, StopCondition
from robcert.types import LoadedModel, Threat, ThreatNorm

SETTLED = "the verdict cannot change any more"


@dataclass(frozen=True)
class How:
    """Settings that do not decide the verdict.

    Attributes:
        device: of the models.
        data_dir, download: see `robcert.load_dataset`.
        runs: the folder of the run directories; None keeps nothing.
        batch_size: the most images attacked at once; None lets their size decide.
        full: run every plan to its end, though the verdict is settled.
        warn: an inconclusive verdict passes.
        reporter: is told about progress.
        clock: seconds, rising.
    """

    device: str = "cpu"
    data_dir: Path | None = None
    download: bool = False
    runs: Path | None = Path("runs")
    batch_size: int | None = None
    full: bool = False
    warn: bool = False
    reporter: Reporter = field(default_factory=Silent)
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class _Group:
    """Requirements of one model that one run answers."""

    norm: ThreatNorm
    eps: float
    asked: tuple[Asked, ...]

    @property
    def first(self) -> Requirement:
        return self.asked[0].requirement

    def legs(self, model: LoadedModel) -> list[LegPlan]:
        return self.first.legs(bool(model.no_gradient))

    def plan(self, model: LoadedModel) -> str:
        return ",".join(map(str, self.legs(model)))


def evaluate(source: Source, how: How | None = None) -> GateRecord:
    """Give the verdict on every requirement for every model.

    Args:
        source: the policy.
        how: devices, folders, who is told.

    Raises:
        UsageError: a model, a data set or the baseline is missing or does not fit.
        EvaluationError: the evaluation could not be done.
        Interrupted: Ctrl-C, after saving.
    """
    how = how or How()
    began, late = how.clock(), _deadline(source, how)
    inputs = load_inputs(source, how)
    subjects = _subjects(source, inputs, late)
    found: dict[tuple[int, int], RequirementRecord] = {}
    runs: list[RunUse] = []
    for number, subject in enumerate(subjects):
        asked = _asked(source, subject, inputs.of)
        place = {one.requirement.name: k for k, one in enumerate(asked)}
        for one in asked:
            kind = kinds.get(one.requirement.kind)
            if hasattr(kind, "measure"):
                result = cast(Measured, kind).measure(one.requirement, subject)
                found[number, place[one.requirement.name]] = measured(one, result)
        for group in _groups(asked):
            questions = [_question(one) for one in group.asked]
            meter = Meter(how.reporter)
            record = _run(group, subject, source, replace(how, reporter=meter), questions, meter.settle)
            use = _use(record, group, group.plan(subject.model), meter if how.full else None)
            for one, question in zip(group.asked, questions, strict=True):
                result = attacked(one, question, record.models[0], len(runs), use)
                found[number, place[one.requirement.name]] = result
            runs.append(use)
    requirements = [found[key] for key in sorted(found)]
    verdict = overall(one.verdict for one in requirements)
    return GateRecord(
        verdict=verdict,
        passed=verdict in PASSING or (how.warn and verdict == "inconclusive"),
        policy=PolicyRecord(path=str(source.path), sha256=_sha256(source.path)),
        data=data_record(inputs.data),
        of=inputs.of,
        models=[GatedModel(name=model.name, sha256=model.source.sha256) for model in inputs.models],
        requirements=requirements,
        runs=runs,
        versions=Versions(
            robcert=__version__,
            torch=torch.__version__,
            numpy=numpy.__version__,
            python=platform.python_version(),
        ),
        device=str(inputs.data.x.device),
        seconds=round(how.clock() - began, 3),
    )


def update_baseline(source: Source, how: How | None = None) -> Path:
    """Measure what stands now, to the end of every plan, and write it as the baseline.

    Returns:
        The file.

    Raises:
        UsageError: the policy names no baseline or asks for no drop; see `evaluate`.
        EvaluationError: the time budget is too short for it.
    """
    how = replace(how or How(), full=True)
    late = _deadline(source, how)
    if source.policy.baseline is None:
        raise UsageError(f"{source.path} names no baseline", 'Add baseline = "baseline.json" to [gate]')
    inputs = load_inputs(source, how)
    entries: list[BaselineEntry] = []
    for model in inputs.models:
        sample, seconds = len(inputs.data) < inputs.of, source.policy.time_per_image
        subject = Subject(model, inputs.data, sample, late=late, time_per_image=seconds)
        asked = [one for one in _asked(source, subject, inputs.of) if one.requirement.kind == "attacked_accuracy_drop"]
        for group in _groups(asked):
            record = _run(group, subject, source, how, [], lambda: None)
            if record.models[0].stopped is not None:
                raise EvaluationError(f"no baseline was written: {record.models[0].stopped}", "Raise time_budget")
            standing = [image.index for image in record.models[0].images if stood(image)]
            entries += [
                BaselineEntry(
                    model=model.name,
                    sha256=model.source.sha256,
                    requirement=one.requirement.name,
                    norm=group.norm,
                    eps=group.eps,
                    plan=group.plan(model),
                    seed=source.policy.seed,
                    standing=standing,
                )
                for one in group.asked
            ]
    if not entries:
        raise UsageError(
            f"{source.path} asks for no drop, so a baseline is of no use", "Add attacked_accuracy_drop = 0.02"
        )
    path = source.beside(source.policy.baseline)
    index = [int(one) for one in inputs.data.index]
    write_baseline(path, Baseline(version=__version__, data=data_record(inputs.data), index=index, entries=entries))
    return path


def load_inputs(source: Source, how: How) -> Inputs:
    """Load what a policy names, and tell what was decided in reading it and which of its budgets are too wide.

    Raises:
        UsageError: something does not exist or does not fit, with the line of the policy.
        EvaluationError: a file cannot be evaluated.
    """
    inputs = load_policy_inputs(source, how.device, how.data_dir, how.download)
    notes = [*inputs.data.notes, *(note for model in inputs.models for note in model.notes)]
    for requirement, line in zip(source.policy.require, source.lines, strict=True):
        if requirement.norm is not None and requirement.eps is not None:
            threat = Threat(requirement.norm, (requirement.eps,), inputs.data.box)
            notes += [f"{source.path}:{line}: {wide}" for wide in [threat.too_wide(inputs.data.shape)] if wide]
    for note in dict.fromkeys(notes):
        how.reporter.note(note)
    return inputs


def _subjects(source: Source, inputs: Inputs, late: Callable[[], bool]) -> list[Subject]:
    policy = source.policy
    drops = [one for one in policy.require if one.kind == "attacked_accuracy_drop"]
    baseline = None
    if drops and policy.baseline is not None:
        baseline = read_baseline(source.beside(policy.baseline), data_record(inputs.data))
    subjects: list[Subject] = []
    for model in inputs.models:
        known: dict[str, dict[int, bool]] = {}
        for one in drops if baseline else ():
            plan = ",".join(map(str, one.legs(bool(model.no_gradient))))
            if (before := cast(Baseline, baseline).of(model.name, one, plan, policy.seed)) is not None:
                known[one.name] = before
        sample = len(inputs.data) < inputs.of
        subjects.append(Subject(model, inputs.data, sample, known, late, policy.time_per_image))
    return subjects


def _asked(source: Source, subject: Subject, of: int) -> list[Asked]:
    return [
        Asked(requirement, subject, line, of)
        for requirement, line in zip(source.policy.require, source.lines, strict=True)
    ]


def _groups(asked: list[Asked]) -> Iterator[_Group]:
    """Requirements that are answered by the same attacks, in the order of the policy."""
    groups: dict[Any, list[Asked]] = {}
    for one in asked:
        requirement, kind = one.requirement, kinds.get(one.requirement.kind)
        if not hasattr(kind, "question"):
            continue
        norm = requirement.norm or "l2"
        eps = cast(Attacked, kind).eps(requirement)
        legs = tuple(str(leg) for leg in requirement.legs())
        key = (norm, eps, legs, requirement.certify, repr(requirement.options), requirement.flat)
        groups.setdefault(key, []).append(one)
    for (norm, eps, *_), members in groups.items():
        yield _Group(norm, eps, tuple(members))


def _question(asked: Asked) -> Any:
    return cast(Attacked, kinds.get(asked.requirement.kind)).question(asked.requirement, asked.subject)


def _deadline(source: Source, how: How) -> Callable[[], bool]:
    """Return a clock that answers whether the time budget, which begins now, is spent."""
    began, budget = how.clock(), source.policy.time_budget
    return lambda: budget is not None and how.clock() - began > budget


def _run(
    group: _Group, subject: Subject, source: Source, how: How, questions: list[Any], settle: Callable[[], None]
) -> RunRecord:
    first = group.first

    def enough(bracket: Bracket) -> str | None:
        worst, best = bracket.certified(group.eps).numpy(), bracket.standing(group.eps).numpy()
        if questions and all(judge(question, worst, best, finished=False).settled for question in questions):
            settle()
            if not how.full:
                return SETTLED
        return OUT_OF_TIME if subject.late() else None

    stop: StopCondition = enough
    return attack(
        subject.model,
        subject.data,
        Threat(group.norm, (group.eps,), subject.data.box),
        group.legs(subject.model),
        goal="decide",
        certify=first.certify,
        time_per_image=source.policy.time_per_image,
        seed=source.policy.seed,
        options=cast("dict[str, dict[str, Any]]", first.options),
        flat=first.flat,
        runs=how.runs,
        reporter=how.reporter,
        batch_size=how.batch_size,
        enough=stop,
    )


def _use(record: RunRecord, group: _Group, plan: str, meter: Meter | None) -> RunUse:
    model: ModelRecord = record.models[0]
    return RunUse(
        model=model.name,
        norm=group.norm,
        eps=group.eps,
        plan=plan,
        certify=group.first.certify,
        legs=model.legs,
        forwards=model.spent.forwards,
        backwards=model.spent.backwards,
        seconds=round(model.spent.seconds, 3),
        stopped=model.stopped,
        settled=meter.within(model.legs) if meter else None,
        plateau=model.plateau,
        out_of_time=model.certificate.out_of_time if model.certificate else [],
        directory=record.run,
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
