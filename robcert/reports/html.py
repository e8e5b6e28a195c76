"""One record as one self-contained page of HTML, like that of `robcert report`."""

from __future__ import annotations

from robcert.reports import renderer
from robcert.reports.page.render import render_page
from robcert.reports.page.report import page_of
from robcert.reports.page.sources import source_of
from robcert.runs.record import RunRecord
from robcert.runs.records.certify import CertifyRecord
from robcert.runs.records.jacobian import JacobianRecord
from robcert.runs.records.norms import NormsRecord
from robcert.runs.records.verify import VerifyRecord


@renderer("html", RunRecord, CertifyRecord, NormsRecord, JacobianRecord, VerifyRecord)
def render(record: RunRecord | CertifyRecord | NormsRecord | JacobianRecord | VerifyRecord) -> str:
    """Return the page."""
    return render_page(page_of(source_of(record))).rstrip("\n")
