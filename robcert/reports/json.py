"""Every record itself, as JSON of its published schema."""

from __future__ import annotations

from robcert.policy.record import GateRecord
from robcert.reports import renderer
from robcert.runs.record import RunRecord
from robcert.runs.records import Record
from robcert.runs.records.certify import CertifyRecord
from robcert.runs.records.compare import CompareRecord
from robcert.runs.records.detect import DetectRecord, ScreenRecord
from robcert.runs.records.jacobian import JacobianRecord
from robcert.runs.records.leaderboard import LeaderboardRecord
from robcert.runs.records.norms import NormsRecord
from robcert.runs.records.separation import SeparationsRecord
from robcert.runs.records.verify import VerifyRecord


@renderer("json", RunRecord, GateRecord, CertifyRecord, NormsRecord, JacobianRecord)
@renderer("json", CompareRecord, DetectRecord, ScreenRecord, SeparationsRecord, VerifyRecord, LeaderboardRecord)
def render(record: RunRecord | GateRecord | Record) -> str:
    """Return the JSON text."""
    return record.to_json()
