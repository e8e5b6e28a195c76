"""The table of `robcert data lipschitz`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from robcert.reports import renderer
from robcert.reports.printed import printed
from robcert.runs.records.separation import SeparationsRecord


@renderer("console", SeparationsRecord)
def render_separations(record: SeparationsRecord) -> str:
    """A row a data set, as table 4 of paper E."""
    return printed(lambda console: _show(record, console))


def _show(record: SeparationsRecord, console: Console) -> None:
    table = Table(title="Lipschitz constants of data sets, l2", title_justify="left")
    for column in ("data", "split"):
        table.add_column(column, no_wrap=True)
    for column in ("images", "distance", "constant"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("closest images of different classes", overflow="fold")
    for one in record.data:
        pair = f"{one.indices[0]} ({one.labels[0]}) and {one.indices[1]} ({one.labels[1]})"
        constant = "inf" if one.lipschitz is None else f"{one.lipschitz:.4f}"
        table.add_row(one.name, one.split, f"{one.n:,}", f"{one.distance:.4f}", constant, pair)
    console.print(table)
    for one in record.data:
        if one.duplicates:
            console.print(f"{one.name}: {one.duplicates} pairs of equal images with different labels were left out")
        if one.lipschitz is None:
            console.print(
                f"{one.name}: equal images with different labels: no function fits them "
                "(--exclude-duplicates leaves such pairs out)"
            )
