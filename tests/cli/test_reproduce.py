"""`robcert reproduce`: the list, the table of a registered reproduction in each form, and a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robcert.reproductions import Column, ReproduceRecord, Settings, Table, reproductions

from .conftest import Call


def small(settings: Settings) -> ReproduceRecord:
    """A table of nobody."""
    return ReproduceRecord(
        name="small",
        title="Small",
        command="robcert reproduce small",
        tables=[
            Table(title="T", columns=[Column(name="n", kind="number")], rows=[[settings.n], [settings.max_iterations]])
        ],
        differences=[],
        verdicts=[],
        runs=[],
    )


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    reproductions.names()
    monkeypatch.setitem(reproductions._entries, "small", small)


def test_without_a_name_it_lists_them(call: Call) -> None:
    answer = call("reproduce")
    assert answer.code == 0
    assert "l2nnn-table1: Table 1 of" in answer.out
    assert "small: A table of nobody." in answer.out


def test_forms_and_page(call: Call, tmp_path: Path) -> None:
    told = ("reproduce", "small", "--n", "7", "--max-iterations", "2k")
    assert " 7 " in call(*told).out
    assert json.loads(call(*told, "--format", "json").out)["tables"][0]["rows"] == [[7.0], [2000.0]]
    assert call(*told, "--results", "page.md", "--output", "table.txt").out == ""
    assert "| 2000 |" in (tmp_path / "page.md").read_text()
    assert "2000" in (tmp_path / "table.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("l2nnn-table9",), "l2nnn-table1"),
        (("small", "--format", "yaml"), "console"),
        (("small", "--max-iterations", "many"), "many"),
    ],
)
def test_bad_input(call: Call, arguments: tuple[str, ...], said: str) -> None:
    answer = call("reproduce", *arguments)
    assert answer.code == 2
    assert said in answer.err
