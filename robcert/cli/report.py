"""`robcert report`: a page for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run directories; also files that certify, norms or jacobian wrote with --format json.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Its title.", show_default="the names of the models")] = None,
) -> None:
    """Write one self-contained page of HTML about runs: no script, nothing loaded from anywhere.

    The bracket at every eps, the sweep with its plateau verdicts, error and certified curves, the closest adversarial
    examples, warnings, and exactly what was run, with the command that repeats it. Every plot has its numbers as a
    table. Layer norms, gap bins and Jacobians come from the json of the commands that measure them.

    Examples:

    `robcert report runs/attack-digits-l2nnn-l2-0.5-1a2b3c4d --output report.html`

    `robcert norms digits-l2nnn --format json --output norms.json`, and then: `robcert report runs/first norms.json`
    """
    from robcert.reports.page.report import report as write_page

    typer.echo(write_page(runs, output, title))
