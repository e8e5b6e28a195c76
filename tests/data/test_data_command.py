"""`robcert data`, as it is mounted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robcert.cli.main import app


def test_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "--data-dir", str(tmp_path), "--format", "json"])
    assert result.exit_code == 0
    listed = {entry["name"]: entry for entry in json.loads(result.stdout)["data"]}
    assert listed["digits"]["ready"] is True
    assert listed["digits"]["sizes"] == {"test": 500, "train": 1297}
    assert listed["mnist"]["places"] == [{"path": str(tmp_path / "MNIST" / "raw"), "found": False}]


def test_the_table_shows_every_path_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    result = CliRunner().invoke(app, ["data", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0
    column = [line.split("│")[-2].strip() for line in result.stdout.splitlines() if "│" in line]
    assert f"{tmp_path}/MNIST/raw" in "".join(column)


def test_lipschitz() -> None:
    result = CliRunner().invoke(app, ["data", "lipschitz", "digits", "--format", "json"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["schema"] == "robcert.separation/1"
    (one,) = record["data"]
    assert (one["name"], one["split"], one["n"], one["duplicates"]) == ("digits", "train", 1297, None)
    assert one["lipschitz"] == pytest.approx(1 / one["distance"])
    table = CliRunner().invoke(app, ["data", "lipschitz", "digits", "--n", "50", "--split", "test"])
    assert "closest images" in table.stdout
    listed = CliRunner().invoke(app, ["data", "--format", "json"])
    assert "digits" in {entry["name"] for entry in json.loads(listed.stdout)["data"]}, "the list still lists"
