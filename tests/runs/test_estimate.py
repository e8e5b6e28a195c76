"""What a run of attacks would cost, before it runs."""

from __future__ import annotations

import math

import pytest

from robcert.reports import renderer_of
from robcert.runs import estimate as measurement
from robcert.runs.api import estimate
from robcert.runs.records.estimate import EstimateRecord
from robcert.types import Dataset, LoadedModel, Threat

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
