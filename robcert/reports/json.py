"""The record itself, as JSON (schema robcert.run/1)."""

from __future__ import annotations

from robcert.reports import renderer
from robcert.runs.record import RunRecord


@renderer("json")
def render(record: RunRecord) -> str:
    """See `robcert.runs.record.RunRecord`."""
    return record.to_json()
