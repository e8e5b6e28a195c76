"""From counts and examples to records. Pure: the same inputs give the same record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from robcert.bracket import Bracket
from robcert.math.binomial import interval
from robcert.runs.diagnostics import WeakerWin, warnings
from robcert.runs.out_of_time import out_of_time
from robcert.runs.plan_end import plan_end
from robcert.runs.proof import Attempt
from robcert.runs.record import (
    CertificateRecord,
    DistanceRecord,
    ImageRecord,
    LegRecord,
    ModelRecord,
    OthersRecord,
    PlanEndRecord,
    PlateauRecord,
    Precision,
    SpentRecord,
    VerdictCounts,
)
from robcert.search.plateau import Outcome, Plateau, plateau
from robcert.search.problem import SearchProblem
from robcert.types import STATUSES, Batch, Status, Threat

T = TypeVar("T")


def scalar_or_list(values: Sequence[T]) -> T | list[T]:
    """Return one value for one budget, a list in the order of the budgets for several."""
    return values[0] if len(values) == 1 else list(values)


def as_list(value: T | list[T]) -> list[T]:
    """Return a list of what `scalar_or_list` was given."""
    return value if isinstance(value, list) else [value]


def opened(leg: LegRecord) -> int | list[int]:
    """Return the number of images that were open when a leg began, at each budget."""
    return leg.entered if leg.open is None else leg.open


def attacked_correct(bracket: Bracket, threat: Threat) -> list[int]:
    """Return how many images still stand at each budget."""
    return [int(bracket.standing(eps).sum()) for eps in threat.eps]


def leg_interval(correct: Sequence[int], n: int) -> tuple[float, float] | list[tuple[float, float]]:
    """Return exact 95 % intervals of attacked accuracy."""
    return scalar_or_list([interval(count, n) for count in correct])


@dataclass
class Findings:
    """The outcome of the legs of a model and of the checks after them.

    Attributes:
        legs: in the order in which they ran.
        notes: positions of images by what was noted of them, of every leg and check.
        stopped: why the plan was not run to its end, or None.
        weaker_wins: attacks that beat those which know more.
        by_certificate: the images, at each budget, that examples of the certificate broke before the first leg.
        search_precision: of the coarse part of the search.
        checks: what the attacks beside the legs took.
    """

    legs: list[LegRecord]
    notes: list[dict[str, list[int]]]
    stopped: str | None = None
    weaker_wins: Sequence[WeakerWin] = ()
    by_certificate: Sequence[int] = ()
    search_precision: Precision = "float32"
    checks: SpentRecord = field(default_factory=SpentRecord)


def summarize(search: SearchProblem, attempt: Attempt, found: Findings, flat: float) -> ModelRecord:
    """Return the record of one model.

    Args:
        search: the model, the images, the threat, and what is known about the images.
        attempt: how its certificate went.
        found: the outcome of its legs and checks.
        flat: the share of open images that ten times the iterations may break in a flat sweep.
    """
    model, images, threat, bracket = search.model, search.images, search.threat, search.bracket
    n = len(bracket)
    natural = int((~bracket.wrong).sum())
    statuses: list[list[Status]] = [
        list(row) for row in zip(*(bracket.verdict(eps) for eps in threat.eps), strict=True)
    ]
    counts = {
        status: scalar_or_list([sum(row[k] == status for row in statuses) for k in range(len(threat.eps))])
        for status in STATUSES
    }
    proven = [int(bracket.certified(eps).sum()) for eps in threat.eps]
    ended = [leg for leg in found.legs if not leg.stopped]
    verdict = sweep_verdict(natural, proven, ended, threat, flat)
    return ModelRecord(
        name=model.name,
        sha256=model.source.sha256,
        network=model.source.network,
        search_precision=found.search_precision,
        natural_correct=natural,
        n=n,
        natural_interval=interval(natural, n),
        legs=found.legs,
        plateau=verdict,
        plan_end=None if verdict else _end(search, [leg for leg in ended if leg.beside is None], found, proven, flat),
        distance=distance_record(bracket),
        certificate=certificate_record(bracket, attempt, threat, found.by_certificate),
        verdicts=VerdictCounts(**counts),
        warnings=warnings(search, statuses, attempt, found.notes, verdict, found.weaker_wins),
        images=[image_record(i, images, statuses[i], bracket, attempt) for i in range(n)],
        stopped=found.stopped,
        checks=found.checks,
    )


def _end(
    search: SearchProblem, legs: list[LegRecord], found: Findings, proven: list[int], flat: float
) -> PlanEndRecord | None:
    if not legs:
        return None
    broke = [notes.get("broke", []) for notes in found.notes[: len(legs)]]
    left = as_list(legs[-1].attacked_correct)[-1] - proven[-1]
    return plan_end(legs, broke, search.bracket, left, search.goal, flat)


def sweep_verdict(
    natural: int, proven: list[int], legs: list[LegRecord], threat: Threat, flat: float
) -> PlateauRecord | None:
    """Return the plateau verdict, at the budget where the sweep is least settled.

    Only open images speak: the ``proven`` ones (how many, per budget) could not have been broken.
    """
    found: list[tuple[Plateau, float]] = []
    for k, eps in enumerate(threat.eps):
        standing, outcomes = natural, list[Outcome]()
        for leg in legs:
            broken = as_list(leg.newly_broken)[k]
            outcomes.append(Outcome(leg.attack, leg.iterations, leg.restarts, standing - proven[k], broken))
            standing = as_list(leg.attacked_correct)[k]
        verdict = plateau(outcomes, flat)
        if verdict is not None:
            found.append((verdict, eps))
    if not found:
        return None
    order = ["flat", "undecided", "disputed", "falling"]
    verdict, eps = max(found, key=lambda pair: order.index(pair[0].shape))
    # Flat at every budget: only since the last of them became so.
    since = max(v.since or 0 for v, _ in found) if verdict.shape == "flat" else verdict.since
    return PlateauRecord(
        flat={"flat": True, "disputed": False, "falling": False, "undecided": None}[verdict.shape],
        verdict=verdict.shape,
        since=since,
        attack=verdict.attack,
        before=verdict.before,
        after=verdict.after,
        restarts=verdict.restarts,
        entered=verdict.entered,
        newly_broken=verdict.broken,
        interval=verdict.interval,
        needed=verdict.needed,
        others=others_record(verdict),
        eps=eps,
    )


def others_record(verdict: Plateau) -> OthersRecord | None:
    """Return the record of other attacks after a sweep."""
    others = verdict.others
    if others is None:
        return None
    return OthersRecord(attacks=list(others.attacks), entered=others.entered, newly_broken=others.broken)


def distance_record(bracket: Bracket) -> DistanceRecord:
    """Return quantiles over all images; an image that no attack broke at any distance counts as infinitely far."""
    if len(bracket) == 0:
        return DistanceRecord(median=None, q25=None, q75=None)
    distances = torch.where(bracket.wrong, 0.0, bracket.distance).sort().values

    def quantile(share: float) -> float | None:
        # The lower of two neighbours: interpolating towards infinity would say nothing.
        value = float(distances[int(share * (len(distances) - 1))])
        return value if value < float("inf") else None

    return DistanceRecord(median=quantile(0.5), q25=quantile(0.25), q75=quantile(0.75))


def certificate_record(
    bracket: Bracket, attempt: Attempt, threat: Threat, broken: Sequence[int] = ()
) -> CertificateRecord | None:
    """Return certified accuracy at each budget, and what examples of the method broke."""
    found = attempt.found
    if found is None:
        return None
    n = len(bracket)
    correct = [int(bracket.certified(eps).sum()) for eps in threat.eps]
    return CertificateRecord(
        method=attempt.method,
        correct=scalar_or_list(correct),
        interval=leg_interval(correct, n),
        mean_gap=float(found.gap.mean()) if n else 0.0,
        median_radius=float(bracket.radius.median()) if n else 0.0,
        broken=scalar_or_list(broken) if any(broken) else None,
        constants=found.constants,
        seconds=round(found.seconds, 3),
        out_of_time=out_of_time(found, bracket.index, bracket.distance),
    )


def image_record(
    position: int, images: Batch, statuses: list[Status], bracket: Bracket, attempt: Attempt
) -> ImageRecord:
    """Return the record of one image."""
    found, distance = bracket.examples[position], float(bracket.distance[position])
    how = found.provenance if found else None
    return ImageRecord(
        index=int(images.index[position]),
        label=int(images.y[position]),
        status=scalar_or_list(statuses),
        distance=0.0 if bool(bracket.wrong[position]) else (distance if distance < float("inf") else None),
        radius=float(bracket.radius[position]) if attempt.found else None,
        attack=how.attack if how else None,
        iterations=how.iterations if how else None,
        iteration=how.iteration if how else None,
        restart=how.restart if how else None,
        adversarial_label=found.label if found else None,
    )
