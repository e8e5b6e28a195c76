"""`robcert jacobian`: norms of gradients over the data, and the bound of the graph above them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli.options import Arch, Classes, ClassOrder, InputShape, Mean, Std, WeightsKey


def jacobian(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Zoo names or files, see `robcert models`.")],
    norm: Annotated[
        str, typer.Option(help="l2, linf or l1: the norm of the threat; gradients are measured in its dual norm too.")
    ] = "l2",
    data: Annotated[str | None, typer.Option(help="See `robcert data`.", show_default="what the card names")] = None,
    split: Annotated[str, typer.Option(help="test or train.")] = "test",
    n: Annotated[int | None, typer.Option("--n", min=1, help="Images.", show_default="all")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the subset.")] = 0,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of the data sets.", show_default="$ROBCERT_DATA, then ~/.cache/robcert"),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing data.")] = False,
    class_order: ClassOrder = None,
    arch: Arch = None,
    weights_key: WeightsKey = None,
    input_shape: InputShape = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    run: Annotated[
        Path | None,
        typer.Option(help="A finished `robcert attack --goal minimize` run: adds rank correlations with distances."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw histograms (.svg, .png), as figure 4 of paper E.")] = None,
    output_format: Annotated[str, typer.Option("--format", help="console or json.")] = "console",
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Measure how fast the answer changes with the image: mean and maximum of gradient norms over the data.

    The mean is the total variation of the model, the maximum a lower bound of its Lipschitz constant; the bound of
    the graph is an upper one. From one gradient follows an estimate of the distance to misclassification, image by
    image, and with --run how well that ranks the images.

    Examples:

    `robcert jacobian digits-plain digits-at digits-l2nnn`

    `robcert jacobian digits-plain --norm linf --n 100 --plot norms.svg`
    """
    import io

    from rich.console import Console

    from robcert.cli.inputs import Foreign, load_inputs
    from robcert.cli.parse import write
    from robcert.errors import UsageError, did_you_mean
    from robcert.reports.jacobian import Distances, jacobian_record, render_jacobian
    from robcert.reports.steps import steps
    from robcert.runs.standing import adversarial_distances
    from robcert.sensitivity.gradients import STATISTICS
    from robcert.sensitivity.jacobian import jacobian as measure
    from robcert.types import NORMS

    if norm not in NORMS:
        raise UsageError(f"unknown norm {norm!r}", did_you_mean(norm, NORMS))
    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    loaded, images = load_inputs(
        models,
        data,
        split=split,
        n=n,
        seed=seed,
        data_dir=data_dir,
        download=download,
        device=device,
        foreign=Foreign.parse(arch, weights_key, input_shape, classes, mean, std),
        class_order=class_order,
    )
    known = [None if run is None else Distances(str(run), adversarial_distances(run, m, images, norm)) for m in loaded]
    with steps("gradients", len(loaded) * len(images)) as advance:
        found = [measure(model, images, norm, advance) for model in loaded]
    record = jacobian_record(list(zip(loaded, found, known, strict=True)), images, norm)
    if plot is not None:
        from robcert.reports.histograms import draw_histograms

        shown = ("spectral", "row", "probability", "loss-l2")
        groups = [
            (
                STATISTICS[name],
                {model.name: one.values[name].tolist() for model, one in zip(loaded, found, strict=True)},
            )
            for name in shown
        ]
        draw_histograms(groups, plot)
    if output_format == "json":
        write(record.to_json(), output)
        return
    text = io.StringIO()
    render_jacobian(record, Console(file=text, width=110, highlight=False, emoji=False, markup=False))
    write(text.getvalue().rstrip("\n"), output)
