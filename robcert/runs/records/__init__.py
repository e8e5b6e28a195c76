"""Results of commands, as pydantic models: versioned, published as JSON schemas (docs/schemas); one file a command."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """The result of one command. ``schema`` names the form and its version, e.g. "robcert.certify/1"."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def to_json(self) -> str:
        """Return the JSON text that ``--format json`` prints."""
        return self.model_dump_json(by_alias=True, indent=2)


def schema(form: type[Record]) -> str:
    """Return the JSON schema of a record, as ``python -m robcert.runs.records NAME`` prints it."""
    return json.dumps(form.model_json_schema(by_alias=True), indent=2) + "\n"
