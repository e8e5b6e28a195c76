"""Runs of three models in a moment, for the report."""

from __future__ import annotations

from pathlib import Path

import pytest

import robcert
from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.certificates import certificates
from robcert.reports.page.report import report
from robcert.runs.records.certify import CertifyRecord, certified_model
from robcert.runs.records.jacobian import jacobian_record
from robcert.runs.records.norms import norms_record
from robcert.runs.spec import threat_record
from robcert.sensitivity.jacobian import sensitivity


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of three models at two budgets, and the json of certify, norms and jacobian."""
    folder = tmp_path_factory.mktemp("report")
    data = robcert.load_dataset("digits", n=60)
    models = [robcert.load_model(name) for name in ("digits-plain", "digits-at", "digits-l2nnn")]
    threat = robcert.Threat("l2", (0.25, 0.75))
    robcert.attack(models, data, threat, "cw:3,30", run=folder / "run")
    found = certificates.get("gap")(models[2], data.x, data.y, "l2")
    record = CertifyRecord(
        method="gap",
        threat=threat_record(threat),
        models=[certified_model(models[2], data, threat, found, 5, None, [])],
    )
    (folder / "certify.json").write_text(record.to_json())
    (folder / "norms.json").write_text(norms_record([(models[2], graph_bound(models[2]))]).to_json())
    found = [(model, sensitivity(model, data, "l2"), None) for model in models[1:]]
    (folder / "jacobian.json").write_text(jacobian_record(found, data, "l2").to_json())
    return {name: folder / name for name in ("run", "certify.json", "norms.json", "jacobian.json")}


@pytest.fixture(scope="session")
def page(three: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("page") / "report.html"
    assert "sections" in report(list(three.values()), output)
    return output
