"""Training: recipes, objectives, the loop, and what it writes."""

from __future__ import annotations

from robcert.training.checkpoint import Checkpoint, Epoch
from robcert.training.loop import train
from robcert.training.measure import Measured, measure
from robcert.training.recipe import Recipe, read_recipe
from robcert.training.run import Trained, train_model, train_recipe

__all__ = [
    "Checkpoint",
    "Epoch",
    "Measured",
    "Recipe",
    "Trained",
    "measure",
    "read_recipe",
    "train",
    "train_model",
    "train_recipe",
]
