"""`robcert compare`: several finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Directories of `robcert attack --goal minimize` runs.")
    ],
    gradients: Annotated[bool, typer.Option(help="Measure gradient norms of the networks on the same images.")] = True,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of the data sets.", show_default="$ROBCERT_DATA, then ~/.cache/robcert"),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw error curves (.svg, .png).")] = None,
    output_format: Annotated[str, typer.Option("--format", help="console or json.")] = "console",
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Compare models, or attacks, by the distance of the closest adversarial examples.

    The actual improvement is the ratio of median distances to the first line; the predicted ones are ratios of
    gradient norms, which cost a few gradients an image instead of an attack. --plot draws how many images are broken
    within each distance, and above it how many are not certified.

    Example: `robcert compare runs/plain runs/robust --plot curves.svg`
    """
    import io

    from rich.console import Console

    from robcert.cli.parse import write
    from robcert.errors import UsageError, did_you_mean
    from robcert.reports.compare import compare_record, draw_curves, render_compare
    from robcert.runs.compare import compare as run_comparison

    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    found = run_comparison(runs, data_dir, gradients)
    record = compare_record(found)
    if plot is not None:
        draw_curves(found, plot)
    if output_format == "json":
        write(record.to_json(), output)
        return
    text = io.StringIO()
    render_compare(record, Console(file=text, width=110, highlight=False, emoji=False, markup=False))
    write(text.getvalue().rstrip("\n"), output)
