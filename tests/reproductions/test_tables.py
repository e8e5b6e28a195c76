"""The tables of paper A, on the embedded digits in place of MNIST: the same code, in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

import robcert
from robcert.errors import EvaluationError
from robcert.network.card import read_toml
from robcert.network.zoo import zoo_path
from robcert.reproductions import ReproduceRecord, Settings, reproductions
from robcert.reproductions._sweep import Match, legs
from robcert.runs.record import RunRecord

DIGITS = (
    Match("digits-plain", "Model 1", 0.991, {"10": 0.7, "100": 0.5, "0.1": 0.4, "0.3": 0.0}),
    Match("digits-l2nnn", "Model 3", 0.987, {"10": 0.9, "100": 0.8, "0.1": 0.9, "0.3": 0.1}),
    Match("digits-nowhere"),
)


def settings(tmp_path: Path) -> Settings:
    return Settings(n=20, max_iterations=20, restarts=2, data="digits", threads=1, runs=tmp_path / "runs")


def column(record: ReproduceRecord, name: str, table: int = 0) -> dict[str, object]:
    """The cells of a column by the label of their row."""
    shown = record.tables[table]
    k = [one.name for one in shown.columns].index(name)
    return {str(row[0]): row[k] for row in shown.rows}


def test_table1_is_the_attack_and_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robcert.reproductions.l2nnn_table1.MODELS", DIGITS)
    monkeypatch.setattr("robcert.reproductions.l2nnn_table1.ONLY_GAPS", ())
    monkeypatch.setattr("robcert.reproductions.l2nnn_table1.EPS", 0.3)
    monkeypatch.setattr("robcert.reproductions.l2nnn_table1.ROWS", ("10", "100"))
    record = reproductions.get("l2nnn-table1")(settings(tmp_path))
    data = robcert.load_dataset("digits", n=20)
    plain = robcert.load_model("digits-plain")
    run: RunRecord = robcert.attack(plain, data, robcert.Threat("l2", (0.3,)), "cw:20,cw:20x2", cpu_threads=1)
    expected = run.models[0]
    ours = column(record, "digits-plain")
    assert ours["Natural"] == expected.natural_correct / 20
    assert ours["20"] == expected.legs[0].attacked_correct / 20  # type: ignore[operator]
    assert ours["20x2"] == expected.legs[1].attacked_correct / 20  # type: ignore[operator]
    assert ours["10"] is None
    assert ours["100"] is None
    assert column(record, "Model 1") == {
        "Natural": 0.991,
        "10": 0.7,
        "100": 0.5,
        "20": None,
        "20x2": None,
        "Certified": None,
    }
    assert any("digits-nowhere is not in the zoo" in line for line in record.differences)
    assert len(record.verdicts) == len(record.runs) == 2
    assert [row[0] for row in record.tables[1].rows] == ["digits-l2nnn"], "half a gap of others proves nothing"
    card = read_toml(zoo_path("digits-l2nnn") / "model.toml")
    assert column(record, "average gap", 1)["digits-l2nnn"] == pytest.approx(card.results["mean_gap"], abs=1e-4)
    assert column(record, "g/2 > 0.5", 1)["digits-l2nnn"] == pytest.approx(card.results["half_gap_above_0.5"])


def test_a_second_call_finds_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robcert.reproductions.l2nnn_table4.MODELS", DIGITS)
    first = reproductions.get("l2nnn-table4")(settings(tmp_path))
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert reproductions.get("l2nnn-table4")(settings(tmp_path)) == first
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == folders
    assert column(first, "Model 3") == {"0.1": 0.9, "0.3": 0.1}
    falling = [column(first, "digits-l2nnn")[eps] for eps in ("0.1", "0.3")]
    assert falling == sorted(falling, reverse=True)  # type: ignore[type-var]


def test_models_that_nobody_trained_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robcert.reproductions.l2nnn_table2.MODELS", (Match("cifar10-nowhere"),))
    with pytest.raises(EvaluationError, match="the zoo has none of cifar10-nowhere"):
        reproductions.get("l2nnn-table2")(settings(tmp_path))


def test_legs_are_those_of_the_paper_up_to_the_longest() -> None:
    assert [str(leg) for leg in legs("cw", Settings(max_iterations=10_000))] == ["cw:100", "cw:1k", "cw:10k"]
    assert [str(leg) for leg in legs("cw", Settings(max_iterations=500, restarts=3))] == [
        "cw:100",
        "cw:500",
        "cw:500x3",
    ]
    assert [str(leg) for leg in legs("cw", Settings(max_iterations=100))] == ["cw:100"]
