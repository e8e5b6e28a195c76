"""Training: recipes, objectives, the loop, and what it writes."""

from __future__ import annotations

from robcert.train.checkpoint import Checkpoint, Epoch
from robcert.train.loop import train
from robcert.train.measure import Measured, measure
from robcert.train.recipe import Recipe, read_recipe
from robcert.train.run import Trained, train_model, train_recipe

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
