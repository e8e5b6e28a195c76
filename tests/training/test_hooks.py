"""When a regulariser is called, and what it may do."""

from __future__ import annotations

import pytest
import torch
from tiny_recipes import REGULARISERS, TowardsAverage, tiny

from robcert.data import load_dataset
from robcert.training import Recipe, fit
from robcert.training.regularisers import Regulariser


def test_the_hooks_of_every_step_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Regulariser] = []
    build = TowardsAverage.build

    def remembered(table: TowardsAverage) -> Regulariser:
        made.append(build(table))
        return made[-1]

    monkeypatch.setattr(TowardsAverage, "build", remembered)
    data = load_dataset("digits", split="train", n=200)
    recipe = tiny(epochs=2, regularisers=[REGULARISERS["towards_average"]] * 2)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe, "as a card keeps it"
    fit(recipe, data, data, device=torch.device("cpu"))
    assert len(made) == 2, "one regulariser may stand twice"
    for one in made:
        assert one.steps == list(range(1, 9))  # type: ignore[attr-defined]
        assert one.calls == ["prepare", *["before", "gradients", "after"] * 8, "finish"]  # type: ignore[attr-defined]
