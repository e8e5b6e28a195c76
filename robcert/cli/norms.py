"""`robcert norms`: the norms of all layers, and the Lipschitz bound of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli import options as opt
from robcert.cli.flags import ModelFlags


def norms(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Names or files, see `robcert models`.", autocompletion=completion.models
        ),
    ],
    model_flags: ModelFlags = ModelFlags(device="cpu"),
    tol: Annotated[float, typer.Option(min=1e-9, help="Wanted (upper - lower) / lower of l2 norms.")] = 0.01,
    papers: Annotated[
        bool, typer.Option("--papers", help="Beside the l2 norms what papers use for them (some are no bounds).")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the distribution of layer norms (.svg, .png).")] = None,
    output_format: opt.ReportFormat = "console",
    output: opt.Output = None,
) -> None:
    """Print l1, l-inf (exact) and l2 (bracketed) norms of every layer, and the bound of the whole graph.

    The l2 upper ends are sound, and so is the bound of the graph: residual sums, concatenations and overlapping
    windows are counted as they are. An op that robcert has no rule for is an error, never a silent 1.

    Examples:

    `robcert norms digits-l2nnn`

    `robcert norms torchvision:resnet18 --random-weights --input-shape 3,32,32 --plot norms.svg`

    `robcert norms digits-l2nnn digits-plain --papers`
    """
    from robcert.cli.inputs import load_for_norms
    from robcert.cli.parse import write
    from robcert.reports import renderer_of
    from robcert.runs.norms import norms as bound
    from robcert.runs.records.norms import NormsRecord

    render = renderer_of(NormsRecord, output_format)
    record = bound([load_for_norms(reference, model_flags) for reference in models], tol=tol, papers=papers)
    if plot is not None:
        from robcert.reports.densities import draw_densities

        draw_densities(record, plot)
    write(render(record), output)
