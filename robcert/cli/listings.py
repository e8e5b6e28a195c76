"""`robcert attacks`, `certificates` and `architectures`: what may be named, one line each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal

import typer

from robcert.registry import written

_Format = Annotated[Literal["console", "json"], typer.Option("--format", help="How to print.")]


def attacks(output_format: _Format = "console") -> None:
    """List the attacks that a plan may name.

    Example: `robcert attacks`, then `robcert attack digits-plain --norm l2 --eps 0.5 --plan "ddn:1k,cw:1k"`
    """
    _print("attacks", "attack", written("robcert.attacks", "attack"), output_format)


def certificates(output_format: _Format = "console") -> None:
    """List the methods of certification.

    Example: `robcert certificates`, then `robcert certify digits-plain --norm l2 --eps 0.1 --method crown`
    """
    _print("certificates", "--method", written("robcert.certificates", "certificate"), output_format)


def architectures(output_format: _Format = "console") -> None:
    """List the architectures of networks whose weights alone are in a file.

    Example: `robcert architectures`, then `robcert attack weights.pt --arch cnn --norm l2 --eps 0.5 --data mnist`
    """
    from robcert.network.overview import OTHER_ARCHITECTURES
    from robcert.network.overview import architectures as known

    listed = {entry.name: entry.summary for entry in known()} | dict(OTHER_ARCHITECTURES)
    _print("architectures", "--arch", listed, output_format)


def _print(what: str, column: str, listed: Mapping[str, str], output_format: str) -> None:
    if output_format == "json":
        entries = [{"name": name, "summary": summary} for name, summary in listed.items()]
        typer.echo(json.dumps({"schema": f"robcert.{what}/1", what: entries}, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(column, "what it is")
    for name, summary in listed.items():
        table.add_row(name, escape(summary))
    Console().print(table)
