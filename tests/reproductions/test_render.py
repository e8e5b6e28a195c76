"""Records of reproductions: cells keep their kind, and every one is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from robcert.reproductions import Column, ReproduceRecord, Table
from robcert.reproductions.record import schema
from robcert.reproductions.render import console_text, markdown

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "reproduce-1.json"
COLUMNS = [
    Column(name="MaxIter", source="label", kind="text"),
    Column(name="mnist-plain"),
    Column(name="Model 1", source="paper"),
    Column(name="gap", kind="number"),
]


def record(name: str = "a-table", share: float | None = 0.25) -> ReproduceRecord:
    rows: list[list[str | float | None]] = [["100", share, 0.0005, 2.8], ["1M", None, 0.0, 0.5]]
    return ReproduceRecord(
        name=name,
        title="A table",
        command=f"robcert reproduce {name} --n 10",
        tables=[Table(title="Accuracy", columns=COLUMNS, rows=rows)],
        differences=["networks"],
        verdicts=["mnist-plain: flat"],
        runs=["runs/one"],
    )


def test_the_schema_is_the_published_one() -> None:
    assert PUBLISHED.read_text() == schema(), "write robcert.reproductions.record.schema() there"


def test_json_reads_back() -> None:
    assert ReproduceRecord.model_validate_json(record().to_json()) == record()


@pytest.mark.parametrize("row", [["100", 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], ["100", "0.5", 0.5, 0.5]])
def test_cells_fit_their_columns(row: list[str | float | None]) -> None:
    with pytest.raises(ValidationError):
        Table(title="", columns=COLUMNS, rows=[row])


def test_text_shows_every_cell_and_who_says_it() -> None:
    for text in (console_text(record()), markdown(record())):
        for part in ("Model 1 (paper)", "25.0 %", "0.05 %", "0.0 %", "2.8", " - ", "networks", "mnist-plain: flat"):
            assert part in text
    assert "| 1M | - | 0.0 % | 0.5 |" in markdown(record())
