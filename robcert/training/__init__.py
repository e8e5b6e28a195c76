"""Training: recipes, objectives, the loop, and what it writes."""

from __future__ import annotations

from robcert.training.checkpoint import Checkpoint, Epoch
from robcert.training.loop import fit
from robcert.training.measure import Measured, measure
from robcert.training.recipe import Recipe, read_recipe
from robcert.training.run import Trained, train, train_recipe

__all__ = [
    "Checkpoint",
    "Epoch",
    "Measured",
    "Recipe",
    "Trained",
    "fit",
    "measure",
    "read_recipe",
    "train",
    "train_recipe",
]
