"""From what was measured, or from a finished run, to the record of one requirement. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from robcert.math.binomial import sign_test
from robcert.policy.kinds import Kind, Measurement, Subject, kinds
from robcert.policy.reason import reason_of_counts, reason_of_pairs
from robcert.policy.record import CountsRecord, PairsRecord, RequirementRecord, RunUse, WitnessRecord
from robcert.policy.schema import Requirement
from robcert.policy.verdict import Drop, Grade, Mask, Question, Share, convergence, judge
from robcert.runs.plan import LegPlan
from robcert.runs.record import ModelRecord


@dataclass(frozen=True)
class Asked:
    """A requirement, of which model, on which line, with how many images in the whole data set."""

    requirement: Requirement
    subject: Subject
    line: int
    of: int


def measured(asked: Asked, found: Measurement) -> RequirementRecord:
    """The record of a kind that needs no attack."""
    requirement, kind = asked.requirement, kinds.get(asked.requirement.kind)
    confidence = asked.subject.confidence(requirement) if found.question is not None else found.confidence
    counts, needed = None, None
    if found.right is not None and isinstance(found.question, Share):
        counts = _counts(found.question, ~found.right, found.right, found.right)
        needed = _needed(found.grade, found.question, found.right)
    if counts is not None and found.bounds is not None:
        reason = reason_of_counts(
            found.grade, counts, found.bounds, confidence, requirement.limit, attacked=False, sweep=None,
            stopped=None, needed=needed, of=asked.of,
        )  # fmt: skip
    elif math.isnan(found.value):
        reason = f"the {kind.title} is not known"
    else:
        reason = f"{kind.title} is {found.value:.6g}, {kind.sign} {requirement.limit:g} is asked for"
    return _record(
        asked,
        found.grade,
        f"{reason}; {found.note}" if found.note else reason,
        value=found.value,
        bounds=found.bounds,
        confidence=confidence,
        counts=counts,
        needed=needed,
        forwards=found.forwards,
        backwards=found.backwards,
    )


def attacked(asked: Asked, question: Question, model: ModelRecord, run: int, use: RunUse) -> RequirementRecord:
    """The record of a kind that attacks answer."""
    requirement = asked.requirement
    status = [cast(str, image.status) for image in model.images]
    wrong = np.array([one == "wrong" for one in status], dtype=np.bool_)
    worst = np.array([one == "certified" for one in status], dtype=np.bool_)
    best = np.array([one in ("certified", "open") for one in status], dtype=np.bool_)
    settled = judge(question, worst, best, finished=model.stopped is None)
    plateau = model.plateau if model.stopped is None else None
    converged = plateau.flat if plateau else None
    sweep = plateau.verdict if plateau else None
    grade = convergence(settled.grade, None if converged is None else not converged, requirement.require_converged)
    # What is proven is proven by the certified images alone.
    bounds = question.bounds(worst if grade == "proven" else best)[0], question.bounds(best)[1]
    if isinstance(question, Drop) and grade == "proven":
        bounds = question.bounds(best)[0], question.bounds(worst)[1]
    confidence = asked.subject.confidence(requirement)
    # More images help where their number was the reason, not where the attacks had no time or did not settle.
    needed = _needed(grade, question, best) if settled.settled and settled.grade == grade else None
    counts, pairs = _counts(question, wrong, worst, best), _pairs(question, model, best)
    if pairs is None:
        reason = reason_of_counts(
            grade, counts, bounds, confidence, requirement.limit, attacked=True, sweep=sweep,
            stopped=_stopped(model), needed=needed, of=asked.of,
        )  # fmt: skip
    else:
        # A drop that the counts allow fails, or stays open, because of its sweep alone.
        unsettled = sweep if grade != settled.grade else None
        reason = reason_of_pairs(
            grade, pairs, bounds, confidence, requirement.limit, sweep=unsettled, stopped=_stopped(model),
            needed=needed, of=asked.of,
        )  # fmt: skip
    return _record(
        asked,
        grade,
        reason,
        value=question.value(best),
        bounds=bounds,
        confidence=confidence,
        counts=counts,
        pairs=pairs,
        converged=converged if grade == "empirical" or requirement.require_converged else None,
        needed=needed,
        run=run,
        forwards=use.forwards,
        backwards=use.backwards,
        witnesses=[
            WitnessRecord(
                index=image.index,
                label=image.label,
                adversarial_label=image.adversarial_label,
                distance=image.distance,
                attack=image.attack,
            )
            for image in model.images
            if image.status == "broken"
        ],
    )


def _stopped(model: ModelRecord) -> str | None:
    """Return why the plan was not run to its end, with the leg that was ended early."""
    early = [leg for leg in model.legs if leg.stopped]
    if model.stopped is None or not early:
        return model.stopped
    leg = LegPlan(early[-1].attack, early[-1].iterations, early[-1].restarts)
    return (
        f"{model.stopped}: {leg} is unfinished, {early[-1].finished or 0} of {early[-1].entered} images had all of it"
    )


def _needed(grade: Grade, question: Question, right: Mask) -> int | None:
    return question.needed(right) if grade == "inconclusive" else None


def _counts(question: Question, wrong: Mask, worst: Mask, best: Mask) -> CountsRecord:
    n, standing = len(best), int(best.sum())
    share = question if isinstance(question, Share) else None
    return CountsRecord(
        n=n,
        wrong=int(wrong.sum()),
        broken=n - standing - int(wrong.sum()),
        certified=int(worst.sum()),
        open=standing - int(worst.sum()),
        pass_at=share.pass_at if share else None,
        fail_at=share.fail_at if share else None,
    )


def _pairs(question: Question, model: ModelRecord, best: Mask) -> PairsRecord | None:
    if not isinstance(question, Drop):
        return None
    lost, won = question.lost(best), question.won(best)
    newly = [image.index for image, is_lost in zip(model.images, question.before & ~best, strict=True) if is_lost]
    return PairsRecord(
        before=int(question.before.sum()), lost=lost, won=won, mcnemar=sign_test(lost, won), newly_broken=newly
    )


def _record(
    asked: Asked,
    verdict: Grade,
    reason: str,
    *,
    value: float,
    bounds: tuple[float, float] | None,
    confidence: float | None,
    counts: CountsRecord | None,
    pairs: PairsRecord | None = None,
    converged: bool | None = None,
    needed: int | None = None,
    run: int | None = None,
    forwards: int = 0,
    backwards: int = 0,
    witnesses: list[WitnessRecord] | None = None,
) -> RequirementRecord:
    requirement = asked.requirement
    kind: Kind = kinds.get(requirement.kind)
    return RequirementRecord(
        model=asked.subject.model.name,
        name=requirement.name,
        kind=requirement.kind,
        title=kind.title,
        sign=kind.sign,
        limit=requirement.limit,
        norm=requirement.norm,
        eps=requirement.eps,
        line=asked.line,
        verdict=verdict,
        reason=reason,
        value=value if math.isfinite(value) else None,
        bounds=bounds,
        confidence=confidence,
        counts=counts,
        pairs=pairs,
        converged=converged,
        needed=needed,
        run=run,
        forwards=forwards,
        backwards=backwards,
        witnesses=witnesses or [],
    )
