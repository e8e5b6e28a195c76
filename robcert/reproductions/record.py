"""The record of a reproduction: tables whose columns say what is the paper's and what is ours."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Cell = str | float | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Column(_Strict):
    """One column. A share is a number between 0 and 1 and is printed in percent."""

    name: str
    source: Literal["label", "paper", "ours"] = "ours"
    kind: Literal["text", "share", "number"] = "share"


class Table(_Strict):
    """A table; every row has one cell a column, null where nothing is known."""

    title: str
    columns: list[Column]
    rows: list[list[Cell]]

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns")
            for cell, column in zip(row, self.columns, strict=True):
                if cell is not None and isinstance(cell, str) != (column.kind == "text"):
                    raise ValueError(f"{cell!r} in the column {column.name!r}, which holds a {column.kind}")
        return self


class ReproduceRecord(_Strict):
    """The record of ``robcert reproduce --format json``."""

    schema_: Literal["robcert.reproduce/1"] = Field(default="robcert.reproduce/1", alias="schema")
    name: str
    title: str
    command: str = Field(description="the command that prints this record")
    tables: list[Table]
    differences: list[str] = Field(description="what differs from the paper: networks, data, attack, iterations")
    verdicts: list[str] = Field(description="one line a model: whether its sweep is flat or still falling")
    runs: list[str] = Field(description="the run directories")

    def to_json(self) -> str:
        """The JSON text."""
        return self.model_dump_json(by_alias=True, indent=2)


def schema() -> str:
    """The JSON schema that docs/schemas/reproduce-1.json publishes."""
    return json.dumps(ReproduceRecord.model_json_schema(by_alias=True), indent=2) + "\n"
