"""The record of `robcert data lipschitz`."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from robcert.runs.record import Strict
from robcert.runs.records import Record, scalars
from robcert.sensitivity.separation import Separation
from robcert.types import Dataset


class SeparationRecord(Strict):
    """The closest two images of different classes in one data set."""

    name: str
    split: str
    n: int
    distance: float = Field(description="l2, in the units of the data")
    lipschitz: float | None = Field(description="1 / distance; null where equal images have different labels")
    indices: tuple[int, int]
    labels: tuple[str, str]
    duplicates: int | None = Field(description="equal pairs that were left out; null where none was to be")
    seconds: float


class SeparationsRecord(Record):
    """The output of ``robcert data lipschitz --format json``."""

    schema_: Literal["robcert.separation/1"] = Field(default="robcert.separation/1", alias="schema")
    data: list[SeparationRecord]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each data set."""
        return [scalars(one) for one in self.data]


def separation_record(data: Dataset, found: Separation, excluded: bool, seconds: float) -> SeparationRecord:
    """From the closest pair to its record."""
    first, second = (data.classes[label] for label in found.labels)
    return SeparationRecord(
        name=data.name,
        split=data.split,
        n=len(data),
        distance=found.distance,
        lipschitz=found.lipschitz if math.isfinite(found.lipschitz) else None,
        indices=(found.first, found.second),
        labels=(first, second),
        duplicates=found.duplicates if excluded else None,
        seconds=round(seconds, 3),
    )
