"""``python -m robcert.runs.records certify > docs/schemas/certify-1.json`` writes a published schema."""

from __future__ import annotations

import sys

from robcert.runs.records import Record, schema
from robcert.runs.records.certify import CertifyRecord
from robcert.runs.records.compare import CompareRecord
from robcert.runs.records.detect import DetectRecord, ScreenRecord
from robcert.runs.records.estimate import EstimateRecord
from robcert.runs.records.jacobian import JacobianRecord
from robcert.runs.records.leaderboard import LeaderboardRecord
from robcert.runs.records.norms import NormsRecord
from robcert.runs.records.separation import SeparationsRecord
from robcert.runs.records.verify import VerifyRecord

FORMS: dict[str, type[Record]] = {
    "certify": CertifyRecord,
    "compare": CompareRecord,
    "detect": DetectRecord,
    "estimate": EstimateRecord,
    "jacobian": JacobianRecord,
    "leaderboard": LeaderboardRecord,
    "norms": NormsRecord,
    "screen": ScreenRecord,
    "separation": SeparationsRecord,
    "verify": VerifyRecord,
}

if __name__ == "__main__":
    sys.stdout.write(schema(FORMS[sys.argv[1]]))
