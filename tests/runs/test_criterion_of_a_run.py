"""Another criterion is a part of a run: its examples, its identity, and what cannot be read from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import robcert
from robcert.criteria import criterion
from robcert.errors import UsageError
from robcert.runs.directory import read_spec
from robcert.types import Dataset, LoadedModel, Threat

THREAT = Threat("l2", (0.8,))
RUN = {"plan": "pgd:20,cw:20", "goal": "minimize", "search_precision": "float32", "cpu_threads": 1}


@criterion("not-among-two-in-a-test")
def not_among_two(logits: Tensor, y: Tensor) -> Tensor:
    others = logits.scatter(1, y.view(-1, 1), float("-inf"))
    return others.topk(2, dim=1).values[:, 1] - logits.gather(1, y.view(-1, 1)).squeeze(1)


@pytest.fixture(scope="module")
def directory(model: LoadedModel, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("criterion")
    robcert.attack(model, data, THREAT, criterion=not_among_two.name, run=folder / "second", **RUN)  # type: ignore[arg-type]
    robcert.attack(model, data, THREAT, run=folder / "first", **RUN)  # type: ignore[arg-type]
    return folder


def test_it_is_searched_for_and_nothing_is_certified(model: LoadedModel, data: Dataset, directory: Path) -> None:
    second, first = (
        robcert.attack(model, data, THREAT, criterion=name, run=directory / run, **RUN).models[0]  # type: ignore[arg-type]
        for name, run in ((not_among_two.name, "second"), ("misclassified", "first"))
    )
    rank = (model.module(data.x).argsort(dim=1, descending=True) == data.y.view(-1, 1)).int().argmax(dim=1)
    assert second.natural_correct == int((rank < 2).sum())
    assert first.natural_correct == int((rank < 1).sum()) < second.natural_correct
    assert 0 < second.verdicts.broken < first.verdicts.broken + second.natural_correct - first.natural_correct  # type: ignore[operator]
    assert second.certificate is None
    said = {warning.name: warning.message for warning in second.warnings}
    assert "certificates speak of wrong answers, not of 'not-among-two-in-a-test'" in said["no-certificate"]
    assert "not-among-two-in-a-test" in said["criterion"]
    assert not {"criterion", "no-certificate"} & {warning.name for warning in first.warnings}
    for one, other in zip(second.images, first.images, strict=True):
        if one.distance is not None and other.distance is not None:
            assert one.distance >= 0.9 * other.distance, "two classes have to pass the label, not one"


def test_it_is_part_of_the_identity(model: LoadedModel, data: Dataset, directory: Path) -> None:
    assert read_spec(directory / "second").criterion == not_among_two.name
    with pytest.raises(UsageError, match="criterion: there not-among-two-in-a-test, here misclassified"):
        robcert.attack(model, data, THREAT, run=directory / "second", **RUN)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown criterion"):
        robcert.attack(model, data, THREAT, criterion="top-1", **RUN)  # type: ignore[arg-type]


def test_it_says_nothing_about_wrong_answers(model: LoadedModel, data: Dataset, directory: Path) -> None:
    with pytest.raises(UsageError, match="says nothing about wrong answers"):
        robcert.jacobian(model, data, attack_run=directory / "second")
    with pytest.raises(UsageError, match="Compare runs of one criterion|has the criterion"):
        robcert.compare([directory / "first", directory / "second"], gradients=False)
    assert torch.tensor(robcert.compare([directory / "second"], gradients=False).lines[0].radius or [0]).eq(0).all()
