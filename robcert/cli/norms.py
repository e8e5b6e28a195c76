"""`robcert norms`: the norms of all layers, and the Lipschitz bound of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli.options import Arch, Classes, InputShape, Mean, Std, WeightsKey


def norms(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Zoo names, files, or torchvision:NAME.")],
    arch: Arch = None,
    weights_key: WeightsKey = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    tol: Annotated[float, typer.Option(min=1e-9, help="Wanted (upper - lower) / lower of l2 norms.")] = 0.01,
    papers: Annotated[
        bool, typer.Option("--papers", help="Beside the l2 norms what papers use for them (some are no bounds).")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the distribution of layer norms (.svg, .png).")] = None,
    output_format: Annotated[str, typer.Option("--format", help="console or json.")] = "console",
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Print l1, l-inf (exact) and l2 (bracketed) norms of every layer, and the bound of the whole graph.

    The l2 upper ends are sound, and so is the bound of the graph: residual sums, concatenations and overlapping
    windows are counted as they are. An op that robcert has no rule for is an error, never a silent 1.

    Examples:

    `robcert norms digits-l2nnn`

    `robcert norms torchvision:resnet18 --input-shape 3,32,32 --plot norms.svg`

    `robcert norms digits-l2nnn digits-plain --papers`
    """
    import io

    from rich.console import Console

    from robcert.cli.inputs import Foreign, load_for_norms
    from robcert.cli.parse import write
    from robcert.engine.allocator import keep_memory
    from robcert.errors import UsageError, did_you_mean
    from robcert.lipschitz.graph import graph_bound
    from robcert.reports.norms import norms_record, render_norms

    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    foreign = Foreign.parse(arch, weights_key, input_shape, classes, mean, std)
    keep_memory()
    loaded = [load_for_norms(reference, foreign) for reference in models]
    record = norms_record([(model, graph_bound(model, tol=tol, papers=papers)) for model in loaded])
    if plot is not None:
        from robcert.reports.densities import draw_densities

        draw_densities(record, plot)
    if output_format == "json":
        write(record.to_json(), output)
        return
    text = io.StringIO()
    render_norms(record, Console(file=text, width=110, highlight=False, emoji=False, markup=False))
    write(text.getvalue().rstrip("\n"), output)
