"""The answers of `robcert verify` to properties."""

from __future__ import annotations

from collections import Counter

from robcert.reports.page.numbers import number
from robcert.reports.page.parts import Cell, Section, Table, cells
from robcert.reports.page.sources import Sources
from robcert.verification.answer import RESULTS

_TONES = {"sat": "bad", "unsat": "good"}


def answers(sources: Sources) -> Section | None:
    """A table of each record, a row an instance."""
    tables: list[Table] = []
    notes: list[str] = []
    for name, record in sources.answers:
        rows: list[list[Cell]] = []
        for k, one in enumerate(record.answers):
            key = f"{name}: answers/{k}"
            result = Cell(one.result, tone=_TONES.get(one.result, "unsure"))
            real = "yes" if one.real else "no"
            seconds = number(one.seconds, f"{key}/seconds")
            rows.append(cells(one.model, one.property, result, one.by, real, seconds, one.reason))
        counts = Counter(one.result for one in record.answers)
        caption = ", ".join(f"{counts[result]} {result}" for result in RESULTS if counts[result])
        head = ("model", "property", "answer", "by", "unsat in real arithmetic", "seconds", "why")
        tables.append(Table(caption, head, rows))
        spoken = "executed float32 network" if record.arithmetic == "executed" else "network in real arithmetic"
        notes.append(f"unsat speaks of the {spoken}; sat was confirmed by executing the file.")
    return Section("Properties", notes=list(dict.fromkeys(notes)), tables=tables) if tables else None
