"""A reproduction as a table for the terminal, and as markdown."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable

from robcert.reports import renderer
from robcert.reports.printed import printed
from robcert.reproductions.record import Cell, Column, ReproduceRecord, Table


@renderer("json", ReproduceRecord)
def json_text(record: ReproduceRecord) -> str:
    """Return the JSON text."""
    return record.to_json()


@renderer("console", ReproduceRecord)
def console_text(record: ReproduceRecord) -> str:
    """Return tables, verdicts and differences for a terminal."""
    return printed(lambda console: _show(record, console))


def _show(record: ReproduceRecord, console: Console) -> None:
    for table in record.tables:
        shown = RichTable(title=table.title, title_justify="left")
        for column in table.columns:
            shown.add_column(_heading(column), justify="left" if column.kind == "text" else "right", overflow="fold")
        for row in table.rows:
            shown.add_row(*_cells(table, row))
        console.print(shown)
    for line in record.verdicts:
        console.print(line)
    if record.differences:
        console.print("What differs from the paper:")
    for line in record.differences:
        console.print(f"- {line}")
    for run in record.runs:
        console.print(f"Run: {run}", soft_wrap=True)


@renderer("markdown", ReproduceRecord)
def markdown(record: ReproduceRecord) -> str:
    """The section of a page: heading, command, tables, verdicts and differences."""
    parts = [f"## {record.title}", f"`{record.command}`"]
    for table in record.tables:
        head = " | ".join(_heading(column) for column in table.columns)
        rule = " | ".join("---" if column.kind == "text" else "---:" for column in table.columns)
        rows = "\n".join(f"| {' | '.join(_cells(table, row))} |" for row in table.rows)
        parts.append(f"{table.title}\n\n| {head} |\n| {rule} |\n{rows}")
    if record.verdicts:
        parts.append("\n".join(f"- {line}" for line in record.verdicts))
    if record.differences:
        parts.append("What differs from the paper:\n\n" + "\n".join(f"- {line}" for line in record.differences))
    return "\n\n".join(parts) + "\n"


def _heading(column: Column) -> str:
    return f"{column.name} (paper)" if column.source == "paper" else column.name


def _cells(table: Table, row: list[Cell]) -> list[str]:
    return [_cell(column, cell) for column, cell in zip(table.columns, row, strict=True)]


def _cell(column: Column, cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    # Paper A writes 0.05 %: two places where one would print nothing.
    if column.kind == "share":
        return f"{100 * cell:.2f} %" if 0 < cell < 0.001 else f"{100 * cell:.1f} %"
    return f"{cell:.4g}"
