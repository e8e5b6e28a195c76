"""`robcert data lipschitz`: how far the classes of a data set are apart."""

from __future__ import annotations

from typing import Annotated

import typer

from robcert.cli import options as opt
from robcert.cli.flags import DataFlags


def lipschitz(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Data sets, npz:PATH or folder:PATH.")],
    split: Annotated[str, typer.Option(help="test or train.")] = "train",
    n: Annotated[int | None, typer.Option("--n", min=2, help="Images.", show_default="all")] = None,
    seed: opt.Seed = 0,
    exclude_duplicates: Annotated[
        bool, typer.Option("--exclude-duplicates", help="Leave out equal images that have different labels.")
    ] = False,
    data_dir: opt.DataDir = None,
    download: opt.Download = False,
    class_order: opt.ClassOrder = None,
    output_format: opt.Format = "console",
    output: opt.Output = None,
) -> None:
    """Compute the Lipschitz constant of data sets: the reciprocal of the smallest distance between two classes.

    No function that fits the labels has a smaller one, so a model's constant near it is as small as it can be. All
    pairs are compared, in blocks: MNIST's 60,000 images take a minute or less on one core.

    Example: `robcert data lipschitz mnist fashion-mnist`
    """
    import time

    from robcert.cli.inputs import load_images
    from robcert.cli.parse import write
    from robcert.reports import renderer_of
    from robcert.reports.steps import steps
    from robcert.runs.records.separation import SeparationsRecord, separation_record
    from robcert.sensitivity.separation import comparisons, separation

    render = renderer_of(SeparationsRecord, output_format)
    records = []
    for name in names:
        images = load_images(DataFlags(name, split, n, seed, data_dir, class_order), download)
        began = time.monotonic()
        with steps(name, comparisons(images)) as advance:
            found = separation(images, exclude_duplicates, advance)
        records.append(separation_record(images, found, exclude_duplicates, time.monotonic() - began))
    write(render(SeparationsRecord(data=records)), output)
