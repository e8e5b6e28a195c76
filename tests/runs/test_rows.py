"""Records as dictionaries and as rows of a table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import robcert


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    at: Path = tmp_path_factory.mktemp("rows")
    model, data = robcert.load_model("digits-plain"), robcert.load_dataset("digits", n=6)
    threat = robcert.Threat("linf", (0.02, 0.1))
    attack = robcert.attack(model, data, threat, "pgd:2", goal="minimize", run=at / "run")
    return {
        "attack": attack,
        "certify": robcert.certify(model, data, threat, "ibp"),
        "norms": robcert.norms(model),
        "jacobian": robcert.jacobian(model, data),
        "compare": robcert.compare(at / "run", gradients=False),
        "leaderboard": robcert.leaderboard(at / "run"),
        "detect": robcert.detect(model, robcert.load_dataset("digits", n=40), "pgd:2", calibration=20, attacked=4),
    }


def test_the_dictionary_is_the_json(records: dict[str, Any]) -> None:
    for record in records.values():
        assert record.to_dict() == json.loads(record.to_json())
        assert record.to_dict()["schema"].startswith("robcert.")


def test_rows_have_the_same_columns_and_hold_texts_and_numbers(records: dict[str, Any]) -> None:
    for name, record in records.items():
        rows = record.rows()
        assert rows, name
        assert len({tuple(row) for row in rows}) == 1, name
        assert all(value is None or isinstance(value, (str, int, float)) for row in rows for value in row.values())


def test_rows_say_what_the_record_says(records: dict[str, Any]) -> None:
    attack = records["attack"]
    rows = attack.rows()
    assert len(rows) == 12, "6 images, 2 eps"
    for k, eps in enumerate((0.02, 0.1)):
        broken = [row for row in rows if row["eps"] == eps and row["status"] == "broken"]
        assert len(broken) == attack.models[0].verdicts.broken[k]
        assert all(row["distance"] <= eps for row in broken)
    certified = records["certify"]
    assert sum(row["radius"] > 0.02 for row in certified.rows()) == certified.models[0].certified_correct[0]
    assert len(records["norms"].rows()) == len(records["norms"].models[0].layers)
    jacobian = records["jacobian"]
    mean = sum(row["spectral"] for row in jacobian.rows()) / 6
    assert math.isclose(mean, jacobian.models[0].statistics["spectral"].mean, rel_tol=1e-9)
