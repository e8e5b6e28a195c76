"""`robcert jacobian`: norms of gradients over the data, and the bound of the graph above them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli import completion
from robcert.cli import options as opt
from robcert.cli.flags import DataFlags, ModelFlags


def jacobian(
    models: opt.Models,
    norm: Annotated[
        str,
        typer.Option(
            help="l2, linf or l1: the norm of the threat; gradients are measured in its dual norm too.",
            autocompletion=completion.norms,
        ),
    ] = "l2",
    data_flags: DataFlags = DataFlags(),
    model_flags: ModelFlags = ModelFlags(),
    attacks: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="A finished `robcert attack --goal minimize` run: adds rank correlations with distances.",
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw histograms (.svg, .png), as figure 4 of paper E.")] = None,
    run: opt.Run = None,
    threads: opt.TaskThreads = None,
    output_format: opt.ReportFormat = "console",
    output: opt.Output = None,
) -> None:
    """Measure how fast the answer changes with the image: mean and maximum of gradient norms over the data.

    The mean is the total variation of the model, the maximum a lower bound of its Lipschitz constant; the bound of
    the graph is an upper one. From one gradient follows an estimate of the distance to misclassification, image by
    image, and with --attacks how well that ranks the images.

    Examples:

    `robcert jacobian digits-plain digits-at digits-l2nnn`

    `robcert jacobian digits-plain --norm linf --n 100 --plot norms.svg`
    """
    from robcert.cli.inputs import load_inputs
    from robcert.cli.parse import choice, write
    from robcert.reports import renderer_of
    from robcert.reports.steps import steps
    from robcert.runs.jacobian import jacobian as measure
    from robcert.runs.records.jacobian import JacobianRecord
    from robcert.types import BOUND_NORMS

    norm = choice("norm", norm, BOUND_NORMS)
    render = renderer_of(JacobianRecord, output_format)
    loaded, images = load_inputs(models, data_flags, model_flags)
    with steps("gradients", len(loaded) * len(images)) as advance:
        record = measure(
            loaded,
            images,
            norm,
            attack_run=attacks,
            run=run,
            batch_size=data_flags.batch_size,
            cpu_threads=threads,
            advance=advance,
        )
    if plot is not None:
        from robcert.reports.histograms import draw_jacobians

        draw_jacobians(record, plot)
    write(render(record), output)
