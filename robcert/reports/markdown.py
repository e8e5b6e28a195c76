"""One record as markdown: the sections of its page, with the numbers of plots in place of the plots."""

from __future__ import annotations

from collections.abc import Iterator

from robcert.reports import renderer
from robcert.reports.page.parts import Page, Section, Table
from robcert.reports.page.report import page_of
from robcert.reports.page.sources import source_of
from robcert.reports.text import markdown
from robcert.runs.record import RunRecord
from robcert.runs.records.certify import CertifyRecord
from robcert.runs.records.jacobian import JacobianRecord
from robcert.runs.records.norms import NormsRecord
from robcert.runs.records.verify import VerifyRecord


@renderer("markdown", RunRecord, CertifyRecord, NormsRecord, JacobianRecord, VerifyRecord)
def render(record: RunRecord | CertifyRecord | NormsRecord | JacobianRecord | VerifyRecord) -> str:
    """Return a heading, and a section of tables and notes for each section of the page that has any."""
    return document(page_of(source_of(record)))


def document(page: Page) -> str:
    """Return a page as markdown."""
    parts = [f"# {markdown(page.title, _MOST)}", *(markdown(line.text, _MOST) for line in page.lead)]
    parts += [f"{markdown(table.caption, _MOST)}\n\n{_table(table)}" for table in page.summary]
    parts += [markdown(sentence, _MOST) for sentence in page.sentences]
    for section in page.sections:
        parts += _section(section)
    return "\n\n".join(parts)


_MOST = 2000
"""Letters of a cell or a sentence."""

_ROWS = 60
"""Rows of a table of a plot; the points of a longer curve are left to html and json."""


def _section(section: Section) -> Iterator[str]:
    tables = [*section.tables, *(figure.table for figure in section.figures)]
    if not (tables or section.notes or section.code):
        return
    yield f"## {markdown(section.title)}"
    if section.intro:
        yield markdown(section.intro, _MOST)
    if section.notes:
        yield "\n".join(f"- {markdown(note, _MOST)}" for note in section.notes)
    for table in tables:
        shown = _table(table) if len(table.rows) <= _ROWS else f"{len(table.rows)} rows: see --format html or json."
        yield f"{markdown(table.caption, _MOST)}\n\n{shown}"
    if section.code:
        yield "\n".join(f"    {line}" for line in section.code.split("\n"))


def _table(table: Table) -> str:
    head = [*table.head]
    rows = [head, ["---"] * len(head), *([markdown(cell.text, _MOST) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
