"""`robcert runs`: what is stored, and what came out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from robcert.runs.stored import Stored


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder of the runs, or one run.")] = Path("runs"),
    command: Annotated[str | None, typer.Option(help="Only runs of this command: attack, certify, ...")] = None,
    model: Annotated[str | None, typer.Option(help="Only models with this text in their name.")] = None,
    norm: Annotated[str | None, typer.Option(help="Only runs in this norm.")] = None,
    sort: Annotated[
        str, typer.Option(help="newest, name, model, attacked, certified (highest first) or size (largest first).")
    ] = "newest",
    remove: Annotated[
        list[str] | None, typer.Option(help="Delete this run, with all that is in its directory. Repeatable.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    output_format: Annotated[Literal["console", "json"], typer.Option("--format", help="How to print.")] = "console",
) -> None:
    """List stored runs: what was done, how far it is, and what is left of the accuracy.

    Shares are for the largest eps of a run. The command of an unfinished run, given again, goes on with it.

    Example: `robcert runs --model digits --sort attacked`
    """
    from robcert.runs.stored import remove_runs, stored_runs

    if remove:
        if not yes:
            typer.confirm(f"Delete {', '.join(remove)} in {folder}?", abort=True, err=True)
        for gone in remove_runs(folder, remove):
            typer.echo(f"Deleted {gone}")
        return
    found = [
        run
        for run in stored_runs(folder, sort)
        if command in (None, run.command) and norm in (None, run.norm) and (model or "") in run.model
    ]
    if output_format == "json":
        typer.echo(json.dumps({"schema": "robcert.runs/1", "runs": [run.as_json() for run in found]}, indent=2))
    else:
        _print_table(found)


def _print_table(found: list[Stored]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from robcert.text import plain_lines

    table = Table("run", "command", "model", "images", "threat", "state")
    for column in ("natural", "attacked", "certified", "open", "MB"):
        table.add_column(column, justify="right")
    for run in found:
        threat = f"{run.norm} {run.eps:g}" if run.norm and run.eps is not None else run.norm or ""
        texts = [Path(run.run).name, run.command, run.model, run.data, threat, run.state]
        numbers = [_percent(run.natural), _percent(run.attacked), _percent(run.certified)]
        left = "" if run.open is None else str(run.open)
        table.add_row(*(escape(plain_lines(text)) for text in texts), *numbers, left, f"{run.size / 1e6:.1f}")
    Console().print(table)
    typer.echo(f"{len(found)} {'row' if len(found) == 1 else 'rows'}; `robcert report RUN` makes a page of a run.")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
