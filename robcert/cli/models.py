"""`robcert models`: the zoo, the architectures, and how a network of one's own is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from robcert.network.overview import ArchitectureEntry, ZooEntry


def models(
    output_format: Annotated[Literal["console", "json"], typer.Option("--format", help="How to print.")] = "console",
) -> None:
    """List the trained models of the zoo, the architectures, and how to name others.

    Example: `robcert models`, then `robcert attack digits-l2nnn --norm l2 --eps 0.5` with a name it listed.
    """
    from robcert.network.overview import OTHER_ARCHITECTURES, architectures, zoo

    trained, known = zoo(), architectures()
    if output_format == "json":
        form = {
            "schema": "robcert.models/1",
            "models": [entry.as_json() for entry in trained],
            "architectures": [entry.as_json() for entry in known],
            "other_architectures": [{"name": name, "example": use} for name, use in OTHER_ARCHITECTURES],
        }
        typer.echo(json.dumps(form, indent=2))
    else:
        _print_tables(trained, known, OTHER_ARCHITECTURES)


def _print_tables(trained: list[ZooEntry], known: list[ArchitectureEntry], others: tuple[tuple[str, str], ...]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    zoo = Table(title="Zoo")
    for column in ("name", "architecture", "data", "input", "natural", "size"):
        zoo.add_column(column, no_wrap=True)
    zoo.add_column("description")
    for entry in trained:
        card = entry.card
        zoo.add_row(
            entry.name,
            card.architecture or "",
            card.data or "",
            "x".join(str(size) for size in card.input_shape or ()),
            "" if entry.natural is None else f"{100 * entry.natural:.1f} %",
            f"{entry.size / 1000:,.0f} kB",
            escape(card.description),
        )
    console.print(zoo)
    table = Table("--arch", "options", "what it is", title="Architectures")
    for entry in known:
        options = ", ".join(f"{name}={value}" for name, value in entry.options.items())
        table.add_row(entry.name, escape(options), escape(entry.summary))
    for name, use in others:
        table.add_row(name, "", escape(use))
    console.print(table)
