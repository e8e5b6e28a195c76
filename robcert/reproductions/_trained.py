"""Networks that a table needs and the zoo lacks: trained on the first call, found on the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robcert.network import load_model
from robcert.network.card import read_toml
from robcert.network.zoo import CARD, WEIGHTS, zoo_path
from robcert.reproductions.settings import Settings
from robcert.training import Recipe, read_recipe, train_recipe
from robcert.types import LoadedModel

BASES = {"digits": "digits-l2nnn", "mnist": "mnist-l2nnn"}
"""The recipe of the zoo that a table starts from, by data set."""


def base(data: str) -> Recipe:
    """The recipe of the zoo's L2NNN for a data set.

    Raises:
        UsageError: the zoo has none for it.
    """
    return read_recipe(zoo_path(BASES.get(data, f"{data}-l2nnn")))


def changed(recipe: Recipe, name: str, **tables: dict[str, Any]) -> Recipe:
    """The recipe under another name, with keys of its tables replaced; ``top`` stands for keys outside of tables."""
    content = recipe.model_dump(exclude_none=True)
    content.update(name=name, description="", **tables.pop("top", {}))
    for table, keys in tables.items():
        content[table] = {**content[table], **keys}
    return Recipe.model_validate(content)


def trained(recipe: Recipe, settings: Settings) -> LoadedModel:
    """The network of a recipe from the folder of the runs; trained there first, if it is not there."""
    folder = settings.runs / "trained" / recipe.name
    if not _is_of(folder, recipe):
        train_recipe(
            recipe,
            folder,
            data_dir=settings.data_dir,
            download=settings.download,
            device=settings.device,
            report=settings.trained,
        )
    return load_model(folder, device=settings.device)


def _is_of(folder: Path, recipe: Recipe) -> bool:
    if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
        return False
    return Recipe.model_validate(read_toml(folder / CARD).recipe) == recipe
