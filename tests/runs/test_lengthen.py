"""A sweep that is lengthened until it is decided, and the verdict on a plan that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import robcert
from robcert.bracket import Bracket, Example, Provenance
from robcert.errors import UsageError
from robcert.reports import renderer_of
from robcert.reports.console import plan_end_text
from robcert.runs.lengthen import lengthened
from robcert.runs.plan_end import plan_end
from robcert.runs.record import LegRecord, ModelRecord, RunRecord
from robcert.runs.stop_condition import StopCondition
from robcert.types import Dataset, LoadedModel, Threat

EPS = Threat("l2", (0.3,))


def attacked(model: LoadedModel, data: Dataset, plan: str, run: Path | None = None, **options: Any) -> ModelRecord:
    return robcert.attack(
        model, data, EPS, plan, certify="none", run=run, cpu_threads=1, search_precision="float32", **options
    ).models[0]


def ends_at(look: int) -> StopCondition:
    """Ends a run at the given look."""
    seen = iter(range(10**9))
    return lambda _: "the time is up" if next(seen) >= look else None


def leg(attack: str, iterations: int, before: int, after: int, backwards: int = 1, restarts: int = 1) -> LegRecord:
    return LegRecord(
        attack=attack, iterations=iterations, restarts=restarts, entered=before, attacked_correct=after,
        newly_broken=before - after, interval=(0.0, 1.0), forwards=1, backwards=backwards, seconds=0.0,
    )  # fmt: skip


def opened(n: int) -> Bracket:
    return Bracket(torch.arange(n))


@pytest.mark.parametrize(
    ("legs", "left", "expected"),
    [
        ([leg("cw", 100, 60, 50), leg("cw", 1_000, 50, 45)], 45, "cw:10k"),  # still falling
        ([leg("cw", 100, 60, 50), leg("cw", 1_000, 50, 50)], 50, None),  # flat
        ([leg("pgd", 40, 60, 50, restarts=3), leg("square", 500, 50, 50, backwards=0)], 50, "pgd:400x3"),  # no sweep
        ([leg("pgd", 40, 60, 50), leg("fgsm", 2, 50, 50)], 50, "pgd:400"),  # fgsm takes two whatever it is told
        ([leg("fgsm", 2, 60, 50)], 50, None),
        ([leg("pgd", 10**6, 60, 50), leg("pgd", 10**7, 50, 40)], 40, None),  # as long as a leg may be
    ],
)
def test_the_next_leg(legs: list[LegRecord], left: int, expected: str | None) -> None:
    found = lengthened(legs, opened(left), Threat("l2", (0.5,)), 0.01)
    assert (None if found.leg is None else str(found.leg)) == expected


def test_too_few_open_images_end_it_and_say_so() -> None:
    legs = [leg("cw", 100, 19, 12), leg("cw", 1_000, 12, 7)]
    found = lengthened(legs, opened(7), Threat("l2", (0.5,)), 0.01)
    assert found.leg is None
    assert "7 open images" in found.why


def test_a_lengthened_run_is_decided_and_goes_on_where_its_time_was_up(
    model: LoadedModel, data: Dataset, tmp_path: Path
) -> None:
    whole = attacked(model, data, "pgd:4", until="flat")
    assert whole.plateau is not None
    assert whole.plateau.verdict == "flat"
    iterations = [one.iterations for one in whole.legs]
    assert iterations == [4 * 10**k for k in range(len(iterations))]
    early = attacked(model, data, "pgd:4", tmp_path / "run", until="flat", enough=ends_at(7))
    assert early.stopped == "the time is up"
    again = attacked(model, data, "pgd:4", tmp_path / "run", until="flat")
    assert (again.images, again.plateau) == (whole.images, whole.plateau)
    assert [one.attacked_correct for one in again.legs] == [one.attacked_correct for one in whole.legs]


def test_a_time_budget_is_no_part_of_what_a_run_is(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    early = attacked(model, data, "pgd:4", tmp_path / "run", until="flat", time_budget=1e-9)
    assert early.stopped is not None
    assert early.legs == []
    assert attacked(model, data, "pgd:4", tmp_path / "run", until="flat").stopped is None
    with pytest.raises(UsageError, match="time budget"):
        attacked(model, data, "pgd:4", time_budget=0.0)


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [([1, 2, 4], (0, 40)), ([5, 11, 40], (3, 43)), ([4, 41], (1, 41))],
)
def test_images_that_fell_late_count_at_the_end_of_a_plan(iterations: list[int], expected: tuple[int, int]) -> None:
    """Of 40 iterations, the first four are a tenth."""
    bracket, n = opened(50), 40
    for position, at in enumerate(iterations):
        how = Provenance("pgd", 40, at, 0)
        bracket.update(position, Example(torch.zeros(1), 0.1, 1, how))
    legs = [leg("pgd", 40, n + len(iterations), n), leg("square", 100, n, n, backwards=0)]
    found = plan_end(legs, [range(len(iterations)), []], bracket, n, "decide", 0.01)
    assert (found.newly_broken, found.entered) == expected
    assert (found.leg, found.last) == ("pgd:40", "pgd:40")
    assert found.last_at == pytest.approx(min(1.0, max(iterations) / 40))
    assert found.verdict == ("settled" if not expected[0] else "falling" if expected[0] == 3 else "undecided")


@pytest.mark.parametrize(("left", "needed"), [(0, None), (1, 20), (19, 20), (20, None)])
def test_longer_legs_are_advised_where_they_could_decide(left: int, needed: int | None) -> None:
    found = plan_end([leg("pgd", 40, left + 1, left)], [[]], opened(left), left, "decide", 0.01)
    assert found.needed == needed
    assert (lengthened([leg("pgd", 40, 30, 29)], opened(left), Threat("l2", (0.5,)), 0.01).leg is None) == (
        needed is not None
    )
    text = " ".join(plan_end_text(found).plain.split())
    if left:
        assert ("--until flat" in text, "raise --n until about 20 are" in text) == (needed is None, needed is not None)


def test_restarts_are_one_after_the_other() -> None:
    bracket = opened(30)
    bracket.update(0, Example(torch.zeros(1), 0.1, 1, Provenance("pgd", 40, 20, 1)))
    found = plan_end([leg("pgd", 40, 30, 29, restarts=2)], [[0]], bracket, 29, "decide", 0.01)
    assert found.last_at == pytest.approx(0.75)


def test_every_renderer_ends_with_the_verdict_of_a_named_plan(model: LoadedModel, data: Dataset) -> None:
    record = robcert.attack(model, data, EPS, "fast", certify="none", cpu_threads=1, search_precision="float32")
    end = record.models[0].plan_end
    assert end is not None
    assert end.leg == "apgd-t:20x3"
    for name in ("console", "markdown", "html"):
        text = " ".join(renderer_of(RunRecord, name)(record).split())
        assert f"of {end.entered} open images" in text
        assert "--until flat" in text
    assert RunRecord.model_validate_json(renderer_of(RunRecord, "json")(record)).models[0].plan_end == end
