"""`robcert data`: the data sets, and where each was looked for; `robcert data lipschitz`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from robcert.cli.data_lipschitz import lipschitz
from robcert.cli.effect import Command, check

if TYPE_CHECKING:
    from robcert.data.overview import Entry


def data(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of the data sets.", show_default="$ROBCERT_DATA, then ~/.cache/robcert"),
    ] = None,
    output_format: Annotated[Literal["console", "json"], typer.Option("--format", help="How to print.")] = "console",
) -> None:
    """List the data sets and where each was looked for.

    Example: robcert data --data-dir ~/data
    """
    check(context)
    if context.invoked_subcommand is not None:
        return
    from robcert.data.overview import overview

    entries = overview(data_dir)
    if output_format == "json":
        typer.echo(json.dumps({"schema": "robcert.data/1", "data": [_as_json(entry) for entry in entries]}, indent=2))
    else:
        _print_table(entries)


app = typer.Typer(name="data", invoke_without_command=True, rich_markup_mode="markdown")
app.callback()(data)
app.command(cls=Command)(lipschitz)


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "title": entry.title,
        "shape": list(entry.shape) if entry.shape else None,
        "classes": entry.classes,
        "sizes": entry.sizes,
        "ready": entry.ready,
        "places": [{"path": str(path), "found": found} for path, found in entry.places],
    }


def _print_table(entries: list[Entry]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Data sets", title_justify="left")
    for column in ("name", "shape", "classes", "test", "train"):
        table.add_column(column, no_wrap=True)
    # A path is folded, never cut: it is what the reader came for.
    table.add_column("looked for in", overflow="fold")
    for entry in entries:
        places = "\n".join(f"{'found' if found else 'missing'}: {path}" for path, found in entry.places)
        table.add_row(
            entry.name,
            "x".join(str(size) for size in entry.shape) if entry.shape else "any",
            str(entry.classes or "any"),
            *(f"{entry.sizes[split]:,}" if entry.sizes else "all" for split in ("test", "train")),
            places or ("the path that you give" if entry.ready is None else "embedded"),
        )
    Console().print(table)
