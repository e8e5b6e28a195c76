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

    Every command takes a name of the zoo, a file, a folder, or a name of a library: torchvision:NAME@WEIGHTS,
    timm:NAME, hf:ORG/REPO. Such a name brings its normalisation, how pictures are resized and cropped, and its classes.
    What is not on this machine is downloaded with --download alone; --random-weights takes an architecture without
    weights.

    Examples:

    `robcert models`

    `robcert attack digits-l2nnn --norm l2 --eps 0.5`

    `robcert attack timm:resnet50.a1_in1k --download --data folder:pictures --norm linf --eps 4/255`

    `robcert norms torchvision:resnet18 --random-weights`
    """
    from robcert.network.overview import NAMES, OTHER_ARCHITECTURES, architectures, zoo

    trained, known = zoo(), architectures()
    if output_format == "json":
        form = {
            "schema": "robcert.models/1",
            "models": [entry.as_json() for entry in trained],
            "architectures": [entry.as_json() for entry in known],
            "names": [{"name": name, "example": example, "needs": needs} for name, example, needs in NAMES],
            "other_architectures": [{"name": name, "example": use} for name, use in OTHER_ARCHITECTURES],
        }
        typer.echo(json.dumps(form, indent=2))
    else:
        _print_tables(trained, known)


def _print_tables(trained: list[ZooEntry], known: list[ArchitectureEntry]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from robcert.network.overview import NAMES, OTHER_ARCHITECTURES

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
    names = Table("model", "example", "needs", title="Other models")
    for row in NAMES:
        names.add_row(*map(escape, row))
    console.print(names)
    table = Table("--arch", "options", "what it is", title="Architectures")
    for entry in known:
        options = ", ".join(f"{name}={value}" for name, value in entry.options.items())
        table.add_row(entry.name, escape(options), escape(entry.summary))
    for name, use in OTHER_ARCHITECTURES:
        table.add_row(name, "", escape(use))
    console.print(table)
