"""`robcert data lipschitz`: how far the classes of a data set are apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robcert.cli.options import ClassOrder


def lipschitz(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Data sets, npz:PATH or folder:PATH.")],
    split: Annotated[str, typer.Option(help="test or train.")] = "train",
    n: Annotated[int | None, typer.Option("--n", min=2, help="Images.", show_default="all")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the subset.")] = 0,
    exclude_duplicates: Annotated[
        bool, typer.Option("--exclude-duplicates", help="Leave out equal images that have different labels.")
    ] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="The folder of the data sets.", show_default="$ROBCERT_DATA, then ~/.cache/robcert"),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download missing data.")] = False,
    class_order: ClassOrder = None,
    output_format: Annotated[str, typer.Option("--format", help="console or json.")] = "console",
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Compute the Lipschitz constant of data sets: the reciprocal of the smallest distance between two classes.

    No function that fits the labels has a smaller one, so a model's constant near it is as small as it can be. All
    pairs are compared, in blocks: MNIST's 60,000 images take a minute or less on one core.

    Example: `robcert data lipschitz mnist fashion-mnist`
    """
    import io
    import time

    from rich.console import Console

    from robcert.cli.inputs import load_images
    from robcert.cli.parse import write
    from robcert.errors import UsageError, did_you_mean
    from robcert.reports.separation import SeparationsRecord, render_separations, separation_record
    from robcert.reports.steps import steps
    from robcert.sensitivity.separation import comparisons, separation

    if output_format not in ("console", "json"):
        raise UsageError(f"unknown format {output_format!r}", did_you_mean(output_format, ["console", "json"]))
    records = []
    for name in names:
        images = load_images(
            name, split=split, n=n, seed=seed, data_dir=data_dir, download=download, class_order=class_order
        )
        began = time.monotonic()
        with steps(name, comparisons(images)) as advance:
            found = separation(images, exclude_duplicates, advance)
        records.append(separation_record(images, found, exclude_duplicates, time.monotonic() - began))
    record = SeparationsRecord(data=records)
    if output_format == "json":
        write(record.to_json(), output)
        return
    text = io.StringIO()
    render_separations(record, Console(file=text, width=110, highlight=False, emoji=False, markup=False))
    write(text.getvalue().rstrip("\n"), output)
