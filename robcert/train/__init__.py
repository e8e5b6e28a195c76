"""Training: recipes, objectives, the loop, and what it writes."""

from __future__ import annotations

from robcert.train.loop import Epoch, train
from robcert.train.measure import Measured, measure
from robcert.train.recipe import Recipe, read_recipe
from robcert.train.run import Trained, train_model

__all__ = ["Epoch", "Measured", "Recipe", "Trained", "measure", "read_recipe", "train", "train_model"]
