"""A training recipe: everything that decides which network comes out, in one TOML file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from robcert.errors import UsageError, did_you_mean
from robcert.registry import Registry
from robcert.training.objectives import ObjectiveTable, objectives
from robcert.training.regularisers import RegulariserTable, regularisers
from robcert.training.tables import Table, by_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


_Objective = Annotated[SerializeAsAny[ObjectiveTable], BeforeValidator(by_name(objectives))]
_Regulariser = Annotated[SerializeAsAny[RegulariserTable], BeforeValidator(by_name(regularisers))]


class Architecture(Table):
    """The network: a registered name, and the options of its factory."""

    name: str
    options: dict[str, Any] = {}


class Optimiser(Table):
    """The optimiser and the schedule of its rate.

    Attributes:
        name: "adam" (decoupled weight decay), "sgd" (Nesterov momentum), "muon" (orthogonal steps for
            matrices, adam at a fifth of the rate for the rest; `robcert.training.optimiser`), or "stiefel-muon" (the
            same for matrices that are orthonormal and stay so; `robcert.training.stiefel_muon`).
        learning_rate: the largest rate of the schedule.
        schedule: "one_cycle" (rises over the first ``rise`` of all steps, then falls to nearly 0), "constant",
            "steps" (constant, and multiplied by ``factor`` at every milestone), or "cosine" (rises linearly, is
            constant until ``hold``, then falls to 0 as half a cosine).
        rise: the share of the steps in which the rate rises.
        hold: of cosine, the share of the steps after which the rate falls.
        milestones: epochs, counted from 0, from whose beginning the rate is ``factor`` times what it was.
        factor: at each milestone.
        momentum: of sgd and stiefel-muon.
        weight_decay: relative to the learning rate.
    """

    name: Literal["adam", "sgd", "muon", "stiefel-muon"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["one_cycle", "constant", "steps", "cosine"] = "one_cycle"
    rise: float = Field(default=0.3, gt=0, lt=1)
    hold: float = Field(default=0.3, ge=0, lt=1)
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()
    factor: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _keys_fit_the_schedule(self) -> Optimiser:
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError('schedule = "steps" and milestones belong together')
        if self.schedule == "cosine" and self.hold < self.rise:
            raise ValueError(f"hold is {self.hold:g}, but the rate rises until {self.rise:g}")
        return self


class Augmentation(Table):
    """Variation of a training image from epoch to epoch.

    Attributes:
        shift: shifted by up to so many pixels in each direction, filled with zeros.
        noise: standard deviation of Gaussian noise on each entry, clipped to the box.
    """

    shift: int = Field(default=0, ge=0)
    noise: float = Field(default=0.0, ge=0)


class HeldOut(Table):
    """Training images that are not trained on: they say when to stop, and which weights are the best.

    Their loss is the mean cross-entropy of the logits, whatever the objective. Epochs before the objective is what it
    is at the end (`Objective.settled`) count for nothing.

    Attributes:
        images: how many, a stratified sample of the training images.
        seed: chooses them.
        patience: training stops after so many epochs without a smaller loss on them; None: never.
        keep: the weights of the epoch of the smallest loss ("best"), or of the last epoch.
    """

    images: int = Field(ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    patience: int | None = Field(default=None, ge=1)
    keep: Literal["best", "last"] = "best"


class Recipe(Table):
    """Everything that decides which network comes out.

    Attributes:
        name: how the model will be called.
        description: one sentence for the card.
        data: the data set; its training split is used.
        class_order: a file with the numbers of the classes of an image folder, see `robcert.load_dataset`.
        seed: decides initial weights, order of the images, augmentation and random starts.
        epochs: passes over the training images.
        batch: images for each step.
        precision: of the products in forward and backward; weights, losses and the trained model are float32.
        threads: CPU threads, because the last bits of a sum depend on them; None leaves the choice to torch.
        objective: what is minimised, a table that is registered under its ``name``.
        regularisers: what is done to the weights besides, in this order; with any objective.
        held_out: images that decide when to stop and what to keep; None: all are trained on.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    data: str = "digits"
    class_order: str | None = Field(default=None, min_length=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    epochs: int = Field(ge=1)
    batch: int = Field(default=128, ge=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    architecture: Architecture
    objective: _Objective = Field(default_factory=lambda: objectives.get("cross_entropy").model_validate({}))
    regularisers: tuple[_Regulariser, ...] = ()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation = Augmentation()
    held_out: HeldOut | None = None

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Recipe:
        if fault := self.objective.fault(self.epochs):
            raise ValueError(fault)
        if self.held_out is not None and self.held_out.patience and self.optimiser.schedule in ("one_cycle", "cosine"):
            raise ValueError(
                f'held_out.patience stops early, but optimiser.schedule = "{self.optimiser.schedule}" is planned to its'
                " last step:"
                ' use "constant" or "steps"'
            )
        return self


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe and checks every key.

    Args:
        path: the file, or the folder that holds a ``recipe.toml``.

    Raises:
        UsageError: no such file, not TOML, an unknown key (the right one is suggested), a value out of range.
    """
    if path.is_dir():
        path = path / "recipe.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"there is no recipe {path}", "Give a recipe, e.g. robcert train models/digits-plain/recipe.toml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text ({error})") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}", "Correct the file at this place.") from None
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        found, todo = _explain(error, table)
        raise UsageError(f"{path}: {found}", todo) from None


def _explain(error: ValidationError, table: dict[str, Any]) -> tuple[str, str]:
    """Return what is wrong with the first key that pydantic complains about, and what to do."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}", did_you_mean(where[-1], _keys(list(first["loc"][:-1]), table))
    if first["type"] == "missing":
        return f"the key {key!r} is missing", f"Add {where[-1]} = ..."
    message = first["msg"].removeprefix("Value error, ")
    value = first["input"]
    shown = "" if isinstance(value, dict) else f" (found {value!r})"
    return f"{key}: {message}{shown}" if key else message, "Correct this key."


_REGISTRIES: dict[str, Registry[Any]] = {"objective": objectives, "regularisers": regularisers}


def _keys(where: list[int | str], table: dict[str, Any]) -> list[str]:
    """Return the keys that the table at a place of the recipe may hold."""
    kind: type[BaseModel] = Recipe
    value: Any = table
    registry: Registry[Any] | None = None
    for part in where:
        value = value[part]
        if isinstance(part, str):
            registry = _REGISTRIES.get(part) if kind is Recipe else None
        if registry is not None:
            kind = registry.get(value["name"]) if isinstance(value, dict) else kind
        elif isinstance(part, str):
            kind = _table_of(kind.model_fields[part].annotation)
    return list(kind.model_fields)


def _table_of(annotation: Any) -> type[BaseModel]:
    """Return the table in the annotation of a field: itself, or a member of a union."""
    found = (annotation, *get_args(annotation))
    return next(one for one in found if isinstance(one, type) and issubclass(one, BaseModel))
