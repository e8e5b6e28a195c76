"""A page with a section for every reproduction, and beside it their records, into which later columns are put.

`RESULTS.md` has the folder `RESULTS` beside it: `RESULTS/l2nnn-table1.json` is the record of the section of that name.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from robcert.errors import UsageError
from robcert.files import write_text
from robcert.reproductions.record import Cell, Column, ReproduceRecord, Table
from robcert.reproductions.render import markdown

_HEAD = """# Tables of papers, run again

Each section was written by the command that it names. Percentages without "paper" are ours.
"""
_KEPT = "Models whose figures this command did not compute, but an earlier one: "


def write_section(record: ReproduceRecord, page: Path) -> None:
    """Puts the section of a reproduction into a page, in place of the one of that name; others are kept.

    Raises:
        UsageError: the page cannot be read or written.
    """
    begin, end = f"<!-- {record.name} -->", f"<!-- end of {record.name} -->"
    section = f"{begin}\n{markdown(record)}{end}"
    try:
        text = page.read_text(encoding="utf-8") if page.is_file() else _HEAD
        found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
        before, after = (text[: found.start()], text[found.end() :]) if found else (f"{text.rstrip()}\n\n", "\n")
        write_text(page, before + section + after)
        kept = _record_of(page, record.name)
        kept.parent.mkdir(exist_ok=True)
        write_text(kept, record.to_json() + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{page} cannot be written ({error})", "Name another page with --results") from None


def merged(record: ReproduceRecord, page: Path) -> ReproduceRecord:
    """A record of some models, with what the page has of the others.

    Raises:
        UsageError: the record that the page has cannot be read, or is of other images or another command.
    """
    path = _record_of(page, record.name)
    try:
        old = ReproduceRecord.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise UsageError(
            f"{path} is no record of a reproduction ({error})", "Compute all columns: no --models"
        ) from None
    if old is None:
        return record
    if _identity(old) != _identity(record):
        raise UsageError(
            f"{page} has the table of {old.command!r}, and {record.command!r} does not fit into it",
            "Take the same --n and --max-iterations, or compute all columns: no --models",
        )
    ours = _models(record)
    kept = [line for line in old.verdicts if _model(line) not in ours]
    names = ", ".join(name for name in _models(old) if name not in ours)
    lines = [line for line in record.differences if not line.startswith(_KEPT)]
    return record.model_copy(
        update={
            "tables": [_joined(a, b) for a, b in zip(old.tables, record.tables, strict=True)],
            "verdicts": [*kept, *record.verdicts],
            "differences": [*lines, *([f"{_KEPT}{names}."] if names else [])],
        }
    )


def _identity(record: ReproduceRecord) -> tuple[str, ...]:
    """The command and the titles, which say which images were attacked."""
    return (record.command, *(table.title for table in record.tables))


def _models(record: ReproduceRecord) -> list[str]:
    """Whose figures it has: in columns that a verdict speaks of, or in rows of models."""
    rows = [str(row[0]) for table in record.tables if table.columns[0].name == "model" for row in table.rows]
    return list(dict.fromkeys([*map(_model, record.verdicts), *rows]))


def _model(verdict: str) -> str:
    return verdict.partition(":")[0]


def _joined(old: Table, new: Table) -> Table:
    """All columns and rows of both, in the order of the old one; a cell that both have is the new one's."""
    columns = [*old.columns, *(column for column in new.columns if column not in old.columns)]
    labels = list(dict.fromkeys(row[0] for row in [*old.rows, *new.rows]))
    cells: dict[tuple[Cell, Column], Cell] = {}
    for table in (old, new):
        cells |= {(row[0], column): cell for row in table.rows for column, cell in zip(table.columns, row, strict=True)}
    rows = [[cells.get((label, column)) for column in columns] for label in labels]
    return Table(title=new.title, columns=columns, rows=rows)


def _record_of(page: Path, name: str) -> Path:
    return page.with_suffix("") / f"{name}.json"
