"""What a run of attacks would cost, before it runs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from robcert.accel.stepper import Networks, stepper_for
from robcert.attacks.pgd import PGD
from robcert.bracket import Bracket, Example, Provenance
from robcert.progress import Work as Told
from robcert.reports import renderer_of
from robcert.runs import estimate as measurement
from robcert.runs.api import attack, estimate
from robcert.runs.plan import LegPlan
from robcert.runs.records.estimate import EstimateRecord
from robcert.runs.run_progress import RunProgress
from robcert.search.budget import most_evaluations, work_of_evaluation
from robcert.search.problem import SearchProblem, Work
from robcert.search.stage import Stage
from robcert.types import Batch, Dataset, LoadedModel, Threat

EPS = Threat("l2", (0.3,))


def test_a_range_for_every_leg_and_nothing_is_attacked_twice(
    model: LoadedModel, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "SECONDS", 1.0)
    told = estimate(model, data, EPS, "pgd:10, pgd:40x3", certify="none", cpu_threads=1, search_precision="float32")
    (one,) = told.models
    assert [leg.leg for leg in one.legs] == ["pgd:10", "pgd:40x3"]
    assert one.legs[0].images == (one.natural_correct, one.natural_correct)  # they are all attacked
    for leg in one.legs:
        for low, high in (leg.images, leg.forwards, leg.backwards, leg.seconds):
            assert 0 <= low <= high
    most = one.natural_correct * (10 + 3 * 40)
    assert sum(leg.forwards[1] for leg in one.legs) <= most * (1 + 1e-9)
    assert 0 < one.seconds[0] <= one.seconds[1] <= one.all_open
    assert one.broken <= one.measured <= one.natural_correct
    for name in ("console", "json"):
        assert "pgd:40x3" in renderer_of(EstimateRecord, name)(told)


def test_a_leg_that_is_not_reached_takes_whole_budgets(
    model: LoadedModel, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "SECONDS", 0.0)
    told = estimate(model, data, EPS, "pgd:7", certify="none", cpu_threads=1, search_precision="float32")
    (leg,) = told.models[0].legs
    assert not leg.measured
    assert math.isclose(leg.forwards[1], 7 * told.models[0].natural_correct)
    assert "not reached" in renderer_of(EstimateRecord, "console")(told)


def test_the_stages_of_several_budgets_are_counted(
    model: LoadedModel, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every image was tried, nothing is left to chance but which images share a batch."""
    monkeypatch.setattr(measurement, "SECONDS", 60.0)
    threat = Threat("l2", (0.2, 0.3))
    fixed: dict[str, Any] = {"certify": "none", "cpu_threads": 1, "search_precision": "float32"}
    (told,) = estimate(model, data, threat, "pgd:10, ddn:20", **fixed).models
    (found,) = attack(model, data, threat, "pgd:10, ddn:20", **fixed).models
    assert told.measured == told.natural_correct
    for leg, ran in zip(told.legs, found.legs, strict=True):
        assert leg.forwards[0] == pytest.approx(leg.forwards[1])
        assert leg.forwards[0] == pytest.approx(ran.forwards, rel=0.25)


def test_what_is_left_of_a_leg_has_the_stages_of_its_budgets(model: LoadedModel, data: Dataset) -> None:
    threat, leg = Threat("l2", (0.2, 0.3)), LegPlan("pgd", 10, 2)
    bracket = Bracket(data.index)
    bracket.update(0, Example(data.x[0], 0.25, 1, Provenance("pgd", 1, 1, 0)))  # open at the smaller budget alone
    search = SearchProblem(model, Batch(data.x, data.y, data.index), bracket, threat, "minimize")
    pgd = PGD(iterations=10)
    stage = Stage(search, Work("pgd", list(range(40)), 2, 16), stepper_for(pgd, Networks(model.module), data.x.device))
    told = RunProgress(Told("a run"), "a run", search, {})
    told.leg([leg], 0)
    decide = 2 * most_evaluations(pgd, "decide") * work_of_evaluation(pgd)
    assert told.of_what_follows(stage) == pytest.approx((40 + 39) * decide)
    told.leg([leg, leg], 0)
    minimize = 2 * most_evaluations(pgd, "minimize") * work_of_evaluation(pgd)
    assert told.of_what_follows(stage) == pytest.approx(2 * (40 + 39) * decide + 40 * minimize)
