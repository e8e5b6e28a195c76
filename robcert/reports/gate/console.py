"""A table for a person, and under it why."""

from __future__ import annotations

import io
import os
import shutil
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robcert.policy.record import GateRecord, RequirementRecord
from robcert.reports import renderer
from robcert.reports.gate.words import asked, figure, grade, images, show, spent
from robcert.reports.printed import columns
from robcert.reports.text import plain
from robcert.runs.out_of_time import time_line
from robcert.text import brief

_STYLES = {"proven": "green", "empirical": "green", "inconclusive": "yellow", "failed": "red"}


@renderer("console", GateRecord)
def render(record: GateRecord) -> str:
    """A row a model and requirement, a line of reasons each, the verdict last."""
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = columns() if sys.stdout.isatty() else max(80, shutil.get_terminal_size().columns)
    text = io.StringIO()
    console = Console(file=text, force_terminal=color, no_color=not color, width=width, highlight=False, emoji=False)
    table = Table(title=Text(f"{plain(record.policy.path)} on {plain(images(record))}"), title_justify="left")
    rows = [(brief(one.model), plain(one.name), asked(one), figure(one), grade(one)) for one in record.requirements]
    for column in ("model", "requirement", "asked", "found", "verdict"):
        fixed = _width([row[1] for row in rows]) if column == "requirement" else None
        table.add_column(column, overflow="fold", width=fixed)
    for one, row in zip(record.requirements, rows, strict=True):
        table.add_row(*(Text(cell) for cell in row[:-1]), Text(row[-1], _STYLES[one.verdict]))
    console.print(table)
    for one in record.requirements:
        head = Text(f"{one.verdict}: ", f"bold {_STYLES[one.verdict]}")
        console.print(
            Text.assemble(head, f"{brief(one.model)}, {plain(one.name)}: {plain(one.reason, 2000)}{_more(one)}")
        )
        if command := show(record, one):
            console.print(Text(f"See them: {plain(command, 2000)}"), soft_wrap=True)
    for run in record.runs:
        if late := time_line(run.out_of_time, record.data.n):
            console.print(Text(f"{brief(run.model)}, {run.certify} at {run.norm} {run.eps:g}: {late}"))
    for directory in dict.fromkeys(run.directory for run in record.runs if run.directory):
        console.print(Text(f"Run: {plain(directory)}"), soft_wrap=True)
    console.print(f"Spent {spent(record)}.")
    said = "passed" if record.passed else "not passed"
    console.print(Text(f"Gate {said}: {record.verdict}", f"bold {'green' if record.passed else 'red'}"))
    return text.getvalue().rstrip("\n")


def _width(names: list[str]) -> int:
    """Of the column of names: that no word of up to 22 characters (the longest kind of requirement) is broken."""
    longest = max((len(word) for name in names for word in name.split()), default=0)
    return max(min(22, longest), min(16, max((len(name) for name in names), default=0)), len("requirement"))


def _more(one: RequirementRecord) -> str:
    if one.pairs is None or not one.pairs.newly_broken:
        return ""
    some = ", ".join(str(index) for index in one.pairs.newly_broken[:12])
    rest = " ..." if len(one.pairs.newly_broken) > 12 else ""
    return f" (McNemar p = {one.pairs.mcnemar:.2g}; newly broken: {some}{rest})"
