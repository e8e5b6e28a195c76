"""What a run would cost: a row a leg, from the fewest images to the most."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from robcert.reports import renderer
from robcert.reports.display import duration
from robcert.reports.printed import printed
from robcert.runs.records.estimate import EstimateRecord, ModelEstimate, Range


@renderer("console", EstimateRecord)
def render(record: EstimateRecord) -> str:
    """Return a table for each model, and the range of its time."""

    def show(console: Console) -> None:
        for model in record.models:
            _show(model, console)
        cpu, clock = (_range([duration(value) for value in pair]) for pair in (record.seconds, record.wall))
        console.print(
            f"In all: CPU time {cpu}, with {duration(record.loading)} for loading; on the clock {clock}, as busy as "
            "this machine is now."
        )

    return printed(show)


@renderer("json", EstimateRecord)
def render_json(record: EstimateRecord) -> str:
    """Return the JSON text."""
    return record.to_json()


def _show(model: ModelEstimate, console: Console) -> None:
    table = Table(title=f"What the plan costs: {model.name}, {model.n} images", title_justify="left")
    table.add_column("leg")
    for column in ("images", "forwards", "backwards", "CPU time"):
        table.add_column(column, justify="right")
    for leg in model.legs:
        assumed = "" if leg.measured else " (not reached)"
        times = _range([duration(value) for value in leg.seconds])
        table.add_row(leg.leg + assumed, _counts(leg.images), _counts(leg.forwards), _counts(leg.backwards), times)
    console.print(table)
    memory = "" if model.memory is None else f"; memory {model.memory / 2**30:.1f} GiB"
    cpu = _range([duration(value) for value in model.seconds])
    console.print(f"{model.name}: CPU time {cpu}, of which {duration(model.start)} before the first leg{memory}.")
    console.print(
        f"{model.broken} of {model.measured} images fell while this was measured. From: the others fall as they did. "
        f"To: as many stay open as that allows (exact 95% bound). If all stay open: CPU time "
        f"{duration(model.all_open)}."
    )
    if not all(leg.measured for leg in model.legs):
        console.print("A leg that was not reached is counted with the whole budget of its images.")


def _counts(pair: Range) -> str:
    return _range([f"{value:,.0f}" for value in pair])


def _range(ends: list[str]) -> str:
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)
