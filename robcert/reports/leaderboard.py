"""The tables of `robcert leaderboard`: a row a model, a column an eps, in each cell the bracket."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Printed

from robcert.reports import renderer
from robcert.reports.markdown import document
from robcert.reports.page.parts import Cell, Line, Page, Section, Table, cells
from robcert.reports.page.render import render_page
from robcert.reports.printed import printed
from robcert.runs.records.leaderboard import BoardRecord, EntryRecord, LeaderboardRecord, StandingRecord
from robcert.text import plain

_TITLE = "Leaderboard"
_MEANING = (
    "At each eps: certified to attacked accuracy; true robust accuracy lies between them. Runs of the same model and "
    "images are taken together."
)
_STOPPED = "* an attack was ended early: images that are open may not have been attacked."


@renderer("console", LeaderboardRecord)
def console(record: LeaderboardRecord) -> str:
    """Return a table for each threat."""

    def show(to: Console) -> None:
        for board in record.boards:
            table = Printed(title=_caption(board), title_justify="left")
            table.add_column("model", overflow="fold")
            for name in _head(board)[1:]:
                table.add_column(name, justify="right", no_wrap=True)
            for entry in board.models:
                table.add_row(*(escape(plain(text)) for text in _row(board, entry)))
            to.print(table)
        for note in _notes(record):
            to.print(note)

    return printed(show)


@renderer("markdown", LeaderboardRecord)
def markdown(record: LeaderboardRecord) -> str:
    """Return the tables as markdown."""
    return document(_page(record))


@renderer("html", LeaderboardRecord)
def html(record: LeaderboardRecord) -> str:
    """Return a page."""
    return render_page(_page(record)).rstrip("\n")


def _page(record: LeaderboardRecord) -> Page:
    return Page(_TITLE, [Line(note) for note in _notes(record)], [], [], _sections(record))


def _sections(record: LeaderboardRecord) -> list[Section]:
    found: list[Section] = []
    for board in record.boards:
        rows: list[list[Cell]] = [cells(*_row(board, entry)) for entry in board.models]
        found.append(
            Section(
                _caption(board),
                tables=[Table(_caption(board), _head(board), rows)],
            )
        )
    return found


def _caption(board: BoardRecord) -> str:
    data = board.data
    return f"{board.threat.norm}, {data.name} {data.split}, n {data.n}"


def _head(board: BoardRecord) -> list[str]:
    return ["model", "natural", *(f"eps {eps:.4g}" for eps in board.threat.eps)]


def _row(board: BoardRecord, entry: EntryRecord) -> tuple[str, ...]:
    n = board.data.n
    name = f"{entry.model} *" if entry.stopped else entry.model
    return name, f"{_percent(entry.natural, n)} %", *(_bracket(at, n) for at in entry.standing)


def _bracket(at: StandingRecord, n: int) -> str:
    if at.attacked is None and at.certified is None:
        return "-"
    return f"{_percent(at.certified, n)} to {_percent(at.attacked, n)} %"


def _percent(count: int | None, n: int) -> str:
    return "?" if count is None else f"{100 * count / n:.1f}"


def _notes(record: LeaderboardRecord) -> list[str]:
    stopped = any(entry.stopped for board in record.boards for entry in board.models)
    return [_MEANING, *([_STOPPED] if stopped else [])]
