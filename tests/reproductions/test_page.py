"""A page of reproductions keeps its other sections, and the columns of models that were not computed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from robcert.errors import UsageError
from robcert.reproductions import Column, ReproduceRecord, Settings, Table, reproductions
from robcert.reproductions.page import merged, write_section
from robcert.reproductions.record import Cell

LABEL = Column(name="MaxIter", source="label", kind="text")


def record(name: str = "a-table", command: str = "robcert reproduce a-table", **models: float) -> ReproduceRecord:
    """A table of one row and a column for each model, beside one of the paper; and a table of one row for each."""
    columns = [LABEL, *(Column(name=model, source=who) for model in models for who in ("ours", "paper"))]
    row: list[Cell] = ["100", *(share for value in models.values() for share in (value, 0.5))]
    gaps = [Column(name="model", source="label", kind="text"), Column(name="gap", kind="number")]
    return ReproduceRecord(
        name=name,
        title="A table",
        command=command,
        tables=[
            Table(title="Accuracy", columns=columns, rows=[row]),
            Table(title="Gaps", columns=gaps, rows=[[model, 10 * value] for model, value in models.items()]),
        ],
        differences=["networks"],
        verdicts=[f"{model}: flat at {value}" for model, value in models.items()],
        runs=["runs/one"],
    )


def test_a_page_keeps_its_other_sections(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    write_section(record("one", plain=0.25), page)
    write_section(record("two", plain=0.25), page)
    before = page.read_text()
    write_section(record("one", plain=0.75), page)
    after = page.read_text()
    assert after == before.replace("25.0 %", "75.0 %", 1).replace("2.5", "7.5", 1).replace("at 0.25", "at 0.75", 1)
    assert after.count("<!-- one -->") == after.count("<!-- two -->") == 1
    kept = tmp_path / "RESULTS" / "one.json"
    assert ReproduceRecord.model_validate_json(kept.read_text()) == record("one", plain=0.75)
    with pytest.raises(UsageError, match="cannot be written"):
        write_section(record(plain=0.5), tmp_path / "nowhere" / "RESULTS.md")


def test_other_columns_stay_as_they_were(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    assert merged(record(at=0.3), page) == record(at=0.3), "there is nothing to keep"
    write_section(record(plain=0.1, at=0.2, nonexpansive=0.3), page)
    for _ in range(2):  # the second time the page has kept columns already
        whole = merged(record(at=0.25), page)
        assert whole.tables == record(plain=0.1, at=0.25, nonexpansive=0.3).tables
        assert whole.verdicts == ["plain: flat at 0.1", "nonexpansive: flat at 0.3", "at: flat at 0.25"]
        kept = "Models whose figures this command did not compute, but an earlier one: plain, nonexpansive."
        assert whole.differences == ["networks", kept]
        write_section(whole, page)
    again = merged(record(plain=0.1, at=0.2, nonexpansive=0.3), page)
    assert again.differences == ["networks"], "everything was computed again"


def test_a_new_model_comes_last(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    write_section(record(plain=0.1), page)
    assert merged(record(at=0.2), page).tables == record(plain=0.1, at=0.2).tables


def test_another_table_takes_no_columns(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    write_section(record(plain=0.1, at=0.2), page)
    with pytest.raises(UsageError, match="does not fit into it"):
        merged(record(command="robcert reproduce a-table --n 7", at=0.2), page)
    (tmp_path / "RESULTS" / "a-table.json").write_text("{}")
    with pytest.raises(UsageError, match="is no record of a reproduction"):
        merged(record(at=0.2), page)


@pytest.mark.parametrize("name", ["l2nnn-distance", "l2nnn-table3", "l2nnn-resnet-table", "zoo-diagnostics"])
def test_tables_without_columns_of_models_say_so(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} has no columns of models"):
        reproductions.get(name)(Settings(models=("mnist-plain",)))


@pytest.mark.parametrize("name", ["l2nnn-table1", "l2nnn-table4"])
def test_a_model_that_a_table_does_not_have(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} has no column of 'mnist-l2nn'"):
        reproductions.get(name)(Settings(models=("mnist-l2nn",)))
