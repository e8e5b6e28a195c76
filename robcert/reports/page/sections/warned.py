"""Signs that an attack failed rather than that the model held."""

from __future__ import annotations

from robcert.reports.page.parts import Cell, Section, Table, cells
from robcert.reports.page.sources import Sources

_SOME = 20


def warned(sources: Sources) -> Section | None:
    """Every warning of every run; a section without any says so."""
    if not sources.runs:
        return None
    rows: list[list[Cell]] = []
    for run in sources.runs:
        for model in run.record.models:
            if model.stopped is not None:
                rows.append(
                    cells(model.name, "ended early", f"the plan was not run to its end: {model.stopped}", "", "")
                )
            rows += [cells(model.name, "not done", text, "", "") for text in model.missing]
            for one in model.warnings:
                some = ", ".join(str(index) for index in one.images[:_SOME])
                rest = f" and {len(one.images) - _SOME} more" if len(one.images) > _SOME else ""
                rows.append(cells(model.name, one.name, one.message, one.advice, some + rest))
    if not rows:
        return Section("Warnings", "None.")
    return Section("Warnings", tables=[Table("Warnings", ("model", "name", "what was seen", "advice", "images"), rows)])
