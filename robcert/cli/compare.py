"""`robcert compare`: several finished runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import options as opt


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Directories of `robcert attack --goal minimize` runs.")
    ],
    gradients: Annotated[bool, typer.Option(help="Measure gradient norms of the networks on the same images.")] = True,
    data_dir: opt.DataDir = None,
    plot: Annotated[Path | None, typer.Option(help="Draw error curves (.svg, .png).")] = None,
    output_format: opt.Format = "console",
    output: opt.Output = None,
) -> None:
    """Compare models, or attacks, by the distance of the closest adversarial examples.

    The actual improvement is the ratio of median distances to the first line; the predicted ones are ratios of
    gradient norms, which cost a few gradients an image instead of an attack. --plot draws how many images are broken
    within each distance, and above it how many are not certified.

    Example: `robcert compare runs/plain runs/robust --plot curves.svg`
    """
    from robcert.cli.parse import write
    from robcert.reports import renderer_of
    from robcert.reports.compare import draw_curves
    from robcert.runs.compare import compare as compare_runs
    from robcert.runs.records.compare import CompareRecord

    render = renderer_of(CompareRecord, output_format)
    record = compare_runs(runs, gradients=gradients, data_dir=data_dir)
    if plot is not None:
        draw_curves(record, plot)
    write(render(record), output)
