"""Tables of a recipe: frozen, every key checked; one that says by its name which kind it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from robcert.errors import UsageError
from robcert.registry import Registry


class Table(BaseModel):
    """A table of a recipe: a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Named(BaseModel):
    name: str


T = TypeVar("T", bound=Table)


def by_name(registry: Registry[type[T]]) -> Callable[[Any], Any]:
    """Return a validator that reads a table as the one that is registered under its key ``name``.

    Errors of its keys are those of that table, and in the same place.
    """

    def read(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value
        name = _Named.model_validate(value).name
        try:
            table = registry.get(name)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return table.model_validate(value)

    return read
