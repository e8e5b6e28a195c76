"""A run with several budgets breaks at each of them what a run with that budget alone breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import robcert
from robcert.attacks.pgd import PGD
from robcert.attacks.square import Square
from robcert.bracket import Bracket, Example, Provenance
from robcert.data import load_dataset
from robcert.network import load_model
from robcert.runs import stages
from robcert.runs.reporter import Silent
from robcert.runs.summary import as_list
from robcert.search.problem import SearchProblem
from robcert.search.stage import Stage
from robcert.search.verifier import Verifier
from robcert.types import Batch, Dataset, LoadedModel, Threat, ThreatNorm

FIXED: dict[str, Any] = {"certify": "none", "search_precision": "float32", "cpu_threads": 1}


def broken(record: robcert.RunRecord, k: int = 0) -> set[int]:
    return {image.index for image in record.models[0].images if as_list(image.status)[k] == "broken"}


CASES: list[tuple[str, ThreatNorm, tuple[float, ...], str, int]] = [
    ("digits-at", "l2", (0.6, 1.0, 4.0), "ddn:20", 100),  # the largest budget is the scale of its steps
    ("digits-l2nnn", "l2", (0.4, 0.7), "cw:20", 32),
    ("digits-plain", "linf", (0.03, 0.06), "pgd:10 + fab:10", 40),
    ("digits-plain", "l1", (0.5, 1.5), "apgd:10", 24),
    ("digits-plain", "linf", (0.12, 0.16), "square:60", 24),
]


@pytest.mark.parametrize(("name", "norm", "eps", "plan", "n"), CASES)
def test_each_budget_is_answered_as_if_alone(
    name: str, norm: ThreatNorm, eps: tuple[float, ...], plan: str, n: int
) -> None:
    model, data = load_model(name), load_dataset("digits", n=n)
    several = robcert.attack(model, data, Threat(norm, eps), plan, **FIXED)
    for k, budget in enumerate(eps):
        alone = broken(robcert.attack(model, data, Threat(norm, (budget,)), plan, **FIXED))
        assert alone, "a budget at which nothing breaks tests nothing"
        assert len(alone - broken(several, k)) <= n / 100, (budget, sorted(alone - broken(several, k)))


def test_without_its_stages_a_minimisation_leaves_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above is about is there: the search for the closest example alone leaves images open."""
    model, data = load_model("digits-at"), load_dataset("digits", n=100)
    alone = broken(robcert.attack(model, data, Threat("l2", (1.0,)), "ddn:20", **FIXED))
    first = stages.stages
    monkeypatch.setattr("robcert.runs.legs.stages", lambda goal, threat: first(goal, threat)[:1])
    left = robcert.attack(model, data, Threat("l2", (1.0, 4.0)), "ddn:20", **FIXED)
    assert len(alone - broken(left)) > 1


def test_the_distances_are_of_closest_examples_and_the_counts_agree(model: LoadedModel, data: Dataset) -> None:
    eps = (0.2, 0.5, 1.0)
    found = robcert.attack(model, data, Threat("l2", eps), "cw:20 + pgd:5", **FIXED).models[0]
    for k, value in enumerate(eps):
        within = sum(image.distance is not None and 0 < image.distance <= value for image in found.images)
        assert as_list(found.verdicts.broken)[k] == within
        assert as_list(found.legs[-1].attacked_correct)[k] == found.natural_correct - within
        assert sum(as_list(leg.newly_broken)[k] for leg in found.legs) == within
    first = found.legs[0]
    assert first.entered == found.natural_correct
    assert all(image.distance not in eps for image in found.images), "moved towards the clean image, not left on a ball"


class _Dies(Silent):
    """Dies at the k-th synchronisation after the run has come to its second budget."""

    def __init__(self, at: int) -> None:
        self.left, self.staged = at, 0

    def stage(self, eps: float, work: int) -> None:
        self.staged += 1

    def synchronised(self, stage: Stage) -> None:
        if self.staged >= 2:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize("at", [0, 4])
def test_a_run_that_dies_at_its_second_budget_goes_on_to_the_same_record(at: int, tmp_path: Path) -> None:
    model, data = load_model("digits-plain"), load_dataset("digits", n=16)
    threat, plan = Threat("linf", (0.04, 0.07, 0.1)), "pgd:10x2 + fab:10"
    whole = robcert.attack(model, data, threat, plan, **FIXED).models[0]
    reporter = _Dies(at)
    with pytest.raises(KeyboardInterrupt):
        robcert.attack(model, data, threat, plan, run=tmp_path / "r", reporter=reporter, checkpoint_seconds=0, **FIXED)
    again = robcert.attack(model, data, threat, plan, run=tmp_path / "r", **FIXED).models[0]
    assert [image.model_dump() for image in again.images] == [image.model_dump() for image in whole.images]
    for one, other in zip(again.legs, whole.legs, strict=True):
        assert one.model_copy(update={"seconds": 0.0}) == other.model_copy(update={"seconds": 0.0})


def test_one_budget_has_one_stage() -> None:
    for goal in ("decide", "minimize"):
        assert len(stages.stages(goal, Threat("l2", (0.5,)))) == 1
    assert [stage.threat.eps for stage in stages.stages("minimize", Threat("l2", (0.5, 1.0)))] == [
        (0.5, 1.0), (0.5,), (1.0,),
    ]  # fmt: skip


def test_near_misses_are_moved_by_attacks_that_may() -> None:
    """`stages.climb_near_misses` keeps verified examples alone, and only of attacks that take gradients."""
    model, data = load_model("digits-plain"), load_dataset("digits", n=40)
    images = Batch(data.x, data.y, data.index)
    record = robcert.attack(model, data, Threat("linf", (0.1,)), "pgd:20", goal="minimize", **FIXED).models[0]
    bracket, least = Bracket(data.index), torch.tensor([image.distance or 0.0 for image in record.images])
    away = PGD(iterations=20)
    rows = [p for p in range(len(data)) if 0 < float(least[p]) <= 0.1]
    direction = torch.sign(torch.randn(data.x.shape, generator=torch.Generator().manual_seed(0)))
    for p in rows:  # as if they were near misses: whether the ascent from there succeeds is for the verifier to say
        point = (data.x[p] + 0.103 * direction[p]).clamp(0, 1)
        bracket.update(p, Example(point, 0.103, 0, Provenance("toy", 1, 1, 0)))
    threat = Threat("linf", (0.1,))
    search = SearchProblem(model, images, bracket, threat, "decide")
    spent = stages.climb_near_misses(search, away, "pgd", rows, 16)
    found = [p for p in rows if float(bracket.distance[p]) <= 0.1]
    assert found
    at = torch.tensor(found)
    again = Verifier(model, threat, 16)(bracket.points(found), data.x[at], data.y[at])
    assert bool(again.accepted.all())
    assert spent.backwards > 0
    nothing = stages.climb_near_misses(search, Square(iterations=9), "square", rows, 16)
    assert (nothing.forwards, nothing.backwards) == (0, 0)
