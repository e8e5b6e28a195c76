"""Results of commands, as pydantic models: versioned, published as JSON schemas (docs/schemas); one file a command."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """The result of one command. ``schema`` names the form and its version, e.g. "robcert.certify/1"."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def to_json(self) -> str:
        """Return the JSON text that ``--format json`` prints."""
        return self.model_dump_json(by_alias=True, indent=2)

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` prints, as dictionaries, lists, texts and numbers."""
        return self.model_dump(mode="json", by_alias=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return the parts that the record is about as rows of a table: ``pandas.DataFrame(record.rows())``.

        Keys are columns, the same in every row. What the rows are is said where a record has its own.
        """
        return [scalars(self)]


def scalars(part: BaseModel) -> dict[str, Any]:
    """Return the texts and numbers of a part of a record by name; lists and parts of it are left out."""
    values = {name: getattr(part, name) for name in type(part).model_fields}
    return {name: value for name, value in values.items() if value is None or isinstance(value, (str, int, float))}


def schema(form: type[Record]) -> str:
    """Return the JSON schema of a record, as ``python -m robcert.runs.records NAME`` prints it."""
    return json.dumps(form.model_json_schema(by_alias=True), indent=2) + "\n"
