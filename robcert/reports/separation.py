"""The records and the table of `robcert data lipschitz`."""

from __future__ import annotations

import json
import math
import sys
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from robcert.sensitivity.separation import Separation
from robcert.types import Dataset


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SeparationRecord(_Strict):
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


class SeparationsRecord(_Strict):
    """What ``robcert data lipschitz --format json`` prints."""

    schema_: Literal["robcert.separation/1"] = Field(default="robcert.separation/1", alias="schema")
    data: list[SeparationRecord]

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)


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


def render_separations(record: SeparationsRecord, console: Console) -> None:
    """A row a data set, as table 4 of paper E."""
    table = Table(title="Lipschitz constants of data sets, l2", title_justify="left")
    for column in ("data", "split"):
        table.add_column(column, no_wrap=True)
    for column in ("images", "distance", "constant"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("closest images of different classes", overflow="fold")
    for one in record.data:
        pair = f"{one.indices[0]} ({one.labels[0]}) and {one.indices[1]} ({one.labels[1]})"
        constant = "inf" if one.lipschitz is None else f"{one.lipschitz:.4f}"
        table.add_row(one.name, one.split, f"{one.n:,}", f"{one.distance:.4f}", constant, pair)
    console.print(table)
    for one in record.data:
        if one.duplicates:
            console.print(f"{one.name}: {one.duplicates} pairs of equal images with different labels were left out")
        if one.lipschitz is None:
            console.print(
                f"{one.name}: equal images with different labels: no function fits them "
                "(--exclude-duplicates leaves such pairs out)"
            )


def schema() -> str:
    """The JSON schema (docs/schemas/separation-1.json), as ``python -m robcert.reports.separation`` prints it."""
    return json.dumps(SeparationsRecord.model_json_schema(by_alias=True), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema())
