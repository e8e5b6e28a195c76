"""A training that was killed and begun again ends with the same weights, whatever is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipes import OBJECTIVES, REGULARISERS, tiny

from robcert.data import load_dataset
from robcert.training import Checkpoint, Epoch, Recipe, fit
from robcert.training.objectives import objectives
from robcert.training.regularisers import regularisers

CPU = torch.device("cpu")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    return load_dataset("digits", split="train", n=300), load_dataset("digits", n=100)


def goes_on(recipe: Recipe, epoch: int, data: tuple[Any, Any], folder: Path) -> list[Epoch]:
    """Kill after an epoch, begin again, compare with an undisturbed training; return the epochs of the latter."""

    def kill(reached: Epoch) -> None:
        if reached.number == epoch:
            raise Killed

    def checkpoint(fingerprint: str = "this one") -> Checkpoint:
        return Checkpoint(folder / "training.pt", fingerprint, every=0.0)

    whole: list[Epoch] = []
    expected = fit(recipe, *data, device=CPU, report=whole.append).state_dict()
    with pytest.raises(Killed):
        fit(recipe, *data, device=CPU, report=kill, checkpoint=checkpoint())
    assert {path.name for path in folder.iterdir()} == {"training.pt"}
    later: list[Epoch] = []
    kept = checkpoint()
    found = fit(recipe, *data, device=CPU, report=later.append, checkpoint=kept).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert later == whole[epoch:], "the epochs before are not trained again"
    assert kept.history == whole
    other: list[Epoch] = []
    fit(recipe, *data, device=CPU, report=other.append, checkpoint=checkpoint("another one"))
    assert other == whole, "another training begins anew"
    kept.remove()
    kept.remove()
    assert list(folder.iterdir()) == []
    return whole


def test_every_objective_and_regulariser_is_here() -> None:
    assert {options["name"] for options in OBJECTIVES.values()} == set(objectives.names())
    assert set(REGULARISERS) == set(regularisers.names())


@pytest.mark.parametrize(
    ("objective", "optimiser"),
    [("adversarial", "adam"), ("l2nnn-adversary", "muon"), ("certified_margin", "stiefel-muon")],
)
@pytest.mark.parametrize("epoch", [1, 3])
def test_every_optimiser(objective: str, optimiser: str, epoch: int, tmp_path: Path, data: tuple[Any, Any]) -> None:
    goes_on(tiny(objective, optimiser={"name": optimiser, "learning_rate": 1e-2}), epoch, data, tmp_path)


@pytest.mark.parametrize("regulariser", REGULARISERS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_regulariser_with_every_objective(
    objective: str, regulariser: str, tmp_path: Path, data: tuple[Any, Any]
) -> None:
    """A killed training goes on, and the regulariser makes a difference."""
    architecture = {"name": "cnn", "options": {"channels": [4], "hidden": [16]}}
    if objective.startswith("l2nnn"):
        architecture = {"name": "l2nnn", "options": {"channels": [4], "hidden": [16]}}
    without = tiny(objective, architecture=architecture, epochs=3, optimiser={"learning_rate": 1e-2})
    recipe = without.model_validate({**without.model_dump(), "regularisers": [REGULARISERS[regulariser]]})
    goes_on(recipe, 2, data, tmp_path)
    first, second = (fit(one, *data, device=CPU).state_dict() for one in (recipe, without))
    assert not all(torch.equal(first[key], second[key]) for key in second)


def test_with_images_held_out_and_a_rate_in_steps(tmp_path: Path, data: tuple[Any, Any]) -> None:
    """The best epoch may lie before the interruption; a training that has stopped stays stopped."""
    optimiser = {"name": "sgd", "learning_rate": 0.3, "schedule": "steps", "milestones": [2], "factor": 20.0}
    recipe = tiny(epochs=8, optimiser=optimiser, held_out={"images": 60, "patience": 2}, augmentation={})
    epochs = goes_on(recipe, 3, data, tmp_path)
    losses = [epoch.held_out_loss for epoch in epochs]
    assert len(epochs) < 8, "the rate jumps, the loss rises, the patience ends"
    assert [epoch.best for epoch in epochs[-2:]] == [False, False]
    assert min(losses) == losses[-3]  # type: ignore[type-var]
    goes_on(recipe, len(epochs), data, tmp_path)
