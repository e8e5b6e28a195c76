"""The card of a model: what must be known to execute it, and what is known about it."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from robcert.errors import EvaluationError, did_you_mean
from robcert.files import write_text
from robcert.preparation import Labels, Pipeline

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

SCHEMA = "robcert.card/1"
SAFETENSORS_KEY = "robcert"
PT_KEY = "robcert_card"
EXTRA_FILE = "robcert.json"
_LIBRARY = re.compile(r"torchvision:\w+(@\w+)?|timm:\w+(\.\w+)?", re.ASCII)


Plain = bool | int | float | str | None
Option = Plain | list[Plain | list[Plain | list[Plain]]]
_FETCHES = ("weights", "pretrained", "checkpoint", "url", "hub", "path", "file", "dir", "repo", "cache", "token")
_WORD = re.compile(r"[\w .+-]{0,80}", re.ASCII)


class Card(BaseModel):
    """The card of a model, as it stands in a file.

    Attributes:
        schema_id: the version of this form ("schema" in a file).
        name: how a table calls the model.
        architecture: a registered name, "torchvision:NAME" or "timm:NAME"; none where the file holds the graph itself
            (.pt2, TorchScript), and where the network is made by a user's own factory: a file does not choose code.
        options: further arguments of the architecture: numbers, words and lists of these.
        input_shape: the shape of one image, channels first.
        num_classes: the number of logits.
        box: the smallest and the largest value of an input entry.
        mean: subtracted per channel inside the network.
        std: divides per channel inside the network.
        scale: multiplies an input before the mean is subtracted: 255 where mean and std count in bytes.
        pipeline: what is done to a picture of any size.
        labels: what its classes are called.
        data: the data set that the model was made for ("digits").
        description: one or two sentences for a person.
        recipe: how it was trained.
        results: measured numbers, by name.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)

    schema_id: Literal["robcert.card/1"] = Field(default=SCHEMA, alias="schema")
    name: str = ""
    architecture: str | None = None
    options: dict[str, Option] = {}
    input_shape: tuple[int, ...] | None = None
    num_classes: int | None = Field(default=None, ge=2)
    box: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    pipeline: Pipeline | None = None
    labels: Labels | None = None
    data: str | None = None
    description: str = ""
    recipe: dict[str, Any] = {}
    results: dict[str, Any] = {}

    @field_validator("options")
    @classmethod
    def _plain(cls, options: dict[str, Option]) -> dict[str, Option]:
        for name, value in options.items():
            if fault := option_fault(name, value):
                raise ValueError(fault)
        return options

    @field_validator("input_shape")
    @classmethod
    def _positive(cls, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if shape is not None and (not shape or any(size < 1 for size in shape)):
            raise ValueError("the sizes of an image are positive, e.g. [3, 32, 32]")
        return shape

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        low, high = self.box
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"the box [{low:g}, {high:g}] is empty or not finite")
        if fault := normalization_fault(self.mean, self.std):
            raise ValueError(fault)
        return self

    def dump(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values, without those that were left empty."""
        fields = self.model_dump(mode="json", by_alias=True)
        return {key: value for key, value in fields.items() if value is not None and value != {} and value != ""}

    def to_json(self) -> str:
        """Return the card as JSON; read back by `parse_json`."""
        return json.dumps(self.dump())


def normalization_fault(mean: Sequence[float] | None, std: Sequence[float] | None) -> str:
    """Return what is wrong with the values of a normalisation; "" where nothing is."""
    if any(not math.isfinite(value) for value in mean or ()):
        return f"mean is {_listed(mean)}, but every value must be a finite number"
    if any(not (math.isfinite(value) and value > 0) for value in std or ()):
        return f"std is {_listed(std)}, but every value must be a positive finite number"
    return ""


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _flat(one)
    else:
        yield value


def option_fault(name: str, value: object) -> str:
    """Return why a card may not set that option of an architecture; "" where it may."""
    if not name.isidentifier() or (name != "init_weights" and any(word in name.lower() for word in _FETCHES)):
        return f"{name!r} is no option that a card may set: it may fetch or read a file"
    for one in _flat(value):
        if not isinstance(one, bool | int | float | str | None):
            return f"{name} holds a {type(one).__name__}, but an option is a number, a word or a list of these"
        if isinstance(one, str) and _WORD.fullmatch(one) is None:
            return f"{name} is {one[:40]!r}, but a text of an option is a plain word"
    return ""


def names_code(architecture: str | None) -> bool:
    """Return whether the name of an architecture is that of a Python function: "package.module:factory"."""
    return architecture is not None and ":" in architecture and _LIBRARY.fullmatch(architecture) is None


def _listed(values: Sequence[float] | None) -> str:
    return ", ".join(f"{value:g}" for value in values or ())


def parse(fields: object, where: str) -> Card:
    """Return a card from what a file held.

    Raises:
        EvaluationError: an unknown key (with the closest right one), or a value that does not fit.
    """
    if not isinstance(fields, dict):
        raise EvaluationError(f"the card in {where} is a {type(fields).__name__}, expected a table of fields")
    try:
        return Card.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = [field.alias or name for name, field in Card.model_fields.items()]
        if first["type"] == "extra_forbidden":
            raise EvaluationError(f"unknown key {key!r} in the card of {where}", did_you_mean(key, known)) from None
        place = f"field {key!r} of the card" if key else "the card"
        raise EvaluationError(f"{place} in {where} does not fit: {first['msg']}", f"Edit it in {where}.") from None


def parse_json(text: str | bytes, where: str) -> Card:
    """Return a card from its JSON form.

    Raises:
        EvaluationError: not JSON, or not a card.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"the card in {where} is not JSON: {error}") from None
    return parse(fields, where)


def read_toml(path: Path) -> Card:
    """Return the card in a ``model.toml``.

    Raises:
        EvaluationError: the file cannot be read, is not TOML, or not a card.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"the card {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise EvaluationError(f"the card {path} is not TOML: {error}") from None
    return parse(fields, str(path))


def write_toml(card: Card, path: Path) -> Path:
    """Write the card as a ``model.toml``."""
    import tomli_w

    write_text(path, tomli_w.dumps(_without_none(card.dump())))
    return path


def _without_none(value: Any) -> Any:
    """TOML has no null: a key without a value is left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value
