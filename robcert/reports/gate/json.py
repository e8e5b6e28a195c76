"""The record itself, as JSON (schema robcert.gate/1)."""

from __future__ import annotations

from robcert.policy.record import GateRecord
from robcert.reports.gate import renderer


@renderer("json")
def render(record: GateRecord) -> str:
    """See `robcert.policy.record.GateRecord`."""
    return record.to_json()
