"""A training recipe: everything that decides which network comes out, in one TOML file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from robcert.errors import UsageError, did_you_mean
from robcert.types import budget

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(_Table):
    """Which network: a registered name, and the options of its factory."""

    name: str
    options: dict[str, Any] = {}


class CrossEntropy(_Table):
    """Ordinary training.

    Attributes:
        label_smoothing: the share of the target that is spread over all classes.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Adversary(_Table):
    """Who distorts the images of a batch: projected gradient descent from a random start.

    Attributes:
        norm: of the perturbation.
        eps: its budget, in the units of the data.
        steps: gradient steps for each batch.
        step: length of one of them, relative to eps.
        warm_up: the share of the epochs over which eps grows from 0 to its value.
    """

    norm: Literal["l2", "linf"]
    eps: Annotated[float, BeforeValidator(budget)]
    steps: int = Field(default=10, ge=1)
    step: float = Field(default=0.25, gt=0)
    warm_up: float = Field(default=0.0, ge=0, le=1)


class Adversarial(Adversary):
    """Cross-entropy on the adversarial examples of projected gradient descent (Madry et al. 2018, eq. 2.1).

    Attributes:
        label_smoothing: as in `CrossEntropy`.
    """

    name: Literal["adversarial"]
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class Distortion(Adversary):
    """The adversary of an L2-nonexpansive network, which raises L_a; L_c always sees the images themselves.

    Attributes:
        terms: which terms see the distorted images: "a" (L_a alone, paper A's Model 4) or "ab" (L_a and L_b).
    """

    terms: Literal["a", "ab"] = "a"


class L2NNN(_Table):
    """The loss of L2-nonexpansive networks (paper A, eq. 3-7).

    Attributes:
        gamma: weight of L_b (accuracy).
        omega: weight of L_c (confidence gaps).
        v: scale of the logits in L_b, and where the scales u_k of L_a begin.
        trainable_v: v is trained, like the u_k, from there.
        z: hardness of L_c.
        penalty: weight of L_W (eq. 7), until the switch.
        switch_epoch: the first epoch, from 0, that is trained with W' in place of the penalty.
        keep_penalty: the penalty stays after the switch (paper B's "weight regularization loss").
        divide: how W' is made: the "whole" matrix divided by sqrt(b(W)) (eq. 2), or "each" of its rows by its
            own divisor, which trains faster and to larger gaps (`robcert.nn.nonexpansive`).
        regularise: False: plain weights, without penalty and without W' (the first row of paper A's table 3); no
            gap is a guarantee then.
        adversary: distorts the images of L_a, or of L_a and L_b; None: no adversary.
    """

    name: Literal["l2nnn"]
    gamma: float = Field(default=1.0, ge=0)
    omega: float = Field(default=0.3, ge=0)
    v: float = Field(default=3.0, gt=0)
    trainable_v: bool = False
    z: float = Field(default=1.0, gt=0)
    penalty: float = Field(default=1.0, ge=0)
    switch_epoch: int = Field(default=0, ge=0)
    keep_penalty: bool = False
    divide: Literal["whole", "each"] = "whole"
    regularise: bool = True
    adversary: Distortion | None = None


Objective = Annotated[CrossEntropy | Adversarial | L2NNN, Field(discriminator="name")]


class Optimiser(_Table):
    """How the weights move.

    Attributes:
        name: "adam" (decoupled weight decay), "sgd" (Nesterov momentum), or "muon" (orthogonal steps for
            matrices, adam at a fifth of the rate for the rest; `robcert.train.optimiser`).
        learning_rate: the largest rate of the schedule.
        schedule: "one_cycle" (rises over the first ``rise`` of all steps, then falls to nearly 0) or
            "constant".
        rise: the share of the steps in which the rate rises.
        momentum: of sgd.
        weight_decay: relative to the learning rate.
    """

    name: Literal["adam", "sgd", "muon"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    rise: float = Field(default=0.3, gt=0, lt=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)


class Augmentation(_Table):
    """How a training image varies from epoch to epoch.

    Attributes:
        shift: shifted by up to so many pixels in each direction, filled with zeros.
        noise: standard deviation of Gaussian noise on each entry, clipped to the box.
    """

    shift: int = Field(default=0, ge=0)
    noise: float = Field(default=0.0, ge=0)


class Recipe(_Table):
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
    objective: Objective = CrossEntropy()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _strict_in_the_end(self) -> Recipe:
        if isinstance(self.objective, L2NNN) and self.objective.switch_epoch >= self.epochs:
            raise ValueError(
                f"objective.switch_epoch is {self.objective.switch_epoch}, epochs is {self.epochs}:"
                " without W' in the end the network is not nonexpansive"
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
    """What is wrong with the first key that pydantic complains about, and what to do."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    if len(where) > 1 and where[0] == "objective":
        del where[1]  # the tag of the union, which is no key of the file
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}", did_you_mean(where[-1], _fields(where[:-1], table))
    if first["type"] == "missing":
        return f"the key {key!r} is missing", f"Add {where[-1]} = ..."
    message = first["msg"].removeprefix("Value error, ")
    value = first["input"]
    shown = "" if isinstance(value, dict) else f" (found {value!r})"
    return f"{key}: {message}{shown}" if key else message, "Correct this key."


def _fields(where: list[str], table: dict[str, Any]) -> list[str]:
    """The keys that a table of the recipe may hold."""
    tables: dict[str, type[BaseModel]] = {
        "architecture": Architecture,
        "optimiser": Optimiser,
        "augmentation": Augmentation,
    }
    if not where:
        return list(Recipe.model_fields)
    if where[0] == "objective":
        kinds: dict[str, type[BaseModel]] = {
            get_args(kind.model_fields["name"].annotation)[0]: kind for kind in (CrossEntropy, Adversarial, L2NNN)
        }
        kind = kinds[table["objective"]["name"]]
        return list((Distortion if where[1:] == ["adversary"] else kind).model_fields)
    return list(tables[where[0]].model_fields)
